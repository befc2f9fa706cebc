//! A model as far as its weights and their users go, and how it is written again.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use innkeeper_tensor::{Buffer, DType, Shape, Tensor};

use super::nodes::{INITIALIZER, NODE, initializer, node};
use super::wire::{Field, Message, fields, packed};

/// The deepest nesting of graphs in graphs that is looked through.
const DEPTH_MAX: usize = 8;
/// What new names end in; a model that has such a name already is refused.
const MARK: &str = "/compressed";

/// An ONNX file, taken apart.
pub(super) struct Model<'a> {
    fields: Vec<Field<'a>>,
    graph: Vec<Field<'a>>,
    nodes: Vec<Node<'a>>,
    pub(super) initializers: Vec<Initializer<'a>>,
    /// Of the domain of ONNX itself.
    pub(super) opset: i64,
    /// Names that nodes of graphs in nodes, or outputs, use.
    elsewhere: HashSet<&'a str>,
    has_microsoft: bool,
}

/// A weight.
pub(super) struct Initializer<'a> {
    pub(super) name: String,
    /// Whether a caller may replace it.
    pub(super) is_input: bool,
    /// `None` where it is no FP32, or its data lie elsewhere.
    pub(super) tensor: Option<Tensor>,
    field: Field<'a>,
}

struct Node<'a> {
    field: Field<'a>,
    op: &'a str,
    domain: &'a str,
    inputs: Vec<&'a str>,
    outputs: Vec<&'a str>,
    /// Attributes that are whole numbers.
    ints: HashMap<&'a str, i64>,
    /// Attributes of other kinds that matter here, which are all factors.
    factors: HashMap<&'a str, f32>,
}

/// What a weight is to the nodes that use it.
pub(super) enum Role {
    /// The right side of products: `[in, out]`, or `[out, in]` where it is turned.
    Product { turned: bool },
    /// A table of rows that Gather picks.
    Table,
    /// The filter of convolutions.
    Filter,
    /// Anything else.
    Other(String),
}

/// What stands for a weight from now on.
pub(super) enum Edit {
    /// Other elements.
    Values(Tensor),
    /// 16-bit floats, cast.
    Cast(Tensor),
    /// UINT8 `[in, out]` with the zero point 128, and a scale for each column.
    Product8 { values: Tensor, scales: Tensor },
    /// As MatMulNBits takes it.
    Product4 { values: Tensor, scales: Tensor, group: usize },
    /// Two matrices `[in, rank]` and `[rank, out]`.
    Factors { left: Tensor, right: Tensor },
    /// INT8 of the table's shape, and a scale for each row.
    Table { values: Tensor, scales: Tensor },
    /// INT8 of the filter's shape, and a scale for each output channel.
    Filter { values: Tensor, scales: Tensor },
}

