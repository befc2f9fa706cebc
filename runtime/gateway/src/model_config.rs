//! What Triton calls a model's configuration, made from what a version is. It is the same for every protocol.

use std::collections::BTreeMap;

use innkeeper_predict::Deployment;
use innkeeper_tensor::{DType, TensorSpec};
use serde::{Serialize, Serializer};

/// What a model is shown as that says nothing else of itself: the protocol's `<project>_<format>`.
pub(crate) const PLATFORM: &str = "wasm_component";
/// Who runs every model here.
pub(crate) const BACKEND: &str = "innkeeper";
/// A model that takes batches takes them of any size that fits into a body.
const BATCH_SIZE_MAX: i32 = i32::MAX;

/// A model's configuration, field by field as `model_config.proto` of Triton names them.
#[derive(Debug, Serialize)]
pub(crate) struct ModelConfig<'a> {
    pub(crate) name: &'a str,
    pub(crate) platform: &'a str,
    pub(crate) backend: &'static str,
    pub(crate) version_policy: VersionPolicy,
    /// 0 when the model does not take batches along the first dimension; else that dimension is left out of `dims`.
    pub(crate) max_batch_size: i32,
    pub(crate) input: Vec<Input<'a>>,
    pub(crate) output: Vec<Output<'a>>,
    pub(crate) instance_group: Vec<InstanceGroup<'a>>,
    pub(crate) default_model_filename: &'static str,
    pub(crate) parameters: BTreeMap<&'a str, Parameter<'a>>,
    pub(crate) model_transaction_policy: TransactionPolicy,
    /// How the host puts requests together, where the model asks for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) dynamic_batching: Option<DynamicBatching<'a>>,
    /// How it keeps sequences, where it does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) sequence_batching: Option<SequenceBatching>,
    pub(crate) response_cache: ResponseCache,
}

#[derive(Debug, Serialize)]
pub(crate) struct SequenceBatching {
    pub(crate) max_sequence_idle_microseconds: u64,
}

#[derive(Debug, Serialize)]
pub(crate) struct ResponseCache {
    /// Whether answers are kept.
    pub(crate) enable: bool,
}

#[derive(Debug, Serialize)]
pub(crate) struct DynamicBatching<'a> {
    pub(crate) preferred_batch_size: &'a [u64],
    pub(crate) max_queue_delay_microseconds: u64,
    pub(crate) priority_levels: u64,
}

/// Every version is served.
#[derive(Debug, Serialize)]
pub(crate) struct VersionPolicy {
    all: Nothing,
}

#[derive(Debug, Serialize)]
struct Nothing {}

#[derive(Debug, Serialize)]
pub(crate) struct Input<'a> {
    pub(crate) name: &'a str,
    #[serde(serialize_with = "as_type")]
    pub(crate) data_type: DType,
    pub(crate) dims: Vec<i64>,
    pub(crate) optional: bool,
}

#[derive(Debug, Serialize)]
pub(crate) struct Output<'a> {
    pub(crate) name: &'a str,
    #[serde(serialize_with = "as_type")]
    pub(crate) data_type: DType,
    pub(crate) dims: Vec<i64>,
    /// The asset with its labels, empty without one.
    pub(crate) label_filename: &'a str,
}

#[derive(Debug, Serialize)]
pub(crate) struct InstanceGroup<'a> {
    pub(crate) name: &'a str,
    pub(crate) kind: &'static str,
    /// How many predictions may run at once.
    pub(crate) count: i32,
}

#[derive(Debug, Serialize)]
pub(crate) struct Parameter<'a> {
    pub(crate) string_value: &'a str,
}

#[derive(Debug, Serialize)]
pub(crate) struct TransactionPolicy {
    /// Whether a request may have any number of answers.
    pub(crate) decoupled: bool,
}

fn as_type<S: Serializer>(dtype: &DType, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(type_name(*dtype))
}

