//! Functions of FP32, over slices.

use pulp::{Simd, WithSimd};

use crate::cpu::lanes;
use crate::cpu::math::Slices;
use crate::cpu::simd::{F32, dispatch};
use crate::{Activation, Unary};

/// A function of one number, for as many as a vector has.
pub(super) trait Function: Copy {
    fn of<S: Simd>(self, x: F32<S>) -> F32<S>;
}

macro_rules! functions {
    ($($(#[$doc:meta])* $name:ident = $function:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy)]
        pub(super) struct $name;

        impl Function for $name {
            #[inline(always)]
            fn of<S: Simd>(self, x: F32<S>) -> F32<S> {
                lanes::$function(x)
            }
        }
    )*};
}
functions! {
    Exp = exp;
    Ln = ln;
    Tanh = tanh;
    Sigmoid = sigmoid;
    Silu = silu;
    Erf = erf;
    Gelu = gelu;
    GeluTanh = gelu_tanh;
}

/// The rectified linear function.
#[derive(Clone, Copy)]
struct Relu;

impl Function for Relu {
    #[inline(always)]
    fn of<S: Simd>(self, x: F32<S>) -> F32<S> {
        x.at_least(0.0)
    }
}

/// x * max(0, min(1, x / 6 + 1 / 2)).
#[derive(Clone, Copy)]
struct HardSwish;

impl Function for HardSwish {
    #[inline(always)]
    fn of<S: Simd>(self, x: F32<S>) -> F32<S> {
        let simd = x.0;
        let gate = x.fma(F32::of(simd, 1.0 / 6.0), F32::of(simd, 0.5));
        x * gate.at_least(0.0).at_most(1.0)
    }
}

/// x, below 0 times this.
#[derive(Clone, Copy)]
struct LeakyRelu(f32);

impl Function for LeakyRelu {
    #[inline(always)]
    fn of<S: Simd>(self, x: F32<S>) -> F32<S> {
        (x * self.0).where_or(x.less(F32::of(x.0, 0.0)), x)
    }
}

/// Between two bounds.
#[derive(Clone, Copy)]
struct Clip {
    min: f32,
    max: f32,
}

impl Function for Clip {
    #[inline(always)]
    fn of<S: Simd>(self, x: F32<S>) -> F32<S> {
        x.at_least(self.min).at_most(self.max)
    }
}

/// Replaces each number by `activation` of it.
pub(super) fn activate(activation: Activation, numbers: &mut [f32]) {
    match activation {
        Activation::None => {}
        Activation::Relu => map_in_place(Relu, numbers),
        Activation::Gelu => map_in_place(Gelu, numbers),
        Activation::GeluTanh => map_in_place(GeluTanh, numbers),
        Activation::Silu => map_in_place(Silu, numbers),
        Activation::Sigmoid => map_in_place(Sigmoid, numbers),
        Activation::Tanh => map_in_place(Tanh, numbers),
        Activation::HardSwish => map_in_place(HardSwish, numbers),
        Activation::LeakyRelu(alpha) => map_in_place(LeakyRelu(alpha), numbers),
        Activation::Clip { min, max } => map_in_place(Clip { min, max }, numbers),
    }
}

/// `out` becomes the function of each number of `from`, as far as both go.
pub(super) fn map(function: impl Function, from: &[f32], out: &mut [f32]) {
    dispatch(Map { function, from, out });
}

/// Each number becomes the function of it.
pub(super) fn map_in_place(function: impl Function, numbers: &mut [f32]) {
    dispatch(InPlace { function, numbers });
}

/// The vector code of an operation on FP32, for those that have one.
pub(super) fn unary(op: Unary) -> Option<Slices<f32>> {
    Some(match op {
        Unary::Exp => over_slices(Exp),
        Unary::Ln => over_slices(Ln),
        Unary::Tanh => over_slices(Tanh),
        Unary::Sigmoid => over_slices(Sigmoid),
        Unary::Silu => over_slices(Silu),
        Unary::Erf => over_slices(Erf),
        Unary::Gelu => over_slices(Gelu),
        Unary::GeluTanh => over_slices(GeluTanh),
        _ => return None,
    })
}

fn over_slices(function: impl Function + Sync + 'static) -> Slices<f32> {
    Box::new(move |from, out| map(function, from, out))
}

struct Map<'a, F> {
    function: F,
    from: &'a [f32],
    out: &'a mut [f32],
}

impl<F: Function> WithSimd for Map<'_, F> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let (from, rest) = S::as_simd_f32s(self.from);
        let (out, rest_out) = S::as_mut_simd_f32s(self.out);
        for (out, &x) in out.iter_mut().zip(from) {
            *out = self.function.of(F32(simd, x)).1;
        }
        if !rest.is_empty() && rest.len() == rest_out.len() {
            self.function.of(F32::load(simd, rest)).store(rest_out);
        }
    }
}

struct InPlace<'a, F> {
    function: F,
    numbers: &'a mut [f32],
}