impl<'a> Model<'a> {
    /// Takes a file apart.
    pub(super) fn read(file: &'a [u8]) -> Result<Model<'a>, String> {
        let of_model = fields(file)?;
        let graph = of_model.iter().find(|field| field.number == 7).and_then(Field::bytes);
        let graph = fields(graph.ok_or("it has no graph")?)?;
        let (mut opset, mut has_microsoft) = (0, false);
        for field in of_model.iter().filter(|field| field.number == 8) {
            let (mut domain, mut version) = ("", 0);
            for field in fields(field.bytes().unwrap_or_default())? {
                match field.number {
                    1 => domain = field.text().unwrap_or_default(),
                    2 => version = field.int().unwrap_or_default(),
                    _ => {}
                }
            }
            match domain {
                "" | "ai.onnx" => opset = version,
                "com.microsoft" => has_microsoft = true,
                _ => {}
            }
        }
        let (mut nodes, mut initializers) = (Vec::new(), Vec::new());
        let (mut elsewhere, mut inputs) = (HashSet::new(), HashSet::new());
        for field in &graph {
            let Some(bytes) = field.bytes() else { continue };
            match field.number {
                NODE => nodes.push(Node::read(*field, bytes, &mut elsewhere)?),
                INITIALIZER => initializers.push(Initializer::read(*field, bytes)?),
                11 => inputs.extend(name_of(bytes, 1)?),
                12 => elsewhere.extend(name_of(bytes, 1)?),
                _ => {}
            }
        }
        for initializer in &mut initializers {
            initializer.is_input = inputs.contains(&*initializer.name);
        }
        let marked = |name: &&str| name.contains(MARK);
        let mut names = nodes.iter().flat_map(|node| node.inputs.iter().chain(&node.outputs));
        if names.any(marked) {
            return Err(format!("it has names with {MARK:?} already"));
        }
        Ok(Model { fields: of_model, graph, nodes, initializers, opset, elsewhere, has_microsoft })
    }

    /// What the initialiser of this name is to all that use it.
    pub(super) fn role(&self, name: &str) -> Role {
        if self.elsewhere.contains(name) {
            return Role::Other("a graph in a node, or is an output".into());
        }
        let mut role = None;
        for user in self.nodes.iter().filter(|node| node.inputs.contains(&name)) {
            let of_user = user.role(name);
            match (&role, of_user) {
                (_, Role::Other(by)) => return Role::Other(by),
                (None, of_user) => role = Some(of_user),
                (Some(Role::Product { turned }), Role::Product { turned: other })
                    if *turned == other => {}
                (Some(Role::Table), Role::Table) | (Some(Role::Filter), Role::Filter) => {}
                _ => return Role::Other("nodes of several kinds".into()),
            }
        }
        role.unwrap_or_else(|| Role::Other("nothing".into()))
    }

    /// What the products by the weight of this name multiply, when that is one value.
    pub(super) fn only_input(&self, weight: &str) -> Option<&'a str> {
        let mut users = self.nodes.iter().filter(|node| node.inputs.contains(&weight));
        let first = users.next()?.inputs.first().copied()?;
        users.all(|user| user.inputs.first() == Some(&first)).then_some(first)
    }

    /// The file with what is multiplied by weights as more outputs, and the names of these.
    pub(super) fn observed(&self) -> (Vec<u8>, Vec<String>) {
        let products = self.initializers.iter().filter(|it| {
            it.tensor.is_some() && matches!(self.role(&it.name), Role::Product { .. })
        });
        let inputs: BTreeSet<&str> =
            products.filter_map(|weight| self.only_input(&weight.name)).collect();
        // What is an output already, or an input that the caller knows, is there.
        let made = |name: &&str| self.nodes.iter().any(|node| node.outputs.contains(name));
        let new: Vec<&str> =
            inputs.into_iter().filter(made).filter(|name| !self.elsewhere.contains(name)).collect();
        let mut graph = Message::default();
        self.graph.iter().for_each(|field| graph.raw(field));
        for name in &new {
            // TypeProto.Tensor of FLOAT, of any shape.
            let (mut of_tensor, mut of_type, mut value) =
                (Message::default(), Message::default(), Message::default());
            of_tensor.int(1, 1);
            of_type.bytes(1, &of_tensor.0);
            value.bytes(1, name.as_bytes());
            value.bytes(2, &of_type.0);
            graph.bytes(12, &value.0);
        }
        let mut model = Message::default();
        for field in &self.fields {
            if field.number == 7 { model.bytes(7, &graph.0) } else { model.raw(field) }
        }
        (model.0, new.into_iter().map(str::to_owned).collect())
    }

    /// The file with these initialisers, by their numbers, edited.
    pub(super) fn write(&self, edits: &HashMap<usize, Edit>) -> Result<Vec<u8>, String> {
        let by_name: BTreeMap<&str, &Edit> =
            edits.iter().map(|(&at, edit)| (&*self.initializers[at].name, edit)).collect();
        let mut graph = Message::default();
        let (mut at_node, mut at_initializer) = (0, 0);
        let mut new = New::default();
        // Nodes that make weights come before all that use them.
        for (name, edit) in &by_name {
            new.make(&mut graph, name, edit);
        }
        for field in &self.graph {
            match (field.number, field.bytes()) {
                (NODE, Some(_)) => {
                    new.user(&mut graph, &self.nodes[at_node], &by_name);
                    at_node += 1;
                }
                (INITIALIZER, Some(_)) => {
                    let it = &self.initializers[at_initializer];
                    match edits.get(&at_initializer) {
                        Some(edit) => edit.initializers(&mut graph, &it.name)?,
                        None => graph.raw(&it.field),
                    }
                    at_initializer += 1;
                }
                _ => graph.raw(field),
            }
        }
        if new.has_zero {
            let zero = Tensor::from_vec(&[], vec![128u8]).map_err(|error| error.to_string())?;
            initializer(&mut graph, ZERO, &zero)?;
        }
        let mut model = Message::default();
        for field in &self.fields {
            if field.number == 7 { model.bytes(7, &graph.0) } else { model.raw(field) }
        }
        if new.has_microsoft && !self.has_microsoft {
            let mut opset = Message::default();
            opset.bytes(1, b"com.microsoft");
            opset.int(2, 1);
            model.bytes(8, &opset.0);
        }
        Ok(model.0)
    }
}

