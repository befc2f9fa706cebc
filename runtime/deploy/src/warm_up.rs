//! A version's first steps: load, describe, and one prediction on zeros.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use innkeeper_predict::Limits;
use innkeeper_sandbox::{
    Assets, ByteBudget, Call, Cancel, GuestError, Instance, Level, LogSink, Program, Setup, Share,
};
use innkeeper_tensor::{
    Buffer, DType, Named, Shape, Signature, SignatureError, Tensor, TensorSpec,
};

use crate::{DeployError, Stage};

/// Lines of log that an error repeats.
const LOG_LINES_MAX: usize = 10;
/// Characters of each.
const LOG_LINE_CHARS_MAX: usize = 200;

/// Runs a model for the first time, and answers the signature that it keeps to.
///
/// # Errors
/// [`DeployError::Guest`], [`DeployError::Signature`], [`DeployError::BadAnswer`].
pub(crate) async fn warm_up(
    program: Arc<Program>,
    assets: Arc<Assets>,
    limits: Limits,
    share: &Arc<Share>,
) -> Result<Signature, DeployError> {
    let cancel = Cancel::default();
    // The publisher may go away; then the guest stops, too.
    let _guard = cancel.on_drop();
    let engine = program.engine().clone();
    let steps = Steps { program, assets, limits, cancel, log: Arc::default() };
    let panicked = || DeployError::Host("the warm-up panicked; the host's log says where".into());
    engine.run(steps.run(), share, false).await.ok_or_else(panicked)?
}

struct Steps {
    program: Arc<Program>,
    assets: Arc<Assets>,
    limits: Limits,
    cancel: Cancel,
    log: Arc<Tail>,
}

impl Steps {
    async fn run(self) -> Result<Signature, DeployError> {
        let instance = self.program.instantiate(self.setup()).await;
        let mut instance = instance.map_err(|error| self.failed(Stage::Load, error))?;
        let described = instance.describe().await;
        let signature = described.map_err(|error| self.failed(Stage::Describe, error))?;
        signature.check()?;
        if let Some(inputs) = zeros(&signature, self.limits.body_bytes_max)? {
            self.try_out(&mut instance, &signature, inputs).await?;
        }
        Ok(signature)
    }

    fn setup(&self) -> Setup {
        let load_ms_max = self.limits.load_ms_max;
        Setup {
            assets: Arc::clone(&self.assets),
            limits: self.limits.instance(),
            tensor_bytes: ByteBudget::new(self.limits.tensor_bytes_max),
            log: Arc::clone(&self.log) as Arc<dyn LogSink>,
            deadline: Instant::now() + Duration::from_millis(load_ms_max),
            load_ms_max,
            cancel: self.cancel.clone(),
        }
    }

    /// A model may refuse zeros. It may not trap on them, run on, or answer what it did not promise.
    async fn try_out(
        &self,
        instance: &mut Instance,
        signature: &Signature,
        inputs: Vec<Named>,
    ) -> Result<(), DeployError> {
        let deadline_ms_max = self.limits.deadline_ms_max;
        let call = Call {
            id: String::new(),
            parameters: Arc::default(),
            inputs,
            outputs: Arc::default(),
            deadline: Instant::now() + Duration::from_millis(deadline_ms_max),
            deadline_ms_max,
            cancel: self.cancel.clone(),
            work: None,
        };
        match instance.predict(call).await {
            Ok(outputs) => {
                signature.check_outputs(&outputs, |_| true).map_err(DeployError::BadAnswer)
            }
            Err(error) if error.leaves_instance_usable() => Ok(()),
            Err(error) => Err(self.failed(Stage::Predict, error)),
        }
    }

    fn failed(&self, stage: Stage, error: GuestError) -> DeployError {
        DeployError::Guest { stage, error, log: self.log.text() }
    }
}

