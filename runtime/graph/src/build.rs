//! From a file's messages to the graph that is kept.

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::{Mutex, OnceLock};

use innkeeper_kernels::Run;
use innkeeper_tensor::{RANK_MAX, Tensor, TensorSpec};

use crate::error::{GraphError, Place};
use crate::ir::{Attr, Node, Program, ValueId};
use crate::order::{drop_dead, find_last_uses, sort};
use crate::proto::{self, DEPTH_MAX, Dim, ValueInfo};
use crate::weights::short;
use crate::{LoadLimits, lower, weights};

/// A model, as far as it can be told without computing anything.
#[derive(Debug)]
pub(crate) struct Built {
    pub(crate) program: Program,
    pub(crate) values: usize,
    pub(crate) inputs: Vec<TensorSpec>,
    pub(crate) outputs: Vec<OutputInfo>,
    pub(crate) opset: i64,
}

/// What a file says about an output, which may be nothing.
#[derive(Debug)]
pub(crate) struct OutputInfo {
    pub(crate) name: String,
    pub(crate) dtype: Option<innkeeper_tensor::DType>,
    pub(crate) shape: Option<Vec<Option<usize>>>,
}

pub(crate) fn build(
    model: &proto::Model<'_>,
    limits: &LoadLimits,
    run: &Run<'_>,
) -> Result<Built, GraphError> {
    let graph = model.graph.as_ref().ok_or_else(|| file("it holds no graph"))?;
    let opsets = opsets(&model.opsets)?;
    let opset = *opsets.get("").unwrap_or(&1);
    let functions = model.functions.iter().map(|f| ((f.domain, f.name), f)).collect();
    let mut builder = Builder {
        limits,
        run,
        functions,
        values: 0,
        nodes: 0,
        weight_bytes: 0,
        depth: 0,
        narrow: HashMap::new(),
    };
    let mut scope = Scope::default();
    let program = builder.graph(graph, &Rc::new(opsets), &mut scope, &[])?;
    let given: Vec<&ValueInfo<'_>> = given(graph).collect();
    let inputs = given.iter().map(|info| input_spec(info)).collect::<Result<Vec<_>, _>>()?;
    let outputs = graph.outputs.iter().map(output_info).collect();
    Ok(Built { program, values: builder.values as usize, inputs, outputs, opset })
}

/// The inputs that a caller gives: up to IR version 3 initialisers stand among the inputs too.
fn given<'a, 'b>(graph: &'b proto::Graph<'a>) -> impl Iterator<Item = &'b ValueInfo<'a>> {
    let names: std::collections::HashSet<&str> =
        graph.initializers.iter().map(|tensor| tensor.name).collect();
    graph.inputs.iter().filter(move |info| !names.contains(info.name))
}

fn file(text: impl std::fmt::Display) -> GraphError {
    GraphError::File(text.to_string())
}

type Opsets = HashMap<String, i64>;

