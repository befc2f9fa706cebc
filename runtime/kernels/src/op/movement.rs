//! Operations that move or repeat elements and compute nothing.

/// An operation that moves, repeats or leaves out elements. Every dtype but BYTES.
#[derive(Debug, Clone, PartialEq)]
pub enum Move {
    /// x: along each of `axes` (each once; the first dimensions when empty) the positions `starts[i]`,
    /// `starts[i] + steps[i]`, ... before `ends[i]`, as Python's `x[start:end:step]`: negative positions count from the
    /// end and everything is clamped. A step is not 0; with a negative one an end below -size reaches over position 0.
    /// `steps` may be empty for 1. ONNX Slice.
    Strided {
        /// The dimensions that are cut.
        axes: Vec<i64>,
        /// For each the first position taken.
        starts: Vec<i64>,
        /// For each the position that is not reached.
        ends: Vec<i64>,
        /// For each the distance between two positions.
        steps: Vec<i64>,
    },
    /// x: as many results as there are sizes, the parts of x along `axis` in order; the sizes add up to x's. ONNX Split.
    Split {
        /// The dimension that is cut.
        axis: i64,
        /// The sizes of the parts.
        sizes: Vec<usize>,
    },
    /// x: for each dimension `begins[i]` positions before and `ends[i]` after; negative numbers cut. Sizes that are cut
    /// must be there. ONNX Pad.
    Pad {
        /// What the new positions hold.
        mode: Pad,
        /// How many positions come before, for each dimension.
        begins: Vec<i64>,
        /// How many positions come after, for each dimension.
        ends: Vec<i64>,
    },
    /// x: repeated to what its shape and `shape` broadcast to. ONNX Expand.
    Expand {
        /// The shape to broadcast with.
        shape: Vec<usize>,
    },
    /// x: the whole tensor `repeats[i]` times along dimension i; one number for each. ONNX Tile.
    Tile {
        /// How often.
        repeats: Vec<usize>,
    },
    /// x `[.., rows, columns]`: elements below (`upper`) or above the diagonal become 0. Element (i, j) is on diagonal
    /// j - i. ONNX Trilu.
    Trilu {
        /// Whether the upper triangle is kept, else the lower.
        upper: bool,
        /// The first diagonal kept (`upper`), or the last.
        diagonal: i64,
    },
    /// x `[n, c, h, w]`: blocks of channels become `block` by `block` pixels, `[n, c / block^2, h block, w block]`.
    /// ONNX DepthToSpace.
    DepthToSpace {
        /// The side of the square of pixels.
        block: usize,
        /// Which channels of x come together.
        order: Depth,
    },
    /// x `[n, c, h, w]`: squares of pixels become channels, `[n, block^2 c, h / block, w / block]`; channel c of pixel p
    /// of a square becomes channel `p * channels + c`. ONNX SpaceToDepth.
    SpaceToDepth {
        /// The side of the square of pixels.
        block: usize,
    },
    /// x, lengths (INT32 or INT64, as many as x is long along `batch_axis`): for item b of the batch the first
    /// `lengths[b]` positions along `time_axis` in reverse. A length outside of x is an error at the run. ONNX
    /// ReverseSequence.
    ReverseSequence {
        /// The dimension with one length for each position.
        batch_axis: i64,
        /// The dimension that is reversed.
        time_axis: i64,
    },
}

/// What is around a padded tensor. ONNX Pad's modes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Pad {
    /// This value, converted as [`Op::Cast`](crate::Op::Cast) would from FP64.
    Constant(f64),
    /// The tensor mirrored at its first and last positions, which are not repeated; so less than the size may be added.
    Reflect,
    /// The first and the last position again and again.
    Edge,
    /// The tensor from its other end; no more than the size may be added.
    Wrap,
}

/// How channels become pixels. ONNX DepthToSpace's modes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// Channel `(row * block + column) * channels + c`. ONNX DCR.
    DepthColumnRow,
    /// Channel `(c * block + row) * block + column`, as PyTorch's pixel_shuffle. ONNX CRD.
    ColumnRowDepth,
}

impl Move {
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Move::Strided { .. } => "strided-slice",
            Move::Split { .. } => "split",
            Move::Pad { .. } => "pad",
            Move::Expand { .. } => "expand",
            Move::Tile { .. } => "tile",
            Move::Trilu { .. } => "trilu",
            Move::DepthToSpace { .. } => "depth-to-space",
            Move::SpaceToDepth { .. } => "space-to-depth",
            Move::ReverseSequence { .. } => "reverse-sequence",
        }
    }
}
