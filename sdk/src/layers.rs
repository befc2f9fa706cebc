//! What the layers of networks are told beside their tensors.

/// What a layer does to each element of its result as it writes it, which saves a pass over memory.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Activation {
    /// Nothing.
    #[default]
    None,
    /// See [`Tensor::relu`](crate::Tensor::relu).
    Relu,
    /// See [`Tensor::gelu`](crate::Tensor::gelu).
    Gelu,
    /// See [`Tensor::gelu_tanh`](crate::Tensor::gelu_tanh).
    GeluTanh,
    /// See [`Tensor::silu`](crate::Tensor::silu).
    Silu,
    /// See [`Tensor::sigmoid`](crate::Tensor::sigmoid).
    Sigmoid,
    /// See [`Tensor::tanh`](crate::Tensor::tanh).
    Tanh,
    /// See [`Tensor::hard_swish`](crate::Tensor::hard_swish).
    HardSwish,
    /// a where it is not below 0, else this times a.
    LeakyRelu(f32),
    /// Not below `min` and not above `max`.
    Clip {
        /// The least result.
        min: f32,
        /// The largest result.
        max: f32,
    },
}

/// Where windows lie over 1 to 3 spatial dimensions, with one number for each; an empty list stands for all 1, and for
/// pads all 0.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Window {
    /// From one window to the next.
    pub strides: Vec<usize>,
    /// What is put before the first element in each dimension, then what comes after the last.
    pub pads: Vec<usize>,
    /// From one element of a window to the next.
    pub dilations: Vec<usize>,
}

/// How a convolution is done; see [`Tensor::conv`](crate::Tensor::conv).
#[derive(Clone, Debug, PartialEq)]
pub struct Conv {
    /// Where windows are.
    pub window: Window,
    /// In how many groups channels are split.
    pub groups: usize,
    /// What is done to each sum.
    pub activation: Activation,
}

impl Default for Conv {
    fn default() -> Conv {
        Conv { window: Window::default(), groups: 1, activation: Activation::None }
    }
}

/// How windows are pooled; see [`Tensor::max_pool`](crate::Tensor::max_pool).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pool {
    /// How long a window is in each spatial dimension; none for one window over everything.
    pub kernel: Vec<usize>,
    /// Where windows are.
    pub window: Window,
    /// Whether a last window may go beyond the padded end.
    pub ceil: bool,
}

/// How attention is done; see [`Tensor::attention`](crate::Tensor::attention).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Attention {
    /// Heads of the queries.
    pub heads: usize,
    /// Heads of keys and values, which divide `heads`.
    pub kv_heads: usize,
    /// What products are multiplied by; `None`: 1 / sqrt(d).
    pub scale: Option<f64>,
    /// Whether a query looks only at keys that are not after it.
    pub causal: bool,
    /// Whether heads are a dimension of their own, before that of the positions.
    pub heads_first: bool,
}

impl Attention {
    /// Attention with as many heads of keys and values as of queries, and nothing else special.
    pub fn new(heads: usize) -> Attention {
        Attention { heads, kv_heads: heads, scale: None, causal: false, heads_first: false }
    }
}
