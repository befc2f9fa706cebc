use std::collections::BTreeMap;

use innkeeper_formats::safetensors::compressed;
use innkeeper_tensor::{Buffer, Code, Coded, Named, Tensor};

use super::*;
use crate::bundle::BundleLimits;

fn plan(to: Option<&str>, group: Option<usize>, prune: Option<&str>) -> Plan {
    let to = to.map(|to| to.parse().unwrap());
    Plan::new(to, group, prune.map(|prune| prune.parse().unwrap()), None).unwrap()
}

/// Numbers between -1 and 1 that are the same each time.
fn numbers(count: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

fn compressed_by(
    bundle: &Bundle,
    plan: &Plan,
    version: &str,
) -> Result<(Bundle, Report), CompressError> {
    compress(bundle, plan, &Calibration::default(), version)
}

fn matrix(dims: &[usize], seed: u64) -> Tensor {
    Tensor::from_vec(dims, numbers(dims.iter().product(), seed)).unwrap()
}

fn bundle(tensors: &[(&str, Tensor)]) -> Bundle {
    let named: Vec<Named> = tensors
        .iter()
        .map(|(name, tensor)| Named { name: (*name).into(), tensor: tensor.clone() })
        .collect();
    let file = compressed::write(&named).unwrap();
    let assets = vec![
        ("labels.txt".to_owned(), Bytes::from_static(b"a\nb\n")),
        ("weights.safetensors".to_owned(), file.into()),
    ];
    let component = Bytes::from_static(b"\0asm");
    Bundle::bare("m", component, assets, &BundleLimits::default()).unwrap()
}

fn opened(bundle: &Bundle) -> BTreeMap<String, Tensor> {
    let place = bundle.manifest.assets.iter().position(|it| it.name == "weights.safetensors");
    let file = bundle.assets[place.unwrap()].as_ref().unwrap();
    safetensors::tensors(&Buffer::aligned_copy(file)).unwrap()
}

fn usual() -> Vec<(&'static str, Tensor)> {
    vec![
        ("bias", matrix(&[64], 1)),
        ("conv", matrix(&[16, 4, 3, 3], 2)),
        ("small", matrix(&[4, 4], 3)),
        ("weight", matrix(&[64, 128], 4)),
    ]
}

#[test]
fn everything_but_the_weights_stays() {
    let before = bundle(&usual());
    let (after, report) = compressed_by(&before, &plan(Some("int8"), None, None), "2").unwrap();
    assert_eq!(after.component, before.component);
    assert_eq!(after.manifest.component, before.manifest.component);
    assert_eq!(
        (&after.assets[0], after.manifest.version.as_deref()),
        (&before.assets[0], Some("2"))
    );
    let lineage = after.manifest.lineage.as_ref().unwrap();
    assert_eq!((lineage.kind.as_str(), lineage.parent), ("compress", before.digest()));
    assert_eq!(lineage.facts["plan"]["to"], "int8");
    // What is written is a bundle.
    let limits = BundleLimits::default();
    let read = Bundle::read(&after.to_bytes().into(), &limits).unwrap();
    assert_eq!(read.manifest, after.manifest);
    let tensors = opened(&after);
    for (name, tensor) in usual() {
        let coded = Coded::of(&tensors[name]).is_some();
        assert_eq!(coded, matches!(name, "conv" | "weight"), "{name}");
        assert_eq!(tensors[name].shape(), tensor.shape());
        if !coded {
            assert_eq!(tensors[name], tensor);
        }
    }
    let notes: Vec<_> = report.tensors.iter().filter_map(|it| it.note.as_deref()).collect();
    assert!(notes[0].contains("two dimensions") && notes[1].contains("small"), "{notes:?}");
    assert_eq!((report.total.compressed, report.total.left), (2, 2));
    // The same again gives the same bytes; once more leaves nothing to do.
    let again = compressed_by(&before, &plan(Some("int8"), None, None), "2").unwrap().0;
    assert_eq!(again.digest(), after.digest());
    let error = compressed_by(&after, &plan(Some("int8"), None, None), "3").unwrap_err();
    assert!(matches!(error, CompressError::NothingDone(_)), "{error}");
}

/// The elements that a naive quantiser makes of a row, and the steps between them.
fn naive(row: &[f32], bits: u32, group: usize) -> Vec<(f32, f32)> {
    let of_group = |group: &[f32]| {
        let most = group.iter().fold(0f32, |most, x| most.max(x.abs()));
        let step = most / ((1 << (bits - 1)) - 1) as f32;
        group.iter().map(|x| ((x / step).round() * step, step)).collect::<Vec<_>>()
    };
    row.chunks(group).flat_map(of_group).collect()
}

#[test]
fn integers_are_the_nearest() {
    let weight = matrix(&[16, 128], 5);
    let elements = weight.elements::<f32>().unwrap();
    let before = bundle(&[("w", weight.clone())]);
    let (after, report) = compressed_by(&before, &plan(Some("int8"), None, None), "2").unwrap();
    let got = opened(&after)["w"].elements::<f32>().unwrap().into_owned();
    let wanted: Vec<_> = elements.chunks(128).flat_map(|row| naive(row, 8, 128)).collect();
    for (got, (wanted, step)) in got.iter().zip(&wanted) {
        // Halves may go either way.
        assert!((got - wanted).abs() <= step * 1.001, "{got} {wanted}");
    }
    let off = |got: &[f32]| -> f64 {
        got.iter().zip(&*elements).map(|(a, b)| f64::from(a - b).powi(2)).sum()
    };
    let naive_off = off(&wanted.iter().map(|(wanted, _)| *wanted).collect::<Vec<_>>());
    assert!(off(&got) <= naive_off * 1.001);
    let said = &report.tensors[0];
    assert!((said.half_squared_distance - off(&got) / 2.0).abs() < 1e-9);
    let length: f64 = elements.iter().map(|x| f64::from(*x).powi(2)).sum();
    assert!((said.relative_error - (off(&got) / length).sqrt()).abs() < 1e-6);
    assert_eq!((said.bytes_before, said.bytes_after), (16 * 128 * 4, 16 * 128 + 16 * 4));

    for group in GROUPS {
        let plan = plan(Some("int4"), Some(group), None);
        let (after, report) = compressed_by(&before, &plan, "2").unwrap();
        let got = opened(&after)["w"].elements::<f32>().unwrap().into_owned();
        let wanted: Vec<_> = elements.chunks(128).flat_map(|row| naive(row, 4, group)).collect();
        let naive_off = off(&wanted.iter().map(|(wanted, _)| *wanted).collect::<Vec<_>>());
        // Sixteen steps rather than fifteen.
        assert!(off(&got) <= naive_off, "{group}: {} {naive_off}", off(&got));
        let bytes = 16 * 64 + 16 * (128 / group) * 4;
        assert_eq!(report.tensors[0].bytes_after, bytes as u64);
    }
}

#[test]
fn halves_are_rounded_once() {
    let before = bundle(&[("w", matrix(&[16, 32], 6)), ("far", matrix(&[16, 16], 7))]);
    for (to, most) in [("fp16", 5e-4), ("bf16", 4e-3)] {
        let (after, report) = compressed_by(&before, &plan(Some(to), None, None), "2").unwrap();
        assert!(report.tensors.iter().all(|it| it.relative_error < most && it.method == to));
        assert_eq!(report.tensors[1].bytes_after, 16 * 32 * 2);
        assert!(Coded::of(&opened(&after)["w"]).is_some());
    }
    let far = Tensor::from_vec(&[16, 16], vec![1e6f32; 256]).unwrap();
    let plan = plan(Some("fp16"), None, None);
    let (_, report) = compressed_by(&bundle(&[("far", far)]), &plan, "2").unwrap();
    assert_eq!(report.tensors[0].method, "bf16");
    assert!(report.tensors[0].remark.as_ref().unwrap().contains("does not reach"));
}

#[test]
fn small_magnitudes_go() {
    let weight = matrix(&[16, 32], 8);
    let elements = weight.elements::<f32>().unwrap();
    let before = bundle(&[("w", weight.clone())]);
    let (after, report) = compressed_by(&before, &plan(None, None, Some("0.5")), "2").unwrap();
    let got = opened(&after)["w"].elements::<f32>().unwrap().into_owned();
    let mut order: Vec<f32> = elements.iter().map(|x| x.abs()).collect();
    order.sort_by(f32::total_cmp);
    for (got, from) in got.iter().zip(&*elements) {
        assert_eq!(*got, if from.abs() < order[256] { 0.0 } else { *from });
    }
    assert_eq!((report.tensors[0].zeros, &*report.tensors[0].method), (0.5, "pruned"));
    let (after, report) =
        compressed_by(&before, &plan(Some("int8"), None, Some("2:4")), "2").unwrap();
    let got = opened(&after)["w"].elements::<f32>().unwrap().into_owned();
    for (got, from) in got.chunks(4).zip(elements.chunks(4)) {
        assert_eq!(got.iter().filter(|x| **x != 0.0).count(), 2);
        let kept = |zero: bool| {
            let pairs = got.iter().zip(from).filter(move |(got, _)| (**got == 0.0) == zero);
            pairs.map(|(_, from)| from.abs())
        };
        assert!(kept(true).fold(0f32, f32::max) <= kept(false).fold(9f32, f32::min));
    }
    assert_eq!(&*report.tensors[0].method, "pruned int8");
}

#[test]
fn factors_are_the_nearest_of_their_rank() {
    for dims in [[40, 24], [24, 40]] {
        let weight = matrix(&dims, 9);
        let from = weight.elements::<f32>().unwrap();
        let plan = Plan::new(None, None, None, Some(5)).unwrap();
        let (after, report) = compressed_by(&bundle(&[("w", weight.clone())]), &plan, "2").unwrap();
        let got = opened(&after)["w"].clone();
        assert!(Coded::of(&got).is_some());
        // What is left out are the singular values from the sixth on.
        let wide: Vec<f64> = from.iter().map(|&x| f64::from(x)).collect();
        let svd = nalgebra::DMatrix::from_row_slice(dims[0], dims[1], &wide).svd(false, false);
        let mut values: Vec<f64> = svd.singular_values.iter().copied().collect();
        values.sort_by(|a, b| b.total_cmp(a));
        let residual: f64 = values[5..].iter().map(|value| value * value).sum();
        let said = report.tensors[0].half_squared_distance;
        assert!((said - residual / 2.0).abs() <= 1e-5 * residual, "{said} {residual}");
        assert_eq!(report.tensors[0].bytes_after, ((40 + 24) * 5 * 4) as u64);
    }
    let weight = matrix(&[64, 96], 10);
    let both = |to: &str| Plan::new(Some(to.parse().unwrap()), None, None, Some(8)).unwrap();
    let (after, report) =
        compressed_by(&bundle(&[("w", weight.clone())]), &both("int8"), "2").unwrap();
    assert_eq!(report.tensors[0].method, "low-rank int8");
    assert!(report.tensors[0].bytes_after < (64 + 96) * 8 * 2);
    assert!(Coded::of(&opened(&after)["w"]).is_some());
    let much = Plan::new(None, None, None, Some(60)).unwrap();
    let error = compressed_by(&bundle(&[("w", weight)]), &much, "2").unwrap_err().to_string();
    assert!(error.contains("would save nothing"), "{error}");
}

#[test]
fn what_cannot_be_compressed_is_left_and_listed() {
    let odd = Tensor::from_vec(&[16, 16], vec![f32::NAN; 256]).unwrap();
    let wide = Tensor::from_vec(&[16, 16], vec![1f64; 256]).unwrap();
    let tensors = [
        ("a", matrix(&[16, 40], 1)),
        ("odd", odd),
        ("taken", matrix(&[16, 32], 2)),
        ("taken.scale", matrix(&[16], 3)),
        ("wide", wide),
    ];
    let plan = plan(Some("int4"), None, None);
    let (_, report) = compressed_by(&bundle(&tensors), &plan, "2").unwrap();
    let of = |name: &str| report.tensors.iter().find(|it| it.name == name).unwrap();
    assert_eq!(of("a").method, "int8");
    assert!(of("a").remark.as_ref().unwrap().contains("rows of 40 are not whole groups of 32"));
    for (name, wanted) in
        [("odd", "not finite"), ("taken", "another tensor's name"), ("wide", "is FP64")]
    {
        let note = of(name).note.as_ref().unwrap();
        assert!(note.contains(wanted), "{note}");
    }
}

#[test]
fn plans_and_bundles_that_are_none_are_refused() {
    let target = |text: &str| text.parse::<Target>().ok();
    let wrong = [
        Plan::new(None, None, None, None),
        Plan::new(None, None, None, Some(0)),
        Plan::new(target("int8"), Some(32), None, None),
        Plan::new(target("int4"), Some(16), None, None),
    ];
    assert!(wrong.iter().all(Result::is_err));
    assert!(["0", "1", "NaN", "-0.5", "3:4"].iter().all(|text| text.parse::<Prune>().is_err()));
    assert!("int2".parse::<Target>().is_err());
    let plan = plan(Some("int8"), None, None);
    let component = Bytes::from_static(b"\0asm");
    let none = Bundle::bare("m", component.clone(), Vec::new(), &BundleLimits::default()).unwrap();
    assert!(matches!(compressed_by(&none, &plan, "2"), Err(CompressError::NoWeights)));
    for name in ["w.safetensors", "w.onnx"] {
        let assets = vec![(name.to_owned(), Bytes::from_static(b"nonsense"))];
        let bad = Bundle::bare("m", component.clone(), assets, &BundleLimits::default()).unwrap();
        let error = compressed_by(&bad, &plan, "2").unwrap_err();
        let wrong = matches!(error, CompressError::Asset { .. } | CompressError::Onnx { .. });
        assert!(wrong, "{error}");
        let mut without = bad;
        without.assets[0] = None;
        assert!(matches!(compressed_by(&without, &plan, "2"), Err(CompressError::Missing { .. })));
    }
}

#[test]
fn what_was_seen_makes_products_better() {
    let (rows, depth, examples) = (24, 64, 256);
    let weight = matrix(&[rows, depth], 11);
    // Inputs of which each is much like the one before.
    let mut seen = numbers(examples * depth, 12);
    for row in seen.chunks_exact_mut(depth) {
        (1..depth).for_each(|at| row[at] = 0.9 * row[at - 1] + 0.3 * row[at]);
    }
    let seen = Tensor::from_vec(&[examples, depth], seen).unwrap();
    let mut calibration = Calibration::default();
    calibration.observe("x", &seen).unwrap();
    let sums = calibration.sums("x", depth).unwrap();
    // The products' squared error, element by element.
    let off = |code: Code| {
        let made = Coded::tensor(code::shape(&[rows, depth]).unwrap(), code).unwrap();
        let (made, weight) = (made.elements::<f32>().unwrap(), weight.elements::<f32>().unwrap());
        let seen = seen.elements::<f32>().unwrap();
        let of_row = |x: &[f32], row: usize| -> f64 {
            let pairs = x.iter().zip(&made[row * depth..]).zip(&weight[row * depth..]);
            pairs.map(|((x, a), b)| f64::from(x * (a - b))).sum()
        };
        let rows = |x| (0..rows).map(move |row| (x, row));
        seen.chunks_exact(depth).flat_map(rows).map(|(x, row)| of_row(x, row).powi(2)).sum::<f64>()
    };
    for group in [32, 64] {
        let (values, scales) =
            code::quantised(&weight, innkeeper_kernels::Quant::Weight4 { group }).unwrap();
        let nearest = off(Code::Int4 { values, scales, group });
        let (values, scales) = gptq::quantised(&weight, sums, group).unwrap().unwrap();
        let better = off(Code::Int4 { values, scales, group });
        assert!(better < 0.5 * nearest, "{group}: {better} is not far below {nearest}");
    }
    assert!(gptq::quantised(&weight, &vec![0.0; depth * depth], 32).unwrap().is_none());
    assert!(calibration.sums("x", depth + 1).is_none() && calibration.sums("y", depth).is_none());
}
