//! What was worked out once about bytes that never change.

use std::any::Any;
use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// Something derived from a constant tensor, such as its elements in the order in which a kernel reads them.
pub trait Derived: Any + Send + Sync {
    /// The bytes that it holds.
    fn byte_length(&self) -> usize;
}

/// One value, once it is made.
type Cell = Arc<OnceLock<Arc<dyn Derived>>>;

/// What was derived from one constant tensor: one value of each type, made at the first use and gone with the last
/// clone of the tensor.
#[derive(Default)]
pub(crate) struct Memo {
    cells: Mutex<Vec<(std::any::TypeId, Cell)>>,
}

impl Memo {
    /// The value of type `D`, made by `make` if there is none. Two callers that come at once wait for one making.
    pub(crate) fn get<D: Derived>(&self, make: impl FnOnce() -> D) -> Arc<D> {
        let cell = {
            let mut cells = self.cells.lock().unwrap_or_else(PoisonError::into_inner);
            let wanted = std::any::TypeId::of::<D>();
            match cells.iter().find(|(id, _)| *id == wanted) {
                Some((_, cell)) => Arc::clone(cell),
                None => {
                    let cell = Cell::default();
                    cells.push((wanted, Arc::clone(&cell)));
                    cell
                }
            }
        };
        let mut own = None;
        let found = Arc::clone(cell.get_or_init(|| {
            let made = Arc::new(make());
            own = Some(Arc::clone(&made));
            made
        }));
        if let Some(own) = own {
            return own;
        }
        let found: Arc<dyn Any + Send + Sync> = found;
        // The cell was found by the type's id, so that it holds no other.
        found.downcast::<D>().unwrap_or_else(|_| unreachable!("a memo's cell holds its own type"))
    }

    pub(crate) fn byte_length(&self) -> usize {
        let cells = self.cells.lock().unwrap_or_else(PoisonError::into_inner);
        cells.iter().filter_map(|(_, cell)| cell.get()).map(|derived| derived.byte_length()).sum()
    }
}

impl fmt::Debug for Memo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Memo({} bytes)", self.byte_length())
    }
}
