//! Training: values that can be differentiated, layers, losses and optimisers.
//!
//! A [`Var`] is a tensor that remembers the operations it came from. [`Var::backward`] goes back over them and answers
//! the [`Gradients`] of the [`Parameter`]s that took part, by which an [`Optimizer`] changes them. All arithmetic is the
//! host's; a whole step of an optimiser, over all parameters, is one call.
//!
//! ```
//! use innkeeper_sdk::{Tensor, train::{Adam, Linear, Module, Optimizer, Random, Sequential}};
//!
//! let mut random = Random::new(7);
//! let model = Sequential::new()
//!     .with(Linear::new(2, 16, &mut random)?)
//!     .relu()
//!     .with(Linear::new(16, 2, &mut random)?);
//! let x = Tensor::from_slice(&[4, 2], &[0f32, 0.0, 0.0, 1.0, 1.0, 0.0, 1.0, 1.0])?;
//! let labels = Tensor::from_slice(&[4], &[0i64, 1, 1, 0])?;
//!
//! let mut adam = Adam::new(0.05);
//! let parameters = model.parameters();
//! for _ in 0..100 {
//!     let loss = model.forward(&x.share()?.into())?.cross_entropy(&labels)?;
//!     let gradients = loss.backward()?;
//!     adam.step(&parameters, &gradients)?;
//! }
//! let answers = model.forward(&x.into())?.value().argmax(-1)?;
//! assert_eq!(answers.to_vec::<i64>()?, [0, 1, 1, 0]);
//! # Ok::<(), innkeeper_sdk::Error>(())
//! ```

pub(crate) mod call;
mod convolution;
mod init;
mod layers;
mod ops;
mod optim;
mod privacy;
mod schedule;
mod tape;

pub use convolution::{AvgPool2d, Conv2d, MaxPool2d};
pub use init::{Init, Random};
pub use layers::{
    Dropout, Embedding, LayerNorm, Linear, Module, MultiHeadAttention, RmsNorm, Sequential,
};
pub use optim::{Adam, Optimizer, Sgd};
pub use privacy::epsilon;
pub use schedule::Schedule;
pub use tape::{Gradients, Parameter, Var, without_gradients};

/// How the elements of a loss become one number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reduction {
    /// Their mean.
    Mean,
    /// Their sum.
    Sum,
}

/// A function of one number whose derivative the host knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Slope {
    Relu,
    Gelu,
    GeluTanh,
    Silu,
    Sigmoid,
    Tanh,
}

/// The code of the book's page.
#[doc = include_str!("../../book/training.md")]
#[cfg(doctest)]
struct Book;