/// The zero point of bytes without a sign.
const ZERO: &str = "zero128/compressed";

/// What was written so far.
#[derive(Default)]
struct New<'a> {
    /// What was quantised as it comes.
    quantised: HashSet<&'a str>,
    has_zero: bool,
    has_microsoft: bool,
}

impl<'a> New<'a> {
    /// Nodes that make a weight of what is kept of it, under its name.
    fn make(&mut self, graph: &mut Message, name: &str, edit: &Edit) {
        let values = format!("{name}{MARK}");
        match edit {
            // TensorProto.FLOAT
            Edit::Cast(_) => node(graph, "Cast", "", &[&values], &[name], &[("to", 1)]),
            Edit::Filter { .. } => {
                let scales = format!("{name}{MARK}_scale");
                let inputs = [&*values, &scales];
                node(graph, "DequantizeLinear", "", &inputs, &[name], &[("axis", 0)]);
            }
            _ => {}
        }
    }

    /// A node, or what does its work with an edited weight.
    fn user(&mut self, graph: &mut Message, user: &Node<'a>, edits: &BTreeMap<&str, &Edit>) {
        let edited = user.weight_at().and_then(|at| {
            let name = *user.inputs.get(at)?;
            Some((name, *edits.get(name)?))
        });
        match edited {
            Some((name, Edit::Product8 { .. })) => self.product8(graph, user, name),
            Some((name, Edit::Product4 { values, group, .. })) => {
                self.product4(graph, user, name, values, *group);
            }
            Some((name, Edit::Factors { .. })) => self.factors(graph, user, name),
            Some((name, Edit::Table { .. })) => table(graph, user, name),
            _ => graph.raw(&user.field),
        }
    }

    fn product8(&mut self, graph: &mut Message, user: &Node<'a>, weight: &str) {
        self.has_zero = true;
        let x = user.inputs[0];
        let [q, step, zero] =
            ["", "_scale", "_zero"].map(|end| format!("{x}{MARK}_quantised{end}"));
        if self.quantised.insert(x) {
            node(graph, "DynamicQuantizeLinear", "", &[x], &[&q, &step, &zero], &[]);
        }
        let y = user.outputs[0];
        let [sums, wide, scale] = ["_sums", "_wide", "_scale"].map(|end| format!("{y}{MARK}{end}"));
        let (values, scales) = (format!("{weight}{MARK}"), format!("{weight}{MARK}_scale"));
        node(graph, "MatMulInteger", "", &[&q, &values, &zero, ZERO], &[&sums], &[]);
        node(graph, "Cast", "", &[&sums], &[&wide], &[("to", 1)]);
        node(graph, "Mul", "", &[&step, &scales], &[&scale], &[]);
        let product = self.before_bias(user);
        node(graph, "Mul", "", &[&wide, &scale], &[&product], &[]);
        self.bias(graph, user, &product);
    }

    fn product4(
        &mut self,
        graph: &mut Message,
        user: &Node<'a>,
        weight: &str,
        values: &Tensor,
        group: usize,
    ) {
        self.has_microsoft = true;
        let &[n, groups, _] = values.shape().dims() else { return };
        let (name, scales) = (format!("{weight}{MARK}"), format!("{weight}{MARK}_scale"));
        let product = self.before_bias(user);
        let [k, n, block] = [groups * group, n, group].map(|size| size as i64);
        let ints = [("K", k), ("N", n), ("bits", 4), ("block_size", block)];
        let inputs = [user.inputs[0], &name, &scales];
        node(graph, "MatMulNBits", "com.microsoft", &inputs, &[&product], &ints);
        self.bias(graph, user, &product);
    }