fn opsets(list: &[proto::Opset<'_>]) -> Result<Opsets, GraphError> {
    let mut opsets = Opsets::new();
    for opset in list {
        let version = opsets.entry(domain(opset.domain).into()).or_insert(opset.version);
        *version = opset.version.max(*version);
    }
    match opsets.get("") {
        Some(version) if !(7..=lower::OPSET_MAX).contains(version) => Err(GraphError::Limit(
            format!("the model has opset {version}; opsets 7 to {} run", lower::OPSET_MAX),
        )),
        _ => Ok(opsets),
    }
}

/// ONNX's own domain has two names.
fn domain(name: &str) -> &str {
    if name == "ai.onnx" { "" } else { name }
}

fn input_spec(info: &ValueInfo<'_>) -> Result<TensorSpec, GraphError> {
    let wrong = |text: String| file(format_args!("input {:?}: {text}", short(info.name)));
    if info.elem_type == 0 {
        return Err(wrong("it is no tensor; sequences, maps and optionals are not taken".into()));
    }
    let dtype = weights::dtype(info.elem_type).map_err(wrong)?;
    let shape = info.shape.as_ref().map(|dims| sizes(dims));
    if shape.as_ref().is_some_and(|dims| dims.len() > RANK_MAX) {
        return Err(wrong(format!("it has more than {RANK_MAX} dimensions")));
    }
    Ok(TensorSpec { name: info.name.into(), dtype, shape, optional: false })
}

fn sizes(dims: &[Dim]) -> Vec<Option<usize>> {
    // Writers put 0 or -1 where a size is not known.
    let size = |dim: &Dim| match dim {
        Dim::Size(size) if *size > 0 => usize::try_from(*size).ok(),
        _ => None,
    };
    dims.iter().map(size).collect()
}

fn output_info(info: &ValueInfo<'_>) -> OutputInfo {
    OutputInfo {
        name: info.name.into(),
        dtype: weights::dtype(info.elem_type).ok(),
        shape: info.shape.as_ref().filter(|dims| dims.len() <= RANK_MAX).map(|dims| sizes(dims)),
    }
}

/// The names that can be seen, of the graphs around first.
#[derive(Default)]
struct Scope<'a> {
    levels: Vec<HashMap<&'a str, ValueId>>,
}

impl<'a> Scope<'a> {
    fn find(&self, name: &str) -> Option<ValueId> {
        self.levels.iter().rev().find_map(|level| level.get(name).copied())
    }
}

struct Builder<'a, 'm> {
    limits: &'a LoadLimits,
    run: &'a Run<'a>,
    functions: HashMap<(&'m str, &'m str), &'m proto::Function<'m>>,
    values: ValueId,
    nodes: usize,
    weight_bytes: u64,
    depth: usize,
    /// Which values have 4 bits, by ONNX's number of the type: the tensors that stand for them have 8.
    narrow: HashMap<ValueId, i64>,
}

/// The attributes that the call of a function gave it.
type Given<'a> = [proto::Attribute<'a>];

