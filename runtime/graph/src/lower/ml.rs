//! The domain ai.onnx.ml: what scikit-learn's models are exported as, apart from trees.

use innkeeper_kernels::{Activation, Binary, Compare, Norm, Op, Post, Reduce, Test, Unary};
use innkeeper_tensor::DType;

use super::labels::labels;
use super::{Lower, Lowered, cast, operand, reshape, scalar};
use crate::error::{Fail, invalid};
use crate::ir::Node;
use crate::machine::{Machine, Val};

pub(super) fn find(op_type: &str) -> Option<Lower> {
    Some(match op_type {
        "LinearClassifier" => linear_classifier,
        "LinearRegressor" => linear_regressor,
        "Normalizer" => normalizer,
        "Scaler" => scaler,
        "ArrayFeatureExtractor" => extractor,
        "Binarizer" => binarizer,
        "Imputer" => imputer,
        "FeatureVectorizer" => vectorizer,
        "OneHotEncoder" => one_hot,
        "SVMRegressor" => support_vectors,
        _ => return None,
    })
}

/// A list that must be there.
pub(super) fn wanted<'a, T>(list: Option<&'a [T]>, name: &str) -> Result<&'a [T], Fail> {
    list.ok_or_else(|| invalid(format_args!("attribute {name:?} is missing")))
}

/// A list of as many elements as there are nodes.
pub(super) fn each<'a, T>(list: &'a [T], count: usize, name: &str) -> Result<&'a [T], Fail> {
    if list.len() == count {
        return Ok(list);
    }
    Err(invalid(format_args!("attribute {name:?} has {} elements for {count}", list.len())))
}

pub(super) fn post(node: &Node) -> Result<Post, Fail> {
    Ok(match node.text("post_transform", "NONE")? {
        "NONE" => Post::None,
        "SOFTMAX" => Post::Softmax,
        "SOFTMAX_ZERO" => Post::SoftmaxZero,
        "LOGISTIC" => Post::Logistic,
        "PROBIT" => Post::Probit,
        other => return Err(invalid(format_args!("there is no post_transform {other:?}"))),
    })
}

/// x W^T + b for the rows of x, of `targets` columns.
fn scores(
    m: &mut Machine<'_>,
    node: &Node,
    inputs: &[Option<Val>],
    targets: usize,
) -> Result<Val, Fail> {
    let x = rows(m, operand(inputs, 0)?)?;
    let x = cast(m, x, DType::Fp32)?;
    let columns = m.dims(x)[1];
    let coefficients = wanted(node.floats("coefficients")?, "coefficients")?;
    if targets.checked_mul(columns) != Some(coefficients.len()) {
        return Err(invalid(format_args!(
            "{} coefficients for {targets} targets and {columns} features",
            coefficients.len()
        )));
    }
    let weight = m.kept(node, "coefficients", &[targets, columns], coefficients)?;
    let intercepts = node.floats("intercepts")?.unwrap_or(&[]);
    let mut operands = vec![x, weight];
    if !intercepts.is_empty() {
        let intercepts = each(intercepts, targets, "intercepts")?;
        operands.push(m.kept(node, "intercepts", &[targets], intercepts)?);
    }
    let bias = operands.len() == 3;
    m.emit(Op::Linear { bias, residual: false, activation: Activation::None }, &operands)
}

/// x as rows: one row is a matrix of one.
fn rows(m: &mut Machine<'_>, x: Val) -> Result<Val, Fail> {
    match *m.dims(x) {
        [columns] => reshape(m, x, &[1, columns]),
        [_, _] => Ok(x),
        _ => Err(invalid(format_args!("takes rows of features, got {}", m.shape(x)))),
    }
}

fn transformed(m: &mut Machine<'_>, node: &Node, scores: Val) -> Result<Val, Fail> {
    match post(node)? {
        Post::None => Ok(scores),
        Post::Softmax => m.emit(Op::Softmax { axis: 1 }, &[scores]),
        Post::Logistic => m.emit(Op::Unary(Unary::Sigmoid), &[scores]),
        other => Err(Fail::Unsupported(format!("post_transform {other:?} of a linear model"))),
    }
}

