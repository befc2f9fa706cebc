//! Tensors of FP32 that are kept in fewer bytes than their elements take.

use std::ops::Range;
use std::sync::{Arc, OnceLock};

use half::slice::HalfFloatSliceExt;

use crate::{Buffer, DType, FetchError, Remote, Shape, Tensor, bf16, f16};

/// How the elements of a coded tensor are kept. A tensor `[rows, ..]` counts as a matrix `[rows, columns]`.
#[derive(Debug, Clone)]
pub enum Code {
    /// The elements rounded to FP16 or BF16.
    Half {
        /// `[rows, columns]`.
        values: Tensor,
    },
    /// Whole numbers times a scale for each row.
    Int8 {
        /// INT8 `[rows, columns]`.
        values: Tensor,
        /// FP32 `[rows]`.
        scales: Tensor,
    },
    /// Whole numbers less 8 times a scale for each group of a row.
    Int4 {
        /// UINT8 `[rows, columns / 2]`: two numbers in a byte, the even one in the low four bits.
        values: Tensor,
        /// FP32 `[rows, columns / group]`.
        scales: Tensor,
        /// How many elements of a row share a scale: even, and a divisor of the columns.
        group: usize,
    },
    /// The product of two matrices, which may be coded themselves, but not as products.
    LowRank {
        /// FP32 `[rows, rank]`.
        left: Tensor,
        /// FP32 `[rank, columns]`.
        right: Tensor,
    },
}

/// A tensor's elements in a [`Code`], written out when somebody reads them. Kernels that know the code read it as it is.
#[derive(Debug)]
pub struct Coded {
    shape: Shape,
    /// What the tensor counts as.
    matrix: (usize, usize),
    code: Code,
    /// The elements as FP32, once somebody read them; none when there was no memory for them.
    expanded: OnceLock<Option<Vec<f32>>>,
}

/// The most multiply-adds that writing a product out may take, about half a second.
const PRODUCT_COST_MAX: u64 = 1 << 34;

/// Parts that are no tensor of the shape that was said; the text says why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct CodedError(String);

impl Coded {
    /// An FP32 tensor of this shape, whose elements are kept in this code. It and its parts become constants.
    ///
    /// # Errors
    /// Parts of other dtypes or shapes than the code says, a scale that is not finite, a product that saves nothing, and
    /// a shape of fewer than two dimensions.
    pub fn tensor(shape: Shape, code: Code) -> Result<Tensor, CodedError> {
        let [rows, rest @ ..] = shape.dims() else { return Err(flat(&shape)) };
        if rest.is_empty() {
            return Err(flat(&shape));
        }
        let matrix = (*rows, rest.iter().product());
        let code = check(code, matrix.0, matrix.1)?;
        let coded = Coded { shape: shape.clone(), matrix, code, expanded: OnceLock::new() };
        let data = Buffer::remote(Arc::new(coded));
        let tensor =
            Tensor::new(DType::Fp32, shape, data).map_err(|error| CodedError(error.to_string()))?;
        Ok(tensor.constant())
    }

    /// What `tensor` is kept as, when it is the whole of a coded tensor under its own shape.
    pub fn of(tensor: &Tensor) -> Option<Arc<Coded>> {
        let coded = Coded::behind(tensor)?;
        (coded.shape == *tensor.shape()).then_some(coded)
    }

    /// What the elements of `tensor` are kept as, whichever shape it has.
    pub fn behind(tensor: &Tensor) -> Option<Arc<Coded>> {
        tensor.data().remote_owner::<Coded>().map(|(coded, _)| coded)
    }

    /// The code.
    pub fn code(&self) -> &Code {
        &self.code
    }

    /// The shape of the tensor.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// The matrix that the tensor counts as: rows and columns.
    pub fn matrix(&self) -> (usize, usize) {
        self.matrix
    }

