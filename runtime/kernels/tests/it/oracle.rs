//! The slow and plain truth.

use std::sync::{LazyLock, OnceLock};

use innkeeper_kernels::{Backend, Cpu, Isa, Memory, Op, OpError, Pool, Run};
use innkeeper_tensor::{DType, Shape, Tensor, bf16, f16};

/// Elements as FP64, which holds everything that these tests put in.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Array {
    pub(crate) dims: Vec<usize>,
    pub(crate) data: Vec<f64>,
}

impl Array {
    /// What `tensor` holds.
    pub(crate) fn of(tensor: &Tensor) -> Array {
        let bytes = tensor.as_bytes();
        let data = match tensor.dtype() {
            DType::Bool | DType::Uint8 => bytes.iter().map(|&byte| f64::from(byte)).collect(),
            DType::Int8 => bytes.iter().map(|&byte| f64::from(byte as i8)).collect(),
            DType::Uint16 => read(bytes, |b| f64::from(u16::from_le_bytes(b))),
            DType::Int16 => read(bytes, |b| f64::from(i16::from_le_bytes(b))),
            DType::Uint32 => read(bytes, |b| f64::from(u32::from_le_bytes(b))),
            DType::Int32 => read(bytes, |b| f64::from(i32::from_le_bytes(b))),
            DType::Uint64 => read(bytes, |b| u64::from_le_bytes(b) as f64),
            DType::Int64 => read(bytes, |b| i64::from_le_bytes(b) as f64),
            DType::Fp16 => read(bytes, |b| f64::from(f16::from_le_bytes(b))),
            DType::Bf16 => read(bytes, |b| f64::from(bf16::from_le_bytes(b))),
            DType::Fp32 => read(bytes, |b| f64::from(f32::from_le_bytes(b))),
            DType::Fp64 => read(bytes, f64::from_le_bytes),
            DType::Bytes => panic!("no numbers in BYTES"),
        };
        Array { dims: tensor.shape().dims().to_vec(), data }
    }

    /// An array whose element at each index is `f` of the index.
    pub(crate) fn from_fn(dims: &[usize], f: impl FnMut(&[usize]) -> f64) -> Array {
        Array {
            dims: dims.to_vec(),
            data: indices(dims).iter().map(|i| i.as_slice()).map(f).collect(),
        }
    }

    /// The element at `index`.
    pub(crate) fn at(&self, index: &[usize]) -> f64 {
        assert_eq!(index.len(), self.dims.len());
        let mut offset = 0;
        for (i, dim) in index.iter().zip(&self.dims) {
            assert!(i < dim);
            offset = offset * dim + i;
        }
        self.data[offset]
    }

    /// The element at `index` of a shape that this one broadcasts to.
    pub(crate) fn spread(&self, index: &[usize]) -> f64 {
        let skip = index.len() - self.dims.len();
        let own: Vec<usize> = index[skip..]
            .iter()
            .zip(&self.dims)
            .map(|(&i, &dim)| if dim == 1 { 0 } else { i })
            .collect();
        self.at(&own)
    }
}

fn read<const N: usize>(bytes: &[u8], f: impl Fn([u8; N]) -> f64) -> Vec<f64> {
    bytes.chunks(N).map(|chunk| f(chunk.try_into().unwrap())).collect()
}

/// Every index of a shape, in row-major order.
pub(crate) fn indices(dims: &[usize]) -> Vec<Vec<usize>> {
    let mut all = vec![vec![]];
    for &dim in dims {
        all = all
            .into_iter()
            .flat_map(|index: Vec<usize>| {
                (0..dim).map(move |i| index.iter().copied().chain([i]).collect())
            })
            .collect();
    }
    all
}

/// Where `axis` points.
pub(crate) fn axis(axis: i64, rank: usize) -> usize {
    if axis < 0 { (axis + rank as i64) as usize } else { axis as usize }
}

