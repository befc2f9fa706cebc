//! What a model takes and gives, and whether tensors fit it.

use std::fmt;

use crate::{DType, RANK_MAX, Shape, Tensor};

/// What a model takes or gives under one name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorSpec {
    /// Case-sensitive, unique among the inputs and unique among the outputs.
    pub name: String,
    /// The type of an element.
    pub dtype: DType,
    /// The size of each dimension, `None` where any will do. No list at all: any rank and any shape.
    pub shape: Option<Vec<Option<usize>>>,
    /// Whether it may be left out.
    pub optional: bool,
}

/// A model's interface towards its callers.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Signature {
    /// What it takes.
    pub inputs: Vec<TensorSpec>,
    /// What it gives.
    pub outputs: Vec<TensorSpec>,
    /// The dimension along which requests may be stacked, the same for every input and output.
    pub batch_axis: Option<usize>,
    /// Facts for people and tools.
    pub properties: Vec<(String, String)>,
}

/// A tensor under a name.
#[derive(Clone, Debug, PartialEq)]
pub struct Named {
    /// The name, as in the signature.
    pub name: String,
    /// The tensor.
    pub tensor: Tensor,
}

/// Tensors that do not fit a signature.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Mismatch {
    /// A name that the signature does not have.
    #[error("there is no {kind} named {name:?}; the model has {known}")]
    Unknown {
        /// "input" or "output".
        kind: &'static str,
        /// What came.
        name: String,
        /// What there is.
        known: String,
    },
    /// The same name twice.
    #[error("{kind} {name:?} is given twice")]
    Twice {
        /// "input" or "output".
        kind: &'static str,
        /// What came.
        name: String,
    },
    /// A name that must be there and is not.
    #[error("{kind} {name:?} is missing; the model wants {spec}")]
    Missing {
        /// "input" or "output".
        kind: &'static str,
        /// What is missing.
        name: String,
        /// Its dtype and shape.
        spec: String,
    },
    /// Another dtype.
    #[error("{kind} {name:?} must be {wanted}, got {got}")]
    DType {
        /// "input" or "output".
        kind: &'static str,
        /// Which.
        name: String,
        /// What the signature says.
        wanted: DType,
        /// What came.
        got: DType,
    },
    /// Another shape.
    #[error("{kind} {name:?} must have shape {wanted}, got {got}")]
    Shape {
        /// "input" or "output".
        kind: &'static str,
        /// Which.
        name: String,
        /// What the signature says, -1 for any size.
        wanted: String,
        /// What came.
        got: Shape,
    },
    /// Inputs of one request that do not have the same size along the batch axis.
    #[error(
        "input {name:?} has {rows} rows and input {other:?} has {other_rows}; all inputs of a request must have as many"
    )]
    Rows {
        /// One input.
        name: String,
        /// Its size along the batch axis.
        rows: usize,
        /// Another.
        other: String,
        /// Its size along the batch axis.
        other_rows: usize,
    },
    /// An output of a batch that does not have a row for each of the inputs'.
    #[error(
        "output {name:?} must have {wanted} rows along dimension {axis} as the batch has, got {got}"
    )]
    BatchRows {
        /// Which.
        name: String,
        /// The batch axis.
        axis: usize,
        /// How many rows went in.
        wanted: usize,
        /// What came.
        got: Shape,
    },
}

/// A signature that no model may have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the signature cannot be used: {0}")]
pub struct SignatureError(pub String);

impl TensorSpec {
    /// The shape as protocols print it: `[-1,16]`; `[-1]` stands for any shape too, since they have no word for it.
    pub fn wire_shape(&self) -> Vec<i64> {
        match &self.shape {
            Some(dims) => dims.iter().map(|dim| dim.map_or(-1, |size| size as i64)).collect(),
            None => vec![-1],
        }
    }

    fn allows(&self, shape: &Shape) -> bool {
        let Some(wanted) = &self.shape else { return true };
        wanted.len() == shape.rank()
            && wanted
                .iter()
                .zip(shape.dims())
                .all(|(wanted, got)| wanted.is_none_or(|size| size == *got))
    }
}

impl fmt::Display for TensorSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.dtype, ShapeText(&self.shape))
    }
}

struct ShapeText<'a>(&'a Option<Vec<Option<usize>>>);

impl fmt::Display for ShapeText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(dims) = self.0 else { return f.write_str("of any shape") };
        f.write_str("[")?;
        for (i, dim) in dims.iter().enumerate() {
            let comma = if i == 0 { "" } else { "," };
            match dim {
                Some(size) => write!(f, "{comma}{size}")?,
                None => write!(f, "{comma}-1")?,
            }
        }
        f.write_str("]")
    }
}

