//! The CUDA backend: every kernel source through NVRTC where that is, and every operation on a GPU where one is. Whoever
//! has them says so by INNKEEPER_REQUIRE_NVRTC=1 and INNKEEPER_REQUIRE_GPU=1, and a test that then cannot run fails.

#[path = "../../src/cuda/cases.rs"]
mod cases;

/// What `cases` calls the crate.
mod api {
    pub(crate) use innkeeper_kernels::{
        Activation, Attention, Binary, Compare, Conv, ConvTranspose, Curve, Grad, Loss, LossOf,
        Move, Norm, Op, Optim, Order, PoolKind, Pooling, Reduce, Reduction, Rope, Slope, Test,
        Unary, Window,
    };
}

use innkeeper_kernels::cuda::{CudaError, compile_everything};
use innkeeper_kernels::{Backend, Cpu, Cuda, Run};
use innkeeper_tensor::Tensor;

use cases::{Case, Seed, numbers};

/// The architectures of Hopper, for which every form is compiled, Ampere and Blackwell.
const ARCHS: [&str; 3] = ["sm_90a", "sm_80", "sm_100"];

/// Says that a test did not run, or fails where it had to.
fn did_not_run(test: &str, variable: &str, why: &CudaError) {
    let required = std::env::var(variable).is_ok_and(|value| value == "1");
    assert!(!required, "{test} could not run, and {variable} is 1: {why}");
    eprintln!("DID NOT RUN: {test}: {why}");
}

#[test]
fn every_kernel_source_compiles() {
    let compiled = match compile_everything(&ARCHS) {
        Err(why @ CudaError::Absent(_)) => {
            return did_not_run("compiling kernels", "INNKEEPER_REQUIRE_NVRTC", &why);
        }
        compiled => compiled.unwrap_or_else(|error| panic!("{error}")),
    };
    for arch in ARCHS {
        let of_arch = compiled.iter().filter(|compiled| compiled.arch == arch);
        let (count, bytes) = of_arch.fold((0, 0), |(n, sum), one| (n + 1, sum + one.bytes));
        assert!(count > 0 && bytes > 0, "nothing was compiled for {arch}");
        eprintln!("{arch}: {count} kernel modules, {bytes} bytes");
    }
}

#[test]
fn operations_on_a_gpu_agree_with_the_processor() {
    let cuda = match Cuda::open(0) {
        Err(why) => return did_not_run("operations on a GPU", "INNKEEPER_REQUIRE_GPU", &why),
        Ok(cuda) => cuda,
    };
    eprintln!("on {}", cuda.description());
    let cases = cases::all();
    let wrong: Vec<String> = cases.iter().filter_map(|case| differs(&cuda, case)).collect();
    assert!(wrong.is_empty(), "{} of {} differ:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

/// How a case's result is not the processor's.
fn differs(cuda: &Cuda, case: &Case) -> Option<String> {
    let inputs: Vec<&Tensor> = case.inputs.iter().collect();
    let shapes: Vec<_> = inputs.iter().map(|x| (x.dtype(), x.shape().dims())).collect();
    let what = format!("{:?} of {shapes:?}", case.op);
    let wanted = Cpu::new().run(&case.op, &inputs, &Run::new()).unwrap();
    let got = match cuda.run(&case.op, &inputs, &Run::new()) {
        Ok(got) => got,
        Err(error) => return Some(format!("{what}: {error}")),
    };
    for (got, wanted) in got.iter().zip(&wanted) {
        if let Err(error) = got.fetch() {
            return Some(format!("{what}: {error}"));
        }
        if (got.dtype(), got.shape()) != (wanted.dtype(), wanted.shape()) {
            return Some(format!("{what}: {} {}", got.dtype(), got.shape()));
        }
        let (got, wanted) = (numbers(got), numbers(wanted));
        for (i, (&got, &wanted)) in got.iter().zip(&wanted).enumerate() {
            let same = got == wanted
                || (got.is_nan() && wanted.is_nan())
                || (got - wanted).abs() <= case.tolerance * wanted.abs().max(1.0);
            if !same {
                return Some(format!("{what}: element {i} is {got}, on the processor {wanted}"));
            }
        }
    }
    None
}

#[test]
fn cases_are_many() {
    assert!(cases::all().len() > 300);
    assert_eq!(Seed(1).next(), Seed(1).next());
}
