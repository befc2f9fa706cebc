//! Operations on elements at the same place.

/// An operation on two operands, element by element. Numeric dtypes unless said otherwise; integers wrap around.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Binary {
    /// a + b. ONNX Add.
    Add,
    /// a - b. ONNX Sub.
    Sub,
    /// a * b. ONNX Mul.
    Mul,
    /// a / b. Integers truncate towards zero; one divided by zero is an error at the run. ONNX Div.
    Div,
    /// a to the power of b. Integers to a negative power are truncated towards zero, so that only 1 and -1 are left;
    /// zero to one is an error at the run. ONNX Pow.
    Pow,
    /// The larger, NaN if either is. ONNX Max.
    Maximum,
    /// The smaller, NaN if either is. ONNX Min.
    Minimum,
    /// What is left of a divided by b, with the sign of b, as Python's `%`. Integers by zero are an error at the run.
    /// ONNX Mod with fmod = 0.
    Mod,
    /// What is left of a divided by b, with the sign of a, as C's `fmod`. Integers by zero are an error at the run.
    /// ONNX Mod with fmod = 1.
    Fmod,
    /// a where it is not negative, else a * b. ONNX PRelu.
    Prelu,
    /// Both. BOOL. ONNX And.
    And,
    /// Either or both. BOOL. ONNX Or.
    Or,
    /// One and not the other. BOOL. ONNX Xor.
    Xor,
    /// The bits that are in both. Integers. ONNX BitwiseAnd.
    BitAnd,
    /// The bits that are in either or both. Integers. ONNX BitwiseOr.
    BitOr,
    /// The bits that are in one and not in the other. Integers. ONNX BitwiseXor.
    BitXor,
    /// a's bits moved up by b; 0 when b is the dtype's bits or more. Unsigned integers. ONNX BitShift, LEFT.
    ShiftLeft,
    /// a's bits moved down by b; 0 when b is the dtype's bits or more. Unsigned integers. ONNX BitShift, RIGHT.
    ShiftRight,
}

/// A comparison of two operands, element by element.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compare {
    /// a = b. Every dtype but BYTES. ONNX Equal.
    Equal,
    /// Not a = b; so a NaN differs from everything. Every dtype but BYTES. NumPy `not_equal`.
    NotEqual,
    /// a < b. Numeric dtypes. ONNX Less.
    Less,
    /// a <= b. Numeric dtypes. ONNX LessOrEqual.
    LessOrEqual,
    /// a > b. Numeric dtypes. ONNX Greater.
    Greater,
    /// a >= b. Numeric dtypes. ONNX GreaterOrEqual.
    GreaterOrEqual,
}

