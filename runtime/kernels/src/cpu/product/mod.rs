//! Products of FP32 matrices: cut into blocks that the caches hold, and blocks into tiles that the registers hold.
//!
//! The right side is read in panels as wide as a tile. Constants are packed so once; what is used once is packed when
//! enough rows use it. The scheme is that of Goto and van de Geijn, "Anatomy of High-Performance Matrix
//! Multiplication" (2008).

mod blocks;
mod coded;
mod pack;
mod plan;
mod portable;
mod tile;
#[cfg(target_arch = "x86_64")]
mod x86;

use innkeeper_tensor::Tensor;

use crate::{Activation, OpError, Run};
use blocks::{Blocks, Source};
pub(super) use coded::{Coded, Halves, Nibbles};
pub(super) use pack::{Line, Right};
use pack::{Panels, fill};
pub(super) use plan::{Plan, ROWS, share};
use tile::kernel;
#[cfg(target_arch = "x86_64")]
pub(super) use x86::turned;

/// From so many rows on, packing a right side pays that is used once.
const PACKING_ROWS_MIN: usize = 48;

/// Up to so many rows, a right side that is made as it is used is made once. For more it is made beforehand.
const ROWS_OF_CODED: usize = 192;
/// The largest right side that is made beforehand, in floats.
const CODED_MAX: usize = 16 << 20;

/// `activation(a b + bias + residual)`.
pub(super) struct Product<'a> {
    /// Rows of the result.
    pub(super) m: usize,
    /// `[m, k]`, or `[k, m]` when `transposed`.
    pub(super) a: &'a [f32],
    /// Whether a's columns are the product's rows.
    pub(super) transposed: bool,
    /// `[k, n]`.
    pub(super) b: Right<'a>,
    /// The tensor of b when it is a constant.
    pub(super) constant: Option<&'a Tensor>,
    /// `[n]`.
    pub(super) bias: Option<&'a [f32]>,
    /// `[m]`, a number for each row.
    pub(super) row_bias: Option<&'a [f32]>,
    /// `[m, n]`.
    pub(super) residual: Option<&'a [f32]>,
    pub(super) activation: Activation,
}

impl<'a> Product<'a> {
    /// `a b` and nothing else.
    pub(super) fn plain(m: usize, a: &'a [f32], b: Right<'a>) -> Product<'a> {
        Product {
            m,
            a,
            transposed: false,
            b,
            constant: None,
            bias: None,
            row_bias: None,
            residual: None,
            activation: Activation::None,
        }
    }

    /// Whether every slice is as long as the sizes say.
    fn fits(&self, out: &[f32]) -> bool {
        let Right { k, n, .. } = self.b;
        let sum = self.m.checked_mul(n);
        self.m.checked_mul(k) == Some(self.a.len())
            && sum == Some(out.len())
            && self.bias.is_none_or(|bias| bias.len() == n)
            && self.row_bias.is_none_or(|bias| bias.len() == self.m)
            && self.residual.is_none_or(|residual| Some(residual.len()) == sum)
    }

    /// Writes every element of `out`, on all threads of `run`.
    pub(super) fn run(&self, run: &Run<'_>, out: &mut [f32]) -> Result<(), OpError> {
        let Right { k, n, elements, .. } = self.b;
        self.check(k.checked_mul(n) == Some(elements.len()), out)?;
        if out.is_empty() {
            return Ok(());
        }
        let isa = run.isa();
        let kept = self.constant.filter(|_| k > 0).and_then(|it| Panels::kept(self.b, it, isa));
        if let Some(packed) = kept {
            return self.multiply(run, Source::Panels(packed.floats()), out);
        }
        if self.m < PACKING_ROWS_MIN || self.b.k == 0 {
            return self.multiply(run, Source::Plain(self.b), out);
        }
        let columns = kernel(isa).columns;
        self.run_packing(run, out, &|index, out| {
            fill(self.b, index * columns, columns, 0..self.b.k, out);
        })
    }

    /// [`Product::run`] with the panels that `make` writes, called with the number and the place of each.
    fn run_packing(
        &self,
        run: &Run<'_>,
        out: &mut [f32],
        make: &(dyn Fn(usize, &mut [f32]) + Sync),
    ) -> Result<(), OpError> {
        let Right { k, n, .. } = self.b;
        let columns = kernel(run.isa()).columns;
        let len = pack::lines(k, n, columns).and_then(|lines| lines.checked_mul(16));
        let mut panels = run.scratch::<f32>(len.unwrap_or(usize::MAX))?;
        run.pieces(&mut panels, k * columns, |index, out| {
            make(index, out);
            Ok(())
        })?;
        self.multiply(run, Source::Panels(&panels), out)?;
        run.give(panels);
        Ok(())
    }

    /// How wide the panels of a right side are.
    pub(super) fn columns(run: &Run<'_>) -> usize {
        kernel(run.isa()).columns
    }

    /// [`Product::run`] with a right side that is made as it is used: its panels, while b says its sizes only.
    pub(super) fn run_coded(
        &self,
        coded: &dyn Coded,
        run: &Run<'_>,
        out: &mut [f32],
    ) -> Result<(), OpError> {
        self.check(true, out)?;
        let Right { k, n, .. } = self.b;
        if out.is_empty() {
            return Ok(());
        }
        if self.m > ROWS_OF_CODED && k > 0 && k.saturating_mul(n) <= CODED_MAX {
            return self.run_packing(run, out, &|panel, out| coded.fill(panel, 0..k, out));
        }
        self.multiply(run, Source::Coded(coded), out)
    }

    fn multiply(&self, run: &Run<'_>, source: Source<'_>, out: &mut [f32]) -> Result<(), OpError> {
        let kernel = kernel(run.isa());
        let height = match source {
            Source::Coded(_) => ROWS_OF_CODED..ROWS_OF_CODED,
            _ => ROWS,
        };
        let tile = [kernel.rows_max, kernel.columns];
        let plan = Plan::new([self.m, self.b.k, self.b.n], tile, height, run.threads());
        let blocks = Blocks::new(self, kernel, source, out);
        run.parallel(plan.chunks(), |index| {
            let (rows, panels) = plan.chunk(index);
            blocks.compute(rows, panels);
            Ok(())
        })
    }

    fn check(&self, right_fits: bool, out: &[f32]) -> Result<(), OpError> {
        if right_fits && self.fits(out) {
            return Ok(());
        }
        let (m, Right { k, n, .. }) = (self.m, self.b);
        let text = format!("a product of [{m},{k}] by [{k},{n}] does not fit its operands");
        Err(OpError::InvalidArgument(text))
    }
}