    fn factors(&mut self, graph: &mut Message, user: &Node<'a>, weight: &str) {
        let between = format!("{}{MARK}_between", user.outputs[0]);
        let product = self.before_bias(user);
        let [left, right] = ["_left", "_right"].map(|end| format!("{weight}{MARK}{end}"));
        node(graph, "MatMul", "", &[user.inputs[0], &left], &[&between], &[]);
        node(graph, "MatMul", "", &[&between, &right], &[&product], &[]);
        self.bias(graph, user, &product);
    }

    /// What a product is called that a bias is added to, or not.
    fn before_bias(&self, user: &Node<'_>) -> String {
        match user.inputs.get(2).filter(|name| !name.is_empty()) {
            Some(_) => format!("{}{MARK}", user.outputs[0]),
            None => user.outputs[0].to_owned(),
        }
    }

    fn bias(&self, graph: &mut Message, user: &Node<'_>, product: &str) {
        if let Some(bias) = user.inputs.get(2).filter(|name| !name.is_empty()) {
            node(graph, "Add", "", &[product, bias], &[user.outputs[0]], &[]);
        }
    }
}

/// Rows are picked as bytes, and each scaled by its own scale.
fn table(graph: &mut Message, user: &Node<'_>, table: &str) {
    let (at, y) = (user.inputs[1], user.outputs[0]);
    let (values, scales) = (format!("{table}{MARK}"), format!("{table}{MARK}_scale"));
    let [rows, wide, of_rows] = ["_rows", "_wide", "_scale"].map(|end| format!("{y}{MARK}{end}"));
    node(graph, "Gather", "", &[&values, at], &[&rows], &[("axis", 0)]);
    node(graph, "Cast", "", &[&rows], &[&wide], &[("to", 1)]);
    node(graph, "Gather", "", &[&scales, at], &[&of_rows], &[("axis", 0)]);
    node(graph, "Mul", "", &[&wide, &of_rows], &[y], &[]);
}

impl Edit {
    /// Adds what is kept of a weight to a graph.
    fn initializers(&self, graph: &mut Message, name: &str) -> Result<(), String> {
        let (values, scale) = (format!("{name}{MARK}"), format!("{name}{MARK}_scale"));
        match self {
            Edit::Values(tensor) => initializer(graph, name, tensor),
            Edit::Cast(tensor) => initializer(graph, &values, tensor),
            Edit::Product8 { values: tensor, scales }
            | Edit::Product4 { values: tensor, scales, .. }
            | Edit::Filter { values: tensor, scales } => {
                initializer(graph, &values, tensor)?;
                initializer(graph, &scale, scales)
            }
            Edit::Factors { left, right } => {
                initializer(graph, &format!("{values}_left"), left)?;
                initializer(graph, &format!("{values}_right"), right)
            }
            Edit::Table { values: tensor, scales } => {
                initializer(graph, &values, tensor)?;
                let mut dims = vec![1; tensor.shape().rank()];
                dims[0] = scales.shape().elements();
                let shape = Shape::new(&dims).map_err(|error| error.to_string())?;
                let column = scales.reshaped(shape).map_err(|error| error.to_string())?;
                initializer(graph, &scale, &column)
            }
        }
    }
}

