//! The messages of an ONNX file, as far as running it needs them.
//!
//! They borrow from the file, so that reading one costs no more memory than its structure; weights stay where they
//! are. Field numbers are those of `onnx.proto`.

use crate::wire::{Span, WireError};

/// The deepest nesting of graphs in graphs that is read.
pub(crate) const DEPTH_MAX: usize = 8;

/// Why a file is no model.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProtoError {
    #[error(transparent)]
    Wire(#[from] WireError),
    #[error("graphs are nested more than {DEPTH_MAX} deep")]
    Depth,
}

type Result<T> = std::result::Result<T, ProtoError>;

#[derive(Debug, Default)]
pub(crate) struct Model<'a> {
    pub(crate) ir_version: i64,
    pub(crate) opsets: Vec<Opset<'a>>,
    pub(crate) graph: Option<Graph<'a>>,
    pub(crate) functions: Vec<Function<'a>>,
}

#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Opset<'a> {
    pub(crate) domain: &'a str,
    pub(crate) version: i64,
}

#[derive(Debug, Default, Clone)]
pub(crate) struct Graph<'a> {
    pub(crate) nodes: Vec<Node<'a>>,
    pub(crate) initializers: Vec<TensorProto<'a>>,
    pub(crate) sparse: usize,
    pub(crate) inputs: Vec<ValueInfo<'a>>,
    pub(crate) outputs: Vec<ValueInfo<'a>>,
}

#[derive(Debug, Default, Clone)]
pub(crate) struct Node<'a> {
    pub(crate) name: &'a str,
    pub(crate) op_type: &'a str,
    pub(crate) domain: &'a str,
    pub(crate) inputs: Vec<&'a str>,
    pub(crate) outputs: Vec<&'a str>,
    pub(crate) attributes: Vec<Attribute<'a>>,
}

#[derive(Debug, Default, Clone)]
pub(crate) struct Attribute<'a> {
    pub(crate) name: &'a str,
    /// AttributeProto.AttributeType; 0 where a writer left it out.
    pub(crate) kind: i64,
    pub(crate) float: Option<f32>,
    pub(crate) int: Option<i64>,
    pub(crate) bytes: Option<&'a [u8]>,
    pub(crate) tensor: Option<TensorProto<'a>>,
    pub(crate) graph: Option<Box<Graph<'a>>>,
    pub(crate) floats: Vec<f32>,
    pub(crate) ints: Vec<i64>,
    pub(crate) strings: Vec<&'a [u8]>,
    /// The attribute of the function around it that this one stands for.
    pub(crate) reference: &'a str,
}

#[derive(Debug, Default, Clone)]
pub(crate) struct TensorProto<'a> {
    pub(crate) name: &'a str,
    pub(crate) dims: Vec<i64>,
    pub(crate) data_type: i64,
    pub(crate) raw: Option<Span<'a>>,
    pub(crate) floats: Vec<f32>,
    pub(crate) ints: Vec<i64>,
    pub(crate) doubles: Vec<f64>,
    pub(crate) strings: Vec<&'a [u8]>,
    pub(crate) external: bool,
}

#[derive(Debug, Default, Clone)]
pub(crate) struct ValueInfo<'a> {
    pub(crate) name: &'a str,
    /// 0 when it is no tensor.
    pub(crate) elem_type: i64,
    pub(crate) shape: Option<Vec<Dim>>,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Dim {
    Size(i64),
    /// It has a name, or none.
    Unknown,
}

#[derive(Debug, Default, Clone)]
pub(crate) struct Function<'a> {
    pub(crate) name: &'a str,
    pub(crate) domain: &'a str,
    pub(crate) inputs: Vec<&'a str>,
    pub(crate) outputs: Vec<&'a str>,
    pub(crate) defaults: Vec<Attribute<'a>>,
    pub(crate) nodes: Vec<Node<'a>>,
    pub(crate) opsets: Vec<Opset<'a>>,
}

