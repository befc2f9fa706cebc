//! What a model takes and gives.

use crate::DType;

/// A model's interface towards its callers: what [`Model::signature`](crate::Model::signature) answers. The host checks
/// every request against it before [`predict`](crate::Model::predict) runs, and every answer after.
///
/// ```
/// use innkeeper_sdk::{DType, Signature};
///
/// let signature = Signature::new()
///     .input("INPUT0", DType::Fp32, &[-1, 64])
///     .output("PROBABILITIES", DType::Fp32, &[-1, 10])
///     .output("LABEL", DType::Int64, &[-1])
///     .batch_axis(0)
///     .property("task", "image-classification");
/// assert_eq!(signature.outputs[1].name, "LABEL");
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Signature {
    /// What it takes.
    pub inputs: Vec<TensorSpec>,
    /// What it gives; at least one.
    pub outputs: Vec<TensorSpec>,
    /// The dimension along which the host may stack requests into one batch.
    pub batch_axis: Option<u32>,
    /// Facts for people and tools.
    pub properties: Vec<(String, String)>,
}

/// What a model takes or gives under one name.
///
/// ```
/// use innkeeper_sdk::{DType, TensorSpec};
///
/// let text = TensorSpec::new("TEXT", DType::Bytes, &[-1]).optional();
/// let anything = TensorSpec::of_any_shape("INPUT", DType::Int8);
/// assert_eq!((text.optional, anything.shape), (true, None));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorSpec {
    /// Case-sensitive, 1 to 256 bytes, unique among the inputs and unique among the outputs.
    pub name: String,
    /// The type of an element.
    pub dtype: DType,
    /// The size of each dimension, -1 where any size will do. `None`: any rank and any shape.
    pub shape: Option<Vec<i64>>,
    /// Whether a request may leave it out (an input), or an answer (an output).
    pub optional: bool,
}

impl Signature {
    /// A signature of nothing, to begin with.
    pub fn new() -> Signature {
        Signature::default()
    }

    /// With an input that every request must have. In `shape` -1 stands for any size.
    pub fn input(self, name: &str, dtype: DType, shape: &[i64]) -> Signature {
        self.with_input(TensorSpec::new(name, dtype, shape))
    }

    /// With an output that every answer must have. In `shape` -1 stands for any size.
    pub fn output(self, name: &str, dtype: DType, shape: &[i64]) -> Signature {
        self.with_output(TensorSpec::new(name, dtype, shape))
    }

    /// With this input.
    pub fn with_input(mut self, spec: TensorSpec) -> Signature {
        self.inputs.push(spec);
        self
    }

    /// With this output.
    pub fn with_output(mut self, spec: TensorSpec) -> Signature {
        self.outputs.push(spec);
        self
    }

    /// Lets the host stack requests along this dimension, which must be -1 in every input and every output. The model
    /// then sees one larger request, and may not mix its rows.
    pub fn batch_axis(mut self, axis: u32) -> Signature {
        self.batch_axis = Some(axis);
        self
    }

    /// With a fact for people and tools, such as `("task", "image-classification")`.
    pub fn property(mut self, key: &str, value: &str) -> Signature {
        self.properties.push((key.to_owned(), value.to_owned()));
        self
    }
}

impl TensorSpec {
    /// A tensor that must be there. In `shape` -1 stands for any size; a scalar's is `&[]`.
    pub fn new(name: &str, dtype: DType, shape: &[i64]) -> TensorSpec {
        let shape = Some(shape.to_vec());
        TensorSpec { name: name.to_owned(), dtype, shape, optional: false }
    }

    /// A tensor that must be there, of any rank and any shape.
    pub fn of_any_shape(name: &str, dtype: DType) -> TensorSpec {
        TensorSpec { name: name.to_owned(), dtype, shape: None, optional: false }
    }

    /// The same, and it may be left out.
    pub fn optional(mut self) -> TensorSpec {
        self.optional = true;
        self
    }
}
