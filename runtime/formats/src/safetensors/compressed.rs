//! Tensors that a file keeps in fewer bytes, and that are opened as what they were.
//!
//! The file stays a safetensors file. The key [`KEY`] of its `__metadata__` holds JSON: `version`, and in `tensors` by the
//! name of each compressed tensor its `shape`, its `dtype` (`F32`) and its `encoding`:
//!
//! * `f16`, `bf16`: the tensor of that name has this dtype;
//! * `int8`: the tensor of that name is I8 of the shape, and `NAME.scale` F32 `[rows]` has the step of each row;
//! * `int4`, with `group`: the tensor of that name is U8 `[rows, columns / 2]`, two numbers in a byte, the even one in the
//!   low four bits, and `NAME.scale` F32 `[rows, columns / group]` has the step of each group; a number counts from -8;
//! * `low-rank`, with `rank`: `NAME.left` `[rows, rank]` times `NAME.right` `[rank, columns]`, which are F32, or compressed
//!   and listed too.
//!
//! Rows are the first dimension, columns all others.

use std::collections::BTreeMap;

use innkeeper_tensor::{Code, Coded, DType, Named, Shape, Tensor};
use serde::{Deserialize, Serialize};

use super::{SafetensorsError, WriteError, to_bytes};

/// The key of the metadata.
pub const KEY: &str = "innkeeper.compressed";
/// The version of what stands there that this host reads and writes.
pub const VERSION: u64 = 1;
/// The groups that kernels know.
pub const GROUPS: [usize; 5] = [16, 32, 64, 128, 256];

const SCALE: &str = ".scale";
const LEFT: &str = ".left";
const RIGHT: &str = ".right";

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    version: u64,
    tensors: BTreeMap<String, Entry>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    encoding: String,
    dtype: String,
    shape: Vec<usize>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    group: Option<usize>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rank: Option<usize>,
}

/// The one key that every version has.
#[derive(Deserialize)]
struct AnyVersion {
    version: u64,
}

/// Puts together the tensors that `text` lists: their parts in `tensors` are replaced by them.
pub(super) fn open(
    text: &str,
    tensors: &mut BTreeMap<String, Tensor>,
) -> Result<(), SafetensorsError> {
    let wrong = |error: serde_json::Error| SafetensorsError::Compression(error.to_string());
    // The version first: a later one will have keys that this one does not know.
    let AnyVersion { version } = serde_json::from_str(text).map_err(wrong)?;
    if version != VERSION {
        let text = format!("it is of version {version}, and this host reads {VERSION}");
        return Err(SafetensorsError::Compression(text));
    }
    let table: Table = serde_json::from_str(text).map_err(wrong)?;
    // Factors of products come last, so that they are opened when the product is.
    let (products, others): (Vec<_>, Vec<_>) =
        table.tensors.into_iter().partition(|(_, entry)| entry.encoding == "low-rank");
    for (name, entry) in others.into_iter().chain(products) {
        let opened = entry.open(&name, tensors).map_err(|problem| {
            let name = name.chars().take(64).collect();
            SafetensorsError::Compressed { name, problem }
        })?;
        tensors.insert(name, opened);
    }
    Ok(())
}

impl Entry {
    fn open(&self, name: &str, tensors: &mut BTreeMap<String, Tensor>) -> Result<Tensor, String> {
        if self.dtype != "F32" {
            return Err(format!("it is compressed from {:?}; wanted \"F32\"", self.dtype));
        }
        let shape = Shape::new(&self.shape).map_err(|error| error.to_string())?;
        let mut part = |ending: &str| {
            let part = format!("{name}{ending}");
            tensors.remove(&part).ok_or_else(|| format!("its part {part:?} is missing"))
        };
        let numbers = |group: Option<usize>, rank: Option<usize>| match (group, rank) {
            (None, None) => Ok(()),
            _ => Err(format!("{} takes neither group nor rank", self.encoding)),
        };
        let code = match self.encoding.as_str() {
            "f16" | "bf16" => {
                numbers(self.group, self.rank)?;
                let values = part("")?;
                let wanted = if self.encoding == "f16" { DType::Fp16 } else { DType::Bf16 };
                if values.dtype() != wanted {
                    return Err(format!("its values are {}; wanted {wanted}", values.dtype()));
                }
                Code::Half { values }
            }
            "int8" => {
                numbers(self.group, self.rank)?;
                Code::Int8 { values: part("")?, scales: part(SCALE)? }
            }
            "int4" => {
                numbers(None, self.rank)?;
                let group = self.group.filter(|group| GROUPS.contains(group));
                let group = group.ok_or("its group must be 16, 32, 64, 128 or 256")?;
                Code::Int4 { values: part("")?, scales: part(SCALE)?, group }
            }
            "low-rank" => {
                numbers(self.group, None)?;
                let (left, right) = (part(LEFT)?, part(RIGHT)?);
                if left.shape().dims().get(1).copied() != self.rank {
                    return Err(format!("its left factor is {}, not of its rank", left.shape()));
                }
                Code::LowRank { left, right }
            }
            other => return Err(format!("its encoding {other:?} is none that this host knows")),
        };
        Coded::tensor(shape, code).map_err(|error| error.to_string())
    }
}

