//! Memory of results that is used again.

#![allow(unsafe_code)]

use std::alloc::{Layout, alloc_zeroed};
use std::any::Any;
use std::sync::{Mutex, PoisonError};

use bytemuck::Zeroable;
use innkeeper_tensor::{Element, Tensor};

/// The most vectors that are kept.
const VECTORS_MAX: usize = 512;
/// A vector is not used for less than one part in so many of it.
const WASTE_MAX: usize = 4;

/// Vectors that are free to hold another result. For the calls of one tenant: what is taken from it may still hold what
/// an earlier operation computed.
#[derive(Debug)]
pub struct Memory {
    bytes_max: usize,
    free: Mutex<Free>,
}

#[derive(Debug, Default)]
struct Free {
    /// Vectors of any element, the longest unused first.
    vectors: Vec<Kept>,
    bytes: usize,
}

#[derive(Debug)]
struct Kept {
    /// A `Vec<T>`.
    vector: Box<dyn Any + Send>,
    bytes: usize,
}

impl Memory {
    /// Keeps at most `bytes_max` bytes.
    pub fn new(bytes_max: usize) -> Memory {
        Memory { bytes_max, free: Mutex::default() }
    }

    /// Keeps the memory of a tensor that nobody else holds.
    pub fn recycle(&self, tensor: Tensor) {
        let data = tensor.into_data();
        if let Some(elements) = data.into_vec::<f32>() {
            self.give(elements);
        }
    }

    /// Keeps a vector, letting go of the longest unused ones where there is no room.
    pub(crate) fn give<T: Send + 'static>(&self, vector: Vec<T>) {
        let bytes = vector.capacity().saturating_mul(size_of::<T>());
        if bytes == 0 || bytes > self.bytes_max {
            return;
        }
        let mut gone = Vec::new();
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        while free.vectors.len() >= VECTORS_MAX || free.bytes + bytes > self.bytes_max {
            let kept = free.vectors.remove(0);
            free.bytes -= kept.bytes;
            gone.push(kept);
        }
        free.bytes += bytes;
        free.vectors.push(Kept { vector: Box::new(vector), bytes });
        drop(free);
        // Giving memory back to the system takes long: not under the lock.
        drop(gone);
    }

    /// The smallest kept vector with room for `len` elements, holding what it held.
    pub(crate) fn take<T: Send + 'static>(&self, len: usize) -> Option<Vec<T>> {
        let wanted = len.checked_mul(size_of::<T>())?;
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = |kept: &Kept| {
            kept.bytes >= wanted && kept.bytes / WASTE_MAX <= wanted && kept.vector.is::<Vec<T>>()
        };
        let places = free.vectors.iter().enumerate().filter(|(_, kept)| fits(kept));
        // The last among equals: it was used latest and may still be in a cache.
        let (at, _) = places.rev().min_by_key(|(_, kept)| kept.bytes)?;
        let kept = free.vectors.remove(at);
        free.bytes -= kept.bytes;
        kept.vector.downcast().ok().map(|vector| *vector)
    }

    /// The bytes that are kept.
    pub fn byte_length(&self) -> usize {
        self.free.lock().unwrap_or_else(PoisonError::into_inner).bytes
    }
}

/// `len` zeros, from the system where it has them ready; `None` when there is no memory.
pub(crate) fn zeroed<T: Zeroable>(len: usize) -> Option<Vec<T>> {
    let layout = Layout::array::<T>(len).ok()?;
    if layout.size() == 0 {
        return Some(std::iter::repeat_with(T::zeroed).take(len).collect());
    }
    // SAFETY: the layout's size is not 0.
    let start = unsafe { alloc_zeroed(layout) }.cast::<T>();
    if start.is_null() {
        return None;
    }
    // SAFETY: the global allocator, which is a vector's, has just given these bytes for `len` elements of T; they are
    // zero, which is a value of T.
    Some(unsafe { Vec::from_raw_parts(start, len, len) })
}

/// A vector of `len` elements made from `kept`, whose contents are left where they are.
pub(crate) fn resized<T: Element>(mut kept: Vec<T>, len: usize) -> Vec<T> {
    if len <= kept.capacity() {
        kept.resize(len, T::zeroed());
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_given_is_taken_again() {
        let memory = Memory::new(1 << 20);
        let tensor = Tensor::from_vec(&[100], vec![1f32; 100]).unwrap();
        let held = tensor.clone();
        memory.recycle(tensor);
        assert_eq!(memory.byte_length(), 0, "somebody holds it");
        memory.recycle(held);
        assert_eq!(memory.byte_length(), 400);
        assert!(memory.take::<f32>(101).is_none(), "too large");
        assert!(memory.take::<f32>(2).is_none(), "too wasteful");
        assert!(memory.take::<i32>(90).is_none(), "another type");
        assert!(memory.take::<f32>(90).is_some_and(|vector| vector.capacity() >= 100));
        assert_eq!(memory.byte_length(), 0);
    }

    #[test]
    fn it_is_bounded() {
        let memory = Memory::new(1000);
        memory.give(vec![0u8; 1001]);
        assert_eq!(memory.byte_length(), 0);
        for _ in 0..20 {
            memory.give(vec![0u8; 300]);
        }
        assert_eq!(memory.byte_length(), 900);
        let many = Memory::new(1 << 30);
        (0..1000).for_each(|_| many.give(vec![0u8; 8]));
        assert_eq!(many.byte_length(), VECTORS_MAX * 8);
    }

    #[test]
    fn zeros_are_zero_and_too_many_are_none() {
        assert_eq!(zeroed::<f32>(3).unwrap(), [0.0; 3]);
        assert_eq!(zeroed::<f32>(0).unwrap().len(), 0);
        assert!(zeroed::<f64>(1 << 60).is_none());
    }
}
