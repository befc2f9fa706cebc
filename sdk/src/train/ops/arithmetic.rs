//! Element by element.

use super::{sizes, sum_to};
use crate::train::call::Backward;
use crate::train::tape::backward_one;
use crate::train::{Slope, Var};
use crate::{Error, Result, Tensor};

/// Two operands that broadcast. Both sides' derivatives are summed over what was repeated.
impl Var {
    /// [`Tensor::add`].
    ///
    /// # Errors
    /// See [`Tensor`].
    pub fn add(&self, rhs: &Var) -> Result<Var> {
        let value = self.value().add(rhs.value())?;
        self.pair(rhs, value, |dy| dy.share(), |dy| dy.share())
    }

    /// [`Tensor::sub`].
    ///
    /// # Errors
    /// See [`Tensor`].
    pub fn sub(&self, rhs: &Var) -> Result<Var> {
        let value = self.value().sub(rhs.value())?;
        self.pair(rhs, value, |dy| dy.share(), |dy| dy.neg())
    }

    /// [`Tensor::mul`].
    ///
    /// # Errors
    /// See [`Tensor`].
    pub fn mul(&self, rhs: &Var) -> Result<Var> {
        let (a, b) = (self.keep(), rhs.keep());
        self.pair(rhs, a.mul(&b)?, move |dy| dy.mul(&b), move |dy| dy.mul(&a))
    }

    /// [`Tensor::div`].
    ///
    /// # Errors
    /// See [`Tensor`].
    pub fn div(&self, rhs: &Var) -> Result<Var> {
        let (a, b) = (self.keep(), rhs.keep());
        let divisor = b.clone();
        self.pair(
            rhs,
            a.div(&b)?,
            move |dy| dy.div(&divisor),
            move |dy| dy.mul(&a)?.div(&b)?.div(&b)?.neg(),
        )
    }

    /// [`Tensor::pow`]; the base must be above 0 where the exponent is a parameter.
    ///
    /// # Errors
    /// See [`Tensor`].
    pub fn pow(&self, rhs: &Var) -> Result<Var> {
        let (a, b) = (self.keep(), rhs.keep());
        let value = std::rc::Rc::new(a.pow(&b)?);
        let (base, exponent, power) = (a.clone(), b.clone(), value.clone());
        self.pair(
            rhs,
            value,
            move |dy| dy.mul(&exponent)?.mul(&base.pow(&exponent.add_scalar(-1.0)?)?),
            move |dy| dy.mul(&power)?.mul(&a.ln()?),
        )
    }

    /// [`Tensor::maximum`]; where both are equal, each side has half of the derivative.
    ///
    /// # Errors
    /// See [`Tensor`].
    pub fn maximum(&self, rhs: &Var) -> Result<Var> {
        self.extreme(rhs, self.value().maximum(rhs.value())?, |a, b| a.greater(b))
    }

    /// [`Tensor::minimum`]; where both are equal, each side has half of the derivative.
    ///
    /// # Errors
    /// See [`Tensor`].
    pub fn minimum(&self, rhs: &Var) -> Result<Var> {
        self.extreme(rhs, self.value().minimum(rhs.value())?, |a, b| a.less(b))
    }

    fn extreme(
        &self,
        rhs: &Var,
        value: Tensor,
        wins: impl Fn(&Tensor, &Tensor) -> Result<Tensor> + Copy + 'static,
    ) -> Result<Var> {
        let share = move |dy: &Tensor, own: &Tensor, other: &Tensor| {
            let equal = own.equal(other)?.cast(dy.dtype())?.mul_scalar(0.5)?;
            dy.mul(&wins(own, other)?.cast(dy.dtype())?.add(&equal)?)
        };
        let (a, b) = (self.keep(), rhs.keep());
        let (left, right) = (a.clone(), b.clone());
        self.pair(rhs, value, move |dy| share(dy, &a, &b), move |dy| share(dy, &right, &left))
    }

    fn pair(
        &self,
        rhs: &Var,
        value: impl Into<std::rc::Rc<Tensor>>,
        left: impl Fn(&Tensor) -> Result<Tensor> + 'static,
        right: impl Fn(&Tensor) -> Result<Tensor> + 'static,
    ) -> Result<Var> {
        let wanted = [self.is_tracked(), rhs.is_tracked()];
        let shapes = [sizes(self.shape()), sizes(rhs.shape())];
        Ok(Var::result(value, [self, rhs], move |dy| {
            let side = |wanted: bool, gradient: &dyn Fn(&Tensor) -> Result<Tensor>, shape| {
                wanted.then(|| sum_to(gradient(dy)?, shape)).transpose()
            };
            Ok([side(wanted[0], &left, &shapes[0])?, side(wanted[1], &right, &shapes[1])?])
        }))
    }

