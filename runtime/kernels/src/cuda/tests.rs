//! The backend over an emulated device, against the processor.

use std::sync::{Arc, OnceLock};

use innkeeper_tensor::{DType, Shape, Tensor};

use super::cases::{self, Case, Seed, numbers, rounding, tensor};
use super::emulate::Emulated;
use super::machine::Facts;
use super::plan::product::Product;
use super::plan::{Call, Operand, Plan, Slot, Step};
use super::{Cuda, CudaConfig, CudaError};
use crate::{Activation, Backend, Binary, Cpu, Op, OpError, Reduce, Run, Unary};

/// One device for all tests of the process, which is how it is used.
fn device() -> &'static (Arc<Emulated>, Cuda) {
    static DEVICE: OnceLock<(Arc<Emulated>, Cuda)> = OnceLock::new();
    DEVICE.get_or_init(|| {
        let machine = Arc::new(Emulated::open());
        let cuda = Cuda::over(machine.clone(), "cuda:emulated".to_owned(), 256 << 20).unwrap();
        (machine, cuda)
    })
}

/// A device of a test's own, of which it can count what happens.
fn own_device(bytes_max: u64) -> (Arc<Emulated>, Cuda) {
    let machine = Arc::new(Emulated::open());
    let cuda = Cuda::over(machine.clone(), "cuda:own".to_owned(), bytes_max).unwrap();
    (machine, cuda)
}

#[track_caller]
pub(super) fn check(cuda: &Cuda, case: &Case) {
    let Case { op, inputs, tolerance } = case;
    let inputs: Vec<&Tensor> = inputs.iter().collect();
    let shapes: Vec<_> = inputs.iter().map(|x| (x.dtype(), x.shape().dims())).collect();
    let what = format!("{op:?} of {shapes:?}");
    let wanted = Cpu::new().run(op, &inputs, &Run::new()).unwrap();
    let got = cuda.run(op, &inputs, &Run::new()).unwrap_or_else(|error| panic!("{what}: {error}"));
    assert_eq!(got.len(), wanted.len(), "{what}");
    for (got, wanted) in got.iter().zip(&wanted) {
        assert_eq!((got.dtype(), got.shape()), (wanted.dtype(), wanted.shape()), "{what}");
        got.fetch().unwrap_or_else(|error| panic!("{what}: {error}"));
        let (got, wanted) = (numbers(got), numbers(wanted));
        for (i, (&got, &wanted)) in got.iter().zip(&wanted).enumerate() {
            let same = got == wanted
                || (got.is_nan() && wanted.is_nan())
                || (got - wanted).abs() <= tolerance * wanted.abs().max(1.0);
            assert!(same, "{what}: element {i} is {got}, on the processor {wanted}");
        }
    }
}

fn check_all(cases: &[Case]) {
    cases.iter().for_each(|case| check(&device().1, case));
}

#[test]
fn elementwise_operations_agree_with_the_processor() {
    check_all(&cases::elementwise(&mut Seed(1)));
}

#[test]
fn moves_agree_with_the_processor() {
    check_all(&cases::moves(&mut Seed(2)));
}

#[test]
fn reductions_agree_with_the_processor() {
    check_all(&cases::reductions(&mut Seed(3)));
}

#[test]
fn products_agree_with_the_processor() {
    check_all(&cases::products(&mut Seed(4)));
}

#[test]
fn networks_agree_with_the_processor() {
    check_all(&cases::networks(&mut Seed(6)));
}

#[test]
fn training_agrees_with_the_processor() {
    check_all(&cases::training(&mut Seed(5)));
}

/// The tensor cores' kernel takes 16-bit floats, which operations do not give it yet without a library.
#[test]
fn products_on_tensor_cores_agree_with_wide_ones() {
    let cuda = &device().1;
    for dtype in [DType::Fp16, DType::Bf16] {
        for (m, n, k) in [(5, 3, 7), (70, 66, 40), (64, 64, 96)] {
            let mut seed = Seed(9);
            let (a, b) = (seed.tensor(dtype, &[m, k]), seed.tensor(dtype, &[n, k]));
            let wide = |x: &Tensor| {
                Cpu::new().run_one(&Op::Cast { to: DType::Fp32 }, &[x], &Run::new()).unwrap()
            };
            let op = Op::Linear { bias: false, residual: false, activation: Activation::Relu };
            let wanted = Cpu::new().run_one(&op, &[&wide(&a), &wide(&b)], &Run::new()).unwrap();
            let got = half_product(cuda, &a, &b, [m, n, k]);
            for (got, wanted) in numbers(&got).into_iter().zip(numbers(&wanted)) {
                assert!((got - wanted).abs() <= rounding(dtype) * wanted.abs().max(1.0));
            }
        }
    }
}

