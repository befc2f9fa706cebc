//! Tree ensembles, against walking the description node by node.

use std::collections::HashMap;
use std::sync::Arc;

use innkeeper_kernels::{
    Aggregate, Branch, Op, OpError, Post, TreeNode, TreeTest, TreeWeight, Trees, TreesSpec,
};
use innkeeper_tensor::{DType, Tensor};
use proptest::prelude::*;

use crate::oracle::{Array, run_all, same_on_threads};
use crate::values::{cases, of, tensor};

/// Numbers that a seed decides.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % bound
    }

    fn float(&mut self) -> f32 {
        self.below(1 << 20) as f32 / (1 << 19) as f32 - 1.0
    }
}

const TESTS: [TreeTest; 6] = [
    TreeTest::LessOrEqual,
    TreeTest::Less,
    TreeTest::GreaterOrEqual,
    TreeTest::Greater,
    TreeTest::Equal,
    TreeTest::NotEqual,
];

/// An ensemble of random trees with names in no order.
fn forest(
    numbers: &mut Numbers,
    trees: i64,
    targets: usize,
    features: u32,
    mixed: bool,
) -> TreesSpec {
    let (mut nodes, mut weights) = (vec![], vec![]);
    for tree in 0..trees {
        let tree = tree * 7 - 3;
        let mut open = vec![(1000i64, 0)];
        let mut next = 1000;
        while let Some((node, depth)) = open.pop() {
            let leaf = depth > 8 || (depth > 0 && numbers.below(4) == 0);
            if leaf {
                for target in 0..targets as u32 {
                    if numbers.below(2) == 0 || targets == 1 {
                        weights.push(TreeWeight { tree, node, target, weight: numbers.float() });
                    }
                }
            }
            let branch = (!leaf).then(|| {
                next -= 2;
                open.extend([(next, depth + 1), (next + 1, depth + 1)]);
                Branch {
                    feature: numbers.below(u64::from(features)) as u32,
                    test: if mixed {
                        TESTS[numbers.below(6) as usize]
                    } else {
                        TreeTest::LessOrEqual
                    },
                    value: if numbers.below(3) == 0 { 0.0 } else { numbers.float() * 4.0 },
                    yes: next,
                    no: next + 1,
                    missing_is_yes: mixed && numbers.below(3) == 0,
                }
            });
            nodes.push(TreeNode { tree, node, branch });
        }
    }
    if weights.is_empty() {
        let leaf = nodes.iter().find(|node| node.branch.is_none()).unwrap();
        weights.push(TreeWeight { tree: leaf.tree, node: leaf.node, target: 0, weight: 1.0 });
    }
    // In another order.
    for at in (1..nodes.len()).rev() {
        nodes.swap(at, numbers.below(at as u64 + 1) as usize);
    }
    TreesSpec {
        nodes,
        weights,
        targets,
        aggregate: Aggregate::Sum,
        post: Post::None,
        base: vec![],
        labels: None,
    }
}

/// The scores of a row before base values, by the description.
fn scores(spec: &TreesSpec, row: &[f64]) -> Vec<f64> {
    let named: HashMap<(i64, i64), &TreeNode> =
        spec.nodes.iter().map(|node| ((node.tree, node.node), node)).collect();
    let mut trees: Vec<i64> = spec.nodes.iter().map(|node| node.tree).collect();
    trees.sort_unstable();
    trees.dedup();
    let mut said: Vec<Vec<f64>> = vec![vec![]; spec.targets];
    for &tree in &trees {
        let mut at = named[&(tree, 1000)];
        while let Some(branch) = at.branch {
            let (x, value) = (row[branch.feature as usize], f64::from(branch.value));
            let holds = match branch.test {
                TreeTest::LessOrEqual => x <= value,
                TreeTest::Less => x < value,
                TreeTest::GreaterOrEqual => x >= value,
                TreeTest::Greater => x > value,
                TreeTest::Equal => x == value,
                TreeTest::NotEqual => x != value,
            };
            let holds = holds || (x.is_nan() && branch.missing_is_yes);
            at = named[&(tree, if holds { branch.yes } else { branch.no })];
        }
        for weight in &spec.weights {
            if (weight.tree, weight.node) == (tree, at.node) {
                said[weight.target as usize].push(f64::from(weight.weight));
            }
        }
    }
    said.iter()
        .map(|said| match spec.aggregate {
            Aggregate::Sum => said.iter().sum(),
            Aggregate::Average => said.iter().sum::<f64>() / trees.len() as f64,
            Aggregate::Min => said.iter().copied().reduce(f64::min).unwrap_or(0.0),
            Aggregate::Max => said.iter().copied().reduce(f64::max).unwrap_or(0.0),
        })
        .collect()
}

fn close(got: &[f64], wanted: &[f64]) -> bool {
    got.len() == wanted.len() && got.iter().zip(wanted).all(|(a, b)| (a - b).abs() < 1e-4)
}

