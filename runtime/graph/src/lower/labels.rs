//! Names of classes, and tables that replace words and numbers by others.
//!
//! Strings are no business of kernels: what is done with them is done here, once the elements are known.

use std::collections::HashMap;

use innkeeper_tensor::{Buffer, DType, Shape, Tensor};

use super::{Lower, Lowered, operand};
use crate::error::{Fail, invalid};
use crate::ir::{Attr, Node};
use crate::machine::{Machine, Val};

pub(super) fn find(op_type: &str) -> Option<Lower> {
    (op_type == "LabelEncoder").then_some(encoder as Lower)
}

/// Names of classes, as strings.
#[derive(Debug)]
pub(super) struct Labels(Tensor);

/// The numbers of classes, and the names that stand for them where they are strings.
pub(super) fn labels(
    node: &Node,
    ints: &str,
    texts: &str,
) -> Result<(Vec<i64>, Option<Labels>), Fail> {
    if let Some(labels) = node.ints(ints)?.filter(|labels| !labels.is_empty()) {
        return Ok((labels.to_vec(), None));
    }
    let names = node.texts(texts)?.filter(|names| !names.is_empty());
    let names = names.ok_or_else(|| invalid(format_args!("it has neither {ints} nor {texts}")))?;
    let tensor = Tensor::from_strings(&[names.len()], names).map_err(invalid)?;
    Ok(((0..names.len() as i64).collect(), Some(Labels(tensor))))
}

impl Labels {
    /// The names of classes that are given by their numbers.
    pub(super) fn of(&self, m: &mut Machine<'_>, numbers: Val) -> Result<Val, Fail> {
        let rows = m.ints(numbers)?.into_iter().map(|number| usize::try_from(number).ok());
        let picked = picked(&self.0, rows.collect(), b"", m.shape(numbers))?;
        m.computed(picked)
    }
}

/// Elements of a tensor by their places; where there is none, this default.
fn picked(
    from: &Tensor,
    rows: Vec<Option<usize>>,
    default: &[u8],
    shape: &Shape,
) -> Result<Tensor, Fail> {
    let elements: Vec<&[u8]> = match from.dtype().size() {
        Some(size) => from.as_bytes().chunks_exact(size).collect(),
        None => from.strings().map_err(invalid)?.collect(),
    };
    let pick = |row: Option<usize>| row.and_then(|row| elements.get(row).copied());
    let picked: Vec<&[u8]> = rows.into_iter().map(|row| pick(row).unwrap_or(default)).collect();
    if from.dtype() == DType::Bytes {
        return Tensor::from_strings(shape.dims(), &picked).map_err(invalid);
    }
    let data = Buffer::aligned_copy(&picked.concat());
    Tensor::new(from.dtype(), shape.clone(), data).map_err(invalid)
}

/// From what an element is to where in a list it stands.
#[derive(Debug)]
pub(crate) struct Table {
    keys: DType,
    places: HashMap<Vec<u8>, usize>,
    values: Tensor,
    default: Vec<u8>,
}

fn encoder(m: &mut Machine<'_>, node: &Node, inputs: &[Option<Val>]) -> Lowered {
    let x = operand(inputs, 0)?;
    let table = match node.table.get() {
        Some(table) => table,
        None => {
            let made = table(node)?;
            node.table.get_or_init(|| made)
        }
    };
    if m.dtype(x) != table.keys {
        let got = m.dtype(x);
        return Err(invalid(format_args!("the table is of {}, and the operand {got}", table.keys)));
    }
    let given = m.tensor(x)?;
    let rows = elements(given)?.into_iter().map(|key| table.places.get(&key).copied());
    let result = picked(&table.values, rows.collect(), &table.default, given.shape())?;
    Ok(vec![m.computed(result)?])
}