fn half_product(cuda: &Cuda, a: &Tensor, b: &Tensor, [m, n, k]: [usize; 3]) -> Tensor {
    let shape = Shape::new(&[m, n]).unwrap();
    let operand = |x: &'_ Tensor, slot| (x.dtype(), x.shape().clone(), slot);
    let inputs = [operand(a, Slot::Input(0)), operand(b, Slot::Input(1))];
    let inputs =
        inputs.iter().map(|(dtype, shape, slot)| Operand { dtype: *dtype, shape, slot: *slot });
    let call = Call {
        name: "linear",
        inputs: inputs.collect(),
        outputs: vec![Operand { dtype: a.dtype(), shape: &shape, slot: Slot::Output(0) }],
        facts: cuda.device.machine.facts(),
    };
    let mut plan = Plan::default();
    let product = Product {
        dtype: a.dtype(),
        a: Slot::Input(0),
        b: Slot::Input(1),
        c: Slot::Output(0),
        bias: None,
        residual: None,
        activation: Activation::Relu,
        m: m as u64,
        n: n as u64,
        k: k as u64,
        batch: 1,
        a_batch: 0,
        b_batch: 0,
        a_turned: false,
        b_turned: true,
    };
    super::plan::product::add(&mut plan, &call, product).unwrap();
    let (a, b) = (cuda.operand("a", a).unwrap().0, cuda.operand("b", b).unwrap().0);
    let c = cuda.stream.room(&cuda.pool, (m * n * 2) as u64).unwrap();
    let (from, to) = ([a.address(), b.address()], [c.address()]);
    cuda.stream.run(&cuda.pool, &plan, (&from, &to), false).unwrap();
    cuda.tensor(call.outputs[0].dtype, shape, c, 0).unwrap()
}

#[test]
fn what_elements_get_wrong_is_an_error_wherever_they_lie() {
    let cuda = &device().1;
    let data = tensor(DType::Fp32, &[3, 4], &[0.0; 12]);
    let gather = Op::Gather { axis: 0 };
    for index in [3.0, -4.0] {
        let indices = tensor(DType::Int64, &[1], &[index]);
        for indices in [cuda.upload(&indices).unwrap(), indices] {
            let error = cuda.run_one(&gather, &[&data, &indices], &Run::new()).unwrap_err();
            assert!(
                matches!(&error, OpError::InvalidArgument(text) if text.contains("index")),
                "{error}"
            );
        }
    }
    let (a, zero) =
        (tensor(DType::Int32, &[2], &[1.0, 2.0]), tensor(DType::Int32, &[2], &[1.0, 0.0]));
    let div = Op::Binary(Binary::Div);
    let wanted = Cpu::new().run_one(&div, &[&a, &zero], &Run::new()).unwrap_err();
    assert_eq!(cuda.run_one(&div, &[&a, &zero], &Run::new()).unwrap_err(), wanted);
}

#[test]
fn results_stay_on_the_device_until_they_are_read() {
    let (machine, cuda) = own_device(1 << 20);
    let x = tensor(DType::Fp32, &[2, 2], &[1.0, 2.0, 3.0, 4.0]);
    let doubled =
        cuda.run_one(&Op::Scalar { op: Binary::Mul, value: 2.0 }, &[&x], &Run::new()).unwrap();
    let taken = machine.taken();
    let sum = Op::Reduce { op: Reduce::Sum, axes: vec![], keep_dims: false };
    let sum = cuda.run_one(&sum, &[&doubled], &Run::new()).unwrap();
    // The result alone: its operand was there.
    assert_eq!(machine.taken(), taken + 1);
    assert!(sum.data().is_remote());
    assert_eq!(*sum.elements::<f32>().unwrap(), [20.0]);
    let (sender, receiver) = std::sync::mpsc::channel();
    cuda.read(&doubled, move |result| sender.send(result).unwrap());
    receiver.recv().unwrap().unwrap();
    assert_eq!(*doubled.elements::<f32>().unwrap(), [2.0, 4.0, 6.0, 8.0]);
    drop((doubled, sum));
    assert_eq!((machine.taken(), cuda.memory_bytes().0), (0, 0));
}

