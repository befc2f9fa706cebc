//! Memory of the host that a device reads by itself, through which uploads go.
#![allow(unsafe_code)]

use std::ffi::c_void;
use std::ptr;
use std::sync::Arc;

use cudarc::driver::sys;

use super::context::{Context, Event, check};
use crate::cuda::CudaError;

/// One piece of staging memory; a stream's uploads go through two, by turns.
const PIECE_BYTES: usize = 2 << 20;

/// Host memory that stays where it is.
pub(super) struct Pinned {
    at: *mut u8,
    len: usize,
    _context: Arc<Context>,
}

// SAFETY: It is memory of its own, and owned by one.
unsafe impl Send for Pinned {}

impl Pinned {
    pub(super) fn new(context: &Arc<Context>, len: usize) -> Result<Pinned, CudaError> {
        let mut at: *mut c_void = ptr::null_mut();
        // SAFETY: The pointer is to a value that lives until it returns.
        check("cuMemHostAlloc", unsafe { sys::cuMemHostAlloc(&mut at, len, 0) })?;
        // SAFETY: So many bytes were just given there; every byte is a valid u8 once it is written.
        unsafe { ptr::write_bytes(at.cast::<u8>(), 0, len) };
        Ok(Pinned { at: at.cast(), len, _context: context.clone() })
    }

    pub(super) fn bytes(&self) -> &[u8] {
        // SAFETY: The memory lives as long as this, was written when it was made, and whoever reads it has waited for the
        // device to have written it.
        unsafe { std::slice::from_raw_parts(self.at, self.len) }
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: As above, and `&mut self` is the only way there; the device's reads were waited for.
        unsafe { std::slice::from_raw_parts_mut(self.at, self.len) }
    }

    pub(super) fn address(&mut self) -> *mut c_void {
        self.at.cast()
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        // SAFETY: It came from cuMemHostAlloc, and is freed once; work that uses it was waited for.
        let _ = unsafe { sys::cuMemFreeHost(self.at.cast()) };
    }
}

/// Two pieces, each with the point at which the device has read it.
pub(super) struct Staging {
    context: Arc<Context>,
    pieces: [Option<(Pinned, Event)>; 2],
    turn: usize,
}

impl Staging {
    /// Takes no memory before the first upload.
    pub(super) fn new(context: &Arc<Context>) -> Staging {
        Staging { context: context.clone(), pieces: [None, None], turn: 0 }
    }

    /// Copies `bytes` to the device in the stream's order. It waits only for its own copy before the last.
    pub(super) fn upload(
        &mut self,
        stream: sys::CUstream,
        to: u64,
        bytes: &[u8],
    ) -> Result<(), CudaError> {
        for (i, part) in bytes.chunks(PIECE_BYTES).enumerate() {
            self.turn ^= 1;
            let piece = match &mut self.pieces[self.turn] {
                Some(piece) => piece,
                none => {
                    let memory = Pinned::new(&self.context, PIECE_BYTES)?;
                    none.insert((memory, Event::new(&self.context)?))
                }
            };
            // An event that was never recorded is past.
            piece.1.wait()?;
            if let Some(place) = piece.0.bytes_mut().get_mut(..part.len()) {
                place.copy_from_slice(part);
            }
            let to = to + (i * PIECE_BYTES) as u64;
            // SAFETY: The device's range lies in memory that whoever calls holds; the piece is not written before the
            // event that is recorded after this copy.
            check("cuMemcpyHtoDAsync", unsafe {
                sys::cuMemcpyHtoDAsync_v2(to, piece.0.address().cast_const(), part.len(), stream)
            })?;
            piece.1.record(stream)?;
        }
        Ok(())
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // The memory must outlive the copies.
        for (_, event) in self.pieces.iter().flatten() {
            let _ = event.wait();
        }
    }
}
