//! Values that remember how they came about.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use crate::train::call::Backward;
use crate::{Error, Result, Tensor, host};

thread_local! {
    static NEXT: Cell<u64> = const { Cell::new(0) };
    static RECORDING: Cell<bool> = const { Cell::new(true) };
}

/// Later ones are larger, so that a result's is larger than its operands'.
fn next_id() -> u64 {
    NEXT.replace(NEXT.get() + 1)
}

/// Does `work` without recording: nothing in it can be differentiated, and nothing is kept for that.
///
/// ```
/// use innkeeper_sdk::Tensor;
/// use innkeeper_sdk::train::{Parameter, without_gradients};
///
/// let weight = Parameter::new(Tensor::from_slice(&[1], &[3f32])?);
/// let y = without_gradients(|| weight.var().mul_scalar(2.0))?;
/// assert!(y.backward()?.is_empty());
/// # Ok::<(), innkeeper_sdk::Error>(())
/// ```
pub fn without_gradients<T>(work: impl FnOnce() -> T) -> T {
    /// Also when `work` panics, as tests do.
    struct Restore(bool);
    impl Drop for Restore {
        fn drop(&mut self) {
            RECORDING.set(self.0);
        }
    }
    let _restore = Restore(RECORDING.replace(false));
    work()
}

/// What training changes: a tensor that optimisers replace. A clone is the same parameter.
///
/// ```
/// use innkeeper_sdk::Tensor;
/// use innkeeper_sdk::train::Parameter;
///
/// let weight = Parameter::new(Tensor::from_slice(&[2], &[1f32, 2.0])?);
/// let square = weight.var().mul(&weight.var())?.sum(&[], false)?;
/// let gradients = square.backward()?;
/// assert_eq!(gradients.get(&weight).unwrap().to_vec::<f32>()?, [2.0, 4.0]);
/// # Ok::<(), innkeeper_sdk::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Parameter(Rc<Kept>);

#[derive(Debug)]
struct Kept {
    id: u64,
    value: RefCell<Rc<Tensor>>,
}

impl Parameter {
    /// A parameter that begins as `value`.
    pub fn new(value: Tensor) -> Parameter {
        Parameter(Rc::new(Kept { id: next_id(), value: RefCell::new(Rc::new(value)) }))
    }

    /// What it is now, as a value that gradients flow to.
    pub fn var(&self) -> Var {
        Var::of(self.0.id, self.value(), Origin::Parameter)
    }

    /// What it is now.
    pub fn value(&self) -> Rc<Tensor> {
        self.0.value.borrow().clone()
    }

    /// Makes it `value`, as loading a checkpoint does.
    pub fn set(&self, value: Tensor) {
        *self.0.value.borrow_mut() = Rc::new(value);
    }

    pub(super) fn id(&self) -> u64 {
        self.0.id
    }

    /// The tensors for changing in place, with handles of their own where recorded operations still hold these. Each
    /// parameter is there once.
    pub(super) fn with_all<T>(
        parameters: &[&Parameter],
        work: impl FnOnce(&mut [&mut Tensor]) -> T,
    ) -> Result<T> {
        let mut kept: Vec<_> =
            parameters.iter().map(|parameter| parameter.0.value.borrow_mut()).collect();
        let mut tensors: Vec<&mut Tensor> =
            kept.iter_mut().map(|value| own(value)).collect::<Result<_>>()?;
        Ok(work(&mut tensors))
    }
}

/// The tensor, which nobody else sees changing.
pub(super) fn own(shared: &mut Rc<Tensor>) -> Result<&mut Tensor> {
    if Rc::get_mut(shared).is_none() {
        let handle = shared.share()?;
        *shared = Rc::new(handle);
    }
    Rc::get_mut(shared).ok_or_else(|| Error::internal("a handle made just now is shared"))
}

/// A tensor that remembers the operations it came from, as far as parameters take part in them. Its operations are those
/// of [`Tensor`]; a clone is the same value.
#[derive(Clone)]
pub struct Var(Rc<Node>);

struct Node {
    id: u64,
    value: Rc<Tensor>,
    /// Asked of the host once.
    shape: OnceCell<Vec<usize>>,
    origin: RefCell<Origin>,
}

enum Origin {
    Constant,
    Parameter,
    /// An operation's operands, and what gives their gradients, those that have one, from its result's.
    Operation(Vec<Var>, Pullback),
    /// A loss, whose gradient by its one operand was worked out with it.
    Loss(Var, Rc<Tensor>),
}

