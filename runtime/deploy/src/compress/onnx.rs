//! An ONNX file: its initialisers are replaced, and the nodes that use them, by patterns that ONNX Runtime knows too.
//!
//! * 8 bits: the right side of a product is multiplied as bytes by what is quantised as it comes
//!   (DynamicQuantizeLinear, MatMulInteger); a table of Gather is looked up as bytes and scaled; a filter of Conv is
//!   dequantised.
//! * 4 bits: MatMulNBits of the domain com.microsoft; what is no product is kept in 8 bits.
//! * 16 bits: the initialiser is FP16 or BF16, and cast.
//!
//! The file is edited field by field: what is not understood stays as it is.

mod model;
mod nodes;
mod wire;

use std::collections::HashMap;

use bytes::Bytes;
use innkeeper_kernels::{Backend, Cpu, Op, Run};
use innkeeper_tensor::{Code, Coded, Tensor};

use super::CompressError;
use super::code::{self, failed};
use super::gptq::Calibration;
use super::plan::{Plan, Target};
use super::report::TensorReport;
use model::{Edit, Initializer, Model, Role};

/// The first opset that has what is written here, with scales for each row.
const OPSET_MIN: i64 = 13;

/// The file with its weights as the plan says, and what became of each.
pub(super) fn compress(
    asset: &str,
    file: &Bytes,
    plan: &Plan,
    calibration: &Calibration,
) -> Result<(Vec<u8>, Vec<TensorReport>), CompressError> {
    let wrong = |problem: String| CompressError::Onnx { name: asset.to_owned(), problem };
    let model = Model::read(file).map_err(wrong)?;
    let mut edits = HashMap::new();
    let mut reports = Vec::new();
    for (index, initializer) in model.initializers.iter().enumerate() {
        let Some(tensor) = &initializer.tensor else { continue };
        let role = model.role(&initializer.name);
        let left = code::left(tensor).or_else(|| not_so(&model, initializer, &role, plan));
        if let Some(note) = left {
            reports.push(TensorReport::left(asset, &initializer.name, tensor, note));
            continue;
        }
        let depth = tensor.shape().dims().first().copied().unwrap_or(0);
        let depth = match role {
            Role::Product { turned: true } => tensor.shape().dims()[1],
            _ => depth,
        };
        let input = model.only_input(&initializer.name);
        let sums = input.and_then(|input| calibration.sums(input, depth));
        let (edit, report) = one(asset, initializer, &role, plan, sums)?;
        reports.push(report);
        edits.insert(index, edit);
    }
    Ok((model.write(&edits).map_err(wrong)?, reports))
}

/// The file with the inputs of its products as more outputs, and their names.
pub(super) fn observed(asset: &str, file: &Bytes) -> Result<(Vec<u8>, Vec<String>), CompressError> {
    let wrong = |problem: String| CompressError::Onnx { name: asset.to_owned(), problem };
    Model::read(file).map(|model| model.observed()).map_err(wrong)
}

/// Why an initialiser cannot be kept as the plan wants.
fn not_so(model: &Model<'_>, it: &Initializer<'_>, role: &Role, plan: &Plan) -> Option<String> {
    let to = plan.to?;
    if model.opset < OPSET_MIN {
        let opset = model.opset;
        return Some(format!("is of opset {opset}; from {OPSET_MIN} on it can be compressed"));
    }
    if it.is_input {
        return Some("is an input of the graph too".into());
    }
    let rank = it.tensor.as_ref().map_or(0, |tensor| tensor.shape().rank());
    if rank != 2 && matches!(role, Role::Product { .. }) && !halves(plan) {
        return Some("is the right side of a product and no matrix".into());
    }
    match (to, role) {
        (Target::Fp16 | Target::Bf16, _) => None,
        (_, Role::Other(by)) => Some(format!("is used by {by}")),
        _ => None,
    }
}

