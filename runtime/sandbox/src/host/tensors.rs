//! The import `tensors`.

use innkeeper_kernels::{
    Activation, Binary, Compare, Coordinates, Curve, Depth, Index, Move, Nearest, Op, Order, Pad,
    Reduce, Resize, Sample, Scatter, Test, Unary,
};
use innkeeper_tensor::{Buffer, Shape, Tensor};
use wasmtime::component::Resource;

use super::{HostError, HostTensor, State, dtype_from_wit, dtype_to_wit};
use crate::assets::Derived;
use crate::bindings::innkeeper::model::tensors;
use crate::bindings::innkeeper::model::types::Dtype;

type Handle = Resource<HostTensor>;
type Answer = Result<Handle, HostError>;
type Unique = (Handle, Handle, Handle, Handle);

fn sample(mode: tensors::Sample) -> Sample {
    match mode {
        tensors::Sample::Nearest(nearest) => Sample::Nearest(match nearest {
            tensors::Nearest::RoundPreferFloor => Nearest::RoundPreferFloor,
            tensors::Nearest::RoundPreferCeil => Nearest::RoundPreferCeil,
            tensors::Nearest::Floor => Nearest::Floor,
            tensors::Nearest::Ceil => Nearest::Ceil,
        }),
        tensors::Sample::Linear => Sample::Linear,
        tensors::Sample::Cubic(a) => Sample::Cubic { a, exclude_outside: false },
    }
}

fn coordinates(coordinates: tensors::Coordinates) -> Coordinates {
    match coordinates {
        tensors::Coordinates::HalfPixel => Coordinates::HalfPixel,
        tensors::Coordinates::PytorchHalfPixel => Coordinates::PytorchHalfPixel,
        tensors::Coordinates::AlignCorners => Coordinates::AlignCorners,
        tensors::Coordinates::Asymmetric => Coordinates::Asymmetric,
    }
}

fn shape_of(dims: &[u32]) -> Result<Shape, HostError> {
    let dims: Vec<i64> = dims.iter().map(|&dim| i64::from(dim)).collect();
    Shape::from_i64(&dims).map_err(|error| HostError::invalid(error.to_string()))
}

fn wide(axes: Vec<i32>) -> Vec<i64> {
    axes.into_iter().map(i64::from).collect()
}

fn usizes(sizes: Vec<u32>) -> Vec<usize> {
    sizes.into_iter().map(|size| size as usize).collect()
}

fn scatter(reduction: tensors::Scatter) -> Scatter {
    match reduction {
        tensors::Scatter::Replace => Scatter::Replace,
        tensors::Scatter::Add => Scatter::Add,
        tensors::Scatter::Mul => Scatter::Mul,
        tensors::Scatter::Min => Scatter::Min,
        tensors::Scatter::Max => Scatter::Max,
    }
}

/// Methods that differ in nothing but their operation.
macro_rules! binary {
    ($($name:ident = $family:ident($op:ident)),* $(,)?) => {
        $(fn $name(&mut self, this: Handle, rhs: Handle) -> Answer {
            self.run(&Op::$family($family::$op), &[&this, &rhs])
        })*
    };
}

macro_rules! unary {
    ($($name:ident = $op:ident),* $(,)?) => {
        $(fn $name(&mut self, this: Handle) -> Answer {
            self.run(&Op::Unary(Unary::$op), &[&this])
        })*
    };
}

macro_rules! curves {
    ($($name:ident = $op:ident($($parameter:ident),*)),* $(,)?) => {
        $(fn $name(&mut self, this: Handle, $($parameter: f64),*) -> Answer {
            self.run(&Op::Curve(Curve::$op { $($parameter),* }), &[&this])
        })*
    };
}

macro_rules! reductions {
    ($($name:ident = $op:ident),* $(,)?) => {
        $(fn $name(&mut self, this: Handle, axes: Vec<i32>, keep_dims: bool) -> Answer {
            let axes = axes.into_iter().map(i64::from).collect();
            self.run(&Op::Reduce { op: Reduce::$op, axes, keep_dims }, &[&this])
        })*
    };
}

impl tensors::Host for State {}

