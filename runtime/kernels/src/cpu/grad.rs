//! Backward passes.

mod attention;
mod gather;
mod norm;
mod product;
mod slope;
mod softmax;
mod window;

use innkeeper_tensor::{DType, Element, Shape, Tensor};

use crate::cpu::dispatch::float;
use crate::cpu::memory::tensor;
use crate::error::invalid;
use crate::infer::axes;
use crate::infer::grad::window as slides;
use crate::op::Grad;
use crate::{Cpu, OpError, Run};

/// The results, whose dtypes and shapes were worked out before.
pub(super) fn grad(
    cpu: &Cpu,
    grad: &Grad,
    results: Vec<(DType, Shape)>,
    inputs: &[&Tensor],
    run: &Run<'_>,
) -> Result<Vec<Tensor>, OpError> {
    let op = grad.name();
    let along = |axis: i64| axes::axis(op, axis, results.first().map_or(0, |(_, x)| x.rank()));
    match (grad, inputs) {
        (Grad::Linear { input, bias }, [dy, x, weight]) => {
            product::linear(cpu, [dy, x, weight], *input, *bias, run)
        }
        (Grad::SumTo { shape }, [dy]) => product::sum_to(cpu, dy, shape, run).map(|sum| vec![sum]),
        (Grad::Conv { window, groups, input, bias }, [dy, x, weight]) => {
            let slide = slides::conv(op, window, *groups, [dy.shape(), x.shape(), weight.shape()])?;
            let wanted = product::Wanted { groups: *groups, input: *input, bias: *bias };
            product::conv(cpu, &slide, wanted, [dy, x, weight], run)
        }
        (Grad::Slope(slope), [dy, z]) => {
            float!(dy.dtype(), T => slope::gradient::<T>(*slope, results, dy, z, run))
        }
        (Grad::Attention(attention), [dy, ..]) => {
            float!(dy.dtype(), T => attention::gradient::<T>(attention, results, inputs, run))
        }
        (Grad::Dropout { rate, seed }, [x]) => {
            float!(x.dtype(), T => slope::dropout::<T>(*rate, *seed, results, x, run))
        }
        (Grad::Softmax { axis }, [dy, y]) => {
            let axis = along(*axis)?;
            float!(dy.dtype(), T => softmax::gradient::<T>(results, dy, y, axis, softmax::line, run))
        }
        (Grad::LogSoftmax { axis }, [dy, y]) => {
            let axis = along(*axis)?;
            float!(dy.dtype(), T => softmax::gradient::<T>(results, dy, y, axis, softmax::log_line, run))
        }
        (Grad::LayerNorm { epsilon, bias, .. }, [dy, x, scale]) => {
            float!(dy.dtype(), T => norm::layer::<T>(results, [dy, x, scale], *epsilon, *bias, run))
        }
        (Grad::RmsNorm { epsilon, .. }, [dy, x, scale]) => {
            float!(dy.dtype(), T => norm::rms::<T>(results, [dy, x, scale], *epsilon, run))
        }
        (Grad::BatchNorm { epsilon }, [dy, x, scale]) => {
            float!(dy.dtype(), T => norm::batch::<T>(results, [dy, x, scale], *epsilon, run))
        }
        (Grad::Gather { axis, .. }, [dy, indices]) => {
            let axis = along(*axis)?;
            float!(dy.dtype(), T => gather::scatter_add::<T>(op, results, dy, indices, axis, run))
        }
        (Grad::MaxPool { kernel, window }, [dy, x]) => {
            let slide = slides::pool(op, window, kernel, dy.shape(), x.shape())?;
            float!(dy.dtype(), T => window::max_pool::<T>(&slide, results, dy, x, run))
        }
        (Grad::AveragePool { kernel, window, count_include_pad }, [dy, x]) => {
            let slide = slides::pool(op, window, kernel, dy.shape(), x.shape())?;
            float!(dy.dtype(), T => {
                window::average_pool::<T>(&slide, results, dy, *count_include_pad, run)
            })
        }
        _ => Err(invalid(op, "wrong number of operands")),
    }
}

/// Elements as the results that were worked out before.
fn packed<T: Element>(
    results: Vec<(DType, Shape)>,
    values: impl IntoIterator<Item = Vec<T>>,
) -> Result<Vec<Tensor>, OpError> {
    results.into_iter().zip(values).map(|((dtype, shape), of)| tensor(dtype, shape, of)).collect()
}
