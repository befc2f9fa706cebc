//! Operations of the kernels with operands that fit, nearly fit or do not fit at all.

mod operands;
mod ops;
mod training;

use innkeeper_kernels::{Backend, Cpu, Isa, Memory, Op, OpError, Run};
use innkeeper_tensor::{DType, Shape, Tensor};

use crate::source::Source;
use operands::{Operand, operands};

/// Operands and results that are run have no more elements than this.
const ELEMENTS_MAX: usize = 1 << 14;
/// What is run has no higher cost than this.
const COST_MAX: u64 = 1 << 22;
/// How much memory a run finds that another left behind.
const JUNK: [usize; 5] = [1, 8, 64, 1 << 9, 1 << 13];

/// Makes an operation and operands of the bytes, asks what would come out, runs it, and compares.
pub fn check(bytes: &[u8]) {
    let mut from = Source::new(bytes);
    let Some(op) = ops::op(&mut from) else { return };
    let operands = operands(&op, &mut from);
    let claims: Vec<(DType, &Shape)> = operands.iter().map(Operand::claim).collect();
    let said = op.outputs(&claims);
    let cost = op.cost(&claims);
    assert!(cost > 0, "{op:?} is free");
    let one = op.output(&claims);
    if let Ok(results) = &said
        && let [result] = &results[..]
    {
        assert_eq!(one.as_ref(), Ok(result), "{op:?}");
    } else {
        assert!(one.is_err(), "{op:?} has not one result");
    }
    let Some(tensors) = operands.iter().map(Operand::tensor).collect::<Option<Vec<_>>>() else {
        return;
    };
    // What would be large is for the caller to refuse.
    let elements = |results: &Vec<(DType, Shape)>| {
        results.iter().map(|(_, shape)| shape.elements()).fold(0, usize::saturating_add)
    };
    if cost > COST_MAX || said.as_ref().is_ok_and(|results| elements(results) > ELEMENTS_MAX) {
        return;
    }
    run(&op, &tensors, &said, &mut from);
}

fn run(
    op: &Op,
    tensors: &[Tensor],
    said: &Result<Vec<(DType, Shape)>, OpError>,
    from: &mut Source<'_>,
) {
    let tensors: Vec<&Tensor> = tensors.iter().collect();
    let isa = from.pick(&Isa::ALL);
    let cpu = Cpu::with_isa(isa).unwrap_or_default();
    let plain = cpu.run(op, &tensors, &Run::new());
    match (&plain, said) {
        (Ok(results), Ok(said)) => {
            let came: Vec<(DType, Shape)> =
                results.iter().map(|x| (x.dtype(), x.shape().clone())).collect();
            assert_eq!(came, *said, "{op:?} gives something else than it said");
        }
        (Ok(_), Err(error)) => panic!("{op:?} ran, though it was refused: {error}"),
        (Err(OpError::Stopped), _) => panic!("{op:?} was stopped by nobody"),
        // Whatever the elements get wrong is found at the run.
        (Err(_), _) => {}
    }
    // Memory that something else has used changes nothing, nor does sharing parts of operands.
    let memory = junk();
    let again = cpu.run(op, &tensors, &Run::new().recycling(&memory).sharing());
    assert_eq!(again.is_ok(), plain.is_ok(), "{op:?}: {again:?} but {plain:?}");
    for (again, plain) in again.iter().flatten().zip(plain.iter().flatten()) {
        assert_eq!(again, plain, "{op:?} depends on what was in memory");
    }
}

/// Memory for results that holds something already.
fn junk() -> Memory {
    let memory = Memory::new(1 << 20);
    for len in JUNK {
        if let Ok(tensor) = Tensor::from_vec(&[len], vec![-7.25e9f32; len]) {
            memory.recycle(tensor);
        }
    }
    memory
}