/// For each string a row with 1 where its category stands.
pub(super) fn one_hot(m: &mut Machine<'_>, node: &Node, x: Val) -> Lowered {
    let categories = node.texts("cats_strings")?.unwrap_or(&[]);
    let given = m.tensor(x)?;
    let mut dims = given.shape().dims().to_vec();
    dims.push(categories.len());
    let mut rows = Vec::new();
    for text in given.strings().map_err(invalid)? {
        rows.extend(categories.iter().map(|category| if category == text { 1.0f32 } else { 0.0 }));
    }
    let rows = Tensor::from_vec(&dims, rows).map_err(invalid)?;
    Ok(vec![m.computed(rows)?])
}

/// Each element's bytes, the same for what compares as equal.
fn elements(tensor: &Tensor) -> Result<Vec<Vec<u8>>, Fail> {
    Ok(match tensor.dtype() {
        DType::Bytes => tensor.strings().map_err(invalid)?.map(<[u8]>::to_vec).collect(),
        DType::Fp32 => {
            let numbers = tensor.elements::<f32>().map_err(invalid)?;
            // -0 is 0, and any NaN is the same.
            let one = |x: f32| if x.is_nan() { f32::NAN } else { x + 0.0 };
            numbers.iter().map(|&x| one(x).to_le_bytes().to_vec()).collect()
        }
        dtype => {
            let size = dtype.size().unwrap_or(1);
            tensor.as_bytes().chunks_exact(size).map(<[u8]>::to_vec).collect()
        }
    })
}

fn table(node: &Node) -> Result<Table, Fail> {
    let keys = listed(node, "keys")?.or(listed(node, "classes")?);
    let keys = keys.ok_or_else(|| invalid("the keys are missing"))?;
    let values = match listed(node, "values")? {
        Some(values) => values,
        // Before version 2 strings stood for their places.
        None if keys.dtype() == DType::Bytes && node.has("classes_strings") => {
            let count = keys.shape().elements();
            Tensor::from_vec(&[count], (0..count as i64).collect()).map_err(invalid)?
        }
        None => return Err(invalid("the values are missing")),
    };
    if keys.shape().elements() != values.shape().elements() {
        let (keys, values) = (keys.shape().elements(), values.shape().elements());
        return Err(invalid(format_args!("{keys} keys for {values} values")));
    }
    let default = match (values.dtype(), node.tensor("default_tensor")?) {
        (dtype, Some(tensor)) if tensor.dtype() == dtype => {
            elements(tensor)?.into_iter().next().unwrap_or_default()
        }
        (DType::Bytes, _) => node.text("default_string", "_Unused")?.as_bytes().to_vec(),
        (DType::Int64, _) => node.int("default_int64", -1)?.to_le_bytes().to_vec(),
        (DType::Fp32, _) => node.float("default_float", -0.0)?.to_le_bytes().to_vec(),
        (other, _) => return Err(Fail::Unsupported(format!("values of {other}"))),
    };
    let mut places = HashMap::with_capacity(keys.shape().elements());
    for (place, key) in elements(&keys)?.into_iter().enumerate() {
        places.entry(key).or_insert(place);
    }
    Ok(Table { keys: keys.dtype(), places, values, default })
}

/// A list that is an attribute of one of several types.
fn listed(node: &Node, name: &str) -> Result<Option<Tensor>, Fail> {
    if let Some(tensor) = node.tensor(&format!("{name}_tensor"))? {
        return Ok(Some(tensor.clone()));
    }
    let found = ["strings", "int64s", "floats"]
        .iter()
        .filter_map(|kind| node.attributes.get(&format!("{name}_{kind}")))
        .find(|attr| !matches!(attr, Attr::Ints(list) if list.is_empty()));
    Ok(Some(
        match found {
            Some(Attr::Texts(list)) => Tensor::from_strings(&[list.len()], list),
            Some(Attr::Ints(list)) => Tensor::from_vec(&[list.len()], list.clone()),
            Some(Attr::Floats(list)) => Tensor::from_vec(&[list.len()], list.clone()),
            _ => return Ok(None),
        }
        .map_err(invalid)?,
    ))
}
