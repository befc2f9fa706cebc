//! What compressing cost and saved.

use innkeeper_tensor::{Coded, Tensor};
use serde::Serialize;

use super::CompressError;
use super::code::distance;
use super::plan::Plan;
use crate::bundle::{Bundle, Manifest};

/// What was done to a tensor that is as it was.
pub(super) const UNTOUCHED: &str = "none";

/// What became of a bundle's weights.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// What was to be done.
    pub plan: Plan,
    /// Each tensor of each file of weights.
    pub tensors: Vec<TensorReport>,
    /// All of them.
    pub total: Total,
}

/// What became of one tensor.
#[derive(Clone, Debug, Serialize)]
pub struct TensorReport {
    /// The file that it is in.
    pub asset: String,
    /// Its name.
    pub name: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// What was done, such as `int8`; `none` where it was left.
    pub method: String,
    /// Its bytes before.
    pub bytes_before: u64,
    /// The bytes of all that stands for it.
    pub bytes_after: u64,
    /// 1/2 ||w - w0||^2, where w0 is the tensor as it was.
    pub half_squared_distance: f64,
    /// ||w - w0|| / ||w0||; 0 of a tensor of zeros.
    pub relative_error: f64,
    /// The share of elements that are zero.
    pub zeros: f64,
    /// Why it was left.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// What was done otherwise than asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remark: Option<String>,
    /// ||w0||^2.
    #[serde(skip)]
    square: f64,
}

/// All tensors together.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Total {
    /// How many tensors were compressed.
    pub compressed: usize,
    /// How many were left.
    pub left: usize,
    /// 1/2 ||w - w0||^2 over all elements of all of them.
    pub half_squared_distance: f64,
    /// ||w - w0|| / ||w0|| over all elements of all of them.
    pub relative_error: f64,
    /// Bytes of the files of weights before.
    pub bytes_before: u64,
    /// Bytes of the files of weights after.
    pub bytes_after: u64,
}

impl TensorReport {
    /// Of a tensor that was left, for a reason that reads as the end of a sentence about it.
    pub(super) fn left(asset: &str, name: &str, tensor: &Tensor, note: String) -> TensorReport {
        let bytes = bytes(tensor);
        TensorReport {
            asset: asset.to_owned(),
            name: name.to_owned(),
            shape: tensor.shape().dims().to_vec(),
            method: UNTOUCHED.into(),
            bytes_before: bytes,
            bytes_after: bytes,
            half_squared_distance: 0.0,
            relative_error: 0.0,
            zeros: 0.0,
            note: Some(note),
            remark: None,
            square: 0.0,
        }
    }

    /// Of a tensor that `made` stands for.
    pub(super) fn made(
        asset: &str,
        name: &str,
        tensor: &Tensor,
        made: &Tensor,
        method: String,
    ) -> Result<TensorReport, CompressError> {
        let (off, square, zeros) = distance(tensor, made)?;
        let mut report = TensorReport::left(asset, name, tensor, String::new());
        report.note = None;
        report.method = method;
        report.bytes_after = bytes(made);
        report.half_squared_distance = off / 2.0;
        report.relative_error = relative(off, square);
        report.zeros = zeros as f64 / tensor.shape().elements().max(1) as f64;
        report.square = square;
        Ok(report)
    }
}

fn bytes(tensor: &Tensor) -> u64 {
    Coded::of(tensor).map_or(tensor.data().len(), |coded| coded.part_bytes()) as u64
}

fn relative(off: f64, square: f64) -> f64 {
    if square > 0.0 { (off / square).sqrt() } else { 0.0 }
}

impl Report {
    pub(super) fn new(
        plan: &Plan,
        before: &Bundle,
        after: &Manifest,
        tensors: Vec<TensorReport>,
    ) -> Report {
        let files: Vec<&str> = tensors.iter().map(|tensor| tensor.asset.as_str()).collect();
        let size = |manifest: &Manifest| {
            let of_weights = manifest.assets.iter().filter(|it| files.contains(&&*it.name));
            of_weights.map(|asset| asset.size).sum()
        };
        let half = tensors.iter().map(|tensor| tensor.half_squared_distance).sum::<f64>();
        let square = tensors.iter().map(|tensor| tensor.square).sum();
        let left = tensors.iter().filter(|tensor| tensor.method == UNTOUCHED).count();
        let total = Total {
            compressed: tensors.len() - left,
            left,
            half_squared_distance: half,
            relative_error: relative(2.0 * half, square),
            bytes_before: size(&before.manifest),
            bytes_after: size(after),
        };
        Report { plan: plan.clone(), tensors, total }
    }
}