/// An operation on one operand, element by element. FP16, BF16, FP32 and FP64 unless said otherwise; the 16-bit floats
/// are computed in FP32 and rounded once. Outside of a function's domain the result is NaN.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unary {
    /// -a. Signed integers too, wrapping around. ONNX Neg.
    Neg,
    /// |a|. Integers too; the smallest signed one stays itself. ONNX Abs.
    Abs,
    /// e to the a. ONNX Exp.
    Exp,
    /// The natural logarithm. ONNX Log.
    Ln,
    /// The square root. ONNX Sqrt.
    Sqrt,
    /// The hyperbolic tangent. ONNX Tanh.
    Tanh,
    /// 1 / (1 + e^-a). ONNX Sigmoid.
    Sigmoid,
    /// max(a, 0), NaN for NaN. Signed integers too. ONNX Relu.
    Relu,
    /// a * (1 + erf(a / sqrt 2)) / 2. ONNX Gelu, approximate = "none".
    Gelu,
    /// a * sigmoid(a). ONNX Swish with alpha = 1.
    Silu,
    /// a * (1 + tanh(sqrt(2 / pi) * (a + 0.044715 a^3))) / 2. ONNX Gelu, approximate = "tanh".
    GeluTanh,
    /// The largest whole number that is not larger. ONNX Floor.
    Floor,
    /// The smallest whole number that is not smaller. ONNX Ceil.
    Ceil,
    /// The nearest whole number, the even one of two. ONNX Round.
    Round,
    /// -1, 0 or 1; NaN for NaN. Integers too. ONNX Sign.
    Sign,
    /// 1 / a. ONNX Reciprocal.
    Reciprocal,
    /// The error function. ONNX Erf.
    Erf,
    /// The sine of radians. ONNX Sin.
    Sin,
    /// The cosine of radians. ONNX Cos.
    Cos,
    /// The tangent of radians. ONNX Tan.
    Tan,
    /// The inverse of sin. ONNX Asin.
    Asin,
    /// The inverse of cos. ONNX Acos.
    Acos,
    /// The inverse of tan. ONNX Atan.
    Atan,
    /// The hyperbolic sine. ONNX Sinh.
    Sinh,
    /// The hyperbolic cosine. ONNX Cosh.
    Cosh,
    /// The inverse of sinh. ONNX Asinh.
    Asinh,
    /// The inverse of cosh. ONNX Acosh.
    Acosh,
    /// The inverse of tanh. ONNX Atanh.
    Atanh,
    /// ln(1 + e^a), without overflow. ONNX Softplus.
    Softplus,
    /// a / (1 + |a|). ONNX Softsign.
    Softsign,
    /// a * tanh(softplus(a)). ONNX Mish.
    Mish,
    /// a * max(0, min(1, a / 6 + 1/2)). ONNX HardSwish.
    HardSwish,
    /// Not a. BOOL. ONNX Not.
    Not,
    /// Every bit the other way. Integers. ONNX BitwiseNot.
    BitNot,
}

/// A function of one operand with parameters. FP16, BF16, FP32 and FP64 unless said otherwise; parameters are rounded
/// to FP32 (to FP64 for FP64), in which everything is computed, and the result is rounded once.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Curve {
    /// a where it is positive, else alpha (e^a - 1). ONNX Elu.
    Elu {
        /// The negative of the value far below zero.
        alpha: f64,
    },
    /// max(0, a) + min(0, alpha (e^(a / alpha) - 1)). ONNX Celu.
    Celu {
        /// The negative of the value far below zero; must not be 0.
        alpha: f64,
    },
    /// gamma times what Elu gives. ONNX Selu.
    Selu {
        /// As for Elu.
        alpha: f64,
        /// What everything is multiplied by.
        gamma: f64,
    },
    /// a where it is not negative, else alpha a. ONNX LeakyRelu.
    LeakyRelu {
        /// The slope below zero.
        alpha: f64,
    },
    /// a where it is larger than alpha, else 0. ONNX ThresholdedRelu.
    ThresholdedRelu {
        /// What must be passed.
        alpha: f64,
    },
    /// max(0, min(1, alpha a + beta)). ONNX HardSigmoid.
    HardSigmoid {
        /// The slope.
        alpha: f64,
        /// The value at zero.
        beta: f64,
    },
    /// a * sigmoid(alpha a). ONNX Swish.
    Swish {
        /// How steep the sigmoid is.
        alpha: f64,
    },
    /// a + bias below -lambda, a - bias above lambda, else 0. ONNX Shrink.
    Shrink {
        /// What the rest is moved by towards zero.
        bias: f64,
        /// Half the width of what becomes 0.
        lambda: f64,
    },
    /// min(max(a, min), max), NaN for NaN; the bounds are converted as [`Op::Cast`](crate::Op::Cast) would from FP64.
    /// Numeric dtypes. ONNX Clip.
    Clip {
        /// The smallest result, if there is one.
        min: Option<f64>,
        /// The largest result, if there is one; it wins over `min`.
        max: Option<f64>,
    },
}