/// From dy, the derivative by each operand; `None` for those without one.
type Pullback = Box<dyn Fn(&Tensor) -> Result<Vec<Option<Tensor>>>>;

impl Var {
    /// A value that nothing flows to: data.
    pub fn constant(value: Tensor) -> Var {
        Var::of(next_id(), Rc::new(value), Origin::Constant)
    }

    /// The value.
    pub fn value(&self) -> &Tensor {
        &self.0.value
    }

    /// The size of each dimension.
    pub fn shape(&self) -> &[usize] {
        self.0.shape.get_or_init(|| self.0.value.shape())
    }

    /// The same value, cut off from where it came from.
    pub fn detach(&self) -> Var {
        Var::of(next_id(), self.keep(), Origin::Constant)
    }

    /// The one element, as a number: for losses.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`]: there is not exactly one element, or it is no FP32 or FP64.
    pub fn item(&self) -> Result<f64> {
        self.value().item()
    }

    /// The derivative of this value, which has one element, by every parameter that took part in it.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`]: there is more than one element. What the host answers to an operation.
    pub fn backward(&self) -> Result<Gradients> {
        if self.shape().iter().product::<usize>() != 1 {
            return Err(Error::invalid_argument(format!(
                "only a value of one element can be differentiated, got {:?}; take its sum or mean first",
                self.shape()
            )));
        }
        // Largest first: when a value's turn comes, everything that it went into was there before.
        let mut open: BTreeMap<u64, (Var, Rc<Tensor>)> = BTreeMap::new();
        let mut gradients = Gradients::default();
        match &*self.0.origin.borrow() {
            Origin::Constant => return Ok(gradients),
            Origin::Loss(operand, gradient) => add(&mut open, operand, gradient.clone())?,
            _ => add(&mut open, self, Rc::new(self.value().ones_like()?))?,
        }
        while let Some((id, (var, dy))) = open.pop_last() {
            match &*var.0.origin.borrow() {
                Origin::Constant => {}
                Origin::Parameter => {
                    gradients.0.insert(id, dy);
                }
                Origin::Loss(operand, gradient) => {
                    add(&mut open, operand, Rc::new(gradient.mul(&dy)?))?;
                }
                Origin::Operation(operands, pullback) => {
                    for (operand, gradient) in operands.iter().zip(pullback(&dy)?) {
                        if let Some(gradient) = gradient {
                            add(&mut open, operand, Rc::new(gradient))?;
                        }
                    }
                }
            }
        }
        Ok(gradients)
    }

    /// The value, for a pullback that needs it.
    pub(super) fn keep(&self) -> Rc<Tensor> {
        Rc::clone(&self.0.value)
    }

    /// Whether a gradient flows here.
    pub(super) fn is_tracked(&self) -> bool {
        RECORDING.get() && !matches!(*self.0.origin.borrow(), Origin::Constant)
    }

    fn of(id: u64, value: Rc<Tensor>, origin: Origin) -> Var {
        let shape = OnceCell::new();
        Var(Rc::new(Node { id, value, shape, origin: RefCell::new(origin) }))
    }

    /// The result of an operation on `operands`. Where none of them is tracked, it is a constant.
    pub(super) fn result<const N: usize>(
        value: impl Into<Rc<Tensor>>,
        operands: [&Var; N],
        pullback: impl Fn(&Tensor) -> Result<[Option<Tensor>; N]> + 'static,
    ) -> Var {
        let operands = operands.map(Var::clone).to_vec();
        Var::result_of(value.into(), operands, move |dy| Ok(pullback(dy)?.into()))
    }

    /// [`Var::result`] for any number of operands.
    pub(super) fn result_of(
        value: Rc<Tensor>,
        operands: Vec<Var>,
        pullback: impl Fn(&Tensor) -> Result<Vec<Option<Tensor>>> + 'static,
    ) -> Var {
        let origin = match operands.iter().any(Var::is_tracked) {
            true => Origin::Operation(operands, Box::new(pullback)),
            false => Origin::Constant,
        };
        Var::of(next_id(), value, origin)
    }

    /// What `loss` makes of this value and `target`.
    pub(super) fn loss(&self, loss: &Backward, target: &Tensor) -> Result<Var> {
        let mut results = backward(loss, &[self.value(), target])?.into_iter();
        let (Some(value), Some(gradient)) = (results.next(), results.next()) else {
            return Err(Error::internal("a loss came without its gradient"));
        };
        let origin = match self.is_tracked() {
            true => Origin::Loss(self.clone(), Rc::new(gradient)),
            false => Origin::Constant,
        };
        Ok(Var::of(next_id(), Rc::new(value), origin))
    }
}

