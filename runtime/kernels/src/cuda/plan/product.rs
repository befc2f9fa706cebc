//! Matrix products: by the device's library where it has one, else by our own kernels.

use innkeeper_tensor::DType;

use crate::cuda::plan::walk::{dense, spread};
use crate::cuda::plan::{BLOCKS_YZ_MAX, Call, Operand, Params, Plan, Slot, Step, Walk, moves};
use crate::cuda::source::{Source, Unit};
use crate::infer::matmul as shapes;
use crate::{Activation, Op, OpError};

/// What one block of our own kernels makes, along each side.
const TILE: u64 = 64;

/// `c = activation(a b + bias + residual)`: `batch` products of `[m, k]` by `[k, n]`, each dense and row-major.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Product {
    pub(crate) dtype: DType,
    pub(crate) a: Slot,
    pub(crate) b: Slot,
    pub(crate) c: Slot,
    /// `[n]`, added to every row.
    pub(crate) bias: Option<Slot>,
    /// Like c, added element by element.
    pub(crate) residual: Option<Slot>,
    pub(crate) activation: Activation,
    pub(crate) m: u64,
    pub(crate) n: u64,
    pub(crate) k: u64,
    pub(crate) batch: u64,
    /// Elements from one matrix of a to the next; 0 when all are one.
    pub(crate) a_batch: u64,
    pub(crate) b_batch: u64,
    /// Whether a lies as `[k, m]`.
    pub(crate) a_turned: bool,
    /// Whether b lies as `[n, k]`, as a layer's weight does.
    pub(crate) b_turned: bool,
}

/// What our kernels call an activation, and its two numbers.
pub(crate) fn activation(activation: Activation) -> (u32, f32, f32) {
    match activation {
        Activation::None => (0, 0.0, 0.0),
        Activation::Relu => (1, 0.0, 0.0),
        Activation::Gelu => (2, 0.0, 0.0),
        Activation::GeluTanh => (3, 0.0, 0.0),
        Activation::Silu => (4, 0.0, 0.0),
        Activation::Sigmoid => (5, 0.0, 0.0),
        Activation::Tanh => (6, 0.0, 0.0),
        Activation::HardSwish => (7, 0.0, 0.0),
        Activation::LeakyRelu(alpha) => (8, alpha, 0.0),
        Activation::Clip { min, max } => (9, min, max),
    }
}

pub(crate) fn matmul(plan: &mut Plan, call: &Call<'_>) -> Result<(), OpError> {
    let (a, b, out) = (call.input(0)?, call.input(1)?, call.out()?);
    let product = shapes::matmul(call.name, a.shape, b.shape)?;
    let lead =
        |dims: Option<(&[usize], usize, usize)>| dims.map_or(vec![], |(lead, ..)| lead.to_vec());
    let (lead_a, lead_b) = (lead(shapes::left(a.dims())), lead(shapes::right(b.dims())));
    let batch = product.batch.dims();
    let walk = Walk::broadcast(batch, [&lead_a, &lead_b]);
    let (m, n, k) = (product.m as u64, product.n as u64, product.k as u64);
    let mut whole = Product {
        dtype: a.dtype,
        a: a.slot,
        b: b.slot,
        c: out.slot,
        bias: None,
        residual: None,
        activation: Activation::None,
        m,
        n,
        k,
        batch: product.batch.elements() as u64,
        a_batch: 0,
        b_batch: 0,
        a_turned: false,
        b_turned: false,
    };
    if walk.dims().len() == 1 {
        let stride =
            |operand| walk.strides(operand).first().map_or(0, |&stride: &i64| stride as u64);
        (whole.a_batch, whole.b_batch) = (stride(0) * m * k, stride(1) * k * n);
        // Matrices that share the right side are one taller matrix.
        if whole.b_batch == 0 && whole.a_batch == m * k {
            (whole.m, whole.batch) = (m * whole.batch, 1);
        }
        return add(plan, call, whole);
    }
    // Each side is broadcast in its own way: both are written out in full.
    whole.a = spread_out(plan, call, a, batch, &lead_a, [product.m, product.k])?;
    whole.b = spread_out(plan, call, b, batch, &lead_b, [product.k, product.n])?;
    (whole.a_batch, whole.b_batch) = (m * k, k * n);
    add(plan, call, whole)
}

