//! Work that was recorded once and is given out as a whole: a CUDA graph.

use std::sync::{Arc, Mutex, PoisonError};

use innkeeper_tensor::{DType, Shape, Tensor};

use crate::cuda::Cuda;
use crate::cuda::lane::Kept;
use crate::cuda::machine::Id;
use crate::cuda::memory::Memory;
use crate::error::invalid;
use crate::{OpError, Run};

/// A sequence of operations on operands of fixed dtypes and shapes, recorded on a worker. Its launches cost about as
/// much as one.
pub struct Recorded {
    cuda: Cuda,
    graph: Id,
    /// Where the operands lie that the graph reads.
    inputs: Vec<(DType, Shape, Arc<Memory>)>,
    /// What the graph writes.
    outputs: Vec<Tensor>,
    kept: Kept,
    /// The operands' and results' places are the graph's: one call at a time.
    one: Mutex<()>,
}

impl Cuda {
    /// Records what `work` does with operands of these dtypes and shapes, by doing it once with zeros to see what memory
    /// it takes, and then once more. `work` must do the same each time: it may run operations of this worker and keep
    /// none of their results but those that it answers. Tensors of the host that it uses must be
    /// [constant](Tensor::constant).
    ///
    /// # Errors
    /// Those of `work`, and those of the device.
    pub fn record(
        &self,
        operands: &[(DType, &Shape)],
        run: &Run<'_>,
        work: impl Fn(&[&Tensor]) -> Result<Vec<Tensor>, OpError>,
    ) -> Result<Recorded, OpError> {
        let mut inputs = Vec::with_capacity(operands.len());
        let mut tensors = Vec::with_capacity(operands.len());
        for &(dtype, shape) in operands {
            let (tensor, memory) = self.zeros(dtype, shape)?;
            inputs.push((dtype, shape.clone(), memory));
            tensors.push(tensor);
        }
        let tensors: Vec<&Tensor> = tensors.iter().collect();
        let stream = self.stream();
        let arena = stream.measure();
        let measured = work(&tensors).map(drop);
        stream.direct();
        measured?;
        run.check()?;
        let whole = stream.room(self.pool(), arena.high())?;
        stream.record(whole)?;
        let outputs = work(&tensors);
        let kept = stream.direct();
        let graph = stream.machine().recorded(stream.id())?;
        let cuda = self.clone();
        let one = Mutex::new(());
        // From here on the graph is dropped with this.
        let mut recorded = Recorded { cuda, graph, inputs, outputs: Vec::new(), kept, one };
        recorded.outputs = outputs?;
        Ok(recorded)
    }
}

impl Recorded {
    /// Gives the whole out with these operands, and answers its results.
    ///
    /// # Errors
    /// [`OpError::InvalidArgument`] when the operands are not of the dtypes and shapes that were recorded, and for what
    /// their elements get wrong; errors of the device.
    pub fn run(&self, operands: &[&Tensor], run: &Run<'_>) -> Result<Vec<Tensor>, OpError> {
        run.check()?;
        if operands.len() != self.inputs.len() {
            let (wanted, got) = (self.inputs.len(), operands.len());
            return Err(invalid("graph", format_args!("takes {wanted} operands, got {got}")));
        }
        let _one = self.one.lock().unwrap_or_else(PoisonError::into_inner);
        for (tensor, (dtype, shape, memory)) in operands.iter().zip(&self.inputs) {
            if (tensor.dtype(), tensor.shape()) != (*dtype, shape) {
                let (got, of) = (tensor.dtype(), tensor.shape());
                return Err(invalid(
                    "graph",
                    format_args!(
                        "was recorded for {dtype} {shape}, got {got} {of}; record it anew"
                    ),
                ));
            }
            self.cuda.write(tensor, memory)?;
        }
        let stream = self.cuda.stream();
        stream.machine().replay(stream.id(), self.graph)?;
        for (flag, text) in &self.kept.faults {
            stream.flagged(flag.address(), text)?;
        }
        self.outputs.iter().map(|output| self.cuda.copied(output)).collect()
    }
}

impl Drop for Recorded {
    fn drop(&mut self) {
        self.cuda.stream().machine().drop_graph(self.graph);
    }
}