impl tensors::HostTensor for State {
    fn from_bytes(&mut self, dtype: Dtype, shape: Vec<u32>, data: Vec<u8>) -> Answer {
        let shape = shape_of(&shape)?;
        let charge = self.charge(data.len() as u64)?;
        let data = Buffer::aligned_copy(&data);
        let tensor = Tensor::new(dtype_from_wit(dtype), shape, data)
            .map_err(|error| HostError::invalid(error.to_string()))?;
        self.push(tensor, Some(charge))
    }

    fn full(&mut self, dtype: Dtype, shape: Vec<u32>, value: f64) -> Answer {
        let shape = shape_of(&shape)?.dims().to_vec();
        self.run(&Op::Full { dtype: dtype_from_wit(dtype), shape, value }, &[])
    }

    fn arange(&mut self, dtype: Dtype, start: f64, step: f64, count: u32) -> Answer {
        let (dtype, count) = (dtype_from_wit(dtype), count as usize);
        self.run(&Op::Arange { dtype, start, step, count }, &[])
    }

    fn dtype(&mut self, this: Handle) -> wasmtime::Result<Dtype> {
        Ok(dtype_to_wit(self.table.get(&this)?.tensor.dtype()))
    }

    fn shape(&mut self, this: Handle) -> wasmtime::Result<Vec<u32>> {
        let shape = self.table.get(&this)?.tensor.shape();
        // A guest's own shapes fit; an asset's or a request's may hold more than 2^32 in a tensor without elements.
        Ok(shape.dims().iter().map(|&dim| u32::try_from(dim).unwrap_or(u32::MAX)).collect())
    }

    fn byte_length(&mut self, this: Handle) -> wasmtime::Result<u64> {
        Ok(self.table.get(&this)?.tensor.data().len() as u64)
    }

    fn to_bytes(&mut self, this: Handle) -> Result<Vec<u8>, HostError> {
        let length = self.tensor(&this)?.data().len() as u64;
        self.part(&this, 0, length)
    }

    fn read(&mut self, this: Handle, offset: u64, length: u64) -> Result<Vec<u8>, HostError> {
        self.part(&this, offset, length)
    }

    fn share(&mut self, this: Handle) -> Answer {
        let tensor = self.tensor(&this)?.clone();
        self.alias(&this, tensor)
    }

    fn cast(&mut self, this: Handle, to: Dtype) -> Answer {
        self.run(&Op::Cast { to: dtype_from_wit(to) }, &[&this])
    }

    fn reshape(&mut self, this: Handle, shape: Vec<i64>) -> Answer {
        let tensor = self.tensor(&this)?;
        let (_, shape) = Op::Reshape { shape }.output(&[(tensor.dtype(), tensor.shape())])?;
        let tensor =
            tensor.reshaped(shape).map_err(|error| HostError::invalid(error.to_string()))?;
        self.alias(&this, tensor)
    }

    fn transpose(&mut self, this: Handle, permutation: Vec<u32>) -> Answer {
        let permutation = permutation.into_iter().map(|axis| axis as usize).collect();
        self.run(&Op::Transpose { permutation }, &[&this])
    }

    fn slice(&mut self, this: Handle, axis: i32, start: i64, end: i64) -> Answer {
        self.run(&Op::Slice { axis: axis.into(), start, end }, &[&this])
    }

    fn concat(&mut self, parts: Vec<Handle>, axis: i32) -> Answer {
        let parts: Vec<&Handle> = parts.iter().collect();
        self.run(&Op::Concat { axis: axis.into() }, &parts)
    }

    fn gather(&mut self, this: Handle, indices: Handle, axis: i32) -> Answer {
        self.run(&Op::Gather { axis: axis.into() }, &[&this, &indices])
    }

    binary! {
        add = Binary(Add),
        sub = Binary(Sub),
        mul = Binary(Mul),
        div = Binary(Div),
        pow = Binary(Pow),
        maximum = Binary(Maximum),
        minimum = Binary(Minimum),
        equal = Compare(Equal),
        less = Compare(Less),
        greater = Compare(Greater),
        modulo = Binary(Mod),
        fmod = Binary(Fmod),
        prelu = Binary(Prelu),
        logical_and = Binary(And),
        logical_or = Binary(Or),
        logical_xor = Binary(Xor),
        bit_and = Binary(BitAnd),
        bit_or = Binary(BitOr),
        bit_xor = Binary(BitXor),
        shift_left = Binary(ShiftLeft),
        shift_right = Binary(ShiftRight),
        not_equal = Compare(NotEqual),
        less_or_equal = Compare(LessOrEqual),
        greater_or_equal = Compare(GreaterOrEqual),
    }