    /// Where `condition` (a BOOL tensor) holds this, else `other`; all three broadcast. [`Tensor::select`].
    ///
    /// # Errors
    /// See [`Tensor`].
    pub fn select(&self, condition: &Tensor, other: &Var) -> Result<Var> {
        let value = condition.select(self.value(), other.value())?;
        let mask = condition.cast(self.value().dtype())?;
        let holds = std::rc::Rc::new(mask);
        let not = holds.clone();
        self.pair(
            other,
            value,
            move |dy| dy.mul(&holds),
            move |dy| dy.mul(&not.neg()?.add_scalar(1.0)?),
        )
    }
}

/// One operand.
impl Var {
    /// [`Tensor::add_scalar`].
    ///
    /// # Errors
    /// See [`Tensor`].
    pub fn add_scalar(&self, value: f64) -> Result<Var> {
        self.one(self.value().add_scalar(value)?, |dy| dy.share())
    }

    /// [`Tensor::mul_scalar`].
    ///
    /// # Errors
    /// See [`Tensor`].
    pub fn mul_scalar(&self, value: f64) -> Result<Var> {
        self.one(self.value().mul_scalar(value)?, move |dy| dy.mul_scalar(value))
    }

    /// [`Tensor::neg`].
    ///
    /// # Errors
    /// See [`Tensor`].
    pub fn neg(&self) -> Result<Var> {
        self.one(self.value().neg()?, Tensor::neg)
    }

    /// [`Tensor::abs`]; at 0 the derivative is 0.
    ///
    /// # Errors
    /// See [`Tensor`].
    pub fn abs(&self) -> Result<Var> {
        let x = self.keep();
        self.one(x.abs()?, move |dy| {
            let zero = Tensor::full(dy.dtype(), &[], 0.0)?;
            let sign =
                x.greater(&zero)?.cast(dy.dtype())?.sub(&x.less(&zero)?.cast(dy.dtype())?)?;
            dy.mul(&sign)
        })
    }

    /// [`Tensor::exp`].
    ///
    /// # Errors
    /// See [`Tensor`].
    pub fn exp(&self) -> Result<Var> {
        let y = std::rc::Rc::new(self.value().exp()?);
        self.one(y.clone(), move |dy| dy.mul(&y))
    }

    /// [`Tensor::ln`].
    ///
    /// # Errors
    /// See [`Tensor`].
    pub fn ln(&self) -> Result<Var> {
        let x = self.keep();
        self.one(x.ln()?, move |dy| dy.div(&x))
    }

    /// [`Tensor::sqrt`].
    ///
    /// # Errors
    /// See [`Tensor`].
    pub fn sqrt(&self) -> Result<Var> {
        let y = std::rc::Rc::new(self.value().sqrt()?);
        self.one(y.clone(), move |dy| dy.div(&y)?.mul_scalar(0.5))
    }

    /// [`Tensor::relu`]; at 0 the derivative is 0.
    ///
    /// # Errors
    /// See [`Tensor`].
    pub fn relu(&self) -> Result<Var> {
        self.by_result(self.value().relu()?, Slope::Relu)
    }

    /// [`Tensor::sigmoid`].
    ///
    /// # Errors
    /// See [`Tensor`].
    pub fn sigmoid(&self) -> Result<Var> {
        self.by_result(self.value().sigmoid()?, Slope::Sigmoid)
    }

    /// [`Tensor::tanh`].
    ///
    /// # Errors
    /// See [`Tensor`].
    pub fn tanh(&self) -> Result<Var> {
        self.by_result(self.value().tanh()?, Slope::Tanh)
    }

    /// [`Tensor::gelu`].
    ///
    /// # Errors
    /// See [`Tensor`].
    pub fn gelu(&self) -> Result<Var> {
        self.by_operand(self.value().gelu()?, Slope::Gelu)
    }

    /// x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2, the approximation of [`Var::gelu`]. ONNX Gelu, approximate =
    /// "tanh".
    ///
    /// # Errors
    /// See [`Tensor`].
    pub fn gelu_tanh(&self) -> Result<Var> {
        self.by_operand(self.value().gelu_tanh()?, Slope::GeluTanh)
    }

