//! Layers as ONNX's operators.

use serde_json::Value as Json;

use innkeeper_tensor::DType;

use super::KerasError;
use super::build::{Builder, Value};
use super::config::Layer;
use super::{activation, conv, recurrent};
use crate::onnx::Attr;

/// Applies a layer.
///
/// # Errors
/// The class, or a setting of it, is not supported, or the weights do not fit.
pub(super) fn apply(
    builder: &mut Builder<'_>,
    layer: &Layer<'_>,
    mut inputs: Vec<Value>,
) -> Result<Value, KerasError> {
    check_policy(layer)?;
    if matches!(
        &*layer.class,
        "Add" | "Subtract" | "Multiply" | "Average" | "Maximum" | "Minimum" | "Concatenate"
    ) {
        return merge(builder, layer, inputs);
    }
    if inputs.len() != 1 {
        return Err(layer.error(format!("it is applied to {} tensors instead of 1", inputs.len())));
    }
    let mut value = inputs.remove(0);
    if value.dtype != DType::Fp32 && layer.class != "Embedding" {
        let name = builder.last(&mut value);
        let cast = builder.node(layer, "Cast", &[&name], &[("to", Attr::Int(1))]);
        value = builder.made(cast, value.shape);
    }
    match &*layer.class {
        "Dropout"
        | "SpatialDropout1D"
        | "SpatialDropout2D"
        | "GaussianNoise"
        | "GaussianDropout"
        | "AlphaDropout"
        | "ActivityRegularization" => {}
        "Dense" => dense(builder, layer, &mut value)?,
        "Flatten" => flatten(builder, layer, &mut value)?,
        "Reshape" => reshape(builder, layer, &mut value)?,
        "Permute" => permute(builder, layer, &mut value)?,
        "Rescaling" => rescale(builder, layer, &mut value)?,
        "BatchNormalization" => batch_norm(builder, layer, &mut value)?,
        "LayerNormalization" => layer_norm(builder, layer, &mut value)?,
        "Embedding" => embedding(builder, layer, &mut value)?,
        "Conv1D" | "Conv2D" => conv::conv(builder, layer, &mut value)?,
        "DepthwiseConv2D" => conv::depthwise(builder, layer, &mut value)?,
        "MaxPooling1D" | "MaxPooling2D" | "AveragePooling1D" | "AveragePooling2D" => {
            conv::pool(builder, layer, &mut value)?;
        }
        "GlobalMaxPooling1D"
        | "GlobalMaxPooling2D"
        | "GlobalAveragePooling1D"
        | "GlobalAveragePooling2D" => conv::global_pool(builder, layer, &mut value)?,
        "ZeroPadding1D" | "ZeroPadding2D" => conv::pad(builder, layer, &mut value)?,
        "LSTM" | "GRU" => recurrent::apply(builder, layer, &mut value)?,
        _ => activation::layer(builder, layer, &mut value)?,
    }
    Ok(value)
}

/// All arithmetic is FP32, unless a layer says another policy.
fn check_policy(layer: &Layer<'_>) -> Result<(), KerasError> {
    let policy = &layer.config["dtype"];
    let name = policy.as_str().or_else(|| policy["config"]["name"].as_str());
    match (policy, name) {
        (Json::Null, _) | (_, Some("float32")) => Ok(()),
        // What an embedding takes is written as its type by old versions.
        (_, Some("int32" | "int64")) if layer.class == "Embedding" => Ok(()),
        _ => Err(layer.refused("dtype")),
    }
}

