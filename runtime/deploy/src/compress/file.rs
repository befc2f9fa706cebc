//! A safetensors file.

use bytes::Bytes;
use innkeeper_formats::safetensors::{self, compressed};
use innkeeper_tensor::{Buffer, Named};

use super::CompressError;
use super::code::{Made, failed, left, made};
use super::plan::Plan;
use super::report::TensorReport;

/// The file with its weights as the plan says, and what became of each.
pub(super) fn compress(
    asset: &str,
    file: &Bytes,
    plan: &Plan,
) -> Result<(Vec<u8>, Vec<TensorReport>), CompressError> {
    let tensors = safetensors::tensors(&Buffer::aligned_copy(file)).map_err(|source| {
        CompressError::Asset { name: asset.to_owned(), source: Box::new(source) }
    })?;
    let mut reports = Vec::with_capacity(tensors.len());
    let mut all = Vec::with_capacity(tensors.len());
    for (name, tensor) in &tensors {
        let taken = || {
            let part = compressed::taken(name, |part| tensors.contains_key(part))?;
            Some(format!("would have a part {part:?}, which is another tensor's name"))
        };
        if let Some(note) = left(tensor).or_else(taken) {
            reports.push(TensorReport::left(asset, name, tensor, note));
            all.push(Named { name: name.clone(), tensor: tensor.clone() });
            continue;
        }
        let Made { tensor: new, method, remark } = made(tensor, plan, None)?;
        let mut report = TensorReport::made(asset, name, tensor, &new, method)?;
        report.remark = remark;
        reports.push(report);
        all.push(Named { name: name.clone(), tensor: new });
    }
    Ok((compressed::write(&all).map_err(failed)?, reports))
}
