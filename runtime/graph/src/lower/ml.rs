//! The domain ai.onnx.ml: what scikit-learn's models are exported as.

use std::sync::Arc;

use innkeeper_kernels::{
    Activation, Aggregate, Binary, Branch, Norm, Op, Post, TreeNode, TreeTest, TreeWeight, Trees,
    TreesSpec, Unary,
};
use innkeeper_tensor::{DType, Tensor};

use super::{Lower, Lowered, cast, operand, reshape};
use crate::error::{Fail, invalid};
use crate::ir::Node;
use crate::machine::{Machine, Val};

pub(super) fn find(op_type: &str) -> Option<Lower> {
    Some(match op_type {
        "TreeEnsembleClassifier" => tree_classifier,
        "TreeEnsembleRegressor" => tree_regressor,
        "LinearClassifier" => linear_classifier,
        "LinearRegressor" => linear_regressor,
        "Normalizer" => normalizer,
        "Scaler" => scaler,
        "ArrayFeatureExtractor" => extractor,
        _ => return None,
    })
}

/// A list that must be there.
fn wanted<'a, T>(list: Option<&'a [T]>, name: &str) -> Result<&'a [T], Fail> {
    list.ok_or_else(|| invalid(format_args!("attribute {name:?} is missing")))
}

/// A list of as many elements as there are nodes.
fn each<'a, T>(list: &'a [T], count: usize, name: &str) -> Result<&'a [T], Fail> {
    if list.len() == count {
        return Ok(list);
    }
    Err(invalid(format_args!("attribute {name:?} has {} elements for {count}", list.len())))
}

fn tree_classifier(m: &mut Machine<'_>, node: &Node, inputs: &[Option<Val>]) -> Lowered {
    let labels = labels(node, "classlabels_int64s")?;
    let (targets, names) = (labels.len(), ["class_treeids", "class_nodeids", "class_ids"]);
    let weights = leaf_weights(node, names, "class_weights")?;
    let spec = ensemble(node, weights, targets, Aggregate::Sum, Some(labels))?;
    trees(m, &spec, inputs)
}

fn tree_regressor(m: &mut Machine<'_>, node: &Node, inputs: &[Option<Val>]) -> Lowered {
    let targets = usize::try_from(node.int("n_targets", 1)?)
        .map_err(|_| invalid("n_targets must not be negative"))?;
    let names = ["target_treeids", "target_nodeids", "target_ids"];
    let weights = leaf_weights(node, names, "target_weights")?;
    let aggregate = match node.text("aggregate_function", "SUM")? {
        "SUM" => Aggregate::Sum,
        "AVERAGE" => Aggregate::Average,
        "MIN" => Aggregate::Min,
        "MAX" => Aggregate::Max,
        other => return Err(invalid(format_args!("there is no aggregate_function {other:?}"))),
    };
    let spec = ensemble(node, weights, targets, aggregate, None)?;
    trees(m, &spec, inputs)
}

fn trees(m: &mut Machine<'_>, spec: &TreesSpec, inputs: &[Option<Val>]) -> Lowered {
    let trees = Trees::new(spec).map_err(|error| invalid(error.to_string()))?;
    m.emit_all(Op::Trees(Arc::new(trees)), &[operand(inputs, 0)?])
}

/// The numbers of classes; names as strings would be BYTES, which no kernel gives.
fn labels(node: &Node, attribute: &str) -> Result<Vec<i64>, Fail> {
    match node.ints(attribute)? {
        Some(labels) if !labels.is_empty() => Ok(labels.to_vec()),
        _ => Err(Fail::Unsupported(format!(
            "classes that have no numbers in {attribute:?}; train the model with integer labels"
        ))),
    }
}

fn post(node: &Node) -> Result<Post, Fail> {
    Ok(match node.text("post_transform", "NONE")? {
        "NONE" => Post::None,
        "SOFTMAX" => Post::Softmax,
        "SOFTMAX_ZERO" => Post::SoftmaxZero,
        "LOGISTIC" => Post::Logistic,
        "PROBIT" => Post::Probit,
        other => return Err(invalid(format_args!("there is no post_transform {other:?}"))),
    })
}

fn ensemble(
    node: &Node,
    weights: Vec<TreeWeight>,
    targets: usize,
    aggregate: Aggregate,
    labels: Option<Vec<i64>>,
) -> Result<TreesSpec, Fail> {
    for doubles in ["nodes_values_as_tensor", "base_values_as_tensor"] {
        if node.has(doubles) {
            return Err(Fail::Unsupported(format!("attribute {doubles:?} (FP64)")));
        }
    }
    let base = node.floats("base_values")?.unwrap_or(&[]).to_vec();
    Ok(TreesSpec {
        nodes: nodes(node)?,
        weights,
        targets,
        aggregate,
        post: post(node)?,
        base,
        labels,
    })
}