/// The matrices of a side, one for each of the batch.
fn spread_out(
    plan: &mut Plan,
    call: &Call<'_>,
    a: Operand<'_>,
    batch: &[usize],
    lead: &[usize],
    matrix: [usize; 2],
) -> Result<Slot, OpError> {
    let size: usize = matrix.iter().product();
    let dims = [batch, &[size]].concat();
    let count: u64 = dims.iter().map(|&dim| dim as u64).product();
    let to = plan.scratch(count * a.size() as u64);
    let strides = spread(dims.len(), &[lead, &[size]].concat());
    let own = dense(&dims);
    // A matrix of one element would look repeated.
    let strided = moves::Strided {
        dims: &dims,
        size: a.size(),
        from: (a.slot, 0, &strides),
        to: (to, 0, &own),
    };
    moves::copy(plan, call, &strided)?;
    Ok(to)
}

pub(crate) fn linear(plan: &mut Plan, call: &Call<'_>, op: &Op) -> Result<(), OpError> {
    let Op::Linear { bias, residual, activation } = op else {
        return call.refused("this layer");
    };
    let (x, weight, out) = (call.input(0)?, call.input(1)?, call.out()?);
    let product = shapes::linear(call.name, x.shape, weight.shape, None, None)?;
    let bias = if *bias { Some(call.input(2)?.slot) } else { None };
    let residual =
        if *residual { Some(call.input(2 + usize::from(bias.is_some()))?.slot) } else { None };
    add(
        plan,
        call,
        Product {
            dtype: x.dtype,
            a: x.slot,
            b: weight.slot,
            c: out.slot,
            bias,
            residual,
            activation: *activation,
            m: product.m as u64,
            n: product.n as u64,
            k: product.k as u64,
            batch: 1,
            a_batch: 0,
            b_batch: 0,
            a_turned: false,
            b_turned: true,
        },
    )
}

/// What computes a product.
pub(crate) fn add(plan: &mut Plan, call: &Call<'_>, product: Product) -> Result<(), OpError> {
    if product.m == 0 || product.n == 0 || product.batch == 0 {
        return Ok(());
    }
    if call.facts.library && product.k > 0 {
        let whole = library_does(&product);
        let bare = Product { bias: None, residual: None, activation: Activation::None, ..product };
        plan.steps.push(Step::Product(if whole { product } else { bare }));
        if whole {
            return Ok(());
        }
        let unit = Unit::of(Source::Product, product.dtype);
        let count = product.batch * product.m * product.n;
        return plan.threads(call, unit, "epilogue", count, params(&product));
    }
    let source = match product.dtype {
        DType::Fp16 | DType::Bf16 => Source::ProductHalf,
        _ => Source::Product,
    };
    let threads = if source == Source::ProductHalf { 128 } else { 256 };
    let tiles = product.m.div_ceil(TILE).saturating_mul(product.n.div_ceil(TILE));
    let grid = [tiles, product.batch.min(BLOCKS_YZ_MAX), 1];
    let unit = Unit::of(source, product.dtype);
    plan.grid(call, unit, "product", grid, [threads, 1, 1], 0, params(&product))
}

/// Whether the library does all of it as it writes. Its GELU is the one of the hyperbolic tangent, and with FP64 it does
/// nothing but add.
fn library_does(product: &Product) -> bool {
    match product.dtype {
        DType::Fp64 => product.bias.is_none() && product.activation == Activation::None,
        _ => {
            matches!(product.activation, Activation::None | Activation::Relu | Activation::GeluTanh)
        }
    }
}

/// As `Product` in the kernel sources.
fn params(product: &Product) -> Params {
    let (m, n, k) = (product.m, product.n, product.k);
    let (kind, first, second) = activation(product.activation);
    let turned =
        |turned: bool, rows: u64, columns: u64| if turned { (1, rows) } else { (columns, 1) };
    let (a_row, a_column) = turned(product.a_turned, m, k);
    let (b_row, b_column) = turned(product.b_turned, k, n);
    Params::new()
        .at(product.c)
        .at(product.a)
        .at(product.b)
        .maybe(product.bias)
        .maybe(product.residual)
        .u64(m)
        .u64(n)
        .u64(k)
        .u64(product.batch)
        .u64(product.a_batch)
        .u64(a_row)
        .u64(a_column)
        .u64(product.b_batch)
        .u64(b_row)
        .u64(b_column)
        .u32(kind)
        .f32(first)
        .f32(second)
}
