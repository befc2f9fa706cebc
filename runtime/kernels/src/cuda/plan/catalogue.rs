//! Every kernel source in the forms that operations ask for: what is compiled to see that it compiles.

use innkeeper_tensor::DType;

use crate::cuda::plan::elementwise;
use crate::cuda::source::{Source, Unit, element};

/// Each source for every dtype that it takes with one operation, and every operation for one dtype of each kind.
pub(crate) fn units() -> Vec<Unit> {
    let mut all = elementwise::units();
    let numeric = DType::ALL.into_iter().filter(|&dtype| dtype != DType::Bytes);
    for dtype in numeric {
        all.push(Unit::of(Source::Cast, dtype).with("FROM=double").with("RANGE"));
        all.push(Unit::of(Source::Cast, DType::Fp32).with(format!("FROM={}", element(dtype))));
        if dtype == DType::Bool {
            continue;
        }
        all.push(
            Unit::of(Source::Reduce, dtype).with("REDUCE=MaxOf").with("END=Whole").with("ARG"),
        );
    }
    for size in [1, 2, 4, 8] {
        all.push(Unit::of_words(Source::Move, size));
    }
    let reduced = [
        ("ProductOf", "Whole"),
        ("MinOf", "Whole"),
        ("AbsoluteSumOf", "Whole"),
        ("SquareSumOf", "Root"),
        ("SumOf", "Divided"),
        ("SumOf", "Logarithm"),
        ("ExponentialSumOf", "Ended"),
    ];
    for (reduce, end) in reduced {
        let unit = Unit::of(Source::Reduce, DType::Fp32);
        all.push(unit.with(format!("REDUCE={reduce}")).with(format!("END={end}")));
    }
    for dtype in [DType::Fp16, DType::Bf16, DType::Fp32, DType::Fp64] {
        for kind in ["SOFTMAX", "NORM", "BATCH_NORM", "GROUP_NORM", "LP_NORM"] {
            all.push(Unit::of(Source::Rows, dtype).with(kind));
        }
        all.push(Unit::of(Source::Product, dtype));
    }
    for dtype in [DType::Fp16, DType::Bf16, DType::Fp32, DType::Fp64] {
        for (source, kind) in [
            (Source::Attention, "ATTENTION"),
            (Source::Attention, "ROPE"),
            (Source::Conv, "CONV"),
            (Source::Conv, "POOL"),
        ] {
            all.push(Unit::of(source, dtype).with(kind));
        }
    }
    all.push(Unit::of(Source::Conv, DType::Int8).with("POOL"));
    all.extend([2, 4, 8].map(|size| Unit::of_words(Source::Conv, size).with("COLUMNS")));
    for (dtype, depth) in [(DType::Fp16, 64), (DType::Bf16, 32), (DType::Bf16, 128)] {
        all.push(Unit::of(Source::AttentionHalf, dtype).with(format!("D={depth}")));
    }
    let slopes = ["relu", "gelu", "gelu_tanh", "silu", "sigmoid", "tanh"];
    let train = Unit::of(Source::Train, DType::Fp32);
    all.extend(slopes.map(|slope| train.clone().with(format!("SLOPE=slope_{slope}"))));
    for dtype in [DType::Fp32, DType::Fp64] {
        for kind in ["SOFTMAX", "NORM", "GATHER", "LOSS", "STEP", "CLIP_NORM"] {
            all.push(Unit::of(Source::Train, dtype).with(kind));
        }
    }
    all.extend([DType::Fp16, DType::Bf16].map(|dtype| Unit::of(Source::ProductHalf, dtype)));
    all
}

/// Of each source one for each set of options, whatever their values: enough to see that an architecture has what the
/// sources use.
pub(crate) fn kinds() -> Vec<Unit> {
    let mut seen = std::collections::HashSet::new();
    let name = |option: &String| option.split('=').next().unwrap_or_default().to_owned();
    let mut all = units();
    all.retain(|unit| {
        seen.insert((unit.source, unit.options.iter().map(name).collect::<Vec<_>>()))
    });
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_source_is_there() {
        let units = units();
        for source in Source::ALL {
            assert!(units.iter().any(|unit| unit.source == source), "{source:?}");
            assert!(kinds().iter().any(|unit| unit.source == source), "{source:?}");
        }
    }
}
