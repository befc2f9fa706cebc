//! The ONNX graph as it grows, and the values in it.

use std::collections::{BTreeMap, HashMap, HashSet};

use innkeeper_tensor::{DType, Tensor};
use serde_json::Value as Json;

use super::config::{self, Layer, Source};
use super::file::File;
use super::{KerasError, layers};
use crate::onnx::{self, Attr, GraphProto, NodeProto};

/// What a layer gives.
#[derive(Clone, Debug)]
pub(super) struct Value {
    /// Its name in the graph with the channels last, as Keras has them.
    last: Option<String>,
    /// Its name with the channels first, as ONNX's convolutions have them.
    first: Option<String>,
    /// As Keras has it, the batch first; `None` where it is not known.
    pub(super) shape: Vec<Option<usize>>,
    pub(super) dtype: DType,
}

impl Value {
    pub(super) fn rank(&self) -> usize {
        self.shape.len()
    }

    /// The size along the last axis, which has to be known.
    pub(super) fn channels(&self, layer: &Layer<'_>) -> Result<usize, KerasError> {
        let known = self.shape.last().copied().flatten();
        known.ok_or_else(|| layer.error("the size of its input's last axis is not known"))
    }

    /// An axis as a place from 0.
    pub(super) fn axis(&self, layer: &Layer<'_>, axis: i64) -> Result<usize, KerasError> {
        let place = if axis < 0 { axis + self.rank() as i64 } else { axis };
        (usize::try_from(place).ok().filter(|place| *place < self.rank()))
            .ok_or_else(|| layer.error(format!("axis {axis} of an input of {} axes", self.rank())))
    }
}

/// Nodes and constants so far.
pub(super) struct Builder<'a> {
    pub(super) file: &'a File,
    graph: GraphProto,
    names: HashSet<String>,
}

/// The model of a file.
pub(super) fn onnx(file: &File) -> Result<Vec<u8>, KerasError> {
    let graph = GraphProto { name: Some("keras".to_owned()), ..GraphProto::default() };
    let mut builder = Builder { file, graph, names: HashSet::new() };
    let layers = config::layers(&file.config)?;
    match file.config["class_name"].as_str() {
        Some("Sequential") => sequential(&mut builder, &layers)?,
        _ => functional(&mut builder, &layers)?,
    }
    let known: HashSet<&str> = layers.iter().map(|layer| &*layer.name).collect();
    match file.layers.keys().find(|name| !known.contains(name.as_str())) {
        Some(name) => {
            Err(KerasError::file(format!("it has weights of {name:?}, which is no layer")))
        }
        None => Ok(onnx::model(builder.graph)),
    }
}

fn sequential(builder: &mut Builder<'_>, layers: &[Layer<'_>]) -> Result<(), KerasError> {
    let (first, rest) = layers.split_first().ok_or_else(|| KerasError::file("it has no layers"))?;
    let is_input = first.class == "InputLayer";
    let rest = if is_input { rest } else { layers };
    let name = if is_input { first.name.clone() } else { format!("{}_input", first.name) };
    // A model that was built without an input layer knows its shape as a whole.
    let shape = match shape_setting(first.config) {
        Json::Null => &builder.file.config["config"]["build_input_shape"],
        shape => shape,
    };
    let mut value = builder.input(first, &name, shape)?;
    let count = rest.len();
    for (place, layer) in rest.iter().enumerate() {
        let is_output = place + 1 == count;
        value = layers::apply(builder, layer, vec![value])?;
        if is_output {
            builder.output(&layer.name, &mut value);
        }
    }
    match count {
        0 => Err(KerasError::file("it has no layers but its input")),
        _ => Ok(()),
    }
}