/// Zeros for every input that must be given, 1 for every size that is open; `None` when some shape is wholly open or
/// the zeros would be larger than a request may be.
fn zeros(signature: &Signature, bytes_max: u64) -> Result<Option<Vec<Named>>, SignatureError> {
    let mut inputs = Vec::new();
    let mut left = bytes_max;
    for spec in signature.inputs.iter().filter(|spec| !spec.optional) {
        let Some(dims) = &spec.shape else { return Ok(None) };
        let dims: Vec<usize> = dims.iter().map(|dim| dim.unwrap_or(1)).collect();
        let shape = Shape::new(&dims).map_err(|error| impossible(spec, &error.to_string()))?;
        // A string of no bytes is its length alone.
        let bytes = shape.elements() * spec.dtype.size().unwrap_or(size_of::<u32>());
        let Some(rest) = left.checked_sub(bytes as u64) else { return Ok(None) };
        left = rest;
        inputs.push(Named { name: spec.name.clone(), tensor: zero(spec, shape, bytes)? });
    }
    Ok(Some(inputs))
}

fn zero(spec: &TensorSpec, shape: Shape, bytes: usize) -> Result<Tensor, SignatureError> {
    debug_assert!(DType::ALL.contains(&spec.dtype), "zero bytes are a zero of every dtype");
    Tensor::new(spec.dtype, shape, Buffer::from_vec(vec![0u8; bytes]))
        .map_err(|error| impossible(spec, &error.to_string()))
}

fn impossible(spec: &TensorSpec, problem: &str) -> SignatureError {
    SignatureError(format!("no tensor can be input {:?}, which is {spec}: {problem}", spec.name))
}

/// The end of a log.
#[derive(Default)]
struct Tail(Mutex<VecDeque<String>>);

impl Tail {
    fn text(&self) -> String {
        let lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.is_empty() {
            return String::new();
        }
        format!("; its log ends: {}", Vec::from_iter(lines.iter().map(String::as_str)).join(" | "))
    }
}

impl LogSink for Tail {
    fn write(&self, _: Level, _: &str, message: &str) {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() == LOG_LINES_MAX {
            lines.pop_front();
        }
        lines.push_back(message.chars().take(LOG_LINE_CHARS_MAX).collect());
    }

    fn dropped(&self, _: &str, _: u64) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signature(dtype: DType, shape: Option<&[i64]>, optional: bool) -> Signature {
        let shape = shape.map(|dims| dims.iter().map(|&dim| usize::try_from(dim).ok()).collect());
        let input = TensorSpec { name: "A".into(), dtype, shape, optional };
        Signature { inputs: vec![input], ..Signature::default() }
    }

    #[test]
    fn open_sizes_are_one() {
        for dtype in DType::ALL {
            let zeros = zeros(&signature(dtype, Some(&[-1, 3]), false), 1 << 20).unwrap().unwrap();
            assert_eq!(zeros[0].tensor.shape().dims(), [1, 3], "{dtype}");
        }
    }

    #[test]
    fn what_cannot_be_guessed_is_not_tried() {
        let none = |signature: &Signature| zeros(signature, 100).unwrap().is_none();
        assert!(none(&signature(DType::Fp32, None, false)));
        assert!(none(&signature(DType::Fp32, Some(&[26]), false)));
        assert!(!none(&signature(DType::Fp32, Some(&[25]), false)));
        assert_eq!(zeros(&signature(DType::Fp32, None, true), 100).unwrap().unwrap(), []);
    }

    #[test]
    fn a_shape_that_cannot_be_is_refused() {
        let huge = signature(DType::Fp32, Some(&[1 << 40, 1 << 40]), false);
        assert!(zeros(&huge, 100).unwrap_err().to_string().contains("\"A\""));
    }

    #[test]
    fn the_log_is_cut() {
        let tail = Tail::default();
        assert_eq!(tail.text(), "");
        for i in 0..1000 {
            tail.write(Level::Info, "", &format!("{i} {}", "x".repeat(1000)));
        }
        assert!(tail.text().contains("999 ") && tail.text().len() < 3000);
    }
}
