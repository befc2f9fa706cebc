//! The domain ai.onnx.ml: ensembles of trees. They are laid out once, when the model is loaded.

use std::sync::Arc;

use innkeeper_kernels::{
    Aggregate, Branch, Op, Post, TreeNode, TreeTest, TreeWeight, Trees, TreesSpec,
};
use innkeeper_tensor::{DType, Tensor};

use super::labels::{Labels, labels};
use super::ml::{each, post, wanted};
use super::{Lower, Lowered, operand};
use crate::error::{Fail, invalid};
use crate::ir::Node;
use crate::machine::{Machine, Val, numbers};

pub(super) fn find(op_type: &str) -> Option<Lower> {
    Some(match op_type {
        "TreeEnsembleClassifier" | "TreeEnsembleRegressor" | "TreeEnsemble" => trees,
        _ => return None,
    })
}

/// An ensemble that was laid out, with the names of its classes.
#[derive(Debug)]
pub(crate) struct Ensemble {
    trees: Arc<Trees>,
    labels: Option<Labels>,
    /// About what it takes.
    pub(crate) bytes: usize,
}

fn trees(m: &mut Machine<'_>, node: &Node, inputs: &[Option<Val>]) -> Lowered {
    let ensemble = node.ensemble.as_ref().ok_or_else(|| invalid("the trees were not laid out"))?;
    let x = operand(inputs, 0)?;
    let mut results = m.emit_all(Op::Trees(Arc::clone(&ensemble.trees)), &[x])?;
    if let (Some(labels), Some(first)) = (&ensemble.labels, results.first_mut()) {
        *first = labels.of(m, *first)?;
    }
    Ok(results)
}

/// Lays out the trees of a node.
pub(crate) fn ensemble(node: &Node) -> Result<Ensemble, Fail> {
    let (spec, labels) = match node.op_type.as_str() {
        "TreeEnsembleClassifier" => classifier(node)?,
        "TreeEnsembleRegressor" => (regressor(node)?, None),
        _ => (general(node)?, None),
    };
    let bytes = 16 * spec.nodes.len() + 8 * spec.weights.len();
    let trees = Trees::new(&spec).map_err(|error| invalid(error.to_string()))?;
    Ok(Ensemble { trees: Arc::new(trees), labels, bytes })
}

fn classifier(node: &Node) -> Result<(TreesSpec, Option<Labels>), Fail> {
    let (numbers, names) = labels(node, "classlabels_int64s", "classlabels_strings")?;
    let (targets, of) = (numbers.len(), ["class_treeids", "class_nodeids", "class_ids"]);
    let weights = leaf_weights(node, of, "class_weights")?;
    Ok((spec(node, weights, targets, Aggregate::Sum, Some(numbers))?, names))
}

fn regressor(node: &Node) -> Result<TreesSpec, Fail> {
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
    spec(node, weights, targets, aggregate, None)
}

fn spec(
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

/// Trees since version 5 of ai.onnx.ml: nodes that lead to nodes or leaves of all trees, by their numbers.
struct Forest<'a> {
    features: &'a [i64],
    modes: Vec<f64>,
    splits: Vec<f32>,
    missing: Option<&'a [i64]>,
    /// For what holds and what does not: where it leads, and whether that is a leaf.
    yes: (&'a [i64], &'a [i64]),
    no: (&'a [i64], &'a [i64]),
    targets: &'a [i64],
    weights: Vec<f32>,
    /// For each node the values of which it is asked for one.
    members: Vec<Vec<f32>>,
}

/// A node that several ways lead to stands once for each; so many more there may be.
const COPIES_MAX: usize = 8;

fn general(node: &Node) -> Result<TreesSpec, Fail> {
    let forest = Forest::of(node)?;
    let roots = wanted(node.ints("tree_roots")?, "tree_roots")?;
    let targets = usize::try_from(node.int("n_targets", 1)?)
        .map_err(|_| invalid("n_targets must not be negative"))?;
    let aggregate = match node.int("aggregate_function", 1)? {
        0 => Aggregate::Average,
        1 => Aggregate::Sum,
        2 => Aggregate::Min,
        3 => Aggregate::Max,
        other => return Err(invalid(format_args!("there is no aggregate_function {other}"))),
    };
    let post = match node.int("post_transform", 0)? {
        0 => Post::None,
        1 => Post::Softmax,
        2 => Post::Logistic,
        3 => Post::SoftmaxZero,
        4 => Post::Probit,
        other => return Err(invalid(format_args!("there is no post_transform {other}"))),
    };
    let (mut nodes, mut weights) = (Vec::new(), Vec::new());
    let most = COPIES_MAX.saturating_mul(forest.features.len() + forest.targets.len()) + 64;
    for (tree, &root) in roots.iter().enumerate() {
        let mut queue = vec![(Forest::place(root)?, forest.is_bare(root)?, 0)];
        let mut next = 1;
        while let Some((at, is_leaf, name)) = queue.pop() {
            if nodes.len() >= most {
                return Err(invalid("trees lead in circles, or to the same nodes too often"));
            }
            let tree = tree as i64;
            if is_leaf {
                let weight = forest.leaf(at)?;
                weights.push(TreeWeight { tree, node: name, ..weight });
                nodes.push(TreeNode { tree, node: name, branch: None });
                continue;
            }
            forest.branches(at, (tree, name), &mut next, &mut nodes, &mut queue)?;
        }
    }
    Ok(TreesSpec { nodes, weights, targets, aggregate, post, base: Vec::new(), labels: None })
}

