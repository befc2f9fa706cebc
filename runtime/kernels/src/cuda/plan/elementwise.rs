//! Operations on elements at the same place.

use innkeeper_tensor::DType;

use crate::cuda::plan::moves::scalar_bits;
use crate::cuda::plan::{Call, Operand, Params, Plan, Slot, Walk};
use crate::cuda::source::{Source, Unit};
use crate::{Binary, Curve, OpError, Test, Unary};

/// The functor of a kernel, or why there is none.
fn functor(
    call: &Call<'_>,
    dtype: DType,
    name: &'static str,
    known: &[&str],
) -> Result<String, OpError> {
    if known.contains(&name) {
        Ok(format!("DO=do_{}", name.replace('-', "_")))
    } else {
        call.refused(format_args!("{name} on {dtype}"))
    }
}

/// Of floats.
const UNARY_REAL: [&str; 32] = [
    "neg",
    "abs",
    "sign",
    "exp",
    "ln",
    "sqrt",
    "reciprocal",
    "floor",
    "ceil",
    "round",
    "sin",
    "cos",
    "tan",
    "asin",
    "acos",
    "atan",
    "sinh",
    "cosh",
    "asinh",
    "acosh",
    "atanh",
    "tanh",
    "erf",
    "sigmoid",
    "relu",
    "gelu",
    "gelu-tanh",
    "silu",
    "softplus",
    "softsign",
    "mish",
    "hard-swish",
];
const UNARY_INTEGER: [&str; 5] = ["neg", "abs", "sign", "relu", "bit-not"];
const BINARY_REAL: [&str; 10] =
    ["add", "sub", "mul", "div", "pow", "mod", "fmod", "prelu", "maximum", "minimum"];
const BINARY_INTEGER: [&str; 15] = [
    "add",
    "sub",
    "mul",
    "div",
    "pow",
    "mod",
    "fmod",
    "prelu",
    "maximum",
    "minimum",
    "bit-and",
    "bit-or",
    "bit-xor",
    "shift-left",
    "shift-right",
];
const BINARY_BOOL: [&str; 3] = ["and", "or", "xor"];
const CURVES: [&str; 8] =
    ["elu", "celu", "selu", "leaky-relu", "thresholded-relu", "hard-sigmoid", "swish", "shrink"];
const COMPARE: [&str; 6] =
    ["equal", "not-equal", "less", "greater", "less-or-equal", "greater-or-equal"];

/// Every operation for one dtype of each kind, and one for all.
pub(crate) fn units() -> Vec<Unit> {
    let numeric = [
        DType::Uint8,
        DType::Uint16,
        DType::Uint32,
        DType::Uint64,
        DType::Int8,
        DType::Int16,
        DType::Int32,
        DType::Int64,
        DType::Fp16,
        DType::Bf16,
        DType::Fp32,
        DType::Fp64,
    ];
    let unit = |dtype, kind: &str, name: &str| {
        let functor = format!("DO=do_{}", name.replace('-', "_"));
        Unit::of(Source::Elementwise, dtype).with(kind).with(functor)
    };
    let mut all = vec![unit(DType::Bool, "UNARY", "not"), unit(DType::Bool, "COMPARE", "equal")];
    all.extend(UNARY_REAL.map(|name| unit(DType::Fp32, "UNARY", name)));
    all.extend(BINARY_REAL.map(|name| unit(DType::Fp32, "BINARY", name)));
    all.extend(UNARY_INTEGER.map(|name| unit(DType::Int64, "UNARY", name)));
    all.extend(BINARY_INTEGER.map(|name| unit(DType::Int64, "BINARY", name)));
    all.extend(BINARY_BOOL.map(|name| unit(DType::Bool, "BINARY", name)));
    all.extend(COMPARE.map(|name| unit(DType::Fp32, "COMPARE", name)));
    all.extend(numeric.map(|dtype| unit(dtype, "BINARY", "mod")));
    all.push(Unit::of(Source::Elementwise, DType::Int32).with("ANY_ZERO"));
    all.push(Unit::of(Source::Elementwise, DType::Uint8).with("CLIP"));
    all.extend(CURVES.map(|name| unit(DType::Fp32, "CURVE", name)));
    let questions = ["is_nan", "is_inf", "is_inf_positive", "is_inf_negative", "never"];
    all.extend(questions.map(|name| unit(DType::Fp16, "QUESTION", name)));
    all
}

pub(crate) fn unary(plan: &mut Plan, call: &Call<'_>, op: Unary) -> Result<(), OpError> {
    let a = call.input(0)?;
    let known: &[&str] = match a.dtype {
        DType::Bool => &["not"],
        dtype if dtype.is_float() => &UNARY_REAL,
        _ => &UNARY_INTEGER,
    };
    let functor = functor(call, a.dtype, op.name(), known)?;
    let unit = Unit::of(Source::Elementwise, a.dtype).with("UNARY").with(functor);
    one(plan, call, unit, (0, 0))
}