    /// Writes the elements of `columns` of row `row`.
    ///
    /// # Panics
    /// When they are not in the matrix, or `out` has another length.
    pub fn write(&self, row: usize, columns: Range<usize>, out: &mut [f32]) {
        let (_, width) = self.matrix;
        assert!(columns.end <= width && out.len() == columns.len(), "columns of a coded tensor");
        let from = row * width + columns.start;
        match &self.code {
            Code::Half { values } => write_halves(values, from, out),
            Code::Int8 { values, scales } => {
                let scale = float(scales.as_bytes(), row);
                let pairs = out.iter_mut().zip(&values.as_bytes()[from..]);
                pairs.for_each(|(out, &byte)| *out = f32::from(byte as i8) * scale);
            }
            Code::Int4 { values, scales, group } => {
                let (bytes, scales, groups) = (values.as_bytes(), scales.as_bytes(), width / group);
                for (column, out) in columns.zip(out) {
                    let at = row * width + column;
                    let number = bytes[at / 2] >> (at % 2 * 4) & 15;
                    *out = (f32::from(number) - 8.0) * float(scales, row * groups + column / group);
                }
            }
            Code::LowRank { left, right } => {
                out.fill(0.0);
                let (a, b) = (left.as_bytes(), right.as_bytes());
                let rank = left.shape().dims()[1];
                for step in 0..rank {
                    let factor = float(a, row * rank + step);
                    let of_row = b[(step * width + columns.start) * 4..].as_chunks::<4>().0;
                    let pairs = out.iter_mut().zip(of_row);
                    pairs.for_each(|(out, word)| *out += factor * f32::from_le_bytes(*word));
                }
            }
        }
    }

    /// The bytes that its parts take.
    pub fn part_bytes(&self) -> usize {
        let bytes = |part: &Tensor| match Coded::of(part) {
            Some(coded) => coded.part_bytes(),
            None => part.data().len(),
        };
        self.parts().map(bytes).sum()
    }

    /// Whether the elements were written out.
    pub fn is_expanded(&self) -> bool {
        self.expanded.get().is_some()
    }

    fn parts(&self) -> impl Iterator<Item = &Tensor> {
        let parts = match &self.code {
            Code::Half { values } => [Some(values), None],
            Code::Int8 { values, scales } | Code::Int4 { values, scales, .. } => {
                [Some(values), Some(scales)]
            }
            Code::LowRank { left, right } => [Some(left), Some(right)],
        };
        parts.into_iter().flatten()
    }
}

impl Remote for Coded {
    fn byte_length(&self) -> usize {
        self.shape.elements() * size_of::<f32>()
    }

    fn fetch(&self) -> Result<&[u8], FetchError> {
        let expanded = self.expanded.get_or_init(|| {
            let mut elements = Vec::new();
            elements.try_reserve_exact(self.shape.elements()).ok()?;
            elements.resize(self.shape.elements(), 0f32);
            let (_, width) = self.matrix;
            if width > 0 {
                let rows = elements.chunks_exact_mut(width).enumerate();
                rows.for_each(|(row, out)| self.write(row, 0..width, out));
            }
            Some(elements)
        });
        let no_memory = || format!("there is no memory to write a coded tensor {} out", self.shape);
        expanded.as_deref().map(bytemuck::cast_slice).ok_or_else(|| FetchError(no_memory()))
    }

    fn kept_bytes(&self) -> usize {
        let expanded = self.expanded.get().and_then(Option::as_ref);
        let expanded = expanded.map_or(0, |elements| size_of_val(&elements[..]));
        expanded + self.parts().map(Tensor::derived_byte_length).sum::<usize>()
    }
}

fn write_halves(values: &Tensor, from: usize, out: &mut [f32]) {
    let bytes = &values.as_bytes()[from * 2..][..out.len() * 2];
    match (values.dtype(), bytemuck::try_cast_slice::<u8, f16>(bytes)) {
        (DType::Fp16, Ok(halves)) => halves.convert_to_f32_slice(out),
        (DType::Fp16, Err(_)) => {
            let pairs = out.iter_mut().zip(bytes.as_chunks::<2>().0);
            pairs.for_each(|(out, &word)| *out = f16::from_le_bytes(word).to_f32());
        }
        _ => {
            let pairs = out.iter_mut().zip(bytes.as_chunks::<2>().0);
            pairs.for_each(|(out, &word)| *out = bf16::from_le_bytes(word).to_f32());
        }
    }
}

fn float(bytes: &[u8], index: usize) -> f32 {
    bytes.as_chunks::<4>().0.get(index).map_or(0.0, |word| f32::from_le_bytes(*word))
}

