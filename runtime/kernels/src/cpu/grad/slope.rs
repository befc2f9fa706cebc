//! Derivatives of functions of one number, and dropout.

use innkeeper_tensor::{DType, Shape, Tensor};

use super::packed;
use crate::cpu::memory::elements;
use crate::cpu::pieces::fill;
use crate::cpu::smooth::Smooth;
use crate::cpu::wide::wide;
use crate::op::Slope;
use crate::{OpError, Run};

pub(super) fn gradient<T: Smooth>(
    slope: Slope,
    results: Vec<(DType, Shape)>,
    dy: &Tensor,
    z: &Tensor,
    run: &Run<'_>,
) -> Result<Vec<Tensor>, OpError> {
    let (dy, z) = (&*elements::<T>(dy)?, &*elements::<T>(z)?);
    let out = fill::<T>(run, dy.len(), |start, out| {
        let part = start..start + out.len();
        let (dy, z) = (&dy[part.clone()], &z[part]);
        match slope {
            Slope::Relu => relu(dy, z, out),
            Slope::Gelu => gelu(dy, z, out),
            Slope::GeluTanh => gelu_tanh(dy, z, out),
            Slope::Silu => silu(dy, z, out),
            Slope::Sigmoid => sigmoid(dy, z, out),
            Slope::Tanh => tanh(dy, z, out),
        }
        Ok(())
    })?;
    packed(results, [out])
}

/// `$slope` of `$z` times dy, for each element.
macro_rules! slope {
    ($name:ident, $one:ident, $z:ident => $slope:expr) => {
        wide! {
            fn $name(dy: &'a [T], z: &'a [T], out: &'a mut [T]) -> () {
                let $one = T::from_f64(1.0);
                for ((out, &dy), &$z) in out.iter_mut().zip(dy).zip(z) {
                    *out = dy.mul($slope);
                }
            }
        }
    };
}
slope!(relu, one, y => if y > T::default() { one } else if y.is_nan() { y } else { T::default() });
slope!(sigmoid, one, y => y.mul(one.sub(y)));
slope!(tanh, one, y => one.sub(y.mul(y)));
slope!(silu, one, x => {
    let s = x.quick_sigmoid();
    s.mul(one.add(x.mul(one.sub(s))))
});
// P(X <= x) + x times the density of a standard normal X.
slope!(gelu, _one, x => {
    let density = T::from_f64(INVERSE_ROOT_OF_TWO_PI).mul(T::from_f64(-0.5).mul(x).mul(x).quick_exp());
    x.normal_below().add(x.mul(density))
});
slope!(gelu_tanh, one, x => {
    let half = T::from_f64(0.5);
    let (scale, cubic) = (T::from_f64(ROOT_OF_TWO_BY_PI), T::from_f64(0.044715));
    let square = x.mul(x);
    let t = scale.mul(x).mul(one.add(cubic.mul(square))).quick_tanh();
    let inner = scale.mul(one.add(T::from_f64(3.0).mul(cubic).mul(square)));
    half.mul(one.add(t)).add(half.mul(x).mul(one.sub(t.mul(t))).mul(inner))
});

const INVERSE_ROOT_OF_TWO_PI: f64 = 0.398_942_280_401_432_7;
const ROOT_OF_TWO_BY_PI: f64 = 0.797_884_560_802_865_4;

pub(super) fn dropout<T: Smooth>(
    rate: f64,
    seed: u64,
    results: Vec<(DType, Shape)>,
    x: &Tensor,
    run: &Run<'_>,
) -> Result<Vec<Tensor>, OpError> {
    let x = &*elements::<T>(x)?;
    let factor = T::from_f64(1.0 / (1.0 - rate));
    let dropped_below = (rate * 2f64.powi(32)).round() as u64;
    let out = fill::<T>(run, x.len(), |start, out| {
        drop_some(&x[start..start + out.len()], start as u64, seed, dropped_below, factor, out);
        Ok(())
    })?;
    packed(results, [out])
}

wide! {
    fn drop_some(
        x: &'a [T],
        first: u64,
        seed: u64,
        dropped_below: u64,
        factor: T,
        out: &'a mut [T],
    ) -> () {
        for (place, (out, &x)) in out.iter_mut().zip(x).enumerate() {
            let drawn = split_mix(seed, first.wrapping_add(place as u64)) >> 32;
            *out = if drawn < dropped_below { T::default() } else { x.mul(factor) };
        }
    }
}

/// Output number `place` of SplitMix64 that begins with `seed`.
#[inline(always)]
fn split_mix(seed: u64, place: u64) -> u64 {
    let step = place.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let z = seed.wrapping_add(step);
    let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}