#[test]
fn a_part_of_a_tensor_is_read_where_it_lies() {
    let cuda = &device().1;
    let x = tensor(DType::Fp32, &[2, 8], &(0..16).map(f64::from).collect::<Vec<_>>());
    let whole = cuda.upload(&x).unwrap();
    for begin in [4, 1] {
        let data = whole.data().slice(begin * 4..begin * 4 + 16).unwrap();
        let part = Tensor::new(DType::Fp32, Shape::new(&[4]).unwrap(), data).unwrap();
        let twice = cuda.run_one(&Op::Binary(Binary::Add), &[&part, &part], &Run::new()).unwrap();
        let wanted: Vec<f32> = (begin..begin + 4).map(|i| 2.0 * i as f32).collect();
        assert_eq!(*twice.elements::<f32>().unwrap(), wanted);
    }
}

#[test]
fn constants_are_uploaded_once_and_go_with_the_tensor() {
    let (machine, cuda) = own_device(1 << 20);
    let weight = tensor(DType::Fp32, &[2, 2], &[1.0, 2.0, 3.0, 4.0]).constant();
    let x = tensor(DType::Fp32, &[2], &[1.0, 1.0]);
    let other = cuda.worker().unwrap();
    for cuda in [&cuda, &cuda, &other] {
        let y = cuda.run_one(&Op::MatMul, &[&x, &weight], &Run::new()).unwrap();
        assert_eq!(*y.elements::<f32>().unwrap(), [4.0, 6.0]);
        drop(y);
        assert_eq!(machine.taken(), 1);
    }
    drop(weight);
    assert_eq!(machine.taken(), 0);
}

#[test]
fn a_tenant_cannot_take_more_than_its_memory() {
    let (machine, cuda) = own_device(1 << 20);
    let tenant = cuda.tenant(8 << 10).unwrap();
    let full = |count: usize| Op::Full { dtype: DType::Fp32, shape: vec![count], value: 1.0 };
    let first = tenant.run_one(&full(1024), &[], &Run::new()).unwrap();
    let error = tenant.run_one(&full(1500), &[], &Run::new()).unwrap_err();
    assert!(matches!(&error, OpError::Unsupported(text) if text.contains("8192")), "{error}");
    // Others have theirs.
    cuda.run_one(&full(1500), &[], &Run::new()).unwrap();
    drop(first);
    tenant.run_one(&full(1500), &[], &Run::new()).unwrap();
    drop(tenant);
    assert_eq!(machine.taken(), 0);
}

#[test]
fn a_recorded_graph_gives_the_same_again() {
    let (machine, cuda) = own_device(4 << 20);
    let mut seed = Seed(7);
    let weight = seed.tensor(DType::Fp32, &[16, 16]).constant();
    let layers = |backend: &dyn Backend, x: &Tensor| {
        let run = Run::new();
        let mut x = x.clone();
        for _ in 0..4 {
            let y = backend.run_one(&Op::MatMul, &[&x, &weight], &run)?;
            let y = backend.run_one(&Op::Scalar { op: Binary::Mul, value: 0.1 }, &[&y], &run)?;
            x = backend.run_one(&Op::Unary(Unary::Tanh), &[&y], &run)?;
        }
        Ok(vec![x])
    };
    let shape = Shape::new(&[5, 16]).unwrap();
    let operands = [(DType::Fp32, &shape)];
    let graph = cuda.record(&operands, &Run::new(), |inputs| layers(&cuda, inputs[0])).unwrap();
    machine.launched();
    for _ in 0..2 {
        let x = seed.tensor(DType::Fp32, &[5, 16]);
        let got = graph.run(&[&x], &Run::new()).unwrap();
        let wanted = layers(&Cpu::new(), &x).unwrap();
        for (got, wanted) in numbers(&got[0]).into_iter().zip(numbers(&wanted[0])) {
            assert!((got - wanted).abs() < 1e-5);
        }
        assert!(machine.launched().is_empty(), "a graph's kernels are not launched one by one");
    }
    let other = tensor(DType::Fp32, &[1, 16], &[0.0; 16]);
    assert!(matches!(graph.run(&[&other], &Run::new()), Err(OpError::InvalidArgument(_))));
    // The graph keeps what it was recorded with.
    drop(weight);
    let x = seed.tensor(DType::Fp32, &[5, 16]);
    graph.run(&[&x], &Run::new()).unwrap()[0].fetch().unwrap();
    drop(graph);
    assert_eq!(machine.taken(), 0);
}