proptest! {
    #![proptest_config(cases(192))]

    #[test]
    fn regressors(trees in 1i64..20, targets in 1usize..4, rows in 0usize..9, mixed: bool, aggregate in 0..4usize, nans: bool, seed in 1u64..) {
        let mut numbers = Numbers(seed);
        let mut spec = forest(&mut numbers, trees, targets, 5, mixed);
        spec.aggregate = [Aggregate::Sum, Aggregate::Average, Aggregate::Min, Aggregate::Max][aggregate];
        if seed % 2 == 1 { spec.base = (0..targets).map(|_| numbers.float()).collect(); }
        let mut x = Array::of(&tensor(DType::Fp32, &[rows, 6], seed));
        x.data.iter_mut().enumerate().for_each(|(i, x)| {
            if i % 7 == 3 { *x = 0.0 }
            if nans && i % 5 == 0 { *x = f64::NAN }
        });
        let op = Op::Trees(Arc::new(Trees::new(&spec).unwrap()));
        let got = run_all(&op, &[&of(DType::Fp32, &[rows, 6], &x.data, false)]).unwrap();
        let got = Array::of(&got[0]);
        prop_assert_eq!(&got.dims, &[rows, targets]);
        for (got, row) in got.data.chunks(targets).zip(x.data.chunks(6)) {
            let mut wanted = scores(&spec, row);
            wanted.iter_mut().zip(&spec.base).for_each(|(score, base)| *score += f64::from(*base));
            prop_assert!(close(got, &wanted), "{:?} {:?}", got, wanted);
        }
    }

    #[test]
    fn classifiers(trees in 1i64..9, classes in 3usize..6, rows in 1usize..9, post in 0..3usize, seed in 1u64..) {
        let mut numbers = Numbers(seed);
        let mut spec = forest(&mut numbers, trees, classes, 4, false);
        // Every class is spoken of.
        let leaf = *spec.nodes.iter().find(|node| node.branch.is_none()).unwrap();
        for target in 0..classes as u32 {
            spec.weights.push(TreeWeight { tree: leaf.tree, node: leaf.node, target, weight: 0.25 });
        }
        spec.post = [Post::None, Post::Softmax, Post::Logistic][post];
        spec.labels = Some((0..classes as i64).map(|class| class * 10 - 5).collect());
        let x = tensor(DType::Fp32, &[rows, 4], seed);
        let results = run_all(&Op::Trees(Arc::new(Trees::new(&spec).unwrap())), &[&x]).unwrap();
        let (labels, got) = (Array::of(&results[0]), Array::of(&results[1]));
        for ((got, row), label) in got.data.chunks(classes).zip(Array::of(&x).data.chunks(4)).zip(&labels.data) {
            let mut wanted = scores(&spec, row);
            let best = wanted.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            // Of scores that are equal but for rounding either may win.
            let class = ((label + 5.0) / 10.0) as usize;
            prop_assert!((wanted[class] - best).abs() < 1e-5);
            match spec.post {
                Post::Softmax => {
                    let sum: f64 = wanted.iter().map(|x| x.exp()).sum();
                    wanted.iter_mut().for_each(|x| *x = x.exp() / sum);
                }
                Post::Logistic => wanted.iter_mut().for_each(|x| *x = 1.0 / (1.0 + (-*x).exp())),
                _ => {}
            }
            prop_assert!(close(got, &wanted), "{:?} {:?}", got, wanted);
        }
    }

    /// Whatever is described, it is either refused or walked.
    #[test]
    fn no_description_can_panic(
        nodes in prop::collection::vec((0i64..2, 0i64..6, prop::option::of((0u32..4, 0i64..6, 0i64..6))), 0..8),
        weights in prop::collection::vec((0i64..2, 0i64..6, 0u32..4), 0..5),
        targets in 0usize..4,
        base in 0usize..4,
        labels in prop::option::of(0usize..4),
        seed: u64,
    ) {
        let spec = TreesSpec {
            nodes: nodes.into_iter().map(|(tree, node, branch)| TreeNode {
                tree,
                node,
                branch: branch.map(|(feature, yes, no)| Branch {
                    feature, test: TESTS[feature as usize], value: 0.5, yes, no, missing_is_yes: feature == 3,
                }),
            }).collect(),
            weights: weights.into_iter().map(|(tree, node, target)| TreeWeight { tree, node, target, weight: 1.0 }).collect(),
            targets,
            aggregate: Aggregate::Sum,
            post: Post::SoftmaxZero,
            base: vec![0.5; base],
            labels: labels.map(|count| vec![3; count]),
        };
        if let Ok(trees) = Trees::new(&spec) {
            let op = Op::Trees(Arc::new(trees));
            for dims in [&[3usize, 4][..], &[4], &[0, 4], &[2, 1], &[2, 2, 2]] {
                let _ = run_all(&op, &[&tensor(DType::Fp32, dims, seed)]);
            }
        }
    }
}

fn leaf(node: i64) -> TreeNode {
    TreeNode { tree: 0, node, branch: None }
}

fn branch(node: i64, yes: i64, no: i64) -> TreeNode {
    let test = TreeTest::LessOrEqual;
    let branch = Branch { feature: 0, test, value: 0.0, yes, no, missing_is_yes: false };
    TreeNode { tree: 0, node, branch: Some(branch) }
}