fn flat(shape: &Shape) -> CodedError {
    CodedError(format!("a coded tensor has two dimensions or more, not {shape}"))
}

/// The code with its parts held against the matrix.
fn check(code: Code, rows: usize, columns: usize) -> Result<Code, CodedError> {
    Ok(match code {
        Code::Half { values } => {
            let dtypes = [DType::Fp16, DType::Bf16];
            Code::Half { values: part("values", values, &dtypes, &[rows, columns])? }
        }
        Code::Int8 { values, scales } => Code::Int8 {
            values: part("values", values, &[DType::Int8], &[rows, columns])?,
            scales: finite(part("scales", scales, &[DType::Fp32], &[rows])?)?,
        },
        Code::Int4 { values, scales, group } => {
            let fits = group >= 2 && group.is_multiple_of(2) && columns.is_multiple_of(group);
            if !fits {
                let text = format!("rows of {columns} are not whole groups of {group}");
                return Err(CodedError(text));
            }
            let (of_values, of_scales) = ([rows, columns / 2], [rows, columns / group]);
            Code::Int4 {
                values: part("values", values, &[DType::Uint8], &of_values)?,
                scales: finite(part("scales", scales, &[DType::Fp32], &of_scales)?)?,
                group,
            }
        }
        Code::LowRank { left, right } => {
            let rank = left.shape().dims().get(1).copied().unwrap_or(0);
            for factor in [&left, &right] {
                let product =
                    Coded::behind(factor).map(|it| matches!(it.code, Code::LowRank { .. }));
                if product == Some(true) {
                    return Err(CodedError("a factor of a product is a product itself".into()));
                }
            }
            // A few bytes must not stand for many elements.
            if rank == 0 || (rows + columns).saturating_mul(rank) >= rows.saturating_mul(columns) {
                let text = format!("[{rows}, {columns}] as a product of rank {rank} saves nothing");
                return Err(CodedError(text));
            }
            let cost =
                [columns, rank].iter().fold(rows as u64, |cost, &n| cost.saturating_mul(n as u64));
            if cost > PRODUCT_COST_MAX {
                let text =
                    format!("[{rows}, {columns}] as a product of rank {rank} takes too long");
                return Err(CodedError(text));
            }
            Code::LowRank {
                left: part("left factor", left, &[DType::Fp32], &[rows, rank])?,
                right: part("right factor", right, &[DType::Fp32], &[rank, columns])?,
            }
        }
    })
}

/// A part as a constant of this shape; more than two dimensions, as values of a convolution have, count as two.
fn part(what: &str, part: Tensor, dtypes: &[DType], dims: &[usize]) -> Result<Tensor, CodedError> {
    let names: Vec<&str> = dtypes.iter().map(|dtype| dtype.name()).collect();
    let (got, of_part) = (part.dtype(), part.shape().clone());
    let wrong = || {
        let names = names.join(" or ");
        CodedError(format!("the {what} must be {names} {dims:?}, got {got} {of_part}"))
    };
    if !dtypes.contains(&got) || of_part.dims().first() != dims.first() {
        return Err(wrong());
    }
    if of_part.dims() == dims {
        return Ok(part.constant());
    }
    let shape = Shape::new(dims).map_err(|_| wrong())?;
    part.reshaped(shape).map(Tensor::constant).map_err(|_| wrong())
}