impl<'m> Builder<'_, 'm> {
    fn fresh(&mut self) -> ValueId {
        self.values += 1;
        self.values - 1
    }

    fn graph(
        &mut self,
        graph: &proto::Graph<'m>,
        opsets: &Rc<Opsets>,
        scope: &mut Scope<'m>,
        given: &Given<'m>,
    ) -> Result<Program, GraphError> {
        if graph.sparse > 0 {
            return Err(file("sparse initialisers are not supported; store them dense"));
        }
        scope.levels.push(HashMap::new());
        let mut program = Program::default();
        for proto in &graph.initializers {
            let tensor = self.weight(proto)?;
            let id = self.define(proto.name, scope)?;
            self.note(id, proto.data_type);
            program.constants.push((id, tensor));
        }
        for info in &graph.inputs {
            let known = scope.levels.last().and_then(|level| level.get(info.name));
            if known.is_some_and(|id| program.constants.iter().any(|(other, _)| other == id)) {
                continue;
            }
            let id = self.define(info.name, scope)?;
            self.note(id, info.elem_type);
            program.inputs.push(id);
        }
        self.nodes(&graph.nodes, opsets, scope, given, &mut program)?;
        for info in &graph.outputs {
            let id = scope.find(info.name).ok_or_else(|| {
                file(format_args!("output {:?} is computed by no node", short(info.name)))
            })?;
            program.outputs.push(id);
        }
        scope.levels.pop();
        sort(&mut program)?;
        drop_dead(&mut program);
        find_last_uses(&mut program);
        Ok(program)
    }

    fn define(&mut self, name: &'m str, scope: &mut Scope<'m>) -> Result<ValueId, GraphError> {
        let id = self.fresh();
        let level = scope.levels.last_mut().ok_or_else(|| file("it holds no graph"))?;
        if name.is_empty() || level.insert(name, id).is_some() {
            return Err(file(format_args!(
                "the name {:?} is given to two values; names are unique",
                short(name)
            )));
        }
        Ok(id)
    }

    fn note(&mut self, id: ValueId, data_type: i64) {
        if matches!(data_type, 21 | 22) {
            self.narrow.insert(id, data_type);
        }
    }

    /// Says in an attribute what an operand's dtype does not tell: that a result has 4 bits.
    fn narrowed(&mut self, node: &mut Node) {
        let of = |index: usize| {
            let id = node.inputs.get(index).copied().flatten()?;
            self.narrow.get(&id).copied()
        };
        let said = |name: &str| match node.attributes.get(name) {
            Some(Attr::Int(data_type)) => Some(*data_type),
            _ => None,
        };
        let (name, data_type) = match node.op_type.as_str() {
            "CastLike" => ("to", of(1)),
            "Cast" => ("to", said("to")),
            "QuantizeLinear" => ("output_dtype", of(2).or(said("output_dtype"))),
            "Identity" | "Reshape" | "Transpose" | "Squeeze" | "Unsqueeze" | "Flatten"
            | "Slice" | "Gather" | "Concat" | "Split" | "Expand" => ("", of(0)),
            _ => return,
        };
        let Some(data_type) = data_type.filter(|data_type| matches!(data_type, 21 | 22)) else {
            return;
        };
        if !name.is_empty() {
            node.attributes.insert(name.into(), Attr::Int(data_type));
        }
        for id in node.outputs.iter().flatten() {
            self.narrow.insert(*id, data_type);
        }
    }

    fn weight(&mut self, proto: &proto::TensorProto<'m>) -> Result<Tensor, GraphError> {
        let max = self.limits.weight_bytes_max;
        self.run.check().map_err(|_| GraphError::Stopped)?;
        let tensor = weights::tensor(proto).map_err(GraphError::File)?;
        self.weight_bytes += tensor.as_bytes().len() as u64;
        if self.weight_bytes > max {
            return Err(GraphError::Limit(format!(
                "the model's constants take more than {max} bytes"
            )));
        }
        Ok(tensor)
    }

    fn nodes(
        &mut self,
        nodes: &[proto::Node<'m>],
        opsets: &Rc<Opsets>,
        scope: &mut Scope<'m>,
        given: &Given<'m>,
        program: &mut Program,
    ) -> Result<(), GraphError> {
        self.nodes += nodes.len();
        if self.nodes > self.limits.nodes_max {
            let max = self.limits.nodes_max;
            return Err(GraphError::Limit(format!("the model has more than {max} nodes")));
        }
        // Results first: a file may list its nodes in any order.
        for node in nodes {
            for name in node.outputs.iter().filter(|name| !name.is_empty()) {
                self.define(name, scope)?;
            }
        }
        for node in nodes {
            self.run.check().map_err(|_| GraphError::Stopped)?;
            self.node(node, opsets, scope, given, program)?;
        }
        Ok(())
    }

    fn node(
        &mut self,
        node: &proto::Node<'m>,
        opsets: &Rc<Opsets>,
        scope: &mut Scope<'m>,
        given: &Given<'m>,
        program: &mut Program,
    ) -> Result<(), GraphError> {
        let name = match (node.name, node.outputs.iter().find(|name| !name.is_empty())) {
            ("", Some(output)) => short(output),
            (name, _) => short(name),
        };
        let find = |input: &&str| {
            match *input {
            "" => Ok(None),
            input => scope.find(input).map(Some).ok_or_else(|| {
                file(format_args!(
                    "node {name:?} ({}) reads {:?}, which is no input, no initialiser and no node's result",
                    short(node.op_type),
                    short(input)
                ))
            }),
        }
        };
        let inputs = node.inputs.iter().map(find).collect::<Result<Vec<_>, _>>()?;
        let outputs: Vec<_> = node.outputs.iter().map(|output| scope.find(output)).collect();
        let domain = domain(node.domain);
        let attributes = resolved(&node.attributes, given);
        if let Some(function) = self.functions.get(&(node.domain, node.op_type)).copied() {
            return self.call(function, attributes, opsets, &inputs, &outputs, program);
        }
        let place = || Place {
            operator: match domain {
                "" => short(node.op_type),
                domain => short(&format!("{domain}.{}", node.op_type)),
            },
            node: name.clone(),
            opset: opsets.get(domain).copied().unwrap_or(1),
        };
        let lower = lower::find(domain, node.op_type)
            .map_err(|reason| GraphError::Unsupported { place: Box::new(place()), reason })?;
        let mut kept = HashMap::with_capacity(attributes.len());
        let first_inside = self.values;
        for attribute in &attributes {
            let attr =
                self.attribute(attribute, opsets, scope, given).map_err(
                    |problem| match problem {
                        Problem::Here(problem) => {
                            GraphError::Node { place: Box::new(place()), problem }
                        }
                        Problem::Inside(error) => error,
                    },
                )?;
            kept.insert(attribute.name.to_owned(), attr);
        }
        let mut captures = Vec::new();
        for attr in kept.values() {
            if let Attr::Graph(program) = attr {
                captured(program, first_inside, &mut captures);
            }
        }
        let mut made = Node {
            version: opsets.get(domain).copied().unwrap_or(1),
            op_type: node.op_type.into(),
            domain: domain.into(),
            attributes: kept,
            name,
            lower,
            inputs,
            outputs,
            captures,
            ensemble: None,
            table: OnceLock::new(),
            kept: Mutex::default(),
        };
        self.narrowed(&mut made);
        if domain == "ai.onnx.ml" && made.op_type.starts_with("TreeEnsemble") {
            let ensemble = lower::ensemble(&made).map_err(|fail| fail.at(|| made.place()))?;
            made.ensemble = Some(ensemble);
            // What was laid out is not needed in its lists too.
            made.attributes.clear();
        }
        program.nodes.push(made);
        Ok(())
    }

    /// The nodes of a function's body, in place of its call.
    fn call(
        &mut self,
        function: &'m proto::Function<'m>,
        attributes: Vec<proto::Attribute<'m>>,
        around: &Rc<Opsets>,
        inputs: &[Option<ValueId>],
        outputs: &[Option<ValueId>],
        program: &mut Program,
    ) -> Result<(), GraphError> {
        if self.depth >= DEPTH_MAX {
            return Err(file(format_args!(
                "function {:?} calls others more than {DEPTH_MAX} deep",
                short(function.name)
            )));
        }
        let mut opsets = (**around).clone();
        for opset in &function.opsets {
            opsets.insert(domain(opset.domain).into(), opset.version);
        }
        let mut given = attributes;
        for default in &function.defaults {
            if !given.iter().any(|attribute| attribute.name == default.name) {
                given.push(default.clone());
            }
        }
        let mut scope = Scope { levels: vec![HashMap::new()] };
        let mut missing = Vec::new();
        for (i, name) in function.inputs.iter().enumerate() {
            match inputs.get(i).copied().flatten() {
                Some(id) => drop(scope.levels[0].insert(name, id)),
                None => missing.push(*name),
            }
        }
        // An operand that the call leaves out is left out by the nodes of the body too.
        let nodes: Vec<proto::Node<'m>> = function
            .nodes
            .iter()
            .map(|node| {
                let mut node = node.clone();
                for input in &mut node.inputs {
                    if missing.contains(input) {
                        *input = "";
                    }
                }
                node
            })
            .collect();
        self.depth += 1;
        self.nodes(&nodes, &Rc::new(opsets), &mut scope, &given, program)?;
        self.depth -= 1;
        let identity = lower::find("", "Identity").map_err(file)?;
        for (name, output) in function.outputs.iter().zip(outputs) {
            let Some(output) = output else { continue };
            let inside = scope.find(name).ok_or_else(|| {
                file(format_args!(
                    "function {:?} has no value for its result {:?}",
                    short(function.name),
                    short(name)
                ))
            })?;
            program.nodes.push(Node {
                name: short(name),
                op_type: "Identity".into(),
                domain: String::new(),
                version: 13,
                lower: identity,
                inputs: vec![Some(inside)],
                outputs: vec![Some(*output)],
                attributes: HashMap::new(),
                captures: Vec::new(),
                ensemble: None,
                table: OnceLock::new(),
                kept: Mutex::default(),
            });
        }
        Ok(())
    }

    fn attribute(
        &mut self,
        attribute: &proto::Attribute<'m>,
        opsets: &Rc<Opsets>,
        scope: &mut Scope<'m>,
        given: &Given<'m>,
    ) -> Result<Attr, Problem> {
        if let Some(tensor) = &attribute.tensor {
            return Ok(Attr::Tensor(self.weight(tensor)?));
        }
        if let Some(graph) = &attribute.graph {
            return Ok(Attr::Graph(Box::new(self.graph(graph, opsets, scope, given)?)));
        }
        plain(attribute).ok_or_else(|| {
            let name = short(attribute.name);
            Problem::Here(format!("attribute {name:?} has no value that this executor reads"))
        })
    }
}