impl<F: Function> WithSimd for InPlace<'_, F> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let (numbers, rest) = S::as_mut_simd_f32s(self.numbers);
        for x in numbers {
            *x = self.function.of(F32(simd, *x)).1;
        }
        if !rest.is_empty() {
            self.function.of(F32::load(simd, rest)).store(rest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Isa;
    use crate::cpu::simd::dispatch_by;

    /// How far `got` is from `exact`, in units of the last place of a normal number that is as large.
    fn ulps(got: f32, exact: f64) -> f64 {
        if got == exact as f32 || (got.is_nan() && exact.is_nan()) {
            return 0.0;
        }
        let size = exact.abs().clamp(f64::from(f32::MIN_POSITIVE), f64::from(f32::MAX));
        let unit = 2f64.powi(size.log2().floor() as i32 - 23);
        (f64::from(got) - exact).abs() / unit
    }

    /// Numbers of every size and sign, and many between -20 and 20.
    fn arguments() -> Vec<f32> {
        let every = (0..u32::MAX).step_by(20_011).map(f32::from_bits);
        let usual = (0..200_001).map(|i| (i as f32 - 100_000.0) * 2e-4);
        let edges =
            [0.0, -0.0, f32::INFINITY, f32::NEG_INFINITY, f32::NAN, f32::MIN_POSITIVE, 1e-45];
        every.chain(usual).chain(edges).collect()
    }

    fn check(
        name: &str,
        function: impl Function,
        exact: impl Fn(f64) -> f64,
        flushed_below: f64,
        bound: impl Fn(Isa, f32) -> f64,
    ) {
        let arguments = arguments();
        let exact: Vec<f64> = arguments.iter().map(|&x| exact(f64::from(x))).collect();
        for isa in Isa::ALL.into_iter().filter(|isa| isa.is_there()) {
            let mut got = vec![f32::NAN; arguments.len()];
            dispatch_by(isa, Map { function, from: &arguments, out: &mut got });
            let mut worst = (0.0, 0.0, 0.0);
            for ((&x, &exact), &got) in arguments.iter().zip(&exact).zip(&got) {
                let flushed = got == 0.0 && exact.abs() < flushed_below;
                let error = if flushed { 0.0 } else { ulps(got, exact) };
                let allowed = bound(isa, x);
                assert!(
                    error <= allowed,
                    "{isa:?} {name}({x:e}) = {got:e}, not {exact:e}: {error}"
                );
                if error > worst.0 {
                    worst = (error, x, got);
                }
            }
            println!("{isa:?} {name}: {} ulp at {}", worst.0, worst.1);
            let mut same = arguments.clone();
            dispatch_by(isa, InPlace { function, numbers: &mut same });
            let bits = |numbers: &[f32]| numbers.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
            assert!(bits(&same) == bits(&got), "{isa:?} {name} in place");
        }
    }

    fn sigmoid64(x: f64) -> f64 {
        if x < 0.0 { x.exp() / (1.0 + x.exp()) } else { 1.0 / (1.0 + (-x).exp()) }
    }

    /// x * share, where no infinite x makes a NaN.
    fn times(x: f64, share: f64) -> f64 {
        if share == 0.0 { 0.0 } else { x * share }
    }

    #[test]
    fn exponentials() {
        let least = f64::from(f32::MIN_POSITIVE);
        check("exp", Exp, f64::exp, 0.0, |_, _| 2.0);
        check("sigmoid", Sigmoid, sigmoid64, least, |_, _| 4.0);
        check("silu", Silu, |x| times(x, sigmoid64(x)), 128.0 * least, |_, _| 5.0);
        check("tanh", Tanh, f64::tanh, least, |_, _| 3.0);
        // What is left of the cube's rounding errors is larger the further down the tail.
        let cubic = |x: f64| 2.0 * (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x * x * x);
        check(
            "gelu tanh",
            GeluTanh,
            |x| times(x, sigmoid64(cubic(x))),
            16.0 * least,
            |_, x| {
                if x < -2.0 { 256.0 } else { 16.0 }
            },
        );
    }

    #[test]
    fn logarithms() {
        check("ln", Ln, f64::ln, 0.0, |_, _| 2.0);
    }

    #[test]
    fn errors_of_measurement() {
        let least = f64::from(f32::MIN_POSITIVE);
        let normal = |x: f64| 0.5 * libm::erfc(-x * std::f64::consts::FRAC_1_SQRT_2);
        check("erf", Erf, libm::erf, least, |_, _| 3.0);
        check(
            "gelu",
            Gelu,
            |x| times(x, normal(x)),
            4.0 * least,
            |isa, x| match isa {
                Isa::Portable if x < -1.0 => 128.0,
                _ => 16.0,
            },
        );
    }

    #[test]
    fn every_length_is_whole() {
        for isa in Isa::ALL.into_iter().filter(|isa| isa.is_there()) {
            for len in 0..70 {
                let from: Vec<f32> = (0..len).map(|i| i as f32 / 8.0).collect();
                let mut out = vec![0.0; len];
                dispatch_by(isa, Map { function: Exp, from: &from, out: &mut out });
                for (x, y) in from.iter().zip(&out) {
                    assert!((y / x.exp() - 1.0).abs() < 1e-6, "{isa:?} {len}");
                }
            }
        }
    }
}
