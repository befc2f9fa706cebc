//! A matrix as a product of two that are narrow: its truncated singular value decomposition.

use innkeeper_kernels::{Backend, Cpu, Op, Run};
use innkeeper_tensor::{DType, Tensor};
use nalgebra::{DMatrix, SymmetricEigen};

use super::CompressError;
use super::code::failed;

/// The longest shorter side of a matrix that is factored: the work grows with its third power.
pub(super) const SIDE_MAX: usize = 4096;

/// The factors `[rows, rank]` and `[rank, columns]` whose product is the nearest of that rank to `matrix` `[rows, columns]`
/// (Eckart and Young 1936). The shorter side's singular vectors are the eigenvectors of the matrix times its transpose,
/// worked out in FP64; the other factor is the matrix projected on them.
pub(super) fn factors(matrix: &Tensor, rank: usize) -> Result<(Tensor, Tensor), CompressError> {
    let cpu = Cpu::new();
    let run =
        |op: &Op, operands: &[&Tensor]| cpu.run_one(op, operands, &Run::new()).map_err(failed);
    let turn = Op::Transpose { permutation: vec![1, 0] };
    let wide = run(&Op::Cast { to: DType::Fp64 }, &[matrix])?;
    let turned = run(&turn, &[&wide])?;
    let &[rows, columns] = matrix.shape().dims() else {
        return Err(CompressError::Failed("factors of what is no matrix".into()));
    };
    let tall = rows >= columns;
    let gram = match tall {
        true => run(&Op::MatMul, &[&turned, &wide])?,
        false => run(&Op::MatMul, &[&wide, &turned])?,
    };
    let side = rows.min(columns);
    // `[side, rank]`, the vectors of the largest values first.
    let vectors = eigenvectors(&gram.elements::<f64>().map_err(failed)?, side, rank);
    let vectors = Tensor::from_vec(&[side, rank], vectors).map_err(failed)?;
    let turned_vectors = run(&turn, &[&vectors])?;
    let (left, right) = match tall {
        true => (run(&Op::MatMul, &[&wide, &vectors])?, turned_vectors),
        false => {
            let right = run(&Op::MatMul, &[&turned_vectors, &wide])?;
            (vectors, right)
        }
    };
    let narrow = Op::Cast { to: DType::Fp32 };
    Ok((run(&narrow, &[&left])?, run(&narrow, &[&right])?))
}

/// The eigenvectors of a symmetric matrix with the `rank` largest eigenvalues, as columns of `[side, rank]`.
fn eigenvectors(matrix: &[f64], side: usize, rank: usize) -> Vec<f64> {
    let eigen = SymmetricEigen::new(DMatrix::from_row_slice(side, side, matrix));
    let mut order: Vec<usize> = (0..side).collect();
    order.sort_by(|&a, &b| eigen.eigenvalues[b].total_cmp(&eigen.eigenvalues[a]));
    let mut out = vec![0.0; side * rank];
    for (column, &from) in order.iter().take(rank).enumerate() {
        for row in 0..side {
            out[row * rank + column] = eigen.eigenvectors[(row, from)];
        }
    }
    out
}
