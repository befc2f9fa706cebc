//! What the host found out about a version, as the catalog keeps it.

use innkeeper_tensor::{DType, Signature, TensorSpec};
use serde::{Deserialize, Serialize};

/// The JSON behind [`VersionRecord::facts`](innkeeper_catalog::VersionRecord::facts). What the manifest says stands in
/// the manifest alone.
#[derive(Serialize, Deserialize)]
pub(crate) struct Facts {
    inputs: Vec<Spec>,
    outputs: Vec<Spec>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    batch_axis: Option<usize>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    properties: Vec<(String, String)>,
}

#[derive(Serialize, Deserialize)]
struct Spec {
    name: String,
    datatype: String,
    /// -1 where any size will do; none for any shape.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    shape: Option<Vec<i64>>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    optional: bool,
}

impl Facts {
    pub(crate) fn new(signature: &Signature) -> Facts {
        Facts {
            inputs: signature.inputs.iter().map(Spec::new).collect(),
            outputs: signature.outputs.iter().map(Spec::new).collect(),
            batch_axis: signature.batch_axis,
            properties: signature.properties.clone(),
        }
    }

    pub(crate) fn to_text(&self) -> String {
        serde_json::to_string(self).expect("facts have no maps with odd keys")
    }

    /// The signature in a version's facts, checked again: the database may be older than this program.
    pub(crate) fn signature(text: &str) -> Result<Signature, String> {
        let facts: Facts = serde_json::from_str(text).map_err(|error| error.to_string())?;
        let specs =
            |specs: Vec<Spec>| specs.into_iter().map(Spec::read).collect::<Result<Vec<_>, _>>();
        let signature = Signature {
            inputs: specs(facts.inputs)?,
            outputs: specs(facts.outputs)?,
            batch_axis: facts.batch_axis,
            properties: facts.properties,
        };
        signature.check().map_err(|error| error.to_string())?;
        Ok(signature)
    }
}

impl Spec {
    fn new(spec: &TensorSpec) -> Spec {
        Spec {
            name: spec.name.clone(),
            datatype: spec.dtype.name().to_owned(),
            shape: spec.shape.as_ref().map(|_| spec.wire_shape()),
            optional: spec.optional,
        }
    }

    fn read(self) -> Result<TensorSpec, String> {
        let dtype: DType =
            self.datatype.parse().map_err(|e: innkeeper_tensor::UnknownDType| e.to_string())?;
        let shape =
            self.shape.map(|dims| dims.into_iter().map(|dim| usize::try_from(dim).ok()).collect());
        Ok(TensorSpec { name: self.name, dtype, shape, optional: self.optional })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(name: &str, dtype: DType, shape: Option<Vec<Option<usize>>>) -> TensorSpec {
        TensorSpec { name: name.into(), dtype, shape, optional: name == "B" }
    }

    #[test]
    fn a_signature_reads_back() {
        let signature = Signature {
            inputs: vec![
                spec("A", DType::Fp32, Some(vec![None, Some(16)])),
                spec("B", DType::Bytes, None),
            ],
            outputs: vec![spec("C", DType::Bool, Some(vec![]))],
            batch_axis: None,
            properties: vec![("task".into(), "none".into())],
        };
        let text = Facts::new(&signature).to_text();
        assert_eq!(Facts::signature(&text), Ok(signature));
    }

    #[test]
    fn what_no_model_may_have_is_not_read() {
        for text in ["", "{}", r#"{"inputs":[],"outputs":[]}"#] {
            assert!(Facts::signature(text).is_err(), "{text}");
        }
        let unknown = r#"{"inputs":[],"outputs":[{"name":"A","datatype":"FP8"}]}"#;
        assert!(Facts::signature(unknown).unwrap_err().contains("FP8"));
    }
}
