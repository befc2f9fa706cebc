//! A graph as it is kept: names resolved, functions inlined, nodes in an order in which they can run.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, OnceLock, PoisonError};

use innkeeper_tensor::Tensor;

use crate::error::{Fail, Place, invalid};
use crate::lower::{Ensemble, Lower, Table};

/// A value of the model, unique over all graphs in graphs.
pub(crate) type ValueId = u32;

/// A graph: the model's own, or the body of a node.
#[derive(Debug, Default)]
pub(crate) struct Program {
    pub(crate) inputs: Vec<ValueId>,
    pub(crate) outputs: Vec<ValueId>,
    pub(crate) constants: Vec<(ValueId, Tensor)>,
    pub(crate) nodes: Vec<Node>,
    /// For each node the values that nothing reads after it.
    pub(crate) last_uses: Vec<Vec<ValueId>>,
}

/// An operation of the model.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) name: String,
    pub(crate) op_type: String,
    pub(crate) domain: String,
    /// The version of the operator set of the node's domain.
    pub(crate) version: i64,
    pub(crate) lower: Lower,
    pub(crate) inputs: Vec<Option<ValueId>>,
    pub(crate) outputs: Vec<Option<ValueId>>,
    pub(crate) attributes: HashMap<String, Attr>,
    /// Values of the graphs around it that its bodies read.
    pub(crate) captures: Vec<ValueId>,
    /// Trees, in place of the attributes that describe them.
    pub(crate) ensemble: Option<Ensemble>,
    /// What a table of an attribute says, made with its first use.
    pub(crate) table: OnceLock<Table>,
    /// Attributes as tensors, for all plans.
    pub(crate) kept: Mutex<BTreeMap<&'static str, Tensor>>,
}

/// An attribute's value.
#[derive(Debug)]
pub(crate) enum Attr {
    Int(i64),
    Float(f32),
    Text(Vec<u8>),
    Tensor(Tensor),
    Graph(Box<Program>),
    Ints(Vec<i64>),
    Floats(Vec<f32>),
    Texts(Vec<Vec<u8>>),
}

impl Node {
    /// The bytes of what the node keeps besides its attributes.
    pub(crate) fn byte_length(&self) -> usize {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = kept.values().map(|x| x.as_bytes().len() + x.derived_byte_length());
        kept.sum::<usize>() + self.ensemble.as_ref().map_or(0, |ensemble| ensemble.bytes)
    }

    pub(crate) fn place(&self) -> Place {
        let operator = match self.domain.as_str() {
            "" => self.op_type.clone(),
            domain => format!("{domain}.{}", self.op_type),
        };
        Place { operator, node: self.name.clone(), opset: self.version }
    }

    fn wrong(&self, name: &str) -> Fail {
        invalid(format_args!("attribute {name:?} is of another type than the operator has it"))
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.attributes.contains_key(name)
    }

    pub(crate) fn int(&self, name: &str, default: i64) -> Result<i64, Fail> {
        Ok(self.int_if(name)?.unwrap_or(default))
    }

    pub(crate) fn int_if(&self, name: &str) -> Result<Option<i64>, Fail> {
        match self.attributes.get(name) {
            None => Ok(None),
            Some(Attr::Int(value)) => Ok(Some(*value)),
            Some(_) => Err(self.wrong(name)),
        }
    }

    pub(crate) fn flag(&self, name: &str, default: bool) -> Result<bool, Fail> {
        Ok(self.int(name, i64::from(default))? != 0)
    }

    pub(crate) fn float(&self, name: &str, default: f32) -> Result<f32, Fail> {
        Ok(self.float_if(name)?.unwrap_or(default))
    }

    pub(crate) fn float_if(&self, name: &str) -> Result<Option<f32>, Fail> {
        match self.attributes.get(name) {
            None => Ok(None),
            Some(Attr::Float(value)) => Ok(Some(*value)),
            Some(Attr::Int(value)) => Ok(Some(*value as f32)),
            Some(_) => Err(self.wrong(name)),
        }
    }

    pub(crate) fn text<'a>(&'a self, name: &str, default: &'a str) -> Result<&'a str, Fail> {
        match self.attributes.get(name) {
            None => Ok(default),
            Some(Attr::Text(text)) => std::str::from_utf8(text)
                .map_err(|_| invalid(format_args!("attribute {name:?} is not UTF-8"))),
            Some(_) => Err(self.wrong(name)),
        }
    }

    pub(crate) fn ints(&self, name: &str) -> Result<Option<&[i64]>, Fail> {
        match self.attributes.get(name) {
            None => Ok(None),
            Some(Attr::Ints(values)) => Ok(Some(values)),
            // A list without elements has no type of its own in a file.
            Some(Attr::Floats(values)) if values.is_empty() => Ok(Some(&[])),
            Some(_) => Err(self.wrong(name)),
        }
    }

    pub(crate) fn floats(&self, name: &str) -> Result<Option<&[f32]>, Fail> {
        match self.attributes.get(name) {
            None => Ok(None),
            Some(Attr::Floats(values)) => Ok(Some(values)),
            Some(Attr::Ints(values)) if values.is_empty() => Ok(Some(&[])),
            Some(_) => Err(self.wrong(name)),
        }
    }

    pub(crate) fn texts(&self, name: &str) -> Result<Option<&[Vec<u8>]>, Fail> {
        match self.attributes.get(name) {
            None => Ok(None),
            Some(Attr::Texts(values)) => Ok(Some(values)),
            Some(Attr::Ints(values)) if values.is_empty() => Ok(Some(&[])),
            Some(_) => Err(self.wrong(name)),
        }
    }

    pub(crate) fn tensor(&self, name: &str) -> Result<Option<&Tensor>, Fail> {
        match self.attributes.get(name) {
            None => Ok(None),
            Some(Attr::Tensor(tensor)) => Ok(Some(tensor)),
            Some(_) => Err(self.wrong(name)),
        }
    }

    pub(crate) fn graph(&self, name: &str) -> Result<&Program, Fail> {
        match self.attributes.get(name) {
            Some(Attr::Graph(program)) => Ok(program),
            Some(_) => Err(self.wrong(name)),
            None => Err(invalid(format_args!("attribute {name:?} is missing"))),
        }
    }
}