/// The value as an element of `dtype`: integers wrapped around, floats rounded to nearest, ties to even.
pub(crate) fn rounded(dtype: DType, value: f64) -> f64 {
    match dtype {
        // FP64 holds every INT64 that these tests meet.
        DType::Fp64 | DType::Int64 => value,
        DType::Fp32 => f64::from(value as f32),
        DType::Fp16 => nearest(halves(false), value, 65520.0),
        DType::Bf16 => nearest(halves(true), value, f64::from(f32::MAX) * (1.0 + 2f64.powi(-9))),
        _ => {
            let bits = dtype.size().unwrap() as i32 * 8;
            let span = 2f64.powi(bits);
            let low = value.rem_euclid(span);
            let signed = matches!(dtype, DType::Int8 | DType::Int16 | DType::Int32);
            if signed && low >= span / 2.0 { low - span } else { low }
        }
    }
}

/// Every finite 16-bit float and whether its last bit is 0, in order.
fn halves(brain: bool) -> &'static [(f64, bool)] {
    static ALL: [OnceLock<Vec<(f64, bool)>>; 2] = [OnceLock::new(), OnceLock::new()];
    ALL[usize::from(brain)].get_or_init(|| {
        let float = |bits| match brain {
            true => f64::from(bf16::from_bits(bits)),
            false => f64::from(f16::from_bits(bits)),
        };
        let mut all: Vec<(f64, bool)> = (0..=u16::MAX)
            .map(|bits| (float(bits), bits % 2 == 0))
            .filter(|(value, _)| value.is_finite())
            .collect();
        all.sort_by(|a, b| a.0.total_cmp(&b.0));
        all
    })
}

/// The one of `all` that is nearest to `value`, or infinity from `overflow` on.
fn nearest(all: &[(f64, bool)], value: f64, overflow: f64) -> f64 {
    if !value.is_finite() {
        return value;
    }
    if value.abs() >= overflow {
        return f64::INFINITY.copysign(value);
    }
    let above = all.partition_point(|&(half, _)| half < value);
    let (Some(low), Some(high)) = (all.get(above.wrapping_sub(1)), all.get(above)) else {
        return all[above.min(all.len() - 1)].0;
    };
    let (down, up) = (value - low.0, high.0 - value);
    if down < up || (down == up && low.1) { low.0 } else { high.0 }
}

/// Runs `op`, and checks what comes out against what [`Op::output`] said.
pub(crate) fn run(op: &Op, inputs: &[&Tensor]) -> Result<Tensor, OpError> {
    let operands: Vec<(DType, &Shape)> =
        inputs.iter().map(|input| (input.dtype(), input.shape())).collect();
    let said = op.output(&operands);
    let result = Cpu::new().run_one(op, inputs, &Run::new());
    match (&said, &result) {
        (Ok((dtype, shape)), Ok(tensor)) => {
            assert_eq!((dtype, shape), (&tensor.dtype(), tensor.shape()), "{op:?}");
        }
        (Err(said), Err(got)) => assert_eq!(said, got, "{op:?}"),
        (Ok(_), Err(OpError::InvalidArgument(text))) => {
            let of_elements = text.contains("by zero") || text.contains("index");
            assert!(of_elements, "{op:?}: {text}");
        }
        _ => panic!("{op:?}: output said {said:?}, run gave {result:?}"),
    }
    result
}

/// Runs `op`, and checks all that comes out against what [`Op::outputs`] said.
pub(crate) fn run_all(op: &Op, inputs: &[&Tensor]) -> Result<Vec<Tensor>, OpError> {
    let operands: Vec<(DType, &Shape)> =
        inputs.iter().map(|input| (input.dtype(), input.shape())).collect();
    let said = op.outputs(&operands);
    let results = Cpu::new().run(op, inputs, &Run::new());
    match (&said, &results) {
        (Ok(said), Ok(results)) => {
            let got: Vec<_> = results.iter().map(|x| (x.dtype(), x.shape().clone())).collect();
            assert_eq!(said, &got, "{op:?}");
        }
        (Err(said), Err(got)) => assert_eq!(said, got, "{op:?}"),
        (Ok(_), Err(OpError::InvalidArgument(_))) => {}
        _ => panic!("{op:?}: outputs said {said:?}, run gave {results:?}"),
    }
    results
}