/// What stops a tensor of this name from being kept in parts: a part's name is another's.
pub fn taken<'a>(name: &str, names: impl Fn(&str) -> bool + 'a) -> Option<String> {
    [SCALE, LEFT, RIGHT]
        .map(|ending| format!("{name}{ending}"))
        .into_iter()
        .find(|part| names(part))
}

/// A safetensors file of these tensors, in which coded ones are kept in their code.
///
/// # Errors
/// As [`to_bytes`].
pub fn write(tensors: &[Named]) -> Result<Vec<u8>, WriteError> {
    let mut table = Table { version: VERSION, tensors: BTreeMap::new() };
    let mut parts = Vec::new();
    for Named { name, tensor } in tensors {
        add(name, tensor, &mut parts, &mut table);
    }
    if table.tensors.is_empty() {
        return to_bytes(&parts, &[]);
    }
    let text =
        serde_json::to_string(&table).map_err(|error| WriteError::Failed(error.to_string()))?;
    to_bytes(&parts, &[(KEY, &text)])
}

fn add(name: &str, tensor: &Tensor, parts: &mut Vec<Named>, table: &mut Table) {
    let mut plain = |ending: &str, tensor: &Tensor| {
        parts.push(Named { name: format!("{name}{ending}"), tensor: tensor.clone() });
    };
    let Some(coded) = Coded::of(tensor) else { return plain("", tensor) };
    let (mut group, mut rank) = (None, None);
    // Parts are matrices in memory; in the file values that are one number each have the tensor's own shape.
    let shaped = |values: &Tensor| values.reshaped(coded.shape().clone()).unwrap_or(values.clone());
    let encoding = match coded.code() {
        Code::Half { values } => {
            plain("", &shaped(values));
            if values.dtype() == DType::Fp16 { "f16" } else { "bf16" }
        }
        Code::Int8 { values, scales } => {
            plain("", &shaped(values));
            plain(SCALE, scales);
            "int8"
        }
        Code::Int4 { values, scales, group: of } => {
            plain("", values);
            plain(SCALE, scales);
            group = Some(*of);
            "int4"
        }
        Code::LowRank { left, right } => {
            rank = left.shape().dims().get(1).copied();
            add(&format!("{name}{LEFT}"), left, parts, table);
            add(&format!("{name}{RIGHT}"), right, parts, table);
            "low-rank"
        }
    };
    let shape = coded.shape().dims().to_vec();
    let entry = Entry { encoding: encoding.into(), dtype: "F32".into(), shape, group, rank };
    table.tensors.insert(name.to_owned(), entry);
}

#[cfg(test)]
mod tests {
    use innkeeper_tensor::{Buffer, bf16};

    use super::*;
    use crate::safetensors::tensors;

    fn named(name: &str, tensor: Tensor) -> Named {
        Named { name: name.into(), tensor }
    }

    fn coded(dims: &[usize], code: Code) -> Tensor {
        Coded::tensor(Shape::new(dims).unwrap(), code).unwrap()
    }

    fn int8(dims: &[usize], rows: usize) -> Tensor {
        let count = dims.iter().product::<usize>() as i8;
        let values = Tensor::from_vec(dims, (0..count).collect()).unwrap();
        let scales = Tensor::from_vec(&[rows], vec![0.5f32; rows]).unwrap();
        coded(dims, Code::Int8 { values, scales })
    }

