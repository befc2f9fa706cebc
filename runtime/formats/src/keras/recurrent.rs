//! LSTM and GRU.

use innkeeper_tensor::Tensor;

use super::KerasError;
use super::activation;
use super::build::{Builder, Value};
use super::config::Layer;
use crate::onnx::Attr;

/// Where ONNX has each of Keras's gates: an LSTM's input, output, forget, cell of i, f, c, o; a GRU's z, r, h are the same.
const LSTM_GATES: [usize; 4] = [0, 3, 1, 2];
const GRU_GATES: [usize; 3] = [0, 1, 2];

pub(super) fn apply(
    builder: &mut Builder<'_>,
    layer: &Layer<'_>,
    value: &mut Value,
) -> Result<(), KerasError> {
    layer.off(&["stateful", "return_state", "time_major"])?;
    if value.rank() != 3 {
        return Err(layer.error(format!("its input has {} axes instead of 3", value.rank())));
    }
    let is_lstm = layer.class == "LSTM";
    let gates: &[usize] = if is_lstm { &LSTM_GATES } else { &GRU_GATES };
    let (inputs, units) = (value.channels(layer)?, layer.sizes("units", 1)?[0] as usize);
    let all = units.saturating_mul(gates.len());
    let has_bias = layer.flag("use_bias", true)?;
    let resets_after = !is_lstm && layer.flag("reset_after", true)?;
    let bias: &[usize] = if resets_after { &[2, all] } else { &[all] };
    let kernels: [&[usize]; 2] = [&[inputs, all], &[units, all]];
    let wanted: Vec<&[usize]> = kernels.into_iter().chain(has_bias.then_some(bias)).collect();
    let weights = builder.weights(layer, &wanted)?;
    let mut operands = vec![turned(builder, layer, value)];
    for (what, weight) in ["kernel", "recurrent"].into_iter().zip(&weights) {
        let elements = by_gates(layer, weight, gates, units)?;
        let rows = weight.shape().dims()[0];
        operands.push(builder.floats(layer, what, &[1, all, rows], elements)?);
    }
    if let Some(bias) = weights.get(2) {
        let mut elements = bias_by_gates(layer, bias, gates, units)?;
        // ONNX adds a bias to each product.
        elements.resize(2 * all, 0.0);
        operands.push(builder.floats(layer, "bias", &[1, 2 * all], elements)?);
    }
    let activations = activations(layer, is_lstm)?;
    let activations: Vec<&str> = activations.iter().map(String::as_str).collect();
    let is_backward = layer.flag("go_backwards", false)?;
    let returns_all = layer.flag("return_sequences", false)?;
    if is_backward && returns_all {
        return Err(layer.refused("go_backwards"));
    }
    let direction = if is_backward { "reverse" } else { "forward" };
    let mut attributes = vec![
        ("hidden_size", Attr::Int(units as i64)),
        ("direction", Attr::Text(direction)),
        ("activations", Attr::Texts(&activations)),
    ];
    if resets_after {
        attributes.push(("linear_before_reset", Attr::Int(1)));
    }
    let operands: Vec<&str> = operands.iter().map(String::as_str).collect();
    let [steps, end] = builder.recurrent(layer, &layer.class, &operands, &attributes);
    let (length, units) = (value.shape[1], Some(units));
    *value = if returns_all {
        // [steps, 1, batch, units] becomes [batch, steps, units].
        let axis = builder.ints(layer, "axis", &[1])?;
        let flat = builder.node(layer, "Squeeze", &[&steps, &axis], &[]);
        let made = builder.node(layer, "Transpose", &[&flat], &[("perm", Attr::Ints(&[1, 0, 2]))]);
        builder.made(made, vec![None, length, units])
    } else {
        let axis = builder.ints(layer, "axis", &[0])?;
        let made = builder.node(layer, "Squeeze", &[&end, &axis], &[]);
        builder.made(made, vec![None, units])
    };
    Ok(())
}

/// The sequence with the steps before the batch.
fn turned(builder: &mut Builder<'_>, layer: &Layer<'_>, value: &mut Value) -> String {
    let x = builder.last(value);
    builder.node(layer, "Transpose", &[&x], &[("perm", Attr::Ints(&[1, 0, 2]))])
}

/// [rows, gates * units] as [gates * units, rows], with ONNX's order of gates.
fn by_gates(
    layer: &Layer<'_>,
    weight: &Tensor,
    gates: &[usize],
    units: usize,
) -> Result<Vec<f32>, KerasError> {
    let elements = weight.elements::<f32>().map_err(|error| layer.error(error.to_string()))?;
    let all = gates.len() * units;
    let rows = elements.len() / all.max(1);
    let mut made = Vec::with_capacity(elements.len());
    for gate in gates {
        for unit in 0..units {
            made.extend((0..rows).map(|row| elements[row * all + gate * units + unit]));
        }
    }
    Ok(made)
}

/// One bias, or two, with ONNX's order of gates.
fn bias_by_gates(
    layer: &Layer<'_>,
    bias: &Tensor,
    gates: &[usize],
    units: usize,
) -> Result<Vec<f32>, KerasError> {
    let elements = bias.elements::<f32>().map_err(|error| layer.error(error.to_string()))?;
    let mut made = Vec::with_capacity(elements.len());
    for one in elements.chunks_exact((gates.len() * units).max(1)) {
        gates.iter().for_each(|gate| made.extend(&one[gate * units..(gate + 1) * units]));
    }
    Ok(made)
}

/// ONNX's names of the activations: of the gates, of the cell, and an LSTM's of the output.
fn activations(layer: &Layer<'_>, is_lstm: bool) -> Result<Vec<String>, KerasError> {
    let onnx = |setting: &str| {
        let name = activation::named(layer, setting)?;
        match &*name {
            "tanh" => Ok("Tanh".to_owned()),
            "sigmoid" => Ok("Sigmoid".to_owned()),
            "relu" => Ok("Relu".to_owned()),
            _ => Err(layer.refused(setting)),
        }
    };
    let (gates, cell) = (onnx("recurrent_activation")?, onnx("activation")?);
    Ok(if is_lstm { vec![gates, cell.clone(), cell] } else { vec![gates, cell] })
}
