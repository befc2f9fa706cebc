//! What the server and its models say about themselves.

use innkeeper_predict::Endpoint;
use innkeeper_tensor::TensorSpec;

use super::call::slot;
use super::messages::inference::model_metadata_response::TensorMetadata;
use super::messages::inference::{ModelMetadataResponse, ServerMetadataResponse};
use crate::GatewayConfig;
use crate::error::Failure;
use crate::v2::{EXTENSIONS, platform};

/// `ServerMetadata`
pub(crate) fn server(config: &GatewayConfig) -> ServerMetadataResponse {
    ServerMetadataResponse {
        name: config.name.clone(),
        version: config.version.clone(),
        extensions: EXTENSIONS.map(str::to_owned).to_vec(),
    }
}

/// `ModelMetadata`
pub(crate) fn model(endpoint: &Endpoint, version: &str) -> Result<ModelMetadataResponse, Failure> {
    let signature = &endpoint.resolve(slot(version))?.signature;
    Ok(ModelMetadataResponse {
        name: endpoint.key.name.as_str().to_owned(),
        versions: endpoint.versions.iter().map(|each| each.version.as_str().to_owned()).collect(),
        platform: platform(signature).to_owned(),
        inputs: signature.inputs.iter().map(spec).collect(),
        outputs: signature.outputs.iter().map(spec).collect(),
        properties: signature.properties.iter().cloned().collect(),
    })
}

fn spec(spec: &TensorSpec) -> TensorMetadata {
    TensorMetadata {
        name: spec.name.clone(),
        datatype: spec.dtype.name().to_owned(),
        shape: spec.wire_shape(),
    }
}