impl<'a> Model<'a> {
    pub(crate) fn read(bytes: &'a [u8]) -> Result<Model<'a>> {
        let mut message = Span::of(bytes);
        let mut model = Model::default();
        while let Some(field) = message.next()? {
            match field.number {
                1 => model.ir_version = field.int()?,
                7 => model.graph = Some(Graph::read(field.span()?, 0)?),
                8 => model.opsets.push(Opset::read(field.span()?)?),
                25 => model.functions.push(Function::read(field.span()?)?),
                _ => {}
            }
        }
        Ok(model)
    }
}

impl<'a> Opset<'a> {
    fn read(mut message: Span<'a>) -> Result<Opset<'a>> {
        let mut opset = Opset::default();
        while let Some(field) = message.next()? {
            match field.number {
                1 => opset.domain = field.text()?,
                2 => opset.version = field.int()?,
                _ => {}
            }
        }
        Ok(opset)
    }
}

impl<'a> Graph<'a> {
    fn read(mut message: Span<'a>, depth: usize) -> Result<Graph<'a>> {
        if depth > DEPTH_MAX {
            return Err(ProtoError::Depth);
        }
        let mut graph = Graph::default();
        while let Some(field) = message.next()? {
            match field.number {
                1 => graph.nodes.push(Node::read(field.span()?, depth)?),
                5 => graph.initializers.push(TensorProto::read(field.span()?)?),
                11 => graph.inputs.push(ValueInfo::read(field.span()?)?),
                12 => graph.outputs.push(ValueInfo::read(field.span()?)?),
                15 => graph.sparse += 1,
                _ => {}
            }
        }
        Ok(graph)
    }
}

impl<'a> Node<'a> {
    fn read(mut message: Span<'a>, depth: usize) -> Result<Node<'a>> {
        let mut node = Node::default();
        while let Some(field) = message.next()? {
            match field.number {
                1 => node.inputs.push(field.text()?),
                2 => node.outputs.push(field.text()?),
                3 => node.name = field.text()?,
                4 => node.op_type = field.text()?,
                5 => node.attributes.push(Attribute::read(field.span()?, depth)?),
                7 => node.domain = field.text()?,
                _ => {}
            }
        }
        Ok(node)
    }
}

impl<'a> Attribute<'a> {
    fn read(mut message: Span<'a>, depth: usize) -> Result<Attribute<'a>> {
        let mut attribute = Attribute::default();
        while let Some(field) = message.next()? {
            match field.number {
                1 => attribute.name = field.text()?,
                2 => attribute.float = Some(field.float()?),
                3 => attribute.int = Some(field.int()?),
                4 => attribute.bytes = Some(field.span()?.bytes),
                5 => attribute.tensor = Some(TensorProto::read(field.span()?)?),
                6 => attribute.graph = Some(Box::new(Graph::read(field.span()?, depth + 1)?)),
                7 => field.floats(&mut attribute.floats)?,
                8 => field.ints(&mut attribute.ints)?,
                9 => attribute.strings.push(field.span()?.bytes),
                20 => attribute.kind = field.int()?,
                21 => attribute.reference = field.text()?,
                _ => {}
            }
        }
        Ok(attribute)
    }
}

impl<'a> TensorProto<'a> {
    pub(crate) fn read(mut message: Span<'a>) -> Result<TensorProto<'a>> {
        let mut tensor = TensorProto::default();
        while let Some(field) = message.next()? {
            match field.number {
                1 => field.ints(&mut tensor.dims)?,
                2 => tensor.data_type = field.int()?,
                4 => field.floats(&mut tensor.floats)?,
                5 | 7 | 11 => field.ints(&mut tensor.ints)?,
                6 => tensor.strings.push(field.span()?.bytes),
                8 => tensor.name = field.text()?,
                9 => tensor.raw = Some(field.span()?),
                10 => field.doubles(&mut tensor.doubles)?,
                13 => tensor.external = true,
                14 => tensor.external |= field.int()? == 1,
                _ => {}
            }
        }
        Ok(tensor)
    }
}

impl<'a> ValueInfo<'a> {
    fn read(mut message: Span<'a>) -> Result<ValueInfo<'a>> {
        let mut info = ValueInfo::default();
        while let Some(field) = message.next()? {
            match field.number {
                1 => info.name = field.text()?,
                2 => info.read_type(field.span()?)?,
                _ => {}
            }
        }
        Ok(info)
    }

    fn read_type(&mut self, mut message: Span<'a>) -> Result<()> {
        while let Some(field) = message.next()? {
            if field.number == 1 {
                self.read_tensor(field.span()?)?;
            }
        }
        Ok(())
    }

    fn read_tensor(&mut self, mut message: Span<'a>) -> Result<()> {
        while let Some(field) = message.next()? {
            match field.number {
                1 => self.elem_type = field.int()?,
                2 => {
                    let mut shape = field.span()?;
                    let mut dims = Vec::new();
                    while let Some(dim) = shape.next()? {
                        if dim.number == 1 {
                            dims.push(Dim::read(dim.span()?)?);
                        }
                    }
                    self.shape = Some(dims);
                }
                _ => {}
            }
        }
        Ok(())
    }
}

impl Dim {
    fn read(mut message: Span<'_>) -> Result<Dim> {
        let mut dim = Dim::Unknown;
        while let Some(field) = message.next()? {
            if field.number == 1 {
                dim = Dim::Size(field.int()?);
            }
        }
        Ok(dim)
    }
}

impl<'a> Function<'a> {
    fn read(mut message: Span<'a>) -> Result<Function<'a>> {
        let mut function = Function::default();
        while let Some(field) = message.next()? {
            match field.number {
                1 => function.name = field.text()?,
                4 => function.inputs.push(field.text()?),
                5 => function.outputs.push(field.text()?),
                7 => function.nodes.push(Node::read(field.span()?, 0)?),
                9 => function.opsets.push(Opset::read(field.span()?)?),
                10 => function.domain = field.text()?,
                11 => function.defaults.push(Attribute::read(field.span()?, 0)?),
                _ => {}
            }
        }
        Ok(function)
    }
}
