//! Recurrent layers.

use crate::Activation;

/// One direction of a recurrent layer over a sequence: what a step leaves is an operand of the next. FP32.
///
/// Operands x `[t, b, gates * h]`, what the input and its bias say to each gate; recurrence `[gates * h, h]`, of
/// [`Cell::Gru`] with `after` false only the first two gates and then one more, `[h, h]`, for the third; with `bias` one
/// row `[gates * h]` that is added to what the recurrence says; state `[b, h]`; of [`Cell::Lstm`] its memory `[b, h]`;
/// with `peepholes` `[3 * h]`; with `lengths` INT32 or INT64 `[b]`. Results: states `[t, b, h]`, the last state `[b, h]`,
/// of [`Cell::Lstm`] the last memory `[b, h]`.
///
/// Positions from an item's length on are passed over: there states are 0, and the last state is that of the last position
/// that counts. A length below 0 or above t is an error at the run. The gates, in this order, are those of ONNX LSTM (i, o,
/// f, c), GRU (z, r, h) and RNN.
#[derive(Debug, Clone, PartialEq)]
pub struct Recurrent {
    /// What a step computes.
    pub cell: Cell,
    /// Whether the last position comes first.
    pub reverse: bool,
    /// Whether the recurrence has a bias of its own.
    pub bias: bool,
    /// Whether the gates i, o and f look at the memory. Only for [`Cell::Lstm`].
    pub peepholes: bool,
    /// Whether items have lengths of their own.
    pub lengths: bool,
    /// The functions: of the gates, of what is new, and of the memory. A cell uses as many as it has.
    pub activations: [Activation; 3],
}

/// What a step of a recurrent layer computes; H is the state, C the memory, f, g and h the activations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cell {
    /// H = g(x + H R^T).
    Rnn,
    /// z = f, r = f, n = g; H = (1 - z) n + z H. Cho et al. 2014, *Learning Phrase Representations using RNN
    /// Encoder-Decoder*.
    Gru {
        /// Whether r is multiplied after the recurrence of n, else before.
        after: bool,
    },
    /// i = f, o = f, k = f, n = g; C = k C + i n, H = o h(C). Hochreiter and Schmidhuber 1997, *Long Short-Term Memory*.
    Lstm,
}

impl Cell {
    /// How many gates there are.
    pub fn gates(self) -> usize {
        match self {
            Cell::Rnn => 1,
            Cell::Gru { .. } => 3,
            Cell::Lstm => 4,
        }
    }
}

impl Recurrent {
    pub(crate) fn name(&self) -> &'static str {
        match self.cell {
            Cell::Rnn => "rnn",
            Cell::Gru { .. } => "gru",
            Cell::Lstm => "lstm",
        }
    }
}
