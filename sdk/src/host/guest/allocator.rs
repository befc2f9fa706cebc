//! The guest's heap, which begins in memory that the guest has from its start.
//!
//! Growing a memory is a call into the kernel on the host, and so is taking the growth back before the next instance
//! may have the memory. A guest that answers one request and is thrown away would pay for both every time. The first
//! block of the heap is therefore part of the component's own memory, where untouched pages cost nothing.

#![allow(unsafe_code)]

use core::alloc::{GlobalAlloc, Layout};
use core::arch::wasm32::memory_grow;
use core::cell::{Cell, UnsafeCell};
use core::ptr;

use dlmalloc::{Allocator, Dlmalloc};

/// Enough for most models: tensors live in the host.
const FIRST_BYTES: usize = 256 << 10;
const PAGE_BYTES: usize = 64 << 10;

#[repr(align(16))]
struct FirstBlock(UnsafeCell<[u8; FIRST_BYTES]>);

// SAFETY: a guest has one thread.
unsafe impl Sync for FirstBlock {}

static FIRST_BLOCK: FirstBlock = FirstBlock(UnsafeCell::new([0; FIRST_BYTES]));

/// Where the heap gets its memory.
struct Memory {
    first_is_taken: Cell<bool>,
}

// SAFETY: `alloc` answers memory that nobody else uses: the first block once, and after that pages that did not exist
// before. Nothing is ever given back or moved, and both kinds are zero when they are new.
unsafe impl Allocator for Memory {
    fn alloc(&self, size: usize) -> (*mut u8, usize, u32) {
        if size <= FIRST_BYTES && !self.first_is_taken.replace(true) {
            return (FIRST_BLOCK.0.get().cast(), FIRST_BYTES, 0);
        }
        let pages = size.div_ceil(PAGE_BYTES);
        match memory_grow::<0>(pages) {
            usize::MAX => (ptr::null_mut(), 0, 0),
            // The last bytes of the address space: one past their end would not be an address.
            first if first + pages >= 1 << 16 => (ptr::null_mut(), 0, 0),
            first => ((first * PAGE_BYTES) as *mut u8, pages * PAGE_BYTES, 0),
        }
    }

    fn remap(&self, _: *mut u8, _: usize, _: usize, _: bool) -> *mut u8 {
        ptr::null_mut()
    }

    fn free_part(&self, _: *mut u8, _: usize, _: usize) -> bool {
        false
    }

    fn free(&self, _: *mut u8, _: usize) -> bool {
        false
    }

    fn can_release_part(&self, _: u32) -> bool {
        false
    }

    fn allocates_zeros(&self) -> bool {
        true
    }

    fn page_size(&self) -> usize {
        PAGE_BYTES
    }
}

struct Heap(UnsafeCell<Dlmalloc<Memory>>);

// SAFETY: a guest has one thread.
unsafe impl Sync for Heap {}

#[global_allocator]
static HEAP: Heap = Heap(UnsafeCell::new(Dlmalloc::new_with_allocator(Memory {
    first_is_taken: Cell::new(false),
})));

// SAFETY: the methods are those of dlmalloc, which keeps the contract; with one thread, and no allocation inside an
// allocation, each has the heap to itself.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above; the caller keeps the layout's promises.
        unsafe { (*self.0.get()).malloc(layout.size(), layout.align()) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: as above; the caller got `block` from here with this layout.
        unsafe { (*self.0.get()).free(block, layout.size(), layout.align()) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above; the caller keeps the layout's promises.
        unsafe { (*self.0.get()).calloc(layout.size(), layout.align()) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: as above; the caller got `block` from here with this layout.
        unsafe { (*self.0.get()).realloc(block, layout.size(), layout.align(), size) }
    }
}