#[test]
fn a_graph_tells_what_elements_get_wrong() {
    let (_, cuda) = own_device(1 << 20);
    let data = cuda.upload(&tensor(DType::Fp32, &[3], &[5.0, 6.0, 7.0])).unwrap();
    let shape = Shape::new(&[2]).unwrap();
    let work =
        |inputs: &[&Tensor]| cuda.run(&Op::Gather { axis: 0 }, &[&data, inputs[0]], &Run::new());
    let graph = cuda.record(&[(DType::Int64, &shape)], &Run::new(), work).unwrap();
    let good = graph.run(&[&tensor(DType::Int64, &[2], &[2.0, -3.0])], &Run::new()).unwrap();
    assert_eq!(*good[0].elements::<f32>().unwrap(), [7.0, 5.0]);
    let error = graph.run(&[&tensor(DType::Int64, &[2], &[2.0, 3.0])], &Run::new()).unwrap_err();
    assert!(matches!(error, OpError::InvalidArgument(_)));
    // The flag is put back.
    assert!(graph.run(&[&tensor(DType::Int64, &[2], &[0.0, 1.0])], &Run::new()).is_ok());
    // An operand of the host cannot be part of what is recorded.
    let host = tensor(DType::Int64, &[2], &[0.0, 1.0]);
    let work = |_: &[&Tensor]| cuda.run(&Op::Gather { axis: 0 }, &[&data, &host], &Run::new());
    assert!(cuda.record(&[], &Run::new(), work).is_err());
    assert!(cuda.run_one(&Op::Unary(Unary::Neg), &[&data], &Run::new()).is_ok());
}

#[test]
fn strings_and_stopped_runs_are_refused() {
    let cuda = &device().1;
    let strings = Tensor::from_strings(&[1], &["a"]).unwrap();
    let error = cuda.run(&Op::Reshape { shape: vec![1, 1] }, &[&strings], &Run::new());
    assert!(error.is_ok(), "what shares bytes needs no device");
    let x = tensor(DType::Fp32, &[1], &[1.0]);
    let stop = || true;
    let stopped = cuda.run(&Op::Unary(Unary::Neg), &[&x], &Run::new().until(&stop));
    assert_eq!(stopped.unwrap_err(), OpError::Stopped);
}

/// A machine without a driver gets an error, and one with a driver has no ten thousandth device.
#[test]
fn a_device_that_is_not_there_is_an_error() {
    let error = Cuda::open(9999).map(drop).unwrap_err();
    assert!(matches!(error, CudaError::Absent(_)), "{error}");
    assert!(Cuda::open_with(9999, &CudaConfig::default()).is_err());
}

#[test]
fn the_library_gets_products_with_what_it_can_do_as_it_writes() {
    let facts = Facts { library: true, ..device().1.device.machine.facts().clone() };
    let (x, weight) = (Shape::new(&[4, 8]).unwrap(), Shape::new(&[6, 8]).unwrap());
    let (bias, out) = (Shape::new(&[6]).unwrap(), Shape::new(&[4, 6]).unwrap());
    let steps = |dtype, activation| {
        let operand = |shape, slot| Operand { dtype, shape, slot };
        let inputs = [&x, &weight, &bias].into_iter().enumerate();
        let call = Call {
            name: "linear",
            inputs: inputs.map(|(i, shape)| operand(shape, Slot::Input(i))).collect(),
            outputs: vec![operand(&out, Slot::Output(0))],
            facts: &facts,
        };
        Plan::of(&Op::Linear { bias: true, residual: false, activation }, &call).unwrap().steps
    };
    let relu = steps(DType::Fp32, Activation::Relu);
    assert!(matches!(relu[..], [Step::Product(Product { bias: Some(_), m: 4, n: 6, k: 8, .. })]));
    let silu = steps(DType::Fp32, Activation::Silu);
    let [Step::Product(product), Step::Launch(after)] = &silu[..] else { panic!("{silu:?}") };
    assert_eq!((product.bias, after.kernel), (None, "epilogue"));
    assert_eq!(steps(DType::Fp64, Activation::Relu).len(), 2);
}