impl Signature {
    /// The most inputs, and the most outputs, that a model may have.
    pub const TENSORS_MAX: usize = 256;
    /// The most bytes in a tensor's name.
    pub const NAME_BYTES_MAX: usize = 256;
    /// The most properties.
    pub const PROPERTIES_MAX: usize = 64;
    /// The most bytes in a property's key.
    pub const KEY_BYTES_MAX: usize = 256;
    /// The most bytes in a property's value.
    pub const VALUE_BYTES_MAX: usize = 1024;

    /// Whether a model may have this signature.
    ///
    /// # Errors
    /// A name that is empty, too long, has control characters or stands twice; too many tensors; a rank that is too
    /// high; no outputs; a batch axis that some tensor does not have or that is of fixed size; too many or too long
    /// properties.
    pub fn check(&self) -> Result<(), SignatureError> {
        if self.outputs.is_empty() {
            return Err(SignatureError("it has no outputs".into()));
        }
        check_properties(&self.properties)?;
        for (kind, specs) in [("input", &self.inputs), ("output", &self.outputs)] {
            check_specs(kind, specs)?;
            let Some(axis) = self.batch_axis else { continue };
            for spec in specs {
                let free =
                    spec.shape.as_ref().is_some_and(|dims| matches!(dims.get(axis), Some(None)));
                if !free {
                    return Err(SignatureError(format!(
                        "the batch axis is {axis}, but {kind} {:?} is {spec}; that dimension must be -1",
                        spec.name
                    )));
                }
            }
        }
        Ok(())
    }

    /// Whether these inputs may be given to the model.
    ///
    /// # Errors
    /// The first thing that does not fit, naming tensor, wanted and got.
    pub fn check_inputs(&self, inputs: &[Named]) -> Result<(), Mismatch> {
        check_tensors("input", &self.inputs, inputs, |spec| spec.optional)
    }

    /// Whether the model keeps its word with these outputs. `wanted` says which the caller asked for: the others may
    /// be left out.
    ///
    /// # Errors
    /// The first thing that does not fit, naming tensor, wanted and got.
    pub fn check_outputs(
        &self,
        outputs: &[Named],
        wanted: impl Fn(&str) -> bool,
    ) -> Result<(), Mismatch> {
        check_tensors("output", &self.outputs, outputs, |spec| spec.optional || !wanted(&spec.name))
    }

    /// The output of this name.
    ///
    /// # Errors
    /// [`Mismatch::Unknown`].
    pub fn output(&self, name: &str) -> Result<&TensorSpec, Mismatch> {
        find("output", &self.outputs, name)
    }
}

fn check_properties(properties: &[(String, String)]) -> Result<(), SignatureError> {
    let within = |what: &str, got: usize, max: usize| match got {
        got if got <= max => Ok(()),
        got => Err(SignatureError(format!("it has {got} {what}; at most {max} may be"))),
    };
    within("properties", properties.len(), Signature::PROPERTIES_MAX)?;
    for (i, (key, value)) in properties.iter().enumerate() {
        within(&format!("bytes in the key of property {i}"), key.len(), Signature::KEY_BYTES_MAX)?;
        let what = format!("bytes in the value of property {key:?}");
        within(&what, value.len(), Signature::VALUE_BYTES_MAX)?;
    }
    Ok(())
}

fn check_specs(kind: &str, specs: &[TensorSpec]) -> Result<(), SignatureError> {
    if specs.len() > Signature::TENSORS_MAX {
        let max = Signature::TENSORS_MAX;
        return Err(SignatureError(format!(
            "it has {} {kind}s; at most {max} may be",
            specs.len()
        )));
    }
    for (i, spec) in specs.iter().enumerate() {
        let name = &spec.name;
        if name.is_empty()
            || name.len() > Signature::NAME_BYTES_MAX
            || name.chars().any(char::is_control)
        {
            return Err(SignatureError(format!(
                "{kind} {i} is named {:?}; a name has 1 to {} bytes and no control characters",
                name.chars().take(64).collect::<String>(),
                Signature::NAME_BYTES_MAX
            )));
        }
        if specs[..i].iter().any(|other| other.name == *name) {
            return Err(SignatureError(format!("{kind} {name:?} stands twice")));
        }
        if spec.shape.as_ref().is_some_and(|dims| dims.len() > RANK_MAX) {
            return Err(SignatureError(format!(
                "{kind} {name:?} has more than {RANK_MAX} dimensions"
            )));
        }
    }
    Ok(())
}

fn find<'a>(
    kind: &'static str,
    specs: &'a [TensorSpec],
    name: &str,
) -> Result<&'a TensorSpec, Mismatch> {
    specs.iter().find(|spec| spec.name == name).ok_or_else(|| Mismatch::Unknown {
        kind,
        name: name.chars().take(64).collect(),
        known: specs.iter().map(|spec| spec.name.as_str()).collect::<Vec<_>>().join(", "),
    })
}