fn linear_regressor(m: &mut Machine<'_>, node: &Node, inputs: &[Option<Val>]) -> Lowered {
    let targets = usize::try_from(node.int("targets", 1)?)
        .map_err(|_| invalid("targets must not be negative"))?;
    let scores = scores(m, node, inputs, targets)?;
    Ok(vec![transformed(m, node, scores)?])
}

/// The label of the largest score, and the scores.
fn linear_classifier(m: &mut Machine<'_>, node: &Node, inputs: &[Option<Val>]) -> Lowered {
    let (numbers, names) = labels(node, "classlabels_ints", "classlabels_strings")?;
    let coefficients = wanted(node.floats("coefficients")?, "coefficients")?.len();
    let x = operand(inputs, 0)?;
    let columns = m.dims(x).last().copied().unwrap_or(0);
    let alone = numbers.len() == 2 && coefficients == columns;
    if !alone && numbers.len() < 2 {
        return Err(invalid("wants two classes or more"));
    }
    let scores = scores(m, node, inputs, if alone { 1 } else { numbers.len() })?;
    let (first, scores) = if alone {
        of_two(m, node, scores)?
    } else {
        let first = m.emit(Op::ArgMax { axis: 1, keep_dims: false }, &[scores])?;
        (first, transformed(m, node, scores)?)
    };
    let numbers = m.list(&[numbers.len()], numbers)?;
    let label = m.emit(Op::Gather { axis: 0 }, &[numbers, first])?;
    let label = match names {
        Some(names) => names.of(m, label)?,
        None => label,
    };
    Ok(vec![label, scores])
}

/// Of two classes with one score which it is, and the scores of both: those of a probability, as ONNX Runtime has it.
fn of_two(m: &mut Machine<'_>, node: &Node, score: Val) -> Result<(Val, Val), Fail> {
    let zero = scalar(m, DType::Fp32, 0.0)?;
    let second = m.emit(Op::Compare(Compare::Greater), &[score, zero])?;
    let second = cast(m, second, DType::Int64)?;
    let rows = m.dims(score)[0];
    let second = reshape(m, second, &[rows])?;
    let after = match post(node)? {
        Post::Logistic => m.emit(Op::Unary(Unary::Sigmoid), &[score])?,
        Post::Probit => return Err(Fail::Unsupported("PROBIT of one score".into())),
        _ => score,
    };
    let negative = m.emit(Op::Unary(Unary::Neg), &[after])?;
    let before = m.emit(Op::Scalar { op: Binary::Add, value: 1.0 }, &[negative])?;
    Ok((second, m.emit(Op::Concat { axis: 1 }, &[before, after])?))
}

/// Each row divided by its largest, its sum of sizes, or its length.
fn normalizer(m: &mut Machine<'_>, node: &Node, inputs: &[Option<Val>]) -> Lowered {
    let x = rows(m, operand(inputs, 0)?)?;
    let x = cast(m, x, DType::Fp32)?;
    let p = match node.text("norm", "MAX")? {
        "L1" => 1,
        "L2" => 2,
        "MAX" => {
            let (op, axes, keep_dims) = (Reduce::Max, vec![1], true);
            let most = m.emit(Op::Reduce { op, axes, keep_dims }, &[x])?;
            // By nothing nothing is divided.
            let (zero, one) = (scalar(m, DType::Fp32, 0.0)?, scalar(m, DType::Fp32, 1.0)?);
            let none = m.emit(Op::Compare(Compare::Equal), &[most, zero])?;
            let most = m.emit(Op::Select, &[none, one, most])?;
            return Ok(vec![m.emit(Op::Binary(Binary::Div), &[x, most])?]);
        }
        other => return Err(invalid(format_args!("there is no norm {other:?}"))),
    };
    Ok(vec![m.emit(Op::Norm(Norm::Lp { axis: 1, p }), &[x])?])
}

/// (x - offset) * scale, for each column.
fn scaler(m: &mut Machine<'_>, node: &Node, inputs: &[Option<Val>]) -> Lowered {
    let mut x = operand(inputs, 0)?;
    x = cast(m, x, DType::Fp32)?;
    let columns = m.dims(x).last().copied().unwrap_or(1);
    for (name, op) in [("offset", Binary::Sub), ("scale", Binary::Mul)] {
        let values = node.floats(name)?.unwrap_or(&[]);
        if values.is_empty() {
            continue;
        }
        let count = if values.len() == 1 { 1 } else { columns };
        let values = m.kept(node, name, &[count], each(values, count, name)?)?;
        x = m.emit(Op::Binary(op), &[x, values])?;
    }
    Ok(vec![x])
}