/// A question about each element. FP16, BF16, FP32 and FP64.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Test {
    /// Whether it is not a number. ONNX IsNaN.
    IsNan,
    /// Whether it is one of these infinities. ONNX IsInf.
    IsInf {
        /// Whether minus infinity counts.
        negative: bool,
        /// Whether plus infinity counts.
        positive: bool,
    },
}

impl Binary {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Binary::Add => "add",
            Binary::Sub => "sub",
            Binary::Mul => "mul",
            Binary::Div => "div",
            Binary::Pow => "pow",
            Binary::Maximum => "maximum",
            Binary::Minimum => "minimum",
            Binary::Mod => "mod",
            Binary::Fmod => "fmod",
            Binary::Prelu => "prelu",
            Binary::And => "and",
            Binary::Or => "or",
            Binary::Xor => "xor",
            Binary::BitAnd => "bit-and",
            Binary::BitOr => "bit-or",
            Binary::BitXor => "bit-xor",
            Binary::ShiftLeft => "shift-left",
            Binary::ShiftRight => "shift-right",
        }
    }
}

impl Compare {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Compare::Equal => "equal",
            Compare::NotEqual => "not-equal",
            Compare::Less => "less",
            Compare::LessOrEqual => "less-or-equal",
            Compare::Greater => "greater",
            Compare::GreaterOrEqual => "greater-or-equal",
        }
    }
}

impl Unary {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Unary::Neg => "neg",
            Unary::Abs => "abs",
            Unary::Exp => "exp",
            Unary::Ln => "ln",
            Unary::Sqrt => "sqrt",
            Unary::Tanh => "tanh",
            Unary::Sigmoid => "sigmoid",
            Unary::Relu => "relu",
            Unary::Gelu => "gelu",
            Unary::Silu => "silu",
            Unary::GeluTanh => "gelu-tanh",
            Unary::Floor => "floor",
            Unary::Ceil => "ceil",
            Unary::Round => "round",
            Unary::Sign => "sign",
            Unary::Reciprocal => "reciprocal",
            Unary::Erf => "erf",
            Unary::Sin => "sin",
            Unary::Cos => "cos",
            Unary::Tan => "tan",
            Unary::Asin => "asin",
            Unary::Acos => "acos",
            Unary::Atan => "atan",
            Unary::Sinh => "sinh",
            Unary::Cosh => "cosh",
            Unary::Asinh => "asinh",
            Unary::Acosh => "acosh",
            Unary::Atanh => "atanh",
            Unary::Softplus => "softplus",
            Unary::Softsign => "softsign",
            Unary::Mish => "mish",
            Unary::HardSwish => "hard-swish",
            Unary::Not => "not",
            Unary::BitNot => "bit-not",
        }
    }

    /// Whether it takes no more than a few additions and multiplications.
    pub(crate) fn is_cheap(self) -> bool {
        use Unary::*;
        matches!(
            self,
            Neg | Abs
                | Sqrt
                | Relu
                | Floor
                | Ceil
                | Round
                | Sign
                | Reciprocal
                | Softsign
                | HardSwish
                | Not
                | BitNot
        )
    }
}

impl Curve {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Curve::Elu { .. } => "elu",
            Curve::Celu { .. } => "celu",
            Curve::Selu { .. } => "selu",
            Curve::LeakyRelu { .. } => "leaky-relu",
            Curve::ThresholdedRelu { .. } => "thresholded-relu",
            Curve::HardSigmoid { .. } => "hard-sigmoid",
            Curve::Swish { .. } => "swish",
            Curve::Shrink { .. } => "shrink",
            Curve::Clip { .. } => "clip",
        }
    }

    /// Whether it takes no more than a few additions and multiplications.
    pub(crate) fn is_cheap(self) -> bool {
        use Curve::*;
        !matches!(self, Elu { .. } | Celu { .. } | Selu { .. } | Swish { .. })
    }
}

impl Test {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Test::IsNan => "is-nan",
            Test::IsInf { .. } => "is-inf",
        }
    }
}