impl From<Tensor> for Var {
    fn from(value: Tensor) -> Var {
        Var::constant(value)
    }
}

impl std::fmt::Debug for Var {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Var").field("value", &self.0.value).finish_non_exhaustive()
    }
}

/// Operands are dropped one after the other and not one inside the other: a long recurrence would overflow the stack.
impl Drop for Node {
    fn drop(&mut self) {
        let mut orphans = operands_of(self.origin.get_mut());
        while let Some(Var(node)) = orphans.pop() {
            if let Ok(mut node) = Rc::try_unwrap(node) {
                orphans.extend(operands_of(node.origin.get_mut()));
            }
        }
    }
}

fn operands_of(origin: &mut Origin) -> Vec<Var> {
    match std::mem::replace(origin, Origin::Constant) {
        Origin::Operation(operands, _) => operands,
        Origin::Loss(operand, _) => vec![operand],
        Origin::Constant | Origin::Parameter => Vec::new(),
    }
}

/// Adds what flows to `var`.
fn add(open: &mut BTreeMap<u64, (Var, Rc<Tensor>)>, var: &Var, gradient: Rc<Tensor>) -> Result<()> {
    if matches!(*var.0.origin.borrow(), Origin::Constant) {
        return Ok(());
    }
    let sum = match open.remove(&var.0.id) {
        Some((_, other)) => Rc::new(other.add(&gradient)?),
        None => gradient,
    };
    open.insert(var.0.id, (var.clone(), sum));
    Ok(())
}

/// A loss with its gradient, or a backward pass, by the host.
pub(super) fn backward(call: &Backward, operands: &[&Tensor]) -> Result<Vec<Tensor>> {
    let handles: Vec<&host::Handle> = operands.iter().map(|operand| &operand.0).collect();
    Ok(host::training::backward(call, &handles)?.into_iter().map(Tensor).collect())
}

/// [`backward`] of a pass with one result.
pub(super) fn backward_one(call: &Backward, operands: &[&Tensor]) -> Result<Tensor> {
    let result = backward(call, operands)?.pop();
    result.ok_or_else(|| Error::internal("a backward pass came without a result"))
}

/// The derivatives of one value by the parameters that took part in it.
#[derive(Debug, Default)]
pub struct Gradients(BTreeMap<u64, Rc<Tensor>>);

impl Gradients {
    /// The derivative by a parameter; `None` when it took no part.
    pub fn get(&self, parameter: &Parameter) -> Option<&Tensor> {
        self.0.get(&parameter.id()).map(|gradient| &**gradient)
    }

    /// Gradients that were worked out in another way than by [`Var::backward`].
    pub fn of(gradients: impl IntoIterator<Item = (Parameter, Tensor)>) -> Gradients {
        let gradients = gradients.into_iter();
        Gradients(gradients.map(|(parameter, tensor)| (parameter.id(), Rc::new(tensor))).collect())
    }

    /// Whether no parameter took part.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many parameters took part.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Scales all of them by min(1, `norm_max` / (norm + 1e-6)), where norm is the square root of the sum of all
    /// elements' squares, and answers the norm. PyTorch's `clip_grad_norm_`; Pascanu et al. 2013, *On the difficulty
    /// of training recurrent neural networks*.
    ///
    /// ```
    /// use innkeeper_sdk::Tensor;
    /// use innkeeper_sdk::train::Parameter;
    ///
    /// let weight = Parameter::new(Tensor::from_slice(&[2], &[3f32, 4.0])?);
    /// let half_square = weight.var().mul(&weight.var())?.sum(&[], false)?.mul_scalar(0.5)?;
    /// let mut gradients = half_square.backward()?;
    /// assert_eq!(gradients.clip_norm(1.0)?, 5.0);
    /// let clipped = gradients.get(&weight).unwrap().to_vec::<f32>()?;
    /// assert!((clipped[0] - 0.6).abs() < 1e-6 && (clipped[1] - 0.8).abs() < 1e-6);
    /// # Ok::<(), innkeeper_sdk::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::InvalidArgument`]: the norm is negative or NaN, or gradients have several dtypes.
    pub fn clip_norm(&mut self, norm_max: f64) -> Result<f64> {
        let own = self.0.values_mut().map(|gradient| Ok(&mut own(gradient)?.0));
        host::training::clip_norm(own.collect::<Result<_>>()?, norm_max)
    }
}