/// What is wrong with an attribute, or inside of the graph that it holds.
enum Problem {
    Here(String),
    Inside(GraphError),
}

impl From<GraphError> for Problem {
    fn from(error: GraphError) -> Problem {
        Problem::Inside(error)
    }
}

fn plain(attribute: &proto::Attribute<'_>) -> Option<Attr> {
    let text = |bytes: &[u8]| Attr::Text(bytes.to_vec());
    Some(match attribute.kind {
        1 => Attr::Float(attribute.float.unwrap_or_default()),
        2 => Attr::Int(attribute.int.unwrap_or_default()),
        3 => text(attribute.bytes.unwrap_or_default()),
        6 => Attr::Floats(attribute.floats.clone()),
        7 => Attr::Ints(attribute.ints.clone()),
        8 => Attr::Texts(attribute.strings.iter().map(|bytes| bytes.to_vec()).collect()),
        // Writers of old files left the type out.
        0 => match attribute {
            proto::Attribute { float: Some(float), .. } => Attr::Float(*float),
            proto::Attribute { int: Some(int), .. } => Attr::Int(*int),
            proto::Attribute { bytes: Some(bytes), .. } => text(bytes),
            proto::Attribute { floats, .. } if !floats.is_empty() => Attr::Floats(floats.clone()),
            proto::Attribute { strings, .. } if !strings.is_empty() => {
                Attr::Texts(strings.iter().map(|bytes| bytes.to_vec()).collect())
            }
            proto::Attribute { ints, .. } => Attr::Ints(ints.clone()),
        },
        _ => return None,
    })
}

/// The attributes, with those of the function's call in place of what refers to them.
fn resolved<'m>(
    attributes: &[proto::Attribute<'m>],
    given: &Given<'m>,
) -> Vec<proto::Attribute<'m>> {
    let resolve = |attribute: &proto::Attribute<'m>| {
        if attribute.reference.is_empty() {
            return Some(attribute.clone());
        }
        let value = given.iter().find(|other| other.name == attribute.reference)?;
        Some(proto::Attribute { name: attribute.name, ..value.clone() })
    };
    attributes.iter().filter_map(resolve).collect()
}

/// The values from outside that a body reads: those made before it.
fn captured(program: &Program, first_inside: ValueId, captures: &mut Vec<ValueId>) {
    let read =
        program.nodes.iter().flat_map(|node| node.inputs.iter().flatten().chain(&node.captures));
    for &id in read.chain(&program.outputs) {
        if id < first_inside && !captures.contains(&id) {
            captures.push(id);
        }
    }
}