/// Elements of the last dimension; a list of elements comes as one row.
fn extractor(m: &mut Machine<'_>, _: &Node, inputs: &[Option<Val>]) -> Lowered {
    let (x, picked) = (operand(inputs, 0)?, operand(inputs, 1)?);
    let count = m.shape(picked).elements();
    let picked = reshape(m, picked, &[count])?;
    let axis = m.rank(x) as i64 - 1;
    let out = m.emit(Op::Gather { axis }, &[x, picked])?;
    if axis == 0 {
        return Ok(vec![reshape(m, out, &[1, count])?]);
    }
    Ok(vec![out])
}

/// 1 above the threshold, else 0.
fn binarizer(m: &mut Machine<'_>, node: &Node, inputs: &[Option<Val>]) -> Lowered {
    let x = operand(inputs, 0)?;
    let dtype = m.dtype(x);
    let threshold = scalar(m, dtype, f64::from(node.float("threshold", 0.0)?))?;
    let above = m.emit(Op::Compare(Compare::Greater), &[x, threshold])?;
    Ok(vec![cast(m, above, dtype)?])
}

/// Another number in place of one that stands for a missing one.
fn imputer(m: &mut Machine<'_>, node: &Node, inputs: &[Option<Val>]) -> Lowered {
    let x = operand(inputs, 0)?;
    let columns = m.dims(x).last().copied().unwrap_or(1);
    let is_float = m.dtype(x) == DType::Fp32;
    let count = |len: usize| if len == 1 { 1 } else { columns };
    let instead = if is_float {
        let values = wanted(node.floats("imputed_value_floats")?, "imputed_value_floats")?;
        let values = each(values, count(values.len()), "imputed_value_floats")?;
        m.kept(node, "imputed_value_floats", &[values.len()], values)?
    } else {
        let values = wanted(node.ints("imputed_value_int64s")?, "imputed_value_int64s")?;
        let values = each(values, count(values.len()), "imputed_value_int64s")?.to_vec();
        m.list(&[values.len()], values)?
    };
    let replaced = node.float("replaced_value_float", 0.0)?;
    let missing = if is_float && replaced.is_nan() {
        m.emit(Op::Test(Test::IsNan), &[x])?
    } else {
        let value = match is_float {
            true => scalar(m, DType::Fp32, f64::from(replaced))?,
            false => m.list(&[], vec![node.int("replaced_value_int64", 0)?])?,
        };
        m.emit(Op::Compare(Compare::Equal), &[x, value])?
    };
    let shape = m.dims(x).to_vec();
    let instead = m.emit(Op::Move(innkeeper_kernels::Move::Expand { shape }), &[instead])?;
    Ok(vec![m.emit(Op::Select, &[missing, instead, x])?])
}

/// Columns of several tensors side by side, as FP32.
fn vectorizer(m: &mut Machine<'_>, _: &Node, inputs: &[Option<Val>]) -> Lowered {
    let mut parts = Vec::with_capacity(inputs.len());
    for x in super::all(inputs)? {
        let x = rows(m, x)?;
        parts.push(cast(m, x, DType::Fp32)?);
    }
    Ok(vec![m.emit(Op::Concat { axis: 1 }, &parts)?])
}

/// A new last dimension with 1 where an element's category stands, FP32.
fn one_hot(m: &mut Machine<'_>, node: &Node, inputs: &[Option<Val>]) -> Lowered {
    let x = operand(inputs, 0)?;
    if !node.flag("zeros", true)? {
        return Err(Fail::Unsupported("categories that must all be known".into()));
    }
    let categories = if m.dtype(x) == DType::Bytes {
        return super::labels::one_hot(m, node, x);
    } else {
        wanted(node.ints("cats_int64s")?, "cats_int64s")?.to_vec()
    };
    let mut dims = m.dims(x).to_vec();
    dims.push(1);
    let x = cast(m, x, DType::Int64)?;
    let x = reshape(m, x, &dims)?;
    let categories = m.list(&[categories.len()], categories)?;
    let same = m.emit(Op::Compare(Compare::Equal), &[x, categories])?;
    Ok(vec![cast(m, same, DType::Fp32)?])
}