fn dense(
    builder: &mut Builder<'_>,
    layer: &Layer<'_>,
    value: &mut Value,
) -> Result<(), KerasError> {
    let inputs = value.channels(layer)?;
    let units = layer.sizes("units", 1)?[0] as usize;
    if !layer.config["lora_rank"].is_null() {
        return Err(layer.refused("lora_rank"));
    }
    if !layer.config["quantization_config"].is_null() {
        return Err(layer.refused("quantization_config"));
    }
    let has_bias = layer.flag("use_bias", true)?;
    let kernel: &[usize] = &[inputs, units];
    let wanted: &[&[usize]] = if has_bias { &[kernel, &[units]] } else { &[kernel] };
    let weights = builder.weights(layer, wanted)?;
    let x = builder.last(value);
    let kernel = builder.constant(layer, "kernel", &weights[0]);
    let mut made = builder.node(layer, "MatMul", &[&x, &kernel], &[]);
    if let Some(bias) = weights.get(1) {
        let bias = builder.constant(layer, "bias", bias);
        made = builder.node(layer, "Add", &[&made, &bias], &[]);
    }
    let mut shape = value.shape.clone();
    shape.pop();
    shape.push(Some(units));
    *value = builder.made(made, shape);
    activation::apply(builder, layer, &activation::named(layer, "activation")?, value)
}

/// The product of sizes, where all are known.
fn product(sizes: &[Option<usize>]) -> Option<usize> {
    sizes.iter().try_fold(1usize, |product, size| product.checked_mul((*size)?))
}

fn flatten(
    builder: &mut Builder<'_>,
    layer: &Layer<'_>,
    value: &mut Value,
) -> Result<(), KerasError> {
    if layer.text("data_format", "channels_last")? != "channels_last" {
        return Err(layer.refused("data_format"));
    }
    let x = builder.last(value);
    let made = builder.node(layer, "Flatten", &[&x], &[("axis", Attr::Int(1))]);
    *value = builder.made(made, vec![None, product(&value.shape[1..])]);
    Ok(())
}

fn reshape(
    builder: &mut Builder<'_>,
    layer: &Layer<'_>,
    value: &mut Value,
) -> Result<(), KerasError> {
    let target = layer.config["target_shape"].as_array();
    let target: Option<Vec<i64>> = target.and_then(|dims| dims.iter().map(Json::as_i64).collect());
    let wrong = || layer.refused("target_shape");
    let target =
        target.filter(|dims| dims.iter().all(|dim| *dim == -1 || (1..1 << 40).contains(dim)));
    let target = target.filter(|dims| dims.iter().filter(|dim| **dim == -1).count() <= 1);
    let target = target.ok_or_else(wrong)?;
    let known: Vec<Option<usize>> = target
        .iter()
        .map(|&dim| if dim == -1 { Some(1) } else { usize::try_from(dim).ok() })
        .collect();
    let (total, known) = (product(&value.shape[1..]), product(&known).ok_or_else(wrong)?);
    let rest = total.map(|total| total / known);
    let shape = target.iter().map(|&dim| if dim == -1 { rest } else { usize::try_from(dim).ok() });
    let shape: Vec<Option<usize>> = std::iter::once(None).chain(shape).collect();
    // A 0 stands for the batch as it is.
    let dims: Vec<i64> = std::iter::once(0).chain(target).collect();
    let (x, dims) = (builder.last(value), builder.ints(layer, "shape", &dims)?);
    let made = builder.node(layer, "Reshape", &[&x, &dims], &[]);
    *value = builder.made(made, shape);
    Ok(())
}

fn permute(
    builder: &mut Builder<'_>,
    layer: &Layer<'_>,
    value: &mut Value,
) -> Result<(), KerasError> {
    let dims = layer.config["dims"].as_array();
    let dims: Option<Vec<i64>> = dims.and_then(|dims| dims.iter().map(Json::as_i64).collect());
    let dims = dims.ok_or_else(|| layer.refused("dims"))?;
    let mut sorted = dims.clone();
    sorted.sort_unstable();
    if !sorted.iter().copied().eq(1..value.rank() as i64) {
        return Err(layer.refused("dims"));
    }
    let order: Vec<i64> = std::iter::once(0).chain(dims).collect();
    let x = builder.last(value);
    let made = builder.node(layer, "Transpose", &[&x], &[("perm", Attr::Ints(&order))]);
    let shape = order.iter().map(|&axis| value.shape[axis as usize]).collect();
    *value = builder.made(made, shape);
    Ok(())
}

