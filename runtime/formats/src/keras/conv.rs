//! Convolutions and pooling, over sequences and images.

use innkeeper_tensor::Tensor;
use serde_json::Value as Json;

use super::KerasError;
use super::activation;
use super::build::{Builder, Value};
use super::config::Layer;
use crate::onnx::Attr;

/// How a window goes over the axes between batch and channels.
struct Window {
    size: Vec<i64>,
    strides: Vec<i64>,
    dilations: Vec<i64>,
    padding: Padding,
}

#[derive(Clone, Copy, PartialEq)]
enum Padding {
    Valid,
    Same,
    /// As many zeros before a sequence as the window looks back.
    Causal,
}

/// Over how many axes a class works.
fn axes(layer: &Layer<'_>) -> usize {
    if layer.class.ends_with("1D") { 1 } else { 2 }
}

/// Refuses channels first, and an input of another rank.
fn check(layer: &Layer<'_>, value: &Value) -> Result<usize, KerasError> {
    let axes = axes(layer);
    if layer.text("data_format", "channels_last")? != "channels_last" {
        return Err(layer.refused("data_format"));
    }
    match value.rank() == axes + 2 {
        true => Ok(axes),
        false => {
            Err(layer.error(format!("its input has {} axes instead of {}", value.rank(), axes + 2)))
        }
    }
}

impl Window {
    fn read(
        layer: &Layer<'_>,
        axes: usize,
        size: &str,
        dilation: Option<&str>,
    ) -> Result<Window, KerasError> {
        let size_of = layer.sizes(size, axes)?;
        let strides = match &layer.config["strides"] {
            // A pool steps by its own size.
            Json::Null if size == "pool_size" => size_of.clone(),
            _ => layer.sizes("strides", axes)?,
        };
        let dilations = match dilation {
            Some(setting) => layer.sizes(setting, axes)?,
            None => vec![1; axes],
        };
        let padding = match layer.text("padding", "valid")? {
            "valid" => Padding::Valid,
            "same" => Padding::Same,
            "causal" if layer.class == "Conv1D" => Padding::Causal,
            _ => return Err(layer.refused("padding")),
        };
        Ok(Window { size: size_of, strides, dilations, padding })
    }

    /// The shape that comes out, the channels last.
    fn shape(&self, value: &Value, channels: usize) -> Vec<Option<usize>> {
        let mut shape = vec![None];
        for axis in 0..self.size.len() {
            let (stride, reach) =
                (self.strides[axis], self.dilations[axis] * (self.size[axis] - 1));
            let size = value.shape[axis + 1].and_then(|size| {
                let steps = match self.padding {
                    Padding::Valid => size as i64 - reach,
                    Padding::Same | Padding::Causal => size as i64,
                };
                usize::try_from(steps.max(0)).ok().map(|steps| steps.div_ceil(stride as usize))
            });
            shape.push(size);
        }
        shape.push(Some(channels));
        shape
    }