    unary! {
        neg = Neg,
        abs = Abs,
        exp = Exp,
        ln = Ln,
        sqrt = Sqrt,
        tanh = Tanh,
        sigmoid = Sigmoid,
        relu = Relu,
        gelu = Gelu,
        silu = Silu,
        gelu_tanh = GeluTanh,
        floor = Floor,
        ceil = Ceil,
        round = Round,
        sign = Sign,
        reciprocal = Reciprocal,
        erf = Erf,
        sin = Sin,
        cos = Cos,
        tan = Tan,
        asin = Asin,
        acos = Acos,
        atan = Atan,
        sinh = Sinh,
        cosh = Cosh,
        asinh = Asinh,
        acosh = Acosh,
        atanh = Atanh,
        softplus = Softplus,
        softsign = Softsign,
        mish = Mish,
        hard_swish = HardSwish,
        logical_not = Not,
        bit_not = BitNot,
    }

    curves! {
        elu = Elu(alpha),
        celu = Celu(alpha),
        selu = Selu(alpha, gamma),
        leaky_relu = LeakyRelu(alpha),
        thresholded_relu = ThresholdedRelu(alpha),
        hard_sigmoid = HardSigmoid(alpha, beta),
        swish = Swish(alpha),
        shrink = Shrink(bias, lambda),
    }

    reductions! { sum = Sum, product = Product, mean = Mean, max = Max, min = Min }

    fn clip(&mut self, this: Handle, min: Option<f64>, max: Option<f64>) -> Answer {
        self.run(&Op::Curve(Curve::Clip { min, max }), &[&this])
    }

    fn is_nan(&mut self, this: Handle) -> Answer {
        self.run(&Op::Test(Test::IsNan), &[&this])
    }

    fn is_inf(&mut self, this: Handle, negative: bool, positive: bool) -> Answer {
        self.run(&Op::Test(Test::IsInf { negative, positive }), &[&this])
    }

    fn eye(&mut self, dtype: Dtype, rows: u32, columns: u32, diagonal: i64) -> Answer {
        let (dtype, rows, columns) = (dtype_from_wit(dtype), rows as usize, columns as usize);
        self.run(&Op::Order(Order::Eye { dtype, rows, columns, diagonal }), &[])
    }

    fn strided_slice(
        &mut self,
        this: Handle,
        axes: Vec<i32>,
        starts: Vec<i64>,
        ends: Vec<i64>,
        steps: Vec<i64>,
    ) -> Answer {
        let axes = wide(axes);
        self.run(&Op::Move(Move::Strided { axes, starts, ends, steps }), &[&this])
    }

    fn split(
        &mut self,
        this: Handle,
        axis: i32,
        sizes: Vec<u32>,
    ) -> Result<Vec<Handle>, HostError> {
        let sizes = usizes(sizes);
        self.run_many(&Op::Move(Move::Split { axis: axis.into(), sizes }), &[&this])
    }

    fn pad(
        &mut self,
        this: Handle,
        mode: tensors::Padding,
        begins: Vec<i64>,
        ends: Vec<i64>,
    ) -> Answer {
        let mode = match mode {
            tensors::Padding::Constant(value) => Pad::Constant(value),
            tensors::Padding::Reflect => Pad::Reflect,
            tensors::Padding::Edge => Pad::Edge,
            tensors::Padding::Wrap => Pad::Wrap,
        };
        self.run(&Op::Move(Move::Pad { mode, begins, ends }), &[&this])
    }

    fn expand(&mut self, this: Handle, shape: Vec<u32>) -> Answer {
        self.run(&Op::Move(Move::Expand { shape: usizes(shape) }), &[&this])
    }

    fn tile(&mut self, this: Handle, repeats: Vec<u32>) -> Answer {
        self.run(&Op::Move(Move::Tile { repeats: usizes(repeats) }), &[&this])
    }

