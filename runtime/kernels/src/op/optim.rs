//! One step of an optimiser over all parameters at once.

/// An update of several tensors in one call. FP32, FP64, the same for all.
///
/// Operands come in groups of the same length n, in the same order of tensors: the groups that change, then the
/// gradients, all of the parameter's shape. The results are the groups that change, with their new values;
/// [`Backend::update`](crate::Backend::update) puts them where the old ones were, without new memory where nobody else
/// holds it. Numbers are computed in the tensors' dtype, factors in FP64 and rounded once.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Optim {
    /// parameters p, with `momentum` not 0 also velocities v (zeros at first), gradients g:
    /// g' = g + weight_decay p; v = momentum v + g'; p = p - lr d, where d is g' without momentum, v with it, and
    /// g' + momentum v with `nesterov`. PyTorch's `SGD` with dampening 0; Sutskever et al. 2013, *On the importance of
    /// initialization and momentum in deep learning*.
    Sgd {
        /// The learning rate.
        lr: f64,
        /// How much of the velocity stays; 0 for none, and then there is no second group.
        momentum: f64,
        /// How much of the parameter is added to its gradient.
        weight_decay: f64,
        /// Whether the gradient looks ahead.
        nesterov: bool,
    },
    /// parameters p, first moments m and second moments v (zeros at first), gradients g:
    /// m = beta1 m + (1 - beta1) g; v = beta2 v + (1 - beta2) g^2;
    /// p = p - lr (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + epsilon).
    /// Before that, with `decoupled` (AdamW) p = p - lr weight_decay p, without (Adam) g = g + weight_decay p. PyTorch's
    /// `Adam` and `AdamW`; Kingma and Ba 2015, *Adam: A Method for Stochastic Optimization*; Loshchilov and Hutter 2019,
    /// *Decoupled Weight Decay Regularization*.
    Adam {
        /// The learning rate.
        lr: f64,
        /// How much of the first moment stays.
        beta1: f64,
        /// How much of the second moment stays.
        beta2: f64,
        /// What is added to the denominator.
        epsilon: f64,
        /// How fast parameters shrink.
        weight_decay: f64,
        /// Whether they shrink by themselves (AdamW) or by way of the gradient (Adam).
        decoupled: bool,
        /// Which step this is, from 1 on.
        step: u64,
    },
    /// gradients g, which are the only group: all scaled by min(1, norm_max / (norm + 1e-6)), where norm is the square
    /// root of the sum of the squares of all elements of all tensors, in FP64. The scalar norm `[]` comes after the
    /// scaled gradients as one more result. PyTorch's `clip_grad_norm_`; Pascanu et al. 2013, *On the difficulty of
    /// training recurrent neural networks*.
    ClipNorm {
        /// The largest norm that is left as it is; infinity for asking the norm alone.
        norm_max: f64,
    },
}

impl Optim {
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Optim::Sgd { .. } => "sgd",
            Optim::Adam { decoupled: false, .. } => "adam",
            Optim::Adam { decoupled: true, .. } => "adamw",
            Optim::ClipNorm { .. } => "clip-norm",
        }
    }

    /// How many groups of tensors change, and how many only are read.
    pub(crate) fn groups(&self) -> (usize, usize) {
        match self {
            Optim::Sgd { momentum, .. } if *momentum == 0.0 => (1, 1),
            Optim::Sgd { .. } => (2, 1),
            Optim::Adam { .. } => (3, 1),
            Optim::ClipNorm { .. } => (1, 0),
        }
    }
}