fn functional(builder: &mut Builder<'_>, layers: &[Layer<'_>]) -> Result<(), KerasError> {
    let inputs = config::ends(&builder.file.config, "input_layers")?;
    let outputs = config::ends(&builder.file.config, "output_layers")?;
    let by_name: HashMap<&str, &Layer<'_>> =
        layers.iter().map(|layer| (&*layer.name, layer)).collect();
    let mut values: BTreeMap<Source, Value> = BTreeMap::new();
    for source in &inputs {
        let layer = by_name.get(&*source.layer).filter(|layer| layer.class == "InputLayer");
        let layer = layer.ok_or_else(|| {
            KerasError::file(format!("its input {:?} is no input layer", source.layer))
        })?;
        let value = builder.input(layer, &layer.name, shape_setting(layer.config))?;
        values.insert(source.clone(), value);
    }
    let mut waiting: Vec<(Source, &Layer<'_>, Vec<Source>)> = Vec::new();
    for layer in layers.iter().filter(|layer| layer.class != "InputLayer") {
        for (node, sources) in layer.sources()?.into_iter().enumerate() {
            waiting.push((Source { layer: layer.name.clone(), node }, layer, sources));
        }
    }
    // Layers stand in an order in which they can be applied, but for odd files: those take another round.
    while !waiting.is_empty() {
        let before = waiting.len();
        let mut later = Vec::new();
        for (made, layer, sources) in waiting {
            let found: Option<Vec<Value>> =
                sources.iter().map(|source| values.get(source).cloned()).collect();
            match found {
                Some(found) => {
                    values.insert(made, layers::apply(builder, layer, found)?);
                }
                None => later.push((made, layer, sources)),
            }
        }
        if later.len() == before {
            return Err(later[0].1.error("what it is applied to is nowhere, or its own result"));
        }
        waiting = later;
    }
    for source in &outputs {
        let mut value = values.get(source).cloned().ok_or_else(|| {
            KerasError::file(format!("its output {:?} is no layer's result", source.layer))
        })?;
        builder.output(&source.layer, &mut value);
    }
    Ok(())
}

/// The shape that a layer says its input has: Keras 3 and Keras 2 call it differently.
fn shape_setting(config: &Json) -> &Json {
    match &config["batch_shape"] {
        Json::Null => &config["batch_input_shape"],
        shape => shape,
    }
}

impl Builder<'_> {
    /// An input of the model.
    fn input(&mut self, layer: &Layer<'_>, name: &str, shape: &Json) -> Result<Value, KerasError> {
        let dim = |dim: &Json| match dim {
            Json::Null => Some(None),
            dim => usize::try_from(dim.as_u64()?).ok().filter(|dim| *dim > 0).map(Some),
        };
        let dims: Option<Vec<Option<usize>>> =
            shape.as_array().and_then(|dims| dims.iter().map(dim).collect());
        let mut shape = dims.filter(|dims| (1..=8).contains(&dims.len())).ok_or_else(|| {
            layer.error("the shape of the model's input is not known; call the model once, and save it again")
        })?;
        // Whatever the batch was when the model was made: requests come in any number.
        shape[0] = None;
        let is_input = layer.class == "InputLayer";
        let dtype = match layer.config["dtype"].as_str().filter(|_| is_input) {
            None | Some("float32") => DType::Fp32,
            Some("int32") => DType::Int32,
            Some("int64") => DType::Int64,
            Some("uint8") => DType::Uint8,
            Some(_) => return Err(layer.refused("dtype")),
        };
        layer.off(&["sparse", "ragged"])?;
        self.claim(name)?;
        let param = |axis| if axis == 0 { "N".to_owned() } else { format!("{name}_{axis}") };
        self.graph.input.push(onnx::value_info(name, dtype, &shape, param));
        Ok(Value { last: Some(name.to_owned()), first: None, shape, dtype })
    }

    /// Makes a value an output of the model under this name.
    fn output(&mut self, name: &str, value: &mut Value) {
        let from = self.last(value);
        let name = self.fresh(name);
        self.push("Identity", &[&from], &name, &[]);
        let param = |axis| if axis == 0 { "N".to_owned() } else { format!("{name}_{axis}") };
        self.graph.output.push(onnx::value_info(&name, value.dtype, &value.shape, param));
    }

    fn claim(&mut self, name: &str) -> Result<(), KerasError> {
        match name.is_empty() || !self.names.insert(name.to_owned()) {
            true => Err(KerasError::file(format!("two inputs are called {name:?}"))),
            false => Ok(()),
        }
    }

    /// A name that nothing has yet.
    fn fresh(&mut self, wanted: &str) -> String {
        let mut name = wanted.to_owned();
        let mut number = 1;
        while !self.names.insert(name.clone()) {
            name = format!("{wanted}_{number}");
            number += 1;
        }
        name
    }

    fn push(&mut self, op: &str, inputs: &[&str], output: &str, attributes: &[(&str, Attr<'_>)]) {
        self.graph.node.push(NodeProto {
            input: inputs.iter().map(|&input| input.to_owned()).collect(),
            output: vec![output.to_owned()],
            name: Some(output.to_owned()),
            op_type: Some(op.to_owned()),
            attribute: attributes
                .iter()
                .map(|(name, value)| onnx::attribute(name, value))
                .collect(),
        });
    }

    /// Adds an operator for a layer; the name of its result.
    pub(super) fn node(
        &mut self,
        layer: &Layer<'_>,
        op: &str,
        inputs: &[&str],
        attributes: &[(&str, Attr<'_>)],
    ) -> String {
        let name = self.fresh(&format!("{}/{op}", layer.name));
        self.push(op, inputs, &name, attributes);
        name
    }

    /// Adds a recurrent operator; the names of its two first results.
    pub(super) fn recurrent(
        &mut self,
        layer: &Layer<'_>,
        op: &str,
        inputs: &[&str],
        attributes: &[(&str, Attr<'_>)],
    ) -> [String; 2] {
        let all = self.node(layer, op, inputs, attributes);
        let end = self.fresh(&format!("{}/end", layer.name));
        if let Some(node) = self.graph.node.last_mut() {
            node.output.push(end.clone());
        }
        [all, end]
    }

    /// Adds a constant; its name.
    pub(super) fn constant(&mut self, layer: &Layer<'_>, what: &str, tensor: &Tensor) -> String {
        let name = self.fresh(&format!("{}/{what}", layer.name));
        self.graph.initializer.push(onnx::constant(&name, tensor));
        name
    }

    /// Adds a constant of whole numbers, such as axes.
    pub(super) fn ints(
        &mut self,
        layer: &Layer<'_>,
        what: &str,
        values: &[i64],
    ) -> Result<String, KerasError> {
        let tensor = Tensor::from_vec(&[values.len()], values.to_vec());
        let tensor = tensor.map_err(|error| layer.error(error.to_string()))?;
        Ok(self.constant(layer, what, &tensor))
    }

    /// Adds one FP32 number.
    pub(super) fn scalar(&mut self, layer: &Layer<'_>, value: f64) -> Result<String, KerasError> {
        let tensor = Tensor::from_vec(&[], vec![value as f32]);
        let tensor = tensor.map_err(|error| layer.error(error.to_string()))?;
        Ok(self.constant(layer, "number", &tensor))
    }

    /// Adds FP32 numbers of a shape.
    pub(super) fn floats(
        &mut self,
        layer: &Layer<'_>,
        what: &str,
        shape: &[usize],
        values: Vec<f32>,
    ) -> Result<String, KerasError> {
        let tensor = Tensor::from_vec(shape, values);
        let tensor = tensor.map_err(|error| layer.error(error.to_string()))?;
        Ok(self.constant(layer, what, &tensor))
    }

    /// A value's name with the channels last.
    pub(super) fn last(&mut self, value: &mut Value) -> String {
        if let Some(name) = &value.last {
            return name.clone();
        }
        let rank = value.rank() as i64;
        let order: Vec<i64> = [0].into_iter().chain(2..rank).chain([1]).collect();
        self.turn(value.first.clone().unwrap_or_default(), &order, &mut value.last)
    }

    /// A value's name with the channels first.
    pub(super) fn first(&mut self, value: &mut Value) -> String {
        if let Some(name) = &value.first {
            return name.clone();
        }
        let rank = value.rank() as i64;
        let order: Vec<i64> = [0, rank - 1].into_iter().chain(1..rank - 1).collect();
        self.turn(value.last.clone().unwrap_or_default(), &order, &mut value.first)
    }

    fn turn(&mut self, from: String, order: &[i64], into: &mut Option<String>) -> String {
        let name = self.fresh(&format!("{from}/turned"));
        self.push("Transpose", &[&from], &name, &[("perm", Attr::Ints(order))]);
        into.insert(name).clone()
    }

    /// Applies operators that treat every element alike, in whichever order the elements lie.
    pub(super) fn elementwise(
        &mut self,
        value: &mut Value,
        apply: impl FnOnce(&mut Self, String) -> Result<String, KerasError>,
    ) -> Result<(), KerasError> {
        let (name, is_first) = match (&value.last, &value.first) {
            (None, Some(first)) => (first.clone(), true),
            (last, _) => (last.clone().unwrap_or_default(), false),
        };
        let made = Some(apply(self, name)?);
        (value.last, value.first) = if is_first { (None, made) } else { (made, None) };
        Ok(())
    }

    /// The value of a name with the channels last.
    pub(super) fn made(&self, last: String, shape: Vec<Option<usize>>) -> Value {
        Value { last: Some(last), first: None, shape, dtype: DType::Fp32 }
    }

    /// The value of a name with the channels first; the shape has them last.
    pub(super) fn made_first(&self, first: String, shape: Vec<Option<usize>>) -> Value {
        Value { last: None, first: Some(first), shape, dtype: DType::Fp32 }
    }

    /// A layer's weights, which must be FP32 and of these shapes.
    pub(super) fn weights(
        &self,
        layer: &Layer<'_>,
        wanted: &[&[usize]],
    ) -> Result<Vec<Tensor>, KerasError> {
        let weights = self.file.layers.get(&layer.name).map_or(&[][..], Vec::as_slice);
        if weights.len() != wanted.len() {
            let (got, wanted) = (weights.len(), wanted.len());
            return Err(
                layer.error(format!("the file has {got} weights of it, and it takes {wanted}"))
            );
        }
        for (place, (tensor, wanted)) in weights.iter().zip(wanted).enumerate() {
            if tensor.dtype() != DType::Fp32 || tensor.shape().dims() != *wanted {
                let (dtype, shape) = (tensor.dtype(), tensor.shape());
                let problem =
                    format!("its weight {place} is {dtype}{shape}, and it takes FP32{wanted:?}");
                return Err(layer.error(problem));
            }
        }
        Ok(weights.to_vec())
    }
}