    fn triangle(&mut self, this: Handle, upper: bool, diagonal: i64) -> Answer {
        self.run(&Op::Move(Move::Trilu { upper, diagonal }), &[&this])
    }

    fn gather_elements(&mut self, this: Handle, indices: Handle, axis: i32) -> Answer {
        let op = Op::Index(Index::GatherElements { axis: axis.into() });
        self.run(&op, &[&this, &indices])
    }

    fn gather_nd(&mut self, this: Handle, indices: Handle, batch_dims: u32) -> Answer {
        let op = Op::Index(Index::GatherNd { batch_dims: batch_dims as usize });
        self.run(&op, &[&this, &indices])
    }

    fn scatter_elements(
        &mut self,
        this: Handle,
        indices: Handle,
        updates: Handle,
        axis: i32,
        reduction: tensors::Scatter,
    ) -> Answer {
        let (axis, reduction) = (axis.into(), scatter(reduction));
        let op = Op::Index(Index::ScatterElements { axis, reduction });
        self.run(&op, &[&this, &indices, &updates])
    }

    fn scatter_nd(
        &mut self,
        this: Handle,
        indices: Handle,
        updates: Handle,
        reduction: tensors::Scatter,
    ) -> Answer {
        let op = Op::Index(Index::ScatterNd { reduction: scatter(reduction) });
        self.run(&op, &[&this, &indices, &updates])
    }

    fn one_hot(&mut self, this: Handle, values: Handle, axis: i32, depth: u32) -> Answer {
        let (axis, depth) = (axis.into(), depth as usize);
        self.run(&Op::Index(Index::OneHot { axis, depth }), &[&this, &values])
    }

    fn non_zero(&mut self, this: Handle) -> Answer {
        let [places] = self.run_cut(&Op::Index(Index::NonZero), &[&this], 1, None)?;
        Ok(places)
    }

    fn compress(&mut self, this: Handle, condition: Handle, axis: Option<i32>) -> Answer {
        let op = Op::Index(Index::Compress { axis: axis.map(i64::from) });
        let [kept] = self.run_cut(&op, &[&this, &condition], axis.unwrap_or(0).into(), None)?;
        Ok(kept)
    }

    fn unique(&mut self, this: Handle, sorted: bool) -> Result<Unique, HostError> {
        /// As many as there are elements, not as many as there are values.
        const WHICH: usize = 2;
        let op = Op::Index(Index::Unique { sorted });
        let [values, first, which, count] = self.run_cut(&op, &[&this], 0, Some(WHICH))?;
        Ok((values, first, which, count))
    }

    fn reverse_sequence(
        &mut self,
        this: Handle,
        lengths: Handle,
        batch_axis: i32,
        time_axis: i32,
    ) -> Answer {
        let (batch_axis, time_axis) = (batch_axis.into(), time_axis.into());
        self.run(&Op::Move(Move::ReverseSequence { batch_axis, time_axis }), &[&this, &lengths])
    }

    fn depth_to_space(&mut self, this: Handle, block: u32, order: tensors::DepthOrder) -> Answer {
        let order = match order {
            tensors::DepthOrder::DepthColumnRow => Depth::DepthColumnRow,
            tensors::DepthOrder::ColumnRowDepth => Depth::ColumnRowDepth,
        };
        self.run(&Op::Move(Move::DepthToSpace { block: block as usize, order }), &[&this])
    }

    fn space_to_depth(&mut self, this: Handle, block: u32) -> Answer {
        self.run(&Op::Move(Move::SpaceToDepth { block: block as usize }), &[&this])
    }

    fn resize(
        &mut self,
        this: Handle,
        sizes: Vec<u32>,
        mode: tensors::Sample,
        at: tensors::Coordinates,
        antialias: bool,
    ) -> Answer {
        let op = Op::Resize(Resize {
            sizes: usizes(sizes),
            scales: Vec::new(),
            mode: sample(mode),
            coordinates: coordinates(at),
            antialias,
        });
        self.run(&op, &[&this])
    }