fn check_tensors(
    kind: &'static str,
    specs: &[TensorSpec],
    tensors: &[Named],
    may_be_left_out: impl Fn(&TensorSpec) -> bool,
) -> Result<(), Mismatch> {
    for (i, Named { name, tensor }) in tensors.iter().enumerate() {
        let spec = find(kind, specs, name)?;
        if tensors[..i].iter().any(|other| other.name == *name) {
            return Err(Mismatch::Twice { kind, name: name.clone() });
        }
        if tensor.dtype() != spec.dtype {
            let (name, wanted, got) = (name.clone(), spec.dtype, tensor.dtype());
            return Err(Mismatch::DType { kind, name, wanted, got });
        }
        if !spec.allows(tensor.shape()) {
            let wanted = ShapeText(&spec.shape).to_string();
            return Err(Mismatch::Shape {
                kind,
                name: name.clone(),
                wanted,
                got: tensor.shape().clone(),
            });
        }
    }
    for spec in specs {
        if !may_be_left_out(spec) && !tensors.iter().any(|tensor| tensor.name == spec.name) {
            return Err(Mismatch::Missing {
                kind,
                name: spec.name.clone(),
                spec: spec.to_string(),
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(name: &str, dtype: DType, shape: Option<&[i64]>) -> TensorSpec {
        let shape = shape.map(|dims| dims.iter().map(|&dim| usize::try_from(dim).ok()).collect());
        TensorSpec { name: name.into(), dtype, shape, optional: false }
    }

    fn signature() -> Signature {
        Signature {
            inputs: vec![spec("INPUT0", DType::Fp32, Some(&[-1, 2]))],
            outputs: vec![spec("OUTPUT0", DType::Fp32, Some(&[-1, 2]))],
            ..Signature::default()
        }
    }

    fn named(name: &str, tensor: Tensor) -> Named {
        Named { name: name.into(), tensor }
    }

    #[test]
    fn mismatches_name_tensor_wanted_and_got() {
        let check = |inputs: &[Named], wanted: &str| {
            assert_eq!(signature().check_inputs(inputs).unwrap_err().to_string(), wanted);
        };
        let good = || named("INPUT0", Tensor::from_vec(&[3, 2], vec![0f32; 6]).unwrap());
        assert_eq!(signature().check_inputs(&[good()]), Ok(()));
        check(&[], r#"input "INPUT0" is missing; the model wants FP32 [-1,2]"#);
        check(&[good(), good()], r#"input "INPUT0" is given twice"#);
        check(
            &[named("X", Tensor::from_vec(&[1, 2], vec![0f32; 2]).unwrap())],
            r#"there is no input named "X"; the model has INPUT0"#,
        );
        check(
            &[named("INPUT0", Tensor::from_vec(&[1, 2], vec![0i64; 2]).unwrap())],
            r#"input "INPUT0" must be FP32, got INT64"#,
        );
        check(
            &[named("INPUT0", Tensor::from_vec(&[2], vec![0f32; 2]).unwrap())],
            r#"input "INPUT0" must have shape [-1,2], got [2]"#,
        );
    }

    #[test]
    fn outputs_nobody_wants_may_be_left_out() {
        assert!(signature().check_outputs(&[], |_| true).is_err());
        assert!(signature().check_outputs(&[], |_| false).is_ok());
    }

    #[test]
    fn a_batch_axis_must_be_free_everywhere() {
        assert!(Signature { batch_axis: Some(0), ..signature() }.check().is_ok());
        assert!(Signature { batch_axis: Some(1), ..signature() }.check().is_err());
        assert!(Signature { batch_axis: Some(2), ..signature() }.check().is_err());
    }

    #[test]
    fn names_are_unique_and_bounded() {
        let twice = Signature {
            inputs: vec![spec("A", DType::Bool, None), spec("A", DType::Int8, None)],
            ..signature()
        };
        assert!(twice.check().is_err());
        let long =
            Signature { inputs: vec![spec(&"A".repeat(300), DType::Bool, None)], ..signature() };
        assert!(long.check().is_err());
        assert!(Signature { outputs: vec![], ..signature() }.check().is_err());
    }

    #[test]
    fn properties_are_bounded() {
        let check = |count: usize, key: usize, value: usize| {
            let properties = vec![("k".repeat(key), "v".repeat(value)); count];
            let checked = Signature { properties, ..signature() }.check();
            checked.err().map(|error| error.to_string())
        };
        assert_eq!(check(64, 256, 1024), None);
        let rows = [
            ((65, 1, 1), "it has 65 properties; at most 64 may be"),
            ((1, 257, 1), "it has 257 bytes in the key of property 0; at most 256 may be"),
            ((1, 1, 1025), "1025 bytes in the value of property \"k\"; at most 1024 may be"),
        ];
        for ((count, key, value), wanted) in rows {
            let got = check(count, key, value).expect(wanted);
            assert!(got.contains(wanted), "wanted {wanted:?}, got {got:?}");
        }
    }
}