fn finite(scales: Tensor) -> Result<Tensor, CodedError> {
    let mut words = scales.as_bytes().as_chunks::<4>().0.iter();
    match words.all(|word| f32::from_le_bytes(*word).is_finite()) {
        true => Ok(scales),
        false => Err(CodedError("a scale is not finite".into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(dims: &[usize]) -> Shape {
        Shape::new(dims).unwrap()
    }

    fn floats(dims: &[usize], value: f32) -> Tensor {
        Tensor::from_vec(dims, vec![value; dims.iter().product()]).unwrap()
    }

    fn int8() -> (Tensor, Tensor) {
        let values = Tensor::from_vec(&[2, 2, 1], vec![1i8, -2, 3, 127]).unwrap();
        (values, Tensor::from_vec(&[2], vec![0.5f32, 2.0]).unwrap())
    }

    fn check(dims: &[usize], code: Code, wanted: &[f32]) {
        let tensor = Coded::tensor(shape(dims), code).unwrap();
        let coded = Coded::of(&tensor).unwrap();
        let (rows, columns) = coded.matrix();
        let mut last = [0f32];
        coded.write(rows - 1, columns - 1..columns, &mut last);
        assert_eq!(last[0], *wanted.last().unwrap());
        assert!(!coded.is_expanded() && tensor.derived_byte_length() == 0);
        assert_eq!(*tensor.elements::<f32>().unwrap(), *wanted);
        assert!(coded.is_expanded());
        assert_eq!(tensor.derived_byte_length(), size_of_val(wanted));
        let flat = tensor.reshaped(shape(&[wanted.len()])).unwrap();
        assert!(Coded::of(&flat).is_none() && Coded::behind(&flat).is_some());
        assert_eq!(flat.derived_byte_length(), size_of_val(wanted));
    }

    #[test]
    fn elements_are_written_out_when_they_are_read() {
        let (values, scales) = int8();
        check(&[2, 2, 1], Code::Int8 { values, scales }, &[0.5, -1.0, 6.0, 254.0]);
        let halves = [1.0, 2.0, -3.0, 0.5];
        let values = Tensor::from_vec(&[2, 2], halves.map(bf16::from_f32).to_vec()).unwrap();
        check(&[2, 2], Code::Half { values }, &halves);
        let values = Tensor::from_vec(&[2, 2], halves.map(f16::from_f32).to_vec()).unwrap();
        check(&[2, 2], Code::Half { values }, &halves);
        let values = Tensor::from_vec(&[2, 1], vec![0xf0u8, 0x98]).unwrap();
        let scales = Tensor::from_vec(&[2, 1], vec![1f32, 0.5]).unwrap();
        check(&[2, 2], Code::Int4 { values, scales, group: 2 }, &[-8.0, 7.0, 0.0, 0.5]);
        let left = Tensor::from_vec(&[3, 1], vec![1f32, 2.0, -1.0]).unwrap();
        let right = Tensor::from_vec(&[1, 3], vec![3f32, 4.0, 0.0]).unwrap();
        let product = [3.0, 4.0, 0.0, 6.0, 8.0, 0.0, -3.0, -4.0, 0.0];
        check(&[3, 3], Code::LowRank { left, right }, &product);
    }

    #[test]
    fn parts_must_fit() {
        let (values, scales) = int8();
        let bytes = Tensor::from_vec(&[2, 1], vec![0u8; 2]).unwrap();
        let of = |values: &Tensor, scales: &Tensor| Code::Int8 {
            values: values.clone(),
            scales: scales.clone(),
        };
        let cases: Vec<(&[usize], Code, &str)> = vec![
            (&[4], of(&values, &scales), "two dimensions"),
            (&[2, 3], of(&values, &scales), "values must be INT8 [2, 3], got INT8 [2,2,1]"),
            (&[4, 1], of(&values, &scales), "values must be INT8 [4, 1]"),
            (&[2, 2], of(&scales, &scales), "values must be INT8 [2, 2], got FP32 [2]"),
            (&[2, 2], of(&values, &floats(&[2], f32::NAN)), "not finite"),
            (&[2, 2], of(&values, &floats(&[3], 1.0)), "scales must be FP32 [2], got FP32 [3]"),
            (&[2, 2], Code::Half { values: scales.clone() }, "must be FP16 or BF16 [2, 2]"),
            (
                &[2, 2],
                Code::Int4 { values: bytes, scales: floats(&[2, 1], 1.0), group: 3 },
                "groups of 3",
            ),
            (
                &[2, 2],
                Code::LowRank { left: floats(&[2, 1], 1.0), right: floats(&[1, 2], 1.0) },
                "saves nothing",
            ),
            (
                &[3, 3],
                Code::LowRank { left: floats(&[3, 1], 1.0), right: floats(&[2, 3], 1.0) },
                "right factor must be FP32 [1, 3], got FP32 [2,3]",
            ),
        ];
        for (dims, code, wanted) in cases {
            let error = Coded::tensor(shape(dims), code).unwrap_err().to_string();
            assert!(error.contains(wanted), "{error}");
        }
    }
}
