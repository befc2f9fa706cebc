//! Element by element: the rest of the functions.

use crate::{Result, Tensor};

macro_rules! functions {
    ($($(#[$doc:meta])+ $name:ident($($parameter:ident: $kind:ty),*);)*) => {
        impl Tensor {
            $(
                $(#[$doc])+
                ///
                /// # Errors
                /// See [`Tensor`].
                pub fn $name(&self, $($parameter: $kind),*) -> Result<Tensor> {
                    Ok(Tensor(self.0.$name($($parameter),*)?))
                }
            )*
        }
    };
}

functions! {
    /// a * (1 + tanh(sqrt(2 / pi) * (a + 0.044715 a^3))) / 2. ONNX Gelu, approximate = "tanh".
    gelu_tanh();
    /// The largest whole number that is not larger. ONNX Floor.
    floor();
    /// The smallest whole number that is not smaller. ONNX Ceil.
    ceil();
    /// The nearest whole number, the even one of two. ONNX Round.
    round();
    /// -1, 0 or 1, NaN for NaN; integers too. ONNX Sign.
    sign();
    /// 1 / a. ONNX Reciprocal.
    reciprocal();
    /// The error function. ONNX Erf.
    erf();
    /// The sine of radians. ONNX Sin.
    sin();
    /// The cosine of radians. ONNX Cos.
    cos();
    /// The tangent of radians. ONNX Tan.
    tan();
    /// The inverse of the sine. ONNX Asin.
    asin();
    /// The inverse of the cosine. ONNX Acos.
    acos();
    /// The inverse of the tangent. ONNX Atan.
    atan();
    /// The hyperbolic sine. ONNX Sinh.
    sinh();
    /// The hyperbolic cosine. ONNX Cosh.
    cosh();
    /// The inverse of the hyperbolic sine. ONNX Asinh.
    asinh();
    /// The inverse of the hyperbolic cosine. ONNX Acosh.
    acosh();
    /// The inverse of the hyperbolic tangent. ONNX Atanh.
    atanh();
    /// ln(1 + e^a), without overflow. ONNX Softplus.
    softplus();
    /// a / (1 + |a|). ONNX Softsign.
    softsign();
    /// a * tanh(ln(1 + e^a)). ONNX Mish.
    mish();
    /// a * max(0, min(1, a / 6 + 1/2)). ONNX HardSwish.
    hard_swish();
    /// Not a; BOOL alone. ONNX Not.
    logical_not();
    /// Every bit the other way; integers alone. ONNX BitwiseNot.
    bit_not();
    /// a where it is positive, else alpha * (e^a - 1). ONNX Elu.
    elu(alpha: f64);
    /// max(0, a) + min(0, alpha * (e^(a / alpha) - 1)); alpha must not be 0. ONNX Celu.
    celu(alpha: f64);
    /// gamma times what [`elu`](Tensor::elu) gives. ONNX Selu.
    selu(alpha: f64, gamma: f64);
    /// a where it is not negative, else alpha * a. ONNX LeakyRelu.
    leaky_relu(alpha: f64);
    /// a where it is larger than alpha, else 0. ONNX ThresholdedRelu.
    thresholded_relu(alpha: f64);
    /// max(0, min(1, alpha * a + beta)). ONNX HardSigmoid.
    hard_sigmoid(alpha: f64, beta: f64);
    /// a * sigmoid(alpha * a). ONNX Swish.
    swish(alpha: f64);
    /// a + bias below -lambda, a - bias above lambda, else 0. ONNX Shrink.
    shrink(bias: f64, lambda: f64);
    /// min(max(a, min), max), NaN for NaN; a bound that is `None` is not there, and each is first
    /// converted as [`cast`](Tensor::cast) would. Dtypes as [`add`](Tensor::add). ONNX Clip.
    ///
    /// ```
    /// # use innkeeper_sdk::Tensor;
    /// let x = Tensor::from_slice(&[3], &[-1i32, 2, 9])?;
    /// assert_eq!(x.clip(Some(0.0), Some(6.0))?.to_vec::<i32>()?, [0, 2, 6]);
    /// # Ok::<(), innkeeper_sdk::Error>(())
    /// ```
    clip(min: Option<f64>, max: Option<f64>);
    /// BOOL: whether it is not a number. ONNX IsNaN.
    is_nan();
    /// BOOL: whether it is one of the infinities that are asked for. ONNX IsInf.
    is_inf(negative: bool, positive: bool);
}

macro_rules! pairs {
    ($($(#[$doc:meta])+ $name:ident;)*) => {
        impl Tensor {
            $(
                $(#[$doc])+
                ///
                /// # Errors
                /// See [`Tensor`].
                pub fn $name(&self, rhs: &Tensor) -> Result<Tensor> {
                    Ok(Tensor(self.0.$name(&rhs.0)?))
                }
            )*
        }
    };
}

pairs! {
    /// What is left of a divided by b, with the sign of b; dtypes as [`add`](Tensor::add).
    /// Integers by zero are [`Error::InvalidArgument`](crate::Error::InvalidArgument). ONNX Mod
    /// with fmod = 0.
    modulo;
    /// What is left of a divided by b, with the sign of a, as C's `fmod`; otherwise as
    /// [`modulo`](Tensor::modulo). ONNX Mod with fmod = 1.
    fmod;
    /// a where it is not negative, else a * b; dtypes as [`add`](Tensor::add). ONNX PRelu.
    prelu;
    /// Both hold; BOOL alone. ONNX And.
    logical_and;
    /// Either holds, or both; BOOL alone. ONNX Or.
    logical_or;
    /// One holds and the other does not; BOOL alone. ONNX Xor.
    logical_xor;
    /// The bits that are in both; integers alone. ONNX BitwiseAnd.
    bit_and;
    /// The bits that are in either or both; integers alone. ONNX BitwiseOr.
    bit_or;
    /// The bits that are in one and not in the other; integers alone. ONNX BitwiseXor.
    bit_xor;
    /// a's bits moved up by b, 0 when b is the dtype's bits or more; unsigned integers alone.
    /// ONNX BitShift, LEFT.
    shift_left;
    /// a's bits moved down by b, otherwise as [`shift_left`](Tensor::shift_left). ONNX BitShift,
    /// RIGHT.
    shift_right;
    /// BOOL: not a = b, so a NaN differs from everything. Every dtype but BYTES.
    not_equal;
    /// BOOL: a <= b; dtypes as [`less`](Tensor::less). ONNX LessOrEqual.
    less_or_equal;
    /// BOOL: a >= b; dtypes as [`less`](Tensor::less). ONNX GreaterOrEqual.
    greater_or_equal;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(elements: &[f32]) -> Tensor {
        Tensor::from_slice(&[elements.len()], elements).unwrap()
    }

    #[test]
    fn each_name_is_its_own_function() {
        type Function = fn(&Tensor) -> Result<Tensor>;
        let cases: [(&str, Function, f32, f32); 20] = [
            ("gelu_tanh", Tensor::gelu_tanh, 1.0, 0.841_192),
            ("floor", Tensor::floor, -1.5, -2.0),
            ("ceil", Tensor::ceil, -1.5, -1.0),
            ("round", Tensor::round, 2.5, 2.0),
            ("sign", Tensor::sign, -3.0, -1.0),
            ("reciprocal", Tensor::reciprocal, 4.0, 0.25),
            ("erf", Tensor::erf, 1.0, 0.842_700_8),
            ("sin", Tensor::sin, 1.0, 0.841_471),
            ("cos", Tensor::cos, 1.0, 0.540_302_3),
            ("tan", Tensor::tan, 1.0, 1.557_407_7),
            ("asin", Tensor::asin, 0.5, std::f32::consts::FRAC_PI_6),
            ("acos", Tensor::acos, 0.5, std::f32::consts::FRAC_PI_3),
            ("atan", Tensor::atan, 0.5, 0.463_647_6),
            ("sinh", Tensor::sinh, 1.0, 1.175_201_2),
            ("cosh", Tensor::cosh, 1.0, 1.543_080_6),
            ("softplus", Tensor::softplus, 0.0, std::f32::consts::LN_2),
            ("softsign", Tensor::softsign, 1.0, 0.5),
            ("mish", Tensor::mish, 1.0, 0.865_098_4),
            ("hard_swish", Tensor::hard_swish, 1.0, 0.666_666_7),
            ("elu", |x| x.elu(2.0), -1.0, -1.264_241_1),
        ];
        for (name, function, x, wanted) in cases {
            let got = function(&of(&[x])).unwrap().to_vec::<f32>().unwrap()[0];
            assert!((got - wanted).abs() < 1e-5, "{name}: {got} is not {wanted}");
        }
    }

    #[test]
    fn each_name_is_its_own_operation() {
        let (a, b) = (of(&[-7.0, 7.0]), of(&[3.0, -3.0]));
        assert_eq!(a.modulo(&b).unwrap().to_vec::<f32>().unwrap(), [2.0, -2.0]);
        assert_eq!(a.fmod(&b).unwrap().to_vec::<f32>().unwrap(), [-1.0, 1.0]);
        assert_eq!(a.prelu(&b).unwrap().to_vec::<f32>().unwrap(), [-21.0, 7.0]);
        assert_eq!(a.less_or_equal(&b).unwrap().to_bools().unwrap(), [true, false]);
        assert_eq!(a.greater_or_equal(&b).unwrap().to_bools().unwrap(), [false, true]);
        let (a, b) = (a.less(&b).unwrap(), a.is_nan().unwrap());
        assert_eq!(a.logical_or(&b).unwrap().to_bools().unwrap(), [true, false]);
        assert_eq!(a.logical_and(&b).unwrap().to_bools().unwrap(), [false, false]);
        assert_eq!(a.logical_xor(&a).unwrap().to_bools().unwrap(), [false, false]);
        assert_eq!(b.logical_not().unwrap().to_bools().unwrap(), [true, true]);
        assert_eq!(a.not_equal(&b).unwrap().to_bools().unwrap(), [true, false]);
        let (a, b) = ([12u8, 10], [2u8, 1]);
        let (a, b) = (Tensor::from_slice(&[2], &a).unwrap(), Tensor::from_slice(&[2], &b).unwrap());
        assert_eq!(a.bit_and(&b).unwrap().to_vec::<u8>().unwrap(), [0, 0]);
        assert_eq!(a.bit_or(&b).unwrap().to_vec::<u8>().unwrap(), [14, 11]);
        assert_eq!(a.bit_xor(&a).unwrap().to_vec::<u8>().unwrap(), [0, 0]);
        assert_eq!(a.bit_not().unwrap().to_vec::<u8>().unwrap(), [243, 245]);
        assert_eq!(a.shift_left(&b).unwrap().to_vec::<u8>().unwrap(), [48, 20]);
        assert_eq!(a.shift_right(&b).unwrap().to_vec::<u8>().unwrap(), [3, 5]);
    }
}
