//! Tree ensembles: ONNX-ML TreeEnsembleClassifier, TreeEnsembleRegressor and TreeEnsemble.

use std::collections::HashMap;

use crate::OpError;
use crate::error::invalid;

/// The most nodes of an ensemble.
pub const TREE_NODES_MAX: usize = 1 << 26;
/// The most nodes from a root to a leaf.
pub const TREE_DEPTH_MAX: usize = 4096;
/// The most results of a row.
pub const TREE_TARGETS_MAX: usize = 1 << 16;

/// A tree ensemble as formats describe it: nodes in any order, named by their tree and their number in it.
#[derive(Debug, Clone, PartialEq)]
pub struct TreesSpec {
    /// Every node.
    pub nodes: Vec<TreeNode>,
    /// What leaves add.
    pub weights: Vec<TreeWeight>,
    /// How many results a row has: targets, or classes.
    pub targets: usize,
    /// How the trees' results become one.
    pub aggregate: Aggregate,
    /// What is done with the scores.
    pub post: Post,
    /// What every score starts from: none, or one for each target; of two classes also one for both.
    pub base: Vec<f32>,
    /// Of a classifier the number of each class; none for a regressor.
    pub labels: Option<Vec<i64>>,
}

/// A node of a tree.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TreeNode {
    /// Which tree.
    pub tree: i64,
    /// Which node of the tree; any number that no other has.
    pub node: i64,
    /// Where it leads to; a leaf leads nowhere.
    pub branch: Option<Branch>,
}

/// Where a node leads to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Branch {
    /// Which column is compared.
    pub feature: u32,
    /// How it is compared.
    pub test: TreeTest,
    /// With what.
    pub value: f32,
    /// The node of the same tree where the comparison holds.
    pub yes: i64,
    /// The node of the same tree where it does not.
    pub no: i64,
    /// Whether a NaN goes where the comparison holds.
    pub missing_is_yes: bool,
}

/// How a feature is compared with a node's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TreeTest {
    /// Not larger. ONNX BRANCH_LEQ.
    LessOrEqual,
    /// Smaller. ONNX BRANCH_LT.
    Less,
    /// Not smaller. ONNX BRANCH_GTE.
    GreaterOrEqual,
    /// Larger. ONNX BRANCH_GT.
    Greater,
    /// The same. ONNX BRANCH_EQ.
    Equal,
    /// Another. ONNX BRANCH_NEQ.
    NotEqual,
}

/// What a leaf adds to a target.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TreeWeight {
    /// Which tree.
    pub tree: i64,
    /// Which node of it, which must be a leaf.
    pub node: i64,
    /// To which target, or class.
    pub target: u32,
    /// What.
    pub weight: f32,
}

/// How the trees' results become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Aggregate {
    /// Their sum.
    Sum,
    /// Their sum divided by the number of trees.
    Average,
    /// The smallest, 0 where no tree says anything.
    Min,
    /// The largest, 0 where no tree says anything.
    Max,
}

/// What is done with a row of scores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Post {
    /// Nothing.
    None,
    /// e^s / sum(e^s).
    Softmax,
    /// As softmax, but a score of 0 counts for nothing in the sum.
    SoftmaxZero,
    /// 1 / (1 + e^-s).
    Logistic,
    /// sqrt(2) erfinv(2 s - 1), by Winitzki's approximation.
    Probit,
}