    /// ONNX's attributes, with others.
    fn attributes<'a>(
        &'a self,
        pads: &'a [i64],
        others: &[(&'a str, i64)],
    ) -> Vec<(&'a str, Attr<'a>)> {
        let mut attributes =
            vec![("kernel_shape", Attr::Ints(&self.size)), ("strides", Attr::Ints(&self.strides))];
        match self.padding {
            Padding::Valid => {}
            Padding::Same => attributes.push(("auto_pad", Attr::Text("SAME_UPPER"))),
            Padding::Causal => attributes.push(("pads", Attr::Ints(pads))),
        }
        attributes.extend(others.iter().map(|(name, value)| (*name, Attr::Int(*value))));
        attributes
    }

    fn causal_pads(&self) -> Vec<i64> {
        vec![self.dilations[0] * (self.size[0] - 1), 0]
    }
}

pub(super) fn conv(
    builder: &mut Builder<'_>,
    layer: &Layer<'_>,
    value: &mut Value,
) -> Result<(), KerasError> {
    let axes = check(layer, value)?;
    let window = Window::read(layer, axes, "kernel_size", Some("dilation_rate"))?;
    let inputs = value.channels(layer)?;
    let filters = layer.sizes("filters", 1)?[0] as usize;
    let groups = layer.sizes("groups", 1)?[0] as usize;
    if !inputs.is_multiple_of(groups) || !filters.is_multiple_of(groups) {
        return Err(layer.refused("groups"));
    }
    if !layer.config["lora_rank"].is_null() {
        return Err(layer.refused("lora_rank"));
    }
    let mut kernel: Vec<usize> = window.size.iter().map(|&size| size as usize).collect();
    kernel.extend([inputs / groups, filters]);
    // [.., in, out] becomes [out, in, ..].
    let order: Vec<usize> = [axes + 1, axes].into_iter().chain(0..axes).collect();
    apply(builder, layer, value, &window, Kernel { shape: kernel, order, groups, outputs: filters })
}

pub(super) fn depthwise(
    builder: &mut Builder<'_>,
    layer: &Layer<'_>,
    value: &mut Value,
) -> Result<(), KerasError> {
    let axes = check(layer, value)?;
    let window = Window::read(layer, axes, "kernel_size", Some("dilation_rate"))?;
    let inputs = value.channels(layer)?;
    let multiplier = layer.sizes("depth_multiplier", 1)?[0] as usize;
    let mut kernel: Vec<usize> = window.size.iter().map(|&size| size as usize).collect();
    kernel.extend([inputs, multiplier]);
    // [.., in, multiplier] becomes [in, multiplier, ..], of which the first two are one axis.
    let order: Vec<usize> = [axes, axes + 1].into_iter().chain(0..axes).collect();
    let outputs = inputs.saturating_mul(multiplier);
    apply(builder, layer, value, &window, Kernel { shape: kernel, order, groups: inputs, outputs })
}

/// A kernel as Keras has it, and the order of its axes in ONNX.
struct Kernel {
    shape: Vec<usize>,
    order: Vec<usize>,
    groups: usize,
    outputs: usize,
}

fn apply(
    builder: &mut Builder<'_>,
    layer: &Layer<'_>,
    value: &mut Value,
    window: &Window,
    kernel: Kernel,
) -> Result<(), KerasError> {
    let Kernel { shape, order, groups, outputs } = kernel;
    let has_bias = layer.flag("use_bias", true)?;
    let bias: &[usize] = &[outputs];
    let wanted: &[&[usize]] = if has_bias { &[&shape, bias] } else { &[&shape] };
    let weights = builder.weights(layer, wanted)?;
    let elements = transposed(layer, &weights[0], &order)?;
    let per_output = elements.len() / outputs.max(1);
    let spatial: usize = window.size.iter().product::<i64>() as usize;
    let mut turned = vec![outputs, per_output / spatial.max(1)];
    turned.extend(window.size.iter().map(|&size| size as usize));
    let mut inputs =
        vec![builder.first(value), builder.floats(layer, "kernel", &turned, elements)?];
    if let Some(bias) = weights.get(1) {
        inputs.push(builder.constant(layer, "bias", bias));
    }
    let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
    let pads = if window.padding == Padding::Causal { window.causal_pads() } else { Vec::new() };
    let mut attributes = window.attributes(&pads, &[("group", groups as i64)]);
    attributes.push(("dilations", Attr::Ints(&window.dilations)));
    let made = builder.node(layer, "Conv", &inputs, &attributes);
    *value = builder.made_first(made, window.shape(value, outputs));
    activation::apply(builder, layer, &activation::named(layer, "activation")?, value)
}

/// The elements with the axes in another order.
fn transposed(layer: &Layer<'_>, tensor: &Tensor, order: &[usize]) -> Result<Vec<f32>, KerasError> {
    let elements = tensor.elements::<f32>().map_err(|error| layer.error(error.to_string()))?;
    let dims = tensor.shape().dims();
    let mut strides = vec![1; dims.len()];
    for axis in (1..dims.len()).rev() {
        strides[axis - 1] = strides[axis] * dims[axis];
    }
    let mut made = Vec::with_capacity(elements.len());
    let mut at = vec![0; dims.len()];
    for _ in 0..elements.len() {
        let from: usize = order.iter().zip(&at).map(|(&axis, &place)| strides[axis] * place).sum();
        made.push(elements[from]);
        for place in (0..order.len()).rev() {
            at[place] += 1;
            if at[place] < dims[order[place]] {
                break;
            }
            at[place] = 0;
        }
    }
    Ok(made)
}

pub(super) fn pool(
    builder: &mut Builder<'_>,
    layer: &Layer<'_>,
    value: &mut Value,
) -> Result<(), KerasError> {
    let axes = check(layer, value)?;
    let window = Window::read(layer, axes, "pool_size", None)?;
    let channels = value.channels(layer)?;
    let operator = if layer.class.starts_with("Max") { "MaxPool" } else { "AveragePool" };
    let x = builder.first(value);
    let made = builder.node(layer, operator, &[&x], &window.attributes(&[], &[]));
    *value = builder.made_first(made, window.shape(value, channels));
    Ok(())
}

pub(super) fn global_pool(
    builder: &mut Builder<'_>,
    layer: &Layer<'_>,
    value: &mut Value,
) -> Result<(), KerasError> {
    let axes = check(layer, value)?;
    let keeps = layer.flag("keepdims", false)?;
    let operator = if layer.class.contains("Max") { "ReduceMax" } else { "ReduceMean" };
    let x = builder.last(value);
    let over: Vec<i64> = (1..=axes as i64).collect();
    let attributes = [("axes", Attr::Ints(&over)), ("keepdims", Attr::Int(i64::from(keeps)))];
    let made = builder.node(layer, operator, &[&x], &attributes);
    let ones = vec![Some(1); if keeps { axes } else { 0 }];
    let shape = [None].into_iter().chain(ones).chain(value.shape.last().copied()).collect();
    *value = builder.made(made, shape);
    Ok(())
}

/// Zeros before and after each axis: one number, one for each axis, or a pair for each.
pub(super) fn pad(
    builder: &mut Builder<'_>,
    layer: &Layer<'_>,
    value: &mut Value,
) -> Result<(), KerasError> {
    let axes = check(layer, value)?;
    let one = |value: &Json| value.as_i64().filter(|size| (0..1 << 24).contains(size));
    let pair = |value: &Json| match value {
        Json::Array(pair) if pair.len() == 2 => Some([one(&pair[0])?, one(&pair[1])?]),
        value => one(value).map(|size| [size, size]),
    };
    let setting = &layer.config["padding"];
    let pads: Option<Vec<[i64; 2]>> = match setting {
        Json::Array(list) if axes == 2 && list.len() == 2 => list.iter().map(pair).collect(),
        setting if axes == 1 => pair(setting).map(|pair| vec![pair]),
        setting => one(setting).map(|size| vec![[size, size]; 2]),
    };
    let pads = pads.ok_or_else(|| layer.refused("padding"))?;
    let mut numbers = vec![0];
    numbers.extend(pads.iter().map(|pair| pair[0]));
    numbers.extend([0, 0]);
    numbers.extend(pads.iter().map(|pair| pair[1]));
    numbers.push(0);
    let (x, numbers) = (builder.last(value), builder.ints(layer, "pads", &numbers)?);
    let made = builder.node(layer, "Pad", &[&x, &numbers], &[]);
    let mut shape = value.shape.clone();
    for (size, pair) in shape[1..].iter_mut().zip(&pads) {
        *size = size.and_then(|size| size.checked_add((pair[0] + pair[1]) as usize));
    }
    *value = builder.made(made, shape);
    Ok(())
}
