//! Activations, by their names and as layers.

use serde_json::Value as Json;

use super::KerasError;
use super::build::{Builder, Value};
use super::config::Layer;
use crate::onnx::Attr;

/// The activation that a setting names: a text, or an object with a name in it.
pub(super) fn named(layer: &Layer<'_>, setting: &str) -> Result<String, KerasError> {
    match &layer.config[setting] {
        Json::Null => Ok("linear".to_owned()),
        Json::String(name) => Ok(name.clone()),
        object => {
            let name = object["config"].as_str();
            name.map(str::to_owned).ok_or_else(|| layer.refused(setting))
        }
    }
}

/// Applies an activation by its name.
pub(super) fn apply(
    builder: &mut Builder<'_>,
    layer: &Layer<'_>,
    name: &str,
    value: &mut Value,
) -> Result<(), KerasError> {
    let operator = match name {
        "linear" => return Ok(()),
        "softmax" => return softmax(builder, layer, "Softmax", -1, value),
        "log_softmax" => return softmax(builder, layer, "LogSoftmax", -1, value),
        "relu" => "Relu",
        "sigmoid" => "Sigmoid",
        "tanh" => "Tanh",
        "elu" => "Elu",
        "selu" => "Selu",
        "softplus" => "Softplus",
        "softsign" => "Softsign",
        "exponential" => "Exp",
        _ => return builder.elementwise(value, |builder, x| composed(builder, layer, name, &x)),
    };
    // ONNX's constants of Selu are Keras's.
    builder.elementwise(value, |builder, x| Ok(builder.node(layer, operator, &[&x], &[])))
}

/// Activations of several operators.
fn composed(
    builder: &mut Builder<'_>,
    layer: &Layer<'_>,
    name: &str,
    x: &str,
) -> Result<String, KerasError> {
    match name {
        "relu6" => clip(builder, layer, x, Some(0.0), Some(6.0)),
        "leaky_relu" => Ok(builder.node(layer, "LeakyRelu", &[x], &[("alpha", Attr::Float(0.2))])),
        "silu" | "swish" => {
            let sigmoid = builder.node(layer, "Sigmoid", &[x], &[]);
            Ok(builder.node(layer, "Mul", &[x, &sigmoid], &[]))
        }
        "mish" => {
            let softplus = builder.node(layer, "Softplus", &[x], &[]);
            let tanh = builder.node(layer, "Tanh", &[&softplus], &[]);
            Ok(builder.node(layer, "Mul", &[x, &tanh], &[]))
        }
        "gelu" => {
            let (root, one, half) = (
                builder.scalar(layer, std::f64::consts::SQRT_2)?,
                builder.scalar(layer, 1.0)?,
                builder.scalar(layer, 0.5)?,
            );
            let scaled = builder.node(layer, "Div", &[x, &root], &[]);
            let erf = builder.node(layer, "Erf", &[&scaled], &[]);
            let more = builder.node(layer, "Add", &[&erf, &one], &[]);
            let product = builder.node(layer, "Mul", &[x, &more], &[]);
            Ok(builder.node(layer, "Mul", &[&product, &half], &[]))
        }
        "hard_sigmoid" => Ok(hard_sigmoid(builder, layer, x)),
        "hard_silu" | "hard_swish" => {
            let sigmoid = hard_sigmoid(builder, layer, x);
            Ok(builder.node(layer, "Mul", &[x, &sigmoid], &[]))
        }
        other => Err(layer.error(format!("activation = {other:?} is not supported"))),
    }
}

/// Keras 2 has another slope than Keras 3.
fn hard_sigmoid(builder: &mut Builder<'_>, layer: &Layer<'_>, x: &str) -> String {
    let alpha = if super::major(&builder.file.version) == Some(3) { 1.0 / 6.0 } else { 0.2 };
    let attributes = [("alpha", Attr::Float(alpha)), ("beta", Attr::Float(0.5))];
    builder.node(layer, "HardSigmoid", &[x], &attributes)
}