/// A tree ensemble that was checked, laid out for walking.
///
/// Nodes of a tree lie breadth-first, the two that one leads to side by side, 16 bytes each, so that a step is one
/// comparison and one addition; a leaf leads to itself, so that several trees are walked in step without asking which
/// have ended.
#[derive(Debug, PartialEq)]
pub struct Trees {
    pub(crate) nodes: Vec<Node>,
    pub(crate) trees: Vec<Tree>,
    pub(crate) weights: Vec<(u32, f32)>,
    /// How nodes compare, if all do alike and none lets NaN pass.
    pub(crate) uniform: Option<TreeTest>,
    /// How many columns a row must have at least.
    pub(crate) features: usize,
    pub(crate) targets: usize,
    pub(crate) aggregate: Aggregate,
    pub(crate) post: Post,
    pub(crate) base: Vec<f32>,
    pub(crate) labels: Option<Vec<i64>>,
    /// Which targets any leaf speaks of.
    pub(crate) spoken: Vec<bool>,
    pub(crate) all_positive: bool,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Node {
    /// What is compared with; of a leaf with one weight the weight.
    pub(crate) value: f32,
    /// Which column; of a leaf where its weights start.
    pub(crate) feature: u32,
    /// Where it leads to if the test holds: an index among all nodes. Of a leaf its own.
    pub(crate) next: u32,
    /// How it tests, and what is added to `next` if the test fails: 1, or 0 for a leaf. Of a leaf also how many weights.
    pub(crate) flags: u32,
}

impl Node {
    pub(crate) const STEP: u32 = 1;
    pub(crate) const MISSING_IS_YES: u32 = 2;
    pub(crate) const TEST_SHIFT: u32 = 2;
    pub(crate) const COUNT_SHIFT: u32 = 5;
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tree {
    pub(crate) root: u32,
    /// Steps from the root to the deepest leaf.
    pub(crate) depth: u32,
}

const OP: &str = "trees";

impl Trees {
    /// Checks an ensemble and lays it out.
    ///
    /// # Errors
    /// [`OpError::InvalidArgument`] for nodes that are there twice, lead nowhere, are led to twice or not at all (so
    /// that there is no cycle), for weights of what is not a leaf or not a target, and for what passes
    /// [`TREE_NODES_MAX`], [`TREE_DEPTH_MAX`] or [`TREE_TARGETS_MAX`].
    pub fn new(spec: &TreesSpec) -> Result<Trees, OpError> {
        check_sizes(spec)?;
        let names = named(&spec.nodes)?;
        let roots = roots(&spec.nodes, &names)?;
        let leaves = leaf_weights(spec, &names)?;
        let mut trees = Trees::empty(spec);
        for root in roots {
            trees.lay_out(spec, &names, &leaves, root)?;
        }
        if trees.nodes.len() != spec.nodes.len() {
            return Err(invalid(OP, "some nodes are led to by none, as in a cycle"));
        }
        Ok(trees)
    }

    /// How many columns a row must have at least.
    pub fn features(&self) -> usize {
        self.features
    }

    /// How many results a row has: targets, or classes.
    pub fn targets(&self) -> usize {
        self.targets
    }

    /// Whether labels come before the scores.
    pub fn is_classifier(&self) -> bool {
        self.labels.is_some()
    }

    /// How many steps a row takes at most.
    pub(crate) fn steps(&self) -> usize {
        self.trees.iter().map(|tree| tree.depth as usize + 1).sum()
    }

    fn empty(spec: &TreesSpec) -> Trees {
        let branches = || spec.nodes.iter().filter_map(|node| node.branch);
        let test = branches().next().map_or(TreeTest::LessOrEqual, |branch| branch.test);
        let alike = branches().all(|branch| branch.test == test && !branch.missing_is_yes);
        let mut spoken = vec![false; spec.targets];
        spec.weights.iter().for_each(|weight| spoken[weight.target as usize] = true);
        Trees {
            nodes: Vec::with_capacity(spec.nodes.len()),
            trees: Vec::new(),
            weights: Vec::new(),
            uniform: alike.then_some(test),
            features: branches().map(|branch| branch.feature as usize + 1).max().unwrap_or(0),
            targets: spec.targets,
            aggregate: spec.aggregate,
            post: spec.post,
            base: spec.base.clone(),
            labels: spec.labels.clone(),
            spoken,
            all_positive: spec.weights.iter().all(|weight| weight.weight >= 0.0),
        }
    }

    /// One tree, breadth-first from its root.
    fn lay_out(
        &mut self,
        spec: &TreesSpec,
        names: &Names,
        leaves: &[Vec<(u32, f32)>],
        root: usize,
    ) -> Result<(), OpError> {
        let start = self.nodes.len();
        let mut order = vec![root];
        let (mut at, mut depth) = (0, 0);
        // The end of each level.
        let mut level = 1;
        while let Some(&index) = order.get(at) {
            if at == level {
                depth += 1;
                level = order.len();
                if depth > TREE_DEPTH_MAX {
                    return Err(invalid(
                        OP,
                        format_args!("a tree is deeper than {TREE_DEPTH_MAX}"),
                    ));
                }
            }
            let node = &spec.nodes[index];
            let here = self.nodes.len() as u32;
            let laid = match node.branch {
                Some(branch) => {
                    let next = (start + order.len()) as u32;
                    for child in [branch.yes, branch.no] {
                        order.push(find(names, node, child)?);
                    }
                    Node {
                        value: branch.value,
                        feature: branch.feature,
                        next,
                        flags: Node::STEP
                            | if branch.missing_is_yes { Node::MISSING_IS_YES } else { 0 }
                            | (branch.test as u32) << Node::TEST_SHIFT,
                    }
                }
                None => self.leaf(&leaves[index], here),
            };
            self.nodes.push(laid);
            at += 1;
            // Every node has one parent, so that there cannot be more; this is for safety alone.
            if self.nodes.len() > spec.nodes.len() {
                return Err(invalid(OP, "nodes are led to twice"));
            }
        }
        self.trees.push(Tree { root: start as u32, depth: depth as u32 });
        Ok(())
    }