fn rescale(
    builder: &mut Builder<'_>,
    layer: &Layer<'_>,
    value: &mut Value,
) -> Result<(), KerasError> {
    let (scale, offset) = (layer.float("scale", 1.0)?, layer.float("offset", 0.0)?);
    builder.elementwise(value, |builder, x| {
        let (scale, offset) = (builder.scalar(layer, scale)?, builder.scalar(layer, offset)?);
        let scaled = builder.node(layer, "Mul", &[&x, &scale], &[]);
        Ok(builder.node(layer, "Add", &[&scaled, &offset], &[]))
    })
}

/// The one axis that a setting names, as a place from 0.
fn one_axis(layer: &Layer<'_>, value: &Value) -> Result<usize, KerasError> {
    let axis = match &layer.config["axis"] {
        Json::Null => Some(-1),
        Json::Array(axes) if axes.len() == 1 => axes[0].as_i64(),
        axis => axis.as_i64(),
    };
    value.axis(layer, axis.ok_or_else(|| layer.refused("axis"))?)
}

/// With the running statistics it is a factor and a summand for each channel.
fn batch_norm(
    builder: &mut Builder<'_>,
    layer: &Layer<'_>,
    value: &mut Value,
) -> Result<(), KerasError> {
    let axis = one_axis(layer, value)?;
    let size = value.shape[axis].ok_or_else(|| layer.error("the size of its axis is not known"))?;
    let (scale, center) = (layer.flag("scale", true)?, layer.flag("center", true)?);
    let epsilon = layer.float("epsilon", 1e-3)?;
    let shape: &[usize] = &[size];
    let count = 2 + usize::from(scale) + usize::from(center);
    let weights = builder.weights(layer, &vec![shape; count])?;
    let mut weights = weights.iter().map(|tensor| {
        let elements = tensor.elements::<f32>().map_err(|error| layer.error(error.to_string()))?;
        Ok(elements.into_owned())
    });
    let mut next = |is_there: bool, other: f32| match is_there {
        true => weights.next().unwrap_or_else(|| Ok(vec![other; size])),
        false => Ok(vec![other; size]),
    };
    let (gamma, beta) = (next(scale, 1.0)?, next(center, 0.0)?);
    let (mean, variance) = (next(true, 0.0)?, next(true, 1.0)?);
    let factors: Vec<f64> = (gamma.iter().zip(&variance))
        .map(|(gamma, variance)| f64::from(*gamma) / (f64::from(*variance) + epsilon).sqrt())
        .collect();
    let summands: Vec<f32> = (factors.iter().zip(&mean).zip(&beta))
        .map(|((factor, mean), beta)| (f64::from(*beta) - f64::from(*mean) * factor) as f32)
        .collect();
    let mut shape = vec![1; value.rank() - axis];
    shape[0] = size;
    let factors = factors.into_iter().map(|factor| factor as f32).collect();
    let factors = builder.floats(layer, "factors", &shape, factors)?;
    let summands = builder.floats(layer, "summands", &shape, summands)?;
    let x = builder.last(value);
    let scaled = builder.node(layer, "Mul", &[&x, &factors], &[]);
    let made = builder.node(layer, "Add", &[&scaled, &summands], &[]);
    *value = builder.made(made, value.shape.clone());
    Ok(())
}

