//! Tensors under their names: what `predict` is given and what it answers.

use crate::{Error, Result, Tensor};

/// The tensors of a request, checked against the model's signature.
///
/// ```
/// use innkeeper_sdk::{Inputs, Result, Tensor};
///
/// fn scaled(inputs: &Inputs) -> Result<Tensor> {
///     let scale = match inputs.get("SCALE") {
///         Some(scale) => scale.share()?,
///         None => Tensor::from_slice(&[], &[1f32])?,
///     };
///     inputs.tensor("INPUT0")?.mul(&scale)
/// }
/// let inputs = Inputs::new().with("INPUT0", Tensor::from_slice(&[2], &[1f32, 2.0])?);
/// assert_eq!(scaled(&inputs)?.to_vec::<f32>()?, [1.0, 2.0]);
/// # Ok::<(), innkeeper_sdk::Error>(())
/// ```
#[derive(Debug, Default)]
pub struct Inputs(Vec<(String, Tensor)>);

/// The tensors of an answer.
///
/// ```
/// use innkeeper_sdk::{Outputs, Tensor};
///
/// let outputs = Outputs::new().with("LABEL", Tensor::from_slice(&[2], &[7i64, 1])?);
/// assert_eq!(outputs.tensor("LABEL")?.shape(), [2]);
/// # Ok::<(), innkeeper_sdk::Error>(())
/// ```
#[derive(Debug, Default)]
pub struct Outputs(Vec<(String, Tensor)>);

macro_rules! named_tensors {
    ($type:ident, $one:literal) => {
        impl $type {
            /// No tensors, to begin with.
            pub fn new() -> $type {
                $type::default()
            }

            /// With this tensor under `name`.
            pub fn with(mut self, name: &str, tensor: Tensor) -> $type {
                self.push(name, tensor);
                self
            }

            /// Adds a tensor under `name`.
            pub fn push(&mut self, name: &str, tensor: Tensor) {
                self.0.push((name.to_owned(), tensor));
            }

            /// The tensor of this name, if there is one.
            pub fn get(&self, name: &str) -> Option<&Tensor> {
                self.0.iter().find(|(other, _)| other == name).map(|(_, tensor)| tensor)
            }

            /// The tensor of this name.
            ///
            /// # Errors
            /// [`Error::InvalidArgument`]: there is none. It names those that there are.
            pub fn tensor(&self, name: &str) -> Result<&Tensor> {
                self.get(name).ok_or_else(|| {
                    let known: Vec<&str> = self.iter().map(|(name, _)| name).collect();
                    let known = known.join(", ");
                    Error::invalid_argument(format!(
                        concat!("there is no ", $one, " named {:?}; there are: {}"),
                        name, known
                    ))
                })
            }

            /// Takes the tensor of this name out, if there is one.
            pub fn take(&mut self, name: &str) -> Option<Tensor> {
                let index = self.0.iter().position(|(other, _)| other == name)?;
                Some(self.0.remove(index).1)
            }

            /// Names and tensors, in the order in which they came.
            pub fn iter(&self) -> impl Iterator<Item = (&str, &Tensor)> {
                self.0.iter().map(|(name, tensor)| (name.as_str(), tensor))
            }

            /// How many there are.
            pub fn len(&self) -> usize {
                self.0.len()
            }

            /// Whether there are none.
            pub fn is_empty(&self) -> bool {
                self.0.is_empty()
            }
        }

        impl IntoIterator for $type {
            type Item = (String, Tensor);
            type IntoIter = std::vec::IntoIter<(String, Tensor)>;

            fn into_iter(self) -> Self::IntoIter {
                self.0.into_iter()
            }
        }

        impl FromIterator<(String, Tensor)> for $type {
            fn from_iter<I: IntoIterator<Item = (String, Tensor)>>(tensors: I) -> $type {
                $type(tensors.into_iter().collect())
            }
        }
    };
}
named_tensors!(Inputs, "input");
named_tensors!(Outputs, "output");