    #[test]
    fn what_is_compressed_reads_back() {
        let halves = vec![bf16::from_f32(1.5); 6];
        let bf16 = Code::Half { values: Tensor::from_vec(&[2, 3], halves).unwrap() };
        let int4 = Code::Int4 {
            values: Tensor::from_vec(&[2, 8], vec![0x9cu8; 16]).unwrap(),
            scales: Tensor::from_vec(&[2, 1], vec![1f32, 2.0]).unwrap(),
            group: 16,
        };
        let right = Tensor::from_vec(&[1, 4], vec![1f32, 2.0, 3.0, 4.0]).unwrap();
        let product = Code::LowRank { left: int8(&[3, 1], 3), right };
        let all = [
            named("bias", Tensor::from_vec(&[2], vec![1f32, 2.0]).unwrap()),
            named("half", coded(&[2, 3], bf16)),
            named("conv", int8(&[2, 3, 1, 2], 2)),
            named("four", coded(&[2, 16], int4)),
            named("product", coded(&[3, 4], product)),
        ];
        let file = write(&all).unwrap();
        assert_eq!(file, write(&all).unwrap());
        let file = Buffer::aligned_copy(&file);
        let read = tensors(&file).unwrap();
        assert_eq!(read.len(), all.len());
        for Named { name, tensor } in &all {
            let coded = Coded::of(&read[name]);
            assert_eq!(coded.is_some(), name != "bias", "{name}");
            assert!(coded.is_none_or(|coded| !coded.is_expanded()));
            assert_eq!(read[name], *tensor, "{name}");
        }
        // Others see the parts.
        let plain = safetensors::SafeTensors::deserialize(file.as_bytes()).unwrap();
        assert_eq!(plain.tensor("conv").unwrap().shape(), [2, 3, 1, 2]);
        assert_eq!(plain.tensor("conv.scale").unwrap().shape(), [2]);
    }

    fn file(table: &str) -> Result<BTreeMap<String, Tensor>, SafetensorsError> {
        let values = Tensor::from_vec(&[2, 2], vec![1i8; 4]).unwrap();
        let scales = Tensor::from_vec(&[2], vec![1f32; 2]).unwrap();
        let parts = [named("w", values), named("w.scale", scales)];
        tensors(&Buffer::aligned_copy(&to_bytes(&parts, &[(KEY, table)]).unwrap()))
    }

    #[test]
    fn what_is_malformed_is_refused() {
        let entry = |entry: &str| format!(r#"{{"version":1,"tensors":{{"w":{{{entry}}}}}}}"#);
        assert!(file(&entry(r#""encoding":"int8","dtype":"F32","shape":[2,2]"#)).is_ok());
        let cases = [
            ("".into(), "EOF"),
            (r#"{"version":2,"what":1}"#.into(), "version 2, and this host reads 1"),
            (r#"{"version":1,"tensors":{},"more":1}"#.into(), "unknown field"),
            (
                entry(r#""encoding":"int3","dtype":"F32","shape":[2,2]"#),
                "\"w\": its encoding \"int3\"",
            ),
            (entry(r#""encoding":"int8","dtype":"F64","shape":[2,2]"#), "compressed from \"F64\""),
            (
                entry(r#""encoding":"int8","dtype":"F32","shape":[2,3]"#),
                "values must be INT8 [2, 3]",
            ),
            (entry(r#""encoding":"int8","dtype":"F32","shape":[4]"#), "two dimensions or more"),
            (entry(r#""encoding":"int8","dtype":"F32","shape":[2,2],"group":32"#), "neither group"),
            (
                entry(
                    r#""encoding":"int8","dtype":"F32","shape":[4294967296,4294967296,4294967296]"#,
                ),
                "\"w\"",
            ),
            (entry(r#""encoding":"bf16","dtype":"F32","shape":[2,2]"#), "its values are INT8"),
            (entry(r#""encoding":"int4","dtype":"F32","shape":[2,2]"#), "its group must be"),
            (
                entry(r#""encoding":"int4","dtype":"F32","shape":[2,2],"group":5"#),
                "its group must be",
            ),
            (
                entry(r#""encoding":"int4","dtype":"F32","shape":[2,2],"group":16"#),
                "rows of 2 are not whole groups of 16",
            ),
            (
                entry(r#""encoding":"low-rank","dtype":"F32","shape":[2,2],"rank":1"#),
                "its part \"w.left\" is missing",
            ),
            (
                r#"{"version":1,"tensors":{"v":{"encoding":"int8","dtype":"F32","shape":[2,2]}}}"#
                    .into(),
                "\"v\": its part \"v\" is missing",
            ),
        ];
        for (table, wanted) in cases {
            let error = file(&table).unwrap_err().to_string();
            assert!(error.contains(wanted), "{table}: {error}");
        }
    }
}