/// Checks that `op` gives `expected`: of that dtype, exactly when `tolerance` is 0, else to within it (relative above 1,
/// absolute below).
#[track_caller]
pub(crate) fn check(op: &Op, inputs: &[&Tensor], dtype: DType, expected: &Array, tolerance: f64) {
    let got = run(op, inputs).unwrap_or_else(|error| panic!("{op:?}: {error}"));
    assert_same(op, &got, dtype, expected, tolerance);
}

/// [`check`] with every set of instructions that this machine has, on one thread and on three, the memory of one result
/// being that of the next, and with the second operand as it is and as a constant.
#[track_caller]
pub(crate) fn check_everywhere(
    op: &Op,
    inputs: &[&Tensor],
    dtype: DType,
    expected: &Array,
    tolerance: f64,
) {
    static POOL: LazyLock<Pool> = LazyLock::new(|| Pool::new(3).unwrap());
    check(op, inputs, dtype, expected, tolerance);
    let memory = Memory::new(1 << 24);
    let mut constant = inputs.to_vec();
    let weight = inputs[1].clone().constant();
    constant[1] = &weight;
    for isa in Isa::ALL {
        let Some(cpu) = Cpu::with_isa(isa) else {
            println!("{} was not tested: this machine does not have it", isa.name());
            continue;
        };
        for run in [Run::new(), Run::new().on(&POOL, 3).recycling(&memory)] {
            for inputs in [inputs, &constant] {
                let got = cpu.run_one(op, inputs, &run).unwrap();
                assert_same(op, &got, dtype, expected, tolerance);
                run.recycle(got);
            }
        }
    }
}

/// Every result of `op` on every instruction set, alone and on several threads, with operands that are constants and
/// that are not. The first result has the dtype given, as have the others.
#[track_caller]
pub(crate) fn check_all_everywhere(
    op: &Op,
    inputs: &[&Tensor],
    dtype: DType,
    expected: &[Array],
    tolerance: f64,
) {
    static POOL: LazyLock<Pool> = LazyLock::new(|| Pool::new(3).unwrap());
    let memory = Memory::new(1 << 24);
    let constants: Vec<Tensor> = inputs.iter().map(|&x| x.clone().constant()).collect();
    let constants: Vec<&Tensor> = constants.iter().collect();
    for isa in Isa::ALL {
        let Some(cpu) = Cpu::with_isa(isa) else {
            println!("{} was not tested: this machine does not have it", isa.name());
            continue;
        };
        for run in [Run::new(), Run::new().on(&POOL, 3).recycling(&memory)] {
            for inputs in [inputs, &constants] {
                let got = cpu.run(op, inputs, &run).unwrap();
                assert_eq!(got.len(), expected.len(), "{op:?}");
                for (got, expected) in got.into_iter().zip(expected) {
                    assert_same(op, &got, dtype, expected, tolerance);
                    run.recycle(got);
                }
            }
        }
    }
}

/// Checks that `op` gives the same bytes on one thread and on three, in memory of its own and in used memory.
#[track_caller]
pub(crate) fn same_on_threads(op: &Op, inputs: &[&Tensor]) {
    static POOL: LazyLock<Pool> = LazyLock::new(|| Pool::new(3).unwrap());
    let memory = Memory::new(1 << 26);
    let alone = Cpu::new().run(op, inputs, &Run::new()).unwrap();
    for _ in 0..3 {
        let run = Run::new().on(&POOL, 3).recycling(&memory);
        let together = Cpu::new().run(op, inputs, &run).unwrap();
        assert!(together == alone, "{op:?}");
        together.into_iter().for_each(|tensor| run.recycle(tensor));
    }
}

#[track_caller]
fn assert_same(op: &Op, got: &Tensor, dtype: DType, expected: &Array, tolerance: f64) {
    assert_eq!(got.dtype(), dtype, "{op:?}");
    let got = Array::of(got);
    assert_eq!(got.dims, expected.dims, "{op:?}");
    for (i, (&got, &wanted)) in got.data.iter().zip(&expected.data).enumerate() {
        let same = got == wanted
            || (got.is_nan() && wanted.is_nan())
            || (got - wanted).abs() <= tolerance * wanted.abs().max(1.0);
        assert!(same, "{op:?}: element {i} of {:?} is {got}, not {wanted}", expected.dims);
    }
}
