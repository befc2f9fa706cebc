//! ONNX files: loaded, planned for small shapes, run under small limits.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use innkeeper_graph::{Budget, Graph, LoadLimits};
use innkeeper_kernels::{Cpu, Run};
use innkeeper_tensor::{Buffer, DType, Named, Shape, Tensor, TensorSpec};

/// The most elements of an input that is made up.
const ELEMENTS_MAX: usize = 1 << 12;
/// The most bytes that a run may take.
const RUN_BYTES_MAX: usize = 8 << 20;
/// When loading or a run is stopped.
const RUN_MAX: Duration = Duration::from_secs(1);

/// Loads the file; what loads runs or says why not, and gives back what it was lent.
pub fn check(bytes: &[u8]) {
    let limits = LoadLimits {
        nodes_max: 256,
        weight_bytes_max: 1 << 20,
        plans_max: 2,
        plan_bytes_max: 1 << 20,
    };
    let begun = Instant::now();
    let stop = move || begun.elapsed() > RUN_MAX;
    let Ok(graph) = Graph::load(bytes, &limits, &Run::new().until(&stop)) else { return };
    for size in [2, 1, 0] {
        let inputs = graph.inputs().iter().map(|spec| input(spec, size));
        let Some(inputs) = inputs.collect::<Option<Vec<Named>>>() else { continue };
        run(&graph, inputs);
    }
}

fn run(graph: &Graph, inputs: Vec<Named>) {
    let budget = Counted::default();
    let begun = Instant::now();
    let stop = move || begun.elapsed() > RUN_MAX;
    let results = graph.run(&Cpu::new(), inputs, None, &budget, &Run::new().until(&stop));
    let used = budget.0.into_inner();
    match results {
        Ok(outputs) => {
            let bytes: usize = outputs.iter().map(|output| output.tensor.as_bytes().len()).sum();
            assert_eq!(used, bytes, "what stays charged is what came out");
        }
        Err(_) => assert_eq!(used, 0, "a run that failed stays charged"),
    }
}

/// An input that fits, every free dimension of this size.
fn input(spec: &TensorSpec, size: usize) -> Option<Named> {
    let dims: Vec<usize> = spec.shape.as_ref()?.iter().map(|dim| dim.unwrap_or(size)).collect();
    let shape = Shape::new(&dims).ok().filter(|shape| shape.elements() <= ELEMENTS_MAX)?;
    let tensor = match spec.dtype {
        DType::Bytes => Tensor::from_strings(&dims, &vec!["a"; shape.elements()]).ok()?,
        dtype => {
            // Booleans among them, and indices that are often in range.
            let bytes = vec![1u8; shape.elements() * dtype.size()?];
            let bytes = if dtype == DType::Bool { bytes } else { pattern(bytes, dtype.size()?) };
            Tensor::new(dtype, shape, Buffer::aligned_copy(&bytes)).ok()?
        }
    };
    Some(Named { name: spec.name.clone(), tensor })
}

/// Small whole numbers where elements are integers; floats are tiny ones then, which are numbers too.
fn pattern(mut bytes: Vec<u8>, size: usize) -> Vec<u8> {
    for (index, element) in bytes.chunks_exact_mut(size).enumerate() {
        element.fill(0);
        element[0] = (index % 3) as u8;
    }
    bytes
}

/// Counts what is charged and refuses more than the maximum.
#[derive(Default)]
struct Counted(AtomicUsize);

impl Budget for Counted {
    fn charge(&self, bytes: usize) -> Result<(), String> {
        let used = self.0.load(Ordering::Relaxed);
        let sum = used.checked_add(bytes).filter(|&sum| sum <= RUN_BYTES_MAX);
        self.0.store(sum.ok_or("too many bytes")?, Ordering::Relaxed);
        Ok(())
    }

    fn release(&self, bytes: usize) {
        let used = self.0.load(Ordering::Relaxed);
        let left = used.checked_sub(bytes).expect("more is given back than was taken");
        self.0.store(left, Ordering::Relaxed);
    }
}