fn clip(
    builder: &mut Builder<'_>,
    layer: &Layer<'_>,
    x: &str,
    min: Option<f64>,
    max: Option<f64>,
) -> Result<String, KerasError> {
    let mut bound = |bound: Option<f64>| match bound {
        Some(bound) => builder.scalar(layer, bound),
        None => Ok(String::new()),
    };
    let (min, max) = (bound(min)?, bound(max)?);
    Ok(builder.node(layer, "Clip", &[x, &min, &max], &[]))
}

fn softmax(
    builder: &mut Builder<'_>,
    layer: &Layer<'_>,
    operator: &str,
    axis: i64,
    value: &mut Value,
) -> Result<(), KerasError> {
    let axis = value.axis(layer, axis)? as i64;
    let x = builder.last(value);
    let made = builder.node(layer, operator, &[&x], &[("axis", Attr::Int(axis))]);
    *value = builder.made(made, value.shape.clone());
    Ok(())
}

/// The layers that are activations.
pub(super) fn layer(
    builder: &mut Builder<'_>,
    layer: &Layer<'_>,
    value: &mut Value,
) -> Result<(), KerasError> {
    match &*layer.class {
        "Activation" => {
            let name = named(layer, "activation")?;
            apply(builder, layer, &name, value)
        }
        "Softmax" => {
            let axis = match &layer.config["axis"] {
                Json::Null => -1,
                axis => axis.as_i64().ok_or_else(|| layer.refused("axis"))?,
            };
            softmax(builder, layer, "Softmax", axis, value)
        }
        "ReLU" => {
            let slope = layer.float("negative_slope", 0.0)?;
            if layer.float("threshold", 0.0)? != 0.0 {
                return Err(layer.refused("threshold"));
            }
            let max = match &layer.config["max_value"] {
                Json::Null => None,
                _ => Some(layer.float("max_value", 0.0)?),
            };
            builder.elementwise(value, |builder, x| {
                let made = match slope {
                    0.0 => builder.node(layer, "Relu", &[&x], &[]),
                    slope => leaky(builder, layer, &x, slope),
                };
                if max.is_some() { clip(builder, layer, &made, None, max) } else { Ok(made) }
            })
        }
        "LeakyReLU" => {
            let slope = layer.float("alpha", layer.float("negative_slope", 0.3)?)?;
            builder.elementwise(value, |builder, x| Ok(leaky(builder, layer, &x, slope)))
        }
        "ELU" => {
            let alpha = layer.float("alpha", 1.0)? as f32;
            builder.elementwise(value, |builder, x| {
                Ok(builder.node(layer, "Elu", &[&x], &[("alpha", Attr::Float(alpha))]))
            })
        }
        "PReLU" => {
            let mut shape = Vec::new();
            let shared: Vec<i64> = (layer.config["shared_axes"].as_array().into_iter().flatten())
                .filter_map(Json::as_i64)
                .collect();
            for (axis, dim) in value.shape.iter().enumerate().skip(1) {
                let size = if shared.contains(&(axis as i64)) { Some(1) } else { *dim };
                shape.push(size.ok_or_else(|| layer.error("the shape of its input is not known"))?);
            }
            let slope = builder.weights(layer, &[&shape])?.remove(0);
            let slope = builder.constant(layer, "slope", &slope);
            let x = builder.last(value);
            let made = builder.node(layer, "PRelu", &[&x, &slope], &[]);
            *value = builder.made(made, value.shape.clone());
            Ok(())
        }
        _ => Err(layer.error("this class is not supported")),
    }
}

fn leaky(builder: &mut Builder<'_>, layer: &Layer<'_>, x: &str, slope: f64) -> String {
    builder.node(layer, "LeakyRelu", &[x], &[("alpha", Attr::Float(slope as f32))])
}