impl<'a> Node<'a> {
    fn read(
        field: Field<'a>,
        message: &'a [u8],
        elsewhere: &mut HashSet<&'a str>,
    ) -> Result<Node<'a>, String> {
        let mut node = Node {
            field,
            op: "",
            domain: "",
            inputs: Vec::new(),
            outputs: Vec::new(),
            ints: HashMap::new(),
            factors: HashMap::new(),
        };
        for field in fields(message)? {
            match field.number {
                1 => node.inputs.push(field.text().ok_or("an input's name is no text")?),
                2 => node.outputs.push(field.text().ok_or("an output's name is no text")?),
                4 => node.op = field.text().ok_or("an operator's name is no text")?,
                5 => node.attribute(field.bytes().unwrap_or_default(), elsewhere)?,
                7 => node.domain = field.text().ok_or("a domain is no text")?,
                _ => {}
            }
        }
        Ok(node)
    }

    fn attribute(
        &mut self,
        message: &'a [u8],
        elsewhere: &mut HashSet<&'a str>,
    ) -> Result<(), String> {
        let mut name = "";
        for field in fields(message)? {
            match field.number {
                1 => name = field.text().unwrap_or_default(),
                2 => {
                    let bytes = field.raw.last_chunk::<4>().copied().unwrap_or_default();
                    self.factors.insert(name, f32::from_le_bytes(bytes));
                }
                3 => {
                    self.ints.insert(name, field.int().unwrap_or_default());
                }
                6 | 11 => used_inside(field.bytes().unwrap_or_default(), 0, elsewhere)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn int(&self, name: &str) -> i64 {
        self.ints.get(name).copied().unwrap_or_default()
    }

    /// Which input is a weight, for the operators that have one.
    fn weight_at(&self) -> Option<usize> {
        match (self.domain, self.op) {
            ("" | "ai.onnx", "MatMul" | "Gemm" | "Conv") => Some(1),
            ("" | "ai.onnx", "Gather") => Some(0),
            _ => None,
        }
    }

    /// What a weight is to this node.
    fn role(&self, weight: &str) -> Role {
        let other = || Role::Other(self.op.to_owned());
        let once = self.inputs.iter().filter(|name| **name == weight).count() == 1;
        let there = self.weight_at().is_some_and(|at| self.inputs.get(at) == Some(&weight));
        if !once || !there || self.outputs.len() != 1 {
            return other();
        }
        match self.op {
            "MatMul" => Role::Product { turned: false },
            "Gemm" => {
                let plain = ["alpha", "beta"]
                    .iter()
                    .all(|name| self.factors.get(name).is_none_or(|&factor| factor == 1.0));
                match plain && self.int("transA") == 0 {
                    true => Role::Product { turned: self.int("transB") != 0 },
                    false => Role::Other("Gemm with factors or transA".into()),
                }
            }
            "Conv" => Role::Filter,
            "Gather" if self.int("axis") == 0 => Role::Table,
            _ => other(),
        }
    }
}

/// Names that nodes of a graph in a node use.
fn used_inside<'a>(
    graph: &'a [u8],
    depth: usize,
    names: &mut HashSet<&'a str>,
) -> Result<(), String> {
    if depth > DEPTH_MAX {
        return Err(format!("graphs are nested more than {DEPTH_MAX} deep"));
    }
    for field in fields(graph)?.iter().filter(|field| field.number == NODE) {
        for field in fields(field.bytes().unwrap_or_default())? {
            match field.number {
                1 => names.extend(field.text()),
                5 => {
                    for field in fields(field.bytes().unwrap_or_default())? {
                        if matches!(field.number, 6 | 11) {
                            let graph = field.bytes().unwrap_or_default();
                            used_inside(graph, depth + 1, names)?;
                        }
                    }
                }
                _ => {}
            }
        }
    }
    for field in fields(graph)?.iter().filter(|field| field.number == 12) {
        names.extend(name_of(field.bytes().unwrap_or_default(), 1)?);
    }
    Ok(())
}

fn name_of(message: &[u8], number: u64) -> Result<Option<&str>, String> {
    Ok(fields(message)?.iter().find(|field| field.number == number).and_then(Field::text))
}

impl<'a> Initializer<'a> {
    fn read(field: Field<'a>, message: &'a [u8]) -> Result<Initializer<'a>, String> {
        let (mut dims, mut data_type, mut name) = (Vec::new(), 0, "");
        let (mut raw, mut floats, mut external) = (None, Vec::new(), false);
        for field in fields(message)? {
            match field.number {
                1 => packed(&field, &mut dims).ok_or("dimensions are no numbers")?,
                2 => data_type = field.int().unwrap_or_default(),
                4 => match field.bytes() {
                    Some(packed) => floats.extend_from_slice(packed),
                    None => {
                        floats.extend_from_slice(field.raw.last_chunk::<4>().map_or(&[], |b| b))
                    }
                },
                8 => name = field.text().ok_or("an initialiser's name is no text")?,
                9 => raw = field.bytes(),
                13 => external = true,
                14 => external |= field.int() == Some(1),
                _ => {}
            }
        }
        let shape = Shape::from_i64(&dims).map_err(|error| format!("{name:?}: {error}"))?;
        let tensor = (data_type == 1 && !external).then(|| {
            let data = Buffer::aligned_copy(raw.unwrap_or(&floats));
            Tensor::new(DType::Fp32, shape, data)
        });
        let tensor = tensor.transpose().map_err(|error| format!("{name:?}: {error}"))?;
        Ok(Initializer { name: name.to_owned(), is_input: false, tensor, field })
    }
}