    fn leaf(&mut self, weights: &[(u32, f32)], here: u32) -> Node {
        let first = self.weights.len() as u32;
        // What is 0 changes no sum.
        let sums = matches!(self.aggregate, Aggregate::Sum | Aggregate::Average);
        self.weights.extend(weights.iter().filter(|(_, weight)| !sums || *weight != 0.0));
        let count = self.weights.len() as u32 - first;
        let value = if count == 1 { self.weights[first as usize].1 } else { 0.0 };
        Node { value, feature: first, next: here, flags: count << Node::COUNT_SHIFT }
    }
}

/// Where each node is in the description.
type Names = HashMap<(i64, i64), usize>;

fn check_sizes(spec: &TreesSpec) -> Result<(), OpError> {
    let limits = [
        ("nodes", spec.nodes.len(), TREE_NODES_MAX),
        ("weights", spec.weights.len(), TREE_NODES_MAX),
        ("targets", spec.targets, TREE_TARGETS_MAX),
    ];
    for (what, count, most) in limits {
        if count == 0 || count > most {
            return Err(invalid(OP, format_args!("wanted 1 to {most} {what}, got {count}")));
        }
    }
    let classes = spec.labels.as_ref().map(Vec::len);
    if classes.is_some_and(|classes| classes != spec.targets || classes < 2) {
        return Err(invalid(
            OP,
            format_args!(
                "there must be a label for each of 2 or more classes, {} in all",
                spec.targets
            ),
        ));
    }
    let base = spec.base.len();
    if base != 0 && base != spec.targets && !(classes == Some(2) && base == 1) {
        return Err(invalid(
            OP,
            format_args!("base values must be none or {}, got {base}", spec.targets),
        ));
    }
    if let Some(wrong) = spec.weights.iter().find(|weight| weight.target as usize >= spec.targets) {
        return Err(invalid(
            OP,
            format_args!("a weight is for target {}, of {} there are", wrong.target, spec.targets),
        ));
    }
    // So that no row can be asked to be that wide.
    let branches = || spec.nodes.iter().filter_map(|node| node.branch);
    if branches().any(|branch| branch.feature == u32::MAX) {
        return Err(invalid(OP, "a feature's number is too large"));
    }
    Ok(())
}

fn named(nodes: &[TreeNode]) -> Result<Names, OpError> {
    let mut names = HashMap::with_capacity(nodes.len());
    for (index, node) in nodes.iter().enumerate() {
        if names.insert((node.tree, node.node), index).is_some() {
            return Err(invalid(
                OP,
                format_args!("node {} of tree {} is there twice", node.node, node.tree),
            ));
        }
    }
    Ok(names)
}

fn find(names: &Names, from: &TreeNode, to: i64) -> Result<usize, OpError> {
    names.get(&(from.tree, to)).copied().ok_or_else(|| {
        invalid(
            OP,
            format_args!(
                "node {} of tree {} leads to node {to}, which is not there",
                from.node, from.tree
            ),
        )
    })
}

/// The root of each tree, in the order in which trees are first met.
fn roots(nodes: &[TreeNode], names: &Names) -> Result<Vec<usize>, OpError> {
    let mut has_parent = vec![false; nodes.len()];
    for node in nodes {
        for child in node.branch.iter().flat_map(|branch| [branch.yes, branch.no]) {
            let index = find(names, node, child)?;
            if std::mem::replace(&mut has_parent[index], true) {
                return Err(invalid(
                    OP,
                    format_args!("node {child} of tree {} is led to twice", node.tree),
                ));
            }
        }
    }
    let mut root_of: HashMap<i64, usize> = HashMap::new();
    let mut roots = Vec::new();
    for (index, node) in nodes.iter().enumerate().filter(|(index, _)| !has_parent[*index]) {
        if root_of.insert(node.tree, index).is_some() {
            return Err(invalid(OP, format_args!("tree {} has several roots", node.tree)));
        }
        roots.push(index);
    }
    Ok(roots)
}

/// The weights of each node, which only leaves may have.
fn leaf_weights(spec: &TreesSpec, names: &Names) -> Result<Vec<Vec<(u32, f32)>>, OpError> {
    let mut leaves = vec![Vec::new(); spec.nodes.len()];
    for weight in &spec.weights {
        match names.get(&(weight.tree, weight.node)) {
            Some(&index) if spec.nodes[index].branch.is_none() => {
                leaves[index].push((weight.target, weight.weight));
            }
            _ => {
                return Err(invalid(
                    OP,
                    format_args!(
                        "a weight is of node {} of tree {}, which is no leaf",
                        weight.node, weight.tree
                    ),
                ));
            }
        }
    }
    Ok(leaves)
}