pub(crate) fn curve(plan: &mut Plan, call: &Call<'_>, curve: Curve) -> Result<(), OpError> {
    let dtype = call.input(0)?.dtype;
    let unit = Unit::of(Source::Elementwise, dtype);
    if let Curve::Clip { min, max } = curve {
        let bits = |bound: Option<f64>, none| scalar_bits(dtype, bound.unwrap_or(none));
        let bounds = (bits(min, f64::NEG_INFINITY), bits(max, f64::INFINITY));
        return one(plan, call, unit.with("CLIP"), bounds);
    }
    let (first, second) = match curve {
        Curve::Elu { alpha }
        | Curve::Celu { alpha }
        | Curve::LeakyRelu { alpha }
        | Curve::ThresholdedRelu { alpha }
        | Curve::Swish { alpha } => (alpha, 0.0),
        Curve::Selu { alpha, gamma } => (alpha, gamma),
        Curve::HardSigmoid { alpha, beta } => (alpha, beta),
        Curve::Shrink { bias, lambda } => (bias, lambda),
        Curve::Clip { .. } => (0.0, 0.0),
    };
    // What is computed in: FP64, else FP32.
    let wide = if dtype == DType::Fp64 { DType::Fp64 } else { DType::Fp32 };
    let functor = functor(call, dtype, curve.name(), &CURVES)?;
    let parameters = (scalar_bits(wide, first), scalar_bits(wide, second));
    one(plan, call, unit.with("CURVE").with(functor), parameters)
}

pub(crate) fn test(plan: &mut Plan, call: &Call<'_>, test: Test) -> Result<(), OpError> {
    let name = match test {
        Test::IsNan => "is_nan",
        Test::IsInf { negative: true, positive: true } => "is_inf",
        Test::IsInf { negative: true, positive: false } => "is_inf_negative",
        Test::IsInf { negative: false, positive: true } => "is_inf_positive",
        Test::IsInf { negative: false, positive: false } => "never",
    };
    let unit = Unit::of(Source::Elementwise, call.input(0)?.dtype).with("QUESTION");
    one(plan, call, unit.with(format!("DO=do_{name}")), (0, 0))
}

/// A kernel `map` of one operand, with the bits of its parameters.
fn one(
    plan: &mut Plan,
    call: &Call<'_>,
    unit: Unit,
    parameters: (u64, u64),
) -> Result<(), OpError> {
    let (a, out) = (call.input(0)?, call.out()?);
    let walk = Walk::broadcast(out.dims(), [a.dims()]);
    let params = walk.params(Params::new().at(out.slot).at(a.slot));
    let params = params.u64(parameters.0).u64(parameters.1);
    map(plan, call, unit, &walk, a.size(), out.shape.elements(), params)
}

pub(crate) fn binary(
    plan: &mut Plan,
    call: &Call<'_>,
    op: Binary,
    scalar: Option<f64>,
) -> Result<(), OpError> {
    let a = call.input(0)?;
    let known: &[&str] = match a.dtype {
        DType::Bool => &BINARY_BOOL,
        dtype if dtype.is_float() => &BINARY_REAL,
        _ => &BINARY_INTEGER,
    };
    let functor = functor(call, a.dtype, op.name(), known)?;
    let integer = !a.dtype.is_float() && a.dtype != DType::Bool;
    if integer
        && op == Binary::Pow
        && a.dtype.name().starts_with('I')
        && scalar.is_none_or(|value| value < 0.0)
    {
        // Zero to a negative power is an error that only the elements show.
        return call
            .refused(format_args!("pow on {} with exponents that may be negative", a.dtype));
    }
    let bits = scalar.map(|value| scalar_bits(a.dtype, value));
    if integer && matches!(op.name(), "div" | "mod" | "fmod") {
        let zero = format!("{}: {} divided by zero", call.name, a.dtype);
        match bits {
            Some(0) => return Err(OpError::InvalidArgument(zero)),
            Some(_) => {}
            None => any_zero(plan, call, call.input(1)?, zero)?,
        }
    }
    let unit = Unit::of(Source::Elementwise, a.dtype).with("BINARY").with(functor);
    two(plan, call, unit, bits)
}

/// Sets the flag when an element is zero: every element is used as soon as there is a result at all.
fn any_zero(
    plan: &mut Plan,
    call: &Call<'_>,
    b: Operand<'_>,
    fault: String,
) -> Result<(), OpError> {
    let count = b.shape.elements() as u64;
    let params = Params::new().at(b.slot).u64(count).at(Slot::Flag);
    plan.fault = Some(fault);
    let unit = Unit::of(Source::Elementwise, b.dtype).with("ANY_ZERO");
    plan.threads(call, unit, "any_zero", count, params)
}

pub(crate) fn compare(plan: &mut Plan, call: &Call<'_>) -> Result<(), OpError> {
    let a = call.input(0)?;
    let functor = functor(call, a.dtype, call.name, &COMPARE)?;
    two(plan, call, Unit::of(Source::Elementwise, a.dtype).with("COMPARE").with(functor), None)
}

/// A kernel `map` of two operands, or of one and a scalar of these bits.
fn two(plan: &mut Plan, call: &Call<'_>, unit: Unit, scalar: Option<u64>) -> Result<(), OpError> {
    let (a, out) = (call.input(0)?, call.out()?);
    let (b, dims) = match scalar {
        Some(_) => (None, &[][..]),
        None => (Some(call.input(1)?), call.input(1)?.dims()),
    };
    let walk = Walk::broadcast(out.dims(), [a.dims(), dims]);
    let params = Params::new().at(out.slot).at(a.slot).maybe(b.map(|b| b.slot));
    let params = walk.params(params.u64(scalar.unwrap_or(0)));
    map(plan, call, unit, &walk, a.size(), out.shape.elements(), params)
}

/// A kernel of the pair `map` and `map_vector`.
fn map<const N: usize>(
    plan: &mut Plan,
    call: &Call<'_>,
    unit: Unit,
    walk: &Walk<N>,
    size: usize,
    count: usize,
    params: Params,
) -> Result<(), OpError> {
    if !walk.fits() {
        return call.refused("so many dimensions of this size");
    }
    let vector = walk.vector(size);
    let kernel = if vector > 1 { "map_vector" } else { "map" };
    plan.threads(call, unit, kernel, count.div_ceil(vector) as u64, params)
}