    fn constant(&mut self, this: Handle) -> Answer {
        let HostTensor { tensor, charge, derived, .. } = self.table.get(&this)?;
        if tensor.is_constant() {
            let (tensor, derived) = (tensor.clone(), derived.clone());
            return self.push_weight(tensor, charge.clone(), derived);
        }
        let (tensor, charge) = (tensor.clone().constant(), charge.clone());
        let derived = Derived::of_guest(&self.tensor_bytes);
        let derived = derived.map_err(|over| self.over("tensor_bytes_max", over))?;
        self.push_weight(tensor, charge, Some(derived))
    }

    fn argmin(&mut self, this: Handle, axis: i32, keep_dims: bool) -> Answer {
        let axis = axis.into();
        let op = Order::Arg { smallest: true, last: false, axis, keep_dims };
        self.run(&Op::Order(op), &[&this])
    }

    fn top_k(
        &mut self,
        this: Handle,
        k: u32,
        axis: i32,
        largest: bool,
    ) -> Result<(Handle, Handle), HostError> {
        let op = Order::TopK { axis: axis.into(), k: k as usize, largest };
        let [values, indices] = self.run_all(&Op::Order(op), &[&this])?;
        Ok((values, indices))
    }

    fn cumsum(&mut self, this: Handle, axis: i32, exclusive: bool, reverse: bool) -> Answer {
        let axis = axis.into();
        self.run(&Op::Order(Order::CumSum { axis, exclusive, reverse }), &[&this])
    }

    fn variance(
        &mut self,
        this: Handle,
        axes: Vec<i32>,
        keep_dims: bool,
        correction: u32,
    ) -> Answer {
        let (axes, correction) = (wide(axes), correction as usize);
        let op = Order::Variance { axes, keep_dims, correction, root: false };
        self.run(&Op::Order(op), &[&this])
    }

    fn standard_deviation(
        &mut self,
        this: Handle,
        axes: Vec<i32>,
        keep_dims: bool,
        correction: u32,
    ) -> Answer {
        let (axes, correction) = (wide(axes), correction as usize);
        let op = Order::Variance { axes, keep_dims, correction, root: true };
        self.run(&Op::Order(op), &[&this])
    }

    fn any(&mut self, this: Handle, axes: Vec<i32>, keep_dims: bool) -> Answer {
        self.run(&Op::Order(Order::Any { axes: wide(axes), keep_dims }), &[&this])
    }

    fn all(&mut self, this: Handle, axes: Vec<i32>, keep_dims: bool) -> Answer {
        self.run(&Op::Order(Order::All { axes: wide(axes), keep_dims }), &[&this])
    }

    fn add_scalar(&mut self, this: Handle, value: f64) -> Answer {
        self.run(&Op::Scalar { op: Binary::Add, value }, &[&this])
    }

    fn mul_scalar(&mut self, this: Handle, value: f64) -> Answer {
        self.run(&Op::Scalar { op: Binary::Mul, value }, &[&this])
    }

    fn select(&mut self, this: Handle, a: Handle, b: Handle) -> Answer {
        self.run(&Op::Select, &[&this, &a, &b])
    }

    fn argmax(&mut self, this: Handle, axis: i32, keep_dims: bool) -> Answer {
        self.run(&Op::ArgMax { axis: axis.into(), keep_dims }, &[&this])
    }

    fn softmax(&mut self, this: Handle, axis: i32) -> Answer {
        self.run(&Op::Softmax { axis: axis.into() }, &[&this])
    }

    fn log_softmax(&mut self, this: Handle, axis: i32) -> Answer {
        self.run(&Op::LogSoftmax { axis: axis.into() }, &[&this])
    }

    fn matmul(&mut self, this: Handle, rhs: Handle) -> Answer {
        self.run(&Op::MatMul, &[&this, &rhs])
    }

    fn linear(&mut self, this: Handle, weight: Handle, bias: Option<Handle>) -> Answer {
        let op = Op::Linear { bias: bias.is_some(), residual: false, activation: Activation::None };
        match &bias {
            Some(bias) => self.run(&op, &[&this, &weight, bias]),
            None => self.run(&op, &[&this, &weight]),
        }
    }

    fn drop(&mut self, this: Handle) -> wasmtime::Result<()> {
        // The last handle gives the bytes back to the budget.
        let HostTensor { tensor, .. } = self.pull(this)?;
        self.recycled.give(tensor);
        Ok(())
    }
}