fn layer_norm(
    builder: &mut Builder<'_>,
    layer: &Layer<'_>,
    value: &mut Value,
) -> Result<(), KerasError> {
    layer.off(&["rms_scaling"])?;
    if one_axis(layer, value)? + 1 != value.rank() {
        return Err(layer.refused("axis"));
    }
    let size = value.channels(layer)?;
    let (scale, center) = (layer.flag("scale", true)?, layer.flag("center", true)?);
    let epsilon = layer.float("epsilon", 1e-3)? as f32;
    let shape: &[usize] = &[size];
    let count = usize::from(scale) + usize::from(center);
    let mut weights = builder.weights(layer, &vec![shape; count])?.into_iter();
    let gamma = match if scale { weights.next() } else { None } {
        Some(gamma) => builder.constant(layer, "gamma", &gamma),
        None => builder.floats(layer, "gamma", &[size], vec![1.0; size])?,
    };
    let beta = weights.next();
    let x = builder.last(value);
    let mut inputs = vec![x, gamma];
    if let Some(beta) = beta {
        inputs.push(builder.constant(layer, "beta", &beta));
    }
    let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
    let attributes = [("axis", Attr::Int(-1)), ("epsilon", Attr::Float(epsilon))];
    let made = builder.node(layer, "LayerNormalization", &inputs, &attributes);
    *value = builder.made(made, value.shape.clone());
    Ok(())
}

fn embedding(
    builder: &mut Builder<'_>,
    layer: &Layer<'_>,
    value: &mut Value,
) -> Result<(), KerasError> {
    // Layers that follow would have to leave out what is masked.
    layer.off(&["mask_zero"])?;
    let sizes = [layer.sizes("input_dim", 1)?[0], layer.sizes("output_dim", 1)?[0]];
    let [rows, columns] = sizes.map(|size| size as usize);
    let table = builder.weights(layer, &[&[rows, columns]])?.remove(0);
    let table = builder.constant(layer, "table", &table);
    let x = builder.last(value);
    let ids = builder.node(layer, "Cast", &[&x], &[("to", Attr::Int(7))]);
    let made = builder.node(layer, "Gather", &[&table, &ids], &[("axis", Attr::Int(0))]);
    let mut shape = value.shape.clone();
    shape.push(Some(columns));
    *value = builder.made(made, shape);
    Ok(())
}

/// Layers of several tensors.
fn merge(
    builder: &mut Builder<'_>,
    layer: &Layer<'_>,
    mut inputs: Vec<Value>,
) -> Result<Value, KerasError> {
    if inputs.len() < 2 {
        return Err(layer.error("it is applied to one tensor"));
    }
    let rank = inputs[0].rank();
    if inputs.iter().any(|input| input.rank() != rank || input.dtype != DType::Fp32) {
        return Err(layer.error("it is applied to tensors of several ranks, or not of floats"));
    }
    let names: Vec<String> = inputs.iter_mut().map(|input| builder.last(input)).collect();
    let mut shape = inputs[0].shape.clone();
    if layer.class == "Concatenate" {
        let axis = match &layer.config["axis"] {
            Json::Null => -1,
            axis => axis.as_i64().ok_or_else(|| layer.refused("axis"))?,
        };
        let axis = inputs[0].axis(layer, axis)?;
        shape[axis] =
            inputs.iter().try_fold(0usize, |sum, input| sum.checked_add(input.shape[axis]?));
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let made = builder.node(layer, "Concat", &names, &[("axis", Attr::Int(axis as i64))]);
        return Ok(builder.made(made, shape));
    }
    for input in &inputs[1..] {
        for (size, other) in shape.iter_mut().zip(&input.shape) {
            *size = if *size == Some(1) { *other } else { *size };
        }
    }
    let operator = match &*layer.class {
        "Subtract" if names.len() == 2 => "Sub",
        "Subtract" => return Err(layer.error("it is applied to more than two tensors")),
        "Multiply" => "Mul",
        "Maximum" => "Max",
        "Minimum" => "Min",
        _ => "Add",
    };
    let mut made = names[0].clone();
    for name in &names[1..] {
        made = builder.node(layer, operator, &[&made, name], &[]);
    }
    if layer.class == "Average" {
        let count = builder.scalar(layer, names.len() as f64)?;
        made = builder.node(layer, "Div", &[&made, &count], &[]);
    }
    Ok(builder.made(made, shape))
}