fn nodes(node: &Node) -> Result<Vec<TreeNode>, Fail> {
    let ints = |name| wanted(node.ints(name)?, name);
    let trees = ints("nodes_treeids")?;
    let count = trees.len();
    let ids = each(ints("nodes_nodeids")?, count, "nodes_nodeids")?;
    let features = each(ints("nodes_featureids")?, count, "nodes_featureids")?;
    let yes = each(ints("nodes_truenodeids")?, count, "nodes_truenodeids")?;
    let no = each(ints("nodes_falsenodeids")?, count, "nodes_falsenodeids")?;
    let modes = wanted(node.texts("nodes_modes")?, "nodes_modes")?;
    let modes = each(modes, count, "nodes_modes")?;
    let values = wanted(node.floats("nodes_values")?, "nodes_values")?;
    let values = each(values, count, "nodes_values")?;
    let missing = match node.ints("nodes_missing_value_tracks_true")? {
        Some(list) if !list.is_empty() => {
            Some(each(list, count, "nodes_missing_value_tracks_true")?)
        }
        _ => None,
    };
    let one = |i: usize| {
        let branch = match test(&modes[i])? {
            None => None,
            Some(test) => Some(Branch {
                feature: u32::try_from(features[i])
                    .map_err(|_| invalid(format_args!("there is no feature {}", features[i])))?,
                test,
                value: values[i],
                yes: yes[i],
                no: no[i],
                missing_is_yes: missing.is_some_and(|missing| missing[i] != 0),
            }),
        };
        Ok(TreeNode { tree: trees[i], node: ids[i], branch })
    };
    (0..count).map(one).collect()
}

/// What a node tests; a leaf nothing.
fn test(mode: &[u8]) -> Result<Option<TreeTest>, Fail> {
    Ok(Some(match mode {
        b"LEAF" => return Ok(None),
        b"BRANCH_LEQ" => TreeTest::LessOrEqual,
        b"BRANCH_LT" => TreeTest::Less,
        b"BRANCH_GTE" => TreeTest::GreaterOrEqual,
        b"BRANCH_GT" => TreeTest::Greater,
        b"BRANCH_EQ" => TreeTest::Equal,
        b"BRANCH_NEQ" => TreeTest::NotEqual,
        other => {
            let other = String::from_utf8_lossy(other);
            return Err(invalid(format_args!("there is no mode {other:?} of a node")));
        }
    }))
}

fn leaf_weights(
    node: &Node,
    [trees, nodes, targets]: [&str; 3],
    weights: &str,
) -> Result<Vec<TreeWeight>, Fail> {
    let in_trees = wanted(node.ints(trees)?, trees)?;
    let count = in_trees.len();
    let of_nodes = each(wanted(node.ints(nodes)?, nodes)?, count, nodes)?;
    let to = each(wanted(node.ints(targets)?, targets)?, count, targets)?;
    let values = each(wanted(node.floats(weights)?, weights)?, count, weights)?;
    let one = |i: usize| {
        let target = u32::try_from(to[i])
            .map_err(|_| invalid(format_args!("there is no target {}", to[i])))?;
        Ok(TreeWeight { tree: in_trees[i], node: of_nodes[i], target, weight: values[i] })
    };
    (0..count).map(one).collect()
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
    let weight = list(m, &[targets, columns], coefficients)?;
    let intercepts = node.floats("intercepts")?.unwrap_or(&[]);
    let mut operands = vec![x, weight];
    if !intercepts.is_empty() {
        operands.push(list(m, &[targets], each(intercepts, targets, "intercepts")?)?);
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

fn list(m: &mut Machine<'_>, dims: &[usize], values: &[f32]) -> Result<Val, Fail> {
    let tensor = Tensor::from_vec(dims, values.to_vec());
    Ok(m.constant(tensor.map_err(|error| invalid(error.to_string()))?.constant()))
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

/// The label of the largest score, and the scores. A single score that stands for two classes is refused: exporters
/// write one score for each class.
fn linear_classifier(m: &mut Machine<'_>, node: &Node, inputs: &[Option<Val>]) -> Lowered {
    let labels = labels(node, "classlabels_ints")?;
    let coefficients = wanted(node.floats("coefficients")?, "coefficients")?.len();
    let x = operand(inputs, 0)?;
    let columns = m.dims(x).last().copied().unwrap_or(0);
    if labels.len() < 2 || coefficients != columns.saturating_mul(labels.len()) {
        return Err(Fail::Unsupported(format!(
            "{coefficients} coefficients for {} classes and {columns} features; wanted one row for each class",
            labels.len()
        )));
    }
    let scores = scores(m, node, inputs, labels.len())?;
    let first = m.emit(Op::ArgMax { axis: 1, keep_dims: false }, &[scores])?;
    let labels = Tensor::from_vec(&[labels.len()], labels);
    let labels = m.constant(labels.map_err(|error| invalid(error.to_string()))?);
    let label = m.emit(Op::Gather { axis: 0 }, &[labels, first])?;
    let scores = transformed(m, node, scores)?;
    Ok(vec![label, scores])
}

/// Each row divided by its largest, its sum of sizes, or its length.
fn normalizer(m: &mut Machine<'_>, node: &Node, inputs: &[Option<Val>]) -> Lowered {
    let x = rows(m, operand(inputs, 0)?)?;
    let x = cast(m, x, DType::Fp32)?;
    let p = match node.text("norm", "MAX")? {
        "L1" => 1,
        "L2" => 2,
        other => return Err(Fail::Unsupported(format!("norm {other:?}; wanted L1 or L2"))),
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
        let values = list(m, &[count], each(values, count, name)?)?;
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