/// What stands for an initialiser from now on.
fn one(
    asset: &str,
    initializer: &Initializer<'_>,
    role: &Role,
    plan: &Plan,
    sums: Option<&[f64]>,
) -> Result<(Edit, TensorReport), CompressError> {
    let name = &initializer.name;
    let no_weight = || CompressError::Failed(format!("{name:?} has no elements"));
    let tensor = initializer.tensor.as_ref().ok_or_else(no_weight)?;
    // Rows are output channels: a right side [in, out] is turned, compressed and turned back.
    let matrix = tensor.shape().rank() == 2;
    let turned = matrix && matches!(role, Role::Product { turned: false }) && !halves(plan);
    let weight = if turned { transposed(tensor)? } else { tensor.clone() };
    let product = matches!(role, Role::Product { .. });
    let mut plan = plan.clone();
    let mut remark = None;
    if plan.to == Some(Target::Int4) && !product {
        (plan.to, plan.group) = (Some(Target::Int8), None);
        remark = Some("only products are kept in 4 bits".to_owned());
    }
    if plan.rank.is_some() && !product {
        plan.rank = None;
        remark = Some("only products are made of low rank".to_owned());
    }
    if plan.rank.is_some() && plan.to.is_some() {
        plan.to = None;
        remark = Some("factors are kept in FP32".to_owned());
    }
    let made = code::made(&weight, &plan, sums.filter(|_| product))?;
    let mut report = TensorReport::made(asset, name, &weight, &made.tensor, made.method)?;
    report.shape = tensor.shape().dims().to_vec();
    report.remark = made.remark.or(remark);
    let Some(coded) = Coded::of(&made.tensor) else {
        let plain = if turned { transposed(&made.tensor)? } else { made.tensor };
        return Ok((Edit::Values(plain), report));
    };
    let edit = match (coded.code(), product) {
        (Code::Half { values }, _) => {
            let values = values.reshaped(tensor.shape().clone()).map_err(failed)?;
            Edit::Cast(values)
        }
        (Code::Int8 { values, scales }, true) => {
            // Unsigned, so that no processor's product of bytes overflows 16 bits in ONNX Runtime.
            let values = unsigned(&transposed(values)?)?;
            Edit::Product8 { values, scales: scales.clone() }
        }
        (Code::Int4 { values, scales, group }, true) => {
            let [rows, half] = [values.shape().dims()[0], values.shape().dims()[1]];
            let shape = code::shape(&[rows, half * 2 / group, group / 2])?;
            let values = values.reshaped(shape).map_err(failed)?;
            Edit::Product4 { values, scales: flat(scales)?, group: *group }
        }
        // Rows are output channels here, and input channels in the file.
        (Code::LowRank { left, right }, true) => {
            Edit::Factors { left: transposed(right)?, right: transposed(left)? }
        }
        (Code::Int8 { values, scales }, false) => {
            let values = values.reshaped(tensor.shape().clone()).map_err(failed)?;
            match role {
                Role::Table => Edit::Table { values, scales: scales.clone() },
                _ => Edit::Filter { values, scales: scales.clone() },
            }
        }
        _ => return Err(CompressError::Failed("a code that ONNX has no nodes for".into())),
    };
    Ok((edit, report))
}

fn halves(plan: &Plan) -> bool {
    matches!(plan.to, Some(Target::Fp16 | Target::Bf16))
}

fn transposed(matrix: &Tensor) -> Result<Tensor, CompressError> {
    let op = Op::Transpose { permutation: vec![1, 0] };
    Cpu::new().run_one(&op, &[matrix], &Run::new()).map_err(failed)
}

/// INT8 as UINT8 with the zero point 128.
fn unsigned(values: &Tensor) -> Result<Tensor, CompressError> {
    let bytes: Vec<u8> = values.as_bytes().iter().map(|byte| byte ^ 0x80).collect();
    Tensor::from_vec(values.shape().dims(), bytes).map_err(failed)
}

fn flat(tensor: &Tensor) -> Result<Tensor, CompressError> {
    tensor.reshaped(code::shape(&[tensor.shape().elements()])?).map_err(failed)
}