    /// [`Tensor::silu`].
    ///
    /// # Errors
    /// See [`Tensor`].
    pub fn silu(&self) -> Result<Var> {
        self.by_operand(self.value().silu()?, Slope::Silu)
    }

    /// Each element 0 with probability `rate`, else divided by 1 - `rate`; `seed` decides which. The same seed gives
    /// the same elements on every machine.
    ///
    /// # Errors
    /// See [`Tensor`]; [`Error::InvalidArgument`] for a rate that is not from 0 to below 1.
    pub fn dropout(&self, rate: f64, seed: u64) -> Result<Var> {
        let call = Backward::Dropout { rate, seed };
        let value = backward_one(&call, &[self.value()])?;
        self.one(value, move |dy| backward_one(&call, &[dy]))
    }

    fn by_operand(&self, value: Tensor, slope: Slope) -> Result<Var> {
        let x = self.keep();
        self.one(value, move |dy| backward_one(&Backward::Slope(slope), &[dy, &x]))
    }

    fn by_result(&self, value: Tensor, slope: Slope) -> Result<Var> {
        let y = std::rc::Rc::new(value);
        self.one(y.clone(), move |dy| backward_one(&Backward::Slope(slope), &[dy, &y]))
    }

    pub(super) fn one(
        &self,
        value: impl Into<std::rc::Rc<Tensor>>,
        pullback: impl Fn(&Tensor) -> Result<Tensor> + 'static,
    ) -> Result<Var> {
        Ok(Var::result(value, [self], move |dy| Ok([Some(pullback(dy)?)])))
    }
}

/// Over dimensions.
impl Var {
    /// [`Tensor::sum`].
    ///
    /// # Errors
    /// See [`Tensor`].
    pub fn sum(&self, axes: &[i32], keep_dims: bool) -> Result<Var> {
        let (whole, kept) = self.spread(axes)?;
        self.one(self.value().sum(axes, keep_dims)?, move |dy| {
            dy.reshape(&kept)?.mul(&Tensor::full(dy.dtype(), &whole, 1.0)?)
        })
    }

    /// [`Tensor::mean`].
    ///
    /// # Errors
    /// See [`Tensor`].
    pub fn mean(&self, axes: &[i32], keep_dims: bool) -> Result<Var> {
        let (whole, kept) = self.spread(axes)?;
        let count = whole.iter().product::<usize>() as f64 / kept.iter().product::<i64>() as f64;
        self.one(self.value().mean(axes, keep_dims)?, move |dy| {
            dy.reshape(&kept)?.mul(&Tensor::full(dy.dtype(), &whole, 1.0 / count)?)
        })
    }

    /// [`Tensor::max`]; elements that are equally large share the derivative.
    ///
    /// # Errors
    /// See [`Tensor`].
    pub fn max(&self, axes: &[i32], keep_dims: bool) -> Result<Var> {
        self.extreme_over(axes, self.value().max(axes, keep_dims)?)
    }

    /// [`Tensor::min`]; elements that are equally small share the derivative.
    ///
    /// # Errors
    /// See [`Tensor`].
    pub fn min(&self, axes: &[i32], keep_dims: bool) -> Result<Var> {
        self.extreme_over(axes, self.value().min(axes, keep_dims)?)
    }

    fn extreme_over(&self, axes: &[i32], value: Tensor) -> Result<Var> {
        let (_, kept) = self.spread(axes)?;
        let (x, y, axes) = (self.keep(), std::rc::Rc::new(value), axes.to_vec());
        self.one(y.clone(), move |dy| {
            let best = x.equal(&y.reshape(&kept)?)?.cast(dy.dtype())?;
            let count = best.sum(&axes, true)?;
            best.mul(&dy.reshape(&kept)?.div(&count)?)
        })
    }

    /// The shape, and what a reduction with `keep_dims` leaves of it.
    fn spread(&self, axes: &[i32]) -> Result<(Vec<usize>, Vec<i64>)> {
        let whole = self.shape().to_vec();
        let mut kept: Vec<i64> = whole.iter().map(|&size| size as i64).collect();
        for &axis in axes {
            let index = if axis < 0 { i64::from(axis) + whole.len() as i64 } else { axis.into() };
            let place = usize::try_from(index).ok().and_then(|index| kept.get_mut(index));
            *place.ok_or_else(|| {
                Error::invalid_argument(format!("there is no axis {axis} in shape {whole:?}"))
            })? = 1;
        }
        if axes.is_empty() {
            kept.fill(1);
        }
        Ok((whole, kept))
    }
}
