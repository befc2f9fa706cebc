//! What `signature` answers: a good one, unless the mode says otherwise.

use std::cell::Cell;
use std::hint::black_box;

use innkeeper_sdk::{DType, Signature, TensorSpec};

thread_local! {
    static ASKED: Cell<u32> = const { Cell::new(0) };
}

pub(crate) fn of(mode: &str) -> Signature {
    let good = Signature::new().output("OUTPUT0", DType::Fp32, &[1]);
    let input = |name: &str, shape: &[i64]| good.clone().input(name, DType::Fp32, shape);
    match mode {
        "signature-no-outputs" => Signature::new().input("INPUT0", DType::Fp32, &[1]),
        "signature-twice" => input("INPUT0", &[1]).input("INPUT0", DType::Int8, &[1]),
        "signature-empty-name" => input("", &[1]),
        "signature-long-name" => input(&"N".repeat(300), &[1]),
        "signature-control-name" => input("IN\nPUT", &[1]),
        "signature-negative" => input("INPUT0", &[-5]),
        "signature-huge" => input("INPUT0", &[i64::MAX, i64::MAX]),
        "signature-high-rank" => input("INPUT0", &[1; 1000]),
        "signature-batch-axis-absent" => input("INPUT0", &[-1]).batch_axis(7),
        "signature-batch-axis-fixed" => input("INPUT0", &[-1]).batch_axis(0),
        "signature-many" => (0..10_000).fold(good, |signature, index| {
            signature.with_input(TensorSpec::new(&format!("I{index}"), DType::Bool, &[]).optional())
        }),
        "signature-properties" => good.property("long", &"x".repeat(16 << 20)),
        "signature-changing" => changing(good),
        "signature-unlike-output" => Signature::new().output("OUTPUT0", DType::Int64, &[1]),
        "signature-panic" => panic!("the guest was told to panic in signature"),
        "signature-spin" => spin(),
        _ => good,
    }
}

/// Another one at every call.
fn changing(good: Signature) -> Signature {
    ASKED.set(ASKED.get() + 1);
    good.property("asked", &ASKED.get().to_string())
}

fn spin() -> ! {
    let mut rounds = 0u64;
    loop {
        rounds = black_box(rounds.wrapping_add(1));
    }
}