/// How near each row is to each support vector, weighed and summed.
fn support_vectors(m: &mut Machine<'_>, node: &Node, inputs: &[Option<Val>]) -> Lowered {
    let x = rows(m, operand(inputs, 0)?)?;
    let x = cast(m, x, DType::Fp32)?;
    let columns = m.dims(x)[1];
    let vectors = node.floats("support_vectors")?.unwrap_or(&[]);
    let weights = wanted(node.floats("coefficients")?, "coefficients")?;
    let rho = wanted(node.floats("rho")?, "rho")?.first().copied().unwrap_or(0.0);
    let count = usize::try_from(node.int("n_supports", 0)?).map_err(invalid)?;
    let near = if count > 0 {
        let vectors = each(vectors, count.saturating_mul(columns), "support_vectors")?;
        let vectors = m.kept(node, "support_vectors", &[count, columns], vectors)?;
        nearness(m, node, x, vectors)?
    } else {
        x
    };
    let width = m.dims(near)[1];
    let weights =
        m.kept(node, "coefficients", &[1, width], each(weights, width, "coefficients")?)?;
    let linear = Op::Linear { bias: false, residual: false, activation: Activation::None };
    let sum = m.emit(linear, &[near, weights])?;
    let value = f64::from(rho);
    let mut score = m.emit(Op::Scalar { op: Binary::Add, value }, &[sum])?;
    if node.flag("one_class", false)? {
        // 1 inside, -1 outside.
        let zero = scalar(m, DType::Fp32, 0.0)?;
        let inside = m.emit(Op::Compare(Compare::Greater), &[score, zero])?;
        let (one, other) = (scalar(m, DType::Fp32, 1.0)?, scalar(m, DType::Fp32, -1.0)?);
        score = m.emit(Op::Select, &[inside, one, other])?;
    }
    Ok(vec![transformed(m, node, score)?])
}

/// The kernel function of each row and each vector.
fn nearness(m: &mut Machine<'_>, node: &Node, x: Val, vectors: Val) -> Result<Val, Fail> {
    let parameters = node.floats("kernel_params")?.unwrap_or(&[]);
    let parameter = |index: usize| f64::from(parameters.get(index).copied().unwrap_or(0.0));
    let (gamma, coefficient, degree) = (parameter(0), parameter(1), parameter(2));
    let linear = Op::Linear { bias: false, residual: false, activation: Activation::None };
    let by = |op, value| Op::Scalar { op, value };
    let kind = node.text("kernel_type", "LINEAR")?;
    if kind == "RBF" {
        // exp(-gamma |x - v|^2), by the squares of what differs: sums of squares would cancel.
        let (rows, columns, count) = (m.dims(x)[0], m.dims(x)[1], m.dims(vectors)[0]);
        let x = reshape(m, x, &[rows, 1, columns])?;
        let vectors = reshape(m, vectors, &[1, count, columns])?;
        let less = m.emit(Op::Binary(Binary::Sub), &[x, vectors])?;
        let square = m.emit(Op::Binary(Binary::Mul), &[less, less])?;
        let (op, axes, keep_dims) = (Reduce::Sum, vec![2], false);
        let far = m.emit(Op::Reduce { op, axes, keep_dims }, &[square])?;
        let far = m.emit(by(Binary::Mul, -gamma), &[far])?;
        return m.emit(Op::Unary(Unary::Exp), &[far]);
    }
    let product = m.emit(linear, &[x, vectors])?;
    if kind == "LINEAR" {
        return Ok(product);
    }
    let scaled = m.emit(by(Binary::Mul, gamma), &[product])?;
    let moved = m.emit(by(Binary::Add, coefficient), &[scaled])?;
    match kind {
        "POLY" => m.emit(by(Binary::Pow, degree), &[moved]),
        "SIGMOID" => m.emit(Op::Unary(Unary::Tanh), &[moved]),
        other => Err(invalid(format_args!("there is no kernel_type {other:?}"))),
    }
}