/// The name of a dtype in Triton's configurations.
pub(crate) fn type_name(dtype: DType) -> &'static str {
    match dtype {
        DType::Bool => "TYPE_BOOL",
        DType::Uint8 => "TYPE_UINT8",
        DType::Uint16 => "TYPE_UINT16",
        DType::Uint32 => "TYPE_UINT32",
        DType::Uint64 => "TYPE_UINT64",
        DType::Int8 => "TYPE_INT8",
        DType::Int16 => "TYPE_INT16",
        DType::Int32 => "TYPE_INT32",
        DType::Int64 => "TYPE_INT64",
        DType::Fp16 => "TYPE_FP16",
        DType::Bf16 => "TYPE_BF16",
        DType::Fp32 => "TYPE_FP32",
        DType::Fp64 => "TYPE_FP64",
        DType::Bytes => "TYPE_STRING",
    }
}

/// The value of one of a version's properties.
pub(crate) fn property<'a>(deployment: &'a Deployment, key: &str) -> Option<&'a str> {
    let properties = &deployment.signature.properties;
    properties.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
}

/// The configuration of one version, of which `requests_max` predictions may run at once.
pub(crate) fn of(deployment: &Deployment, requests_max: u64) -> ModelConfig<'_> {
    let signature = &deployment.signature;
    let takes_batches = signature.batch_axis == Some(0);
    let properties = signature.properties.iter();
    ModelConfig {
        name: deployment.model.name.as_str(),
        platform: property(deployment, "platform").unwrap_or(PLATFORM),
        backend: BACKEND,
        version_policy: VersionPolicy { all: Nothing {} },
        max_batch_size: if takes_batches { batch_size_max(deployment) } else { 0 },
        input: signature
            .inputs
            .iter()
            .map(|spec| Input {
                name: &spec.name,
                data_type: spec.dtype,
                dims: dims(spec, takes_batches),
                optional: spec.optional,
            })
            .collect(),
        output: signature
            .outputs
            .iter()
            .map(|spec| Output {
                name: &spec.name,
                data_type: spec.dtype,
                dims: dims(spec, takes_batches),
                label_filename: labels(deployment, &spec.name).unwrap_or(""),
            })
            .collect(),
        instance_group: vec![InstanceGroup {
            name: deployment.model.name.as_str(),
            kind: "KIND_CPU",
            count: i32::try_from(instances_max(deployment, requests_max)).unwrap_or(i32::MAX),
        }],
        default_model_filename: "component.wasm",
        parameters: properties
            .map(|(key, value)| (key.as_str(), Parameter { string_value: value }))
            .collect(),
        model_transaction_policy: TransactionPolicy { decoupled: false },
        dynamic_batching: deployment.batching().map(|batching| DynamicBatching {
            preferred_batch_size: &batching.preferred,
            max_queue_delay_microseconds: batching.delay_us,
            priority_levels: batching.priorities,
        }),
        sequence_batching: deployment.sequencing().map(|sequencing| SequenceBatching {
            max_sequence_idle_microseconds: sequencing.idle_ms.saturating_mul(1_000),
        }),
        response_cache: ResponseCache { enable: deployment.caches() },
    }
}

fn instances_max(deployment: &Deployment, requests_max: u64) -> u64 {
    deployment.instances().map_or(requests_max, |instances| instances.max.min(requests_max))
}

fn batch_size_max(deployment: &Deployment) -> i32 {
    let max = deployment.batching().map(|batching| batching.max);
    max.map_or(BATCH_SIZE_MAX, |max| i32::try_from(max).unwrap_or(BATCH_SIZE_MAX))
}

/// The asset with the labels of an output's classes, if the model names one.
pub(crate) fn labels<'a>(deployment: &'a Deployment, output: &str) -> Option<&'a str> {
    property(deployment, &format!("labels:{output}"))
}

fn dims(spec: &TensorSpec, takes_batches: bool) -> Vec<i64> {
    spec.wire_shape().into_iter().skip(usize::from(takes_batches)).collect()
}