fn spec(nodes: Vec<TreeNode>, weights: &[(i64, u32, f32)]) -> TreesSpec {
    TreesSpec {
        nodes,
        weights: (weights.iter())
            .map(|&(node, target, weight)| TreeWeight { tree: 0, node, target, weight })
            .collect(),
        targets: 2,
        aggregate: Aggregate::Sum,
        post: Post::None,
        base: vec![],
        labels: Some(vec![0, 1]),
    }
}

/// Two classes of which leaves speak of one, as ONNX Runtime reads them.
#[test]
fn two_classes_by_one_score() {
    let nodes = vec![branch(0, 1, 2), leaf(1), leaf(2)];
    let x = of(DType::Fp32, &[2, 1], &[-1.0, 1.0], false);
    let said = |spec: &TreesSpec| {
        let results = run_all(&Op::Trees(Arc::new(Trees::new(spec).unwrap())), &[&x]).unwrap();
        (Array::of(&results[0]).data, Array::of(&results[1]).data)
    };
    let shares = spec(nodes.clone(), &[(1, 1, 0.25), (2, 1, 0.75)]);
    assert_eq!(said(&shares), (vec![0.0, 1.0], vec![0.75, 0.25, 0.25, 0.75]));
    let mut odds = spec(nodes, &[(1, 1, -2.0), (2, 1, 2.0)]);
    assert_eq!(said(&odds), (vec![0.0, 1.0], vec![2.0, -2.0, -2.0, 2.0]));
    odds.post = Post::Logistic;
    let (labels, scores) = said(&odds);
    let p = 1.0 / (1.0 + 2f64.exp());
    assert_eq!(labels, [0.0, 1.0]);
    assert!(close(&scores, &[1.0 - p, p, p, 1.0 - p]));
    odds.base = vec![3.0];
    assert_eq!(said(&odds).0, [1.0, 1.0]);
}

#[test]
fn what_cannot_be_an_ensemble() {
    let good = || vec![branch(0, 1, 2), leaf(1), leaf(2)];
    let weights = &[(1, 0, 1.0), (2, 1, 1.0)][..];
    let with = |change: &dyn Fn(&mut TreesSpec)| {
        let mut spec = spec(good(), weights);
        change(&mut spec);
        spec
    };
    let cases = [
        (with(&|spec| spec.nodes.clear()), "nodes, got 0"),
        (with(&|spec| spec.nodes.push(leaf(1))), "there twice"),
        (with(&|spec| spec.nodes[0] = branch(0, 1, 9)), "not there"),
        (with(&|spec| spec.nodes[0] = branch(0, 1, 1)), "led to twice"),
        (with(&|spec| spec.nodes[0] = branch(0, 0, 1)), "led to by none"),
        (
            with(&|spec| spec.nodes.extend([branch(3, 4, 5), branch(4, 3, 6), leaf(5), leaf(6)])),
            "by none",
        ),
        (with(&|spec| spec.nodes.push(leaf(7))), "several roots"),
        (with(&|spec| spec.weights[0].node = 0), "no leaf"),
        (with(&|spec| spec.weights[0].node = 8), "no leaf"),
        (with(&|spec| spec.weights[0].target = 2), "target 2"),
        (with(&|spec| spec.weights.clear()), "weights, got 0"),
        (with(&|spec| spec.targets = 1 << 20), "targets"),
        (with(&|spec| spec.base = vec![0.0; 3]), "base values"),
        (with(&|spec| spec.labels = Some(vec![1])), "a label for each"),
    ];
    for (spec, wanted) in cases {
        match Trees::new(&spec) {
            Err(OpError::InvalidArgument(text)) => assert!(text.contains(wanted), "{text}"),
            other => panic!("{wanted}: {other:?}"),
        }
    }
    // A chain deeper than any may be.
    let deep: Vec<TreeNode> = (0..5000)
        .flat_map(|i| [branch(2 * i, 2 * i + 1, 2 * i + 2), leaf(2 * i + 1)])
        .chain([leaf(10000)])
        .collect();
    let deep = Trees::new(&spec(deep, &[(1, 0, 1.0)])).unwrap_err();
    assert!(deep.to_string().contains("deeper"), "{deep}");
    let op = Op::Trees(Arc::new(Trees::new(&spec(good(), weights)).unwrap()));
    let narrow: Vec<Result<Vec<Tensor>, OpError>> = [&[2usize, 0][..], &[], &[1, 1, 1]]
        .iter()
        .map(|dims| run_all(&op, &[&tensor(DType::Fp32, dims, 1)]))
        .collect();
    assert!(narrow.iter().all(Result::is_err), "{narrow:?}");
}

#[test]
fn many_rows_on_any_threads() {
    let spec = forest(&mut Numbers(77), 40, 3, 10, false);
    let op = Op::Trees(Arc::new(Trees::new(&spec).unwrap()));
    same_on_threads(&op, &[&tensor(DType::Fp32, &[5000, 10], 3)]);
}