impl<'a> Forest<'a> {
    fn of(node: &'a Node) -> Result<Forest<'a>, Fail> {
        let ints = |name| wanted(node.ints(name)?, name);
        let features = ints("nodes_featureids")?;
        let count = features.len();
        let of_node = |name| each(ints(name)?, count, name);
        let modes = numbers(given(node, "nodes_modes")?)?;
        let modes = each(&modes, count, "nodes_modes")?.to_vec();
        let splits = floats(node, "nodes_splits")?;
        each(&splits, count, "nodes_splits")?;
        let missing = match node.ints("nodes_missing_value_tracks_true")? {
            Some(list) if !list.is_empty() => {
                Some(each(list, count, "nodes_missing_value_tracks_true")?)
            }
            _ => None,
        };
        let (targets, weights) = (ints("leaf_targetids")?, floats(node, "leaf_weights")?);
        each(&weights, targets.len(), "leaf_weights")?;
        let mut members = vec![Vec::new(); count];
        let has = node.has("membership_values");
        let listed = if has { floats(node, "membership_values")? } else { Vec::new() };
        let mut lists = listed.split(|value| value.is_nan());
        for (members, _) in members.iter_mut().zip(&modes).filter(|(_, mode)| **mode == 6.0) {
            *members = lists.next().map(<[f32]>::to_vec).unwrap_or_default();
        }
        Ok(Forest {
            features,
            modes,
            splits,
            missing,
            yes: (of_node("nodes_truenodeids")?, of_node("nodes_trueleafs")?),
            no: (of_node("nodes_falsenodeids")?, of_node("nodes_falseleafs")?),
            targets,
            weights,
            members,
        })
    }

    fn place(at: i64) -> Result<usize, Fail> {
        usize::try_from(at).map_err(|_| invalid(format_args!("there is no node {at}")))
    }

    fn known(&self, at: usize) -> Result<usize, Fail> {
        if at < self.features.len() { Ok(at) } else { Err(no_node(at)) }
    }

    /// Whether a root is nothing but a leaf, written as a node both of whose ways lead to it.
    fn is_bare(&self, root: i64) -> Result<bool, Fail> {
        let at = self.known(Self::place(root)?)?;
        let ((yes, yes_leaf), (no, no_leaf)) = (self.yes, self.no);
        Ok(yes_leaf[at] != 0 && no_leaf[at] != 0 && yes[at] == no[at])
    }

    /// What a leaf says; of which tree and node it is, its caller knows.
    fn leaf(&self, at: usize) -> Result<TreeWeight, Fail> {
        let target = self.targets.get(at).ok_or_else(|| no_node(at))?;
        let target = u32::try_from(*target)
            .map_err(|_| invalid(format_args!("there is no target {target}")))?;
        Ok(TreeWeight { tree: 0, node: 0, target, weight: self.weights[at] })
    }

    /// A node's branch. One that asks for any of several values is as many branches, one after the other.
    fn branches(
        &self,
        at: usize,
        (tree, name): (i64, i64),
        next: &mut i64,
        nodes: &mut Vec<TreeNode>,
        queue: &mut Vec<(usize, bool, i64)>,
    ) -> Result<(), Fail> {
        let at = self.known(at)?;
        let feature = u32::try_from(self.features[at])
            .map_err(|_| invalid(format_args!("there is no feature {}", self.features[at])))?;
        let missing = self.missing.is_some_and(|missing| missing[at] != 0);
        let (test, values) = match self.modes[at] {
            0.0 => (TreeTest::LessOrEqual, &self.splits[at..=at]),
            1.0 => (TreeTest::Less, &self.splits[at..=at]),
            2.0 => (TreeTest::GreaterOrEqual, &self.splits[at..=at]),
            3.0 => (TreeTest::Greater, &self.splits[at..=at]),
            4.0 => (TreeTest::Equal, &self.splits[at..=at]),
            5.0 => (TreeTest::NotEqual, &self.splits[at..=at]),
            6.0 if !self.members[at].is_empty() => (TreeTest::Equal, &self.members[at][..]),
            mode => return Err(invalid(format_args!("a node of mode {mode} cannot be walked"))),
        };
        let mut fresh = || {
            *next += 1;
            *next - 1
        };
        let mut here = name;
        for (index, &value) in values.iter().enumerate() {
            let (yes, no) = (fresh(), fresh());
            let missing_is_yes = missing && index == 0;
            let branch = Branch { feature, test, value, yes, no, missing_is_yes };
            nodes.push(TreeNode { tree, node: here, branch: Some(branch) });
            queue.push((Self::place(self.yes.0[at])?, self.yes.1[at] != 0, yes));
            here = no;
        }
        queue.push((Self::place(self.no.0[at])?, self.no.1[at] != 0, here));
        Ok(())
    }
}

fn no_node(at: usize) -> Fail {
    invalid(format_args!("there is no node {at}"))
}

fn given<'a>(node: &'a Node, name: &str) -> Result<&'a Tensor, Fail> {
    node.tensor(name)?.ok_or_else(|| invalid(format_args!("attribute {name:?} is missing")))
}

fn floats(node: &Node, name: &str) -> Result<Vec<f32>, Fail> {
    let tensor = given(node, name)?;
    match tensor.dtype() {
        DType::Fp32 => Ok(tensor.elements::<f32>().map_err(invalid)?.into_owned()),
        other => Err(Fail::Unsupported(format!("attribute {name:?} of {other}"))),
    }
}
