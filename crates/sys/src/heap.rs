//! The allocator of programs that hold many connections: the system's, but for pieces of two sizes.
//! Owns where those are; when free ones are let go of is decided by who calls [`release`].
//!
//! HTTP/2 keeps a buffer of 16 KiB and one of 8 KiB for each connection, and a quiet connection uses the first few
//! hundred bytes of them. From the system's allocator they are memory that others have used before: all of it is
//! resident. Here each begins at a page of its own, and a page is resident once it is written to.

mod shelf;

use std::alloc::{GlobalAlloc, Layout, System};
use std::ptr;

use shelf::Shelf;

const PAGE: usize = 4096;
const SMALL: usize = 8 * 1024;
const LARGE: usize = 16 * 1024;

static SMALLS: Shelf<SMALL, 256> = Shelf::new();
static LARGES: Shelf<LARGE, 256> = Shelf::new();

/// To be named by a program as its `global_allocator`.
#[derive(Debug, Clone, Copy, Default)]
pub struct Heap;

/// Has all threads share this many of the system's heaps. To be called once, before there are threads.
///
/// By itself each thread that begins gets a heap of its own, eight for each processor, and what one has freed serves
/// only threads that come to the same. Threads for work that blocks come and go, and leave a heap behind each.
#[cfg(target_env = "gnu")]
pub fn share_among_threads(heaps: u8) {
    // SAFETY: it sets a number in the allocator, under the allocator's own lock.
    // WHY: there is no safe wrapper.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, heaps.into());
    }
}

/// There is but one heap where the C library is another.
#[cfg(not(target_env = "gnu"))]
pub fn share_among_threads(_: u8) {}

/// Lets go of the pages of pieces that nobody has.
pub(crate) fn release() {
    SMALLS.release();
    LARGES.release();
}

/// A piece for this layout, if it is one of ours and there is one left.
fn take(layout: Layout) -> Option<*mut u8> {
    match layout.size() {
        _ if layout.align() > PAGE => None,
        SMALL => SMALLS.take(),
        LARGE => LARGES.take(),
        _ => None,
    }
}

/// Whether it was a piece of ours; then it is given back.
fn give(piece: *mut u8, size: usize) -> bool {
    match size {
        SMALL => SMALLS.give(piece),
        LARGE => LARGES.give(piece),
        _ => false,
    }
}

fn is_ours(size: usize) -> bool {
    matches!(size, SMALL | LARGE)
}

// SAFETY: a piece has the size that was asked for and begins at a page, whose alignment suffices; nobody else has it
// before it is given back. All else, and what finds no piece, is the system allocator's, and goes back to it: pieces
// are told from the rest by their addresses.
// WHY: an allocator can be written in no other way.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        match take(layout) {
            Some(piece) => piece,
            // SAFETY: the caller's promise is handed on.
            // WHY: the system's allocator has no safe door.
            None => unsafe { System.alloc(layout) },
        }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        match take(layout) {
            Some(piece) => {
                // SAFETY: the piece is as long as that, and ours alone until it is returned.
                // WHY: it is memory without a type yet.
                unsafe { ptr::write_bytes(piece, 0, layout.size()) };
                piece
            }
            // SAFETY: the caller's promise is handed on.
            // WHY: as above.
            None => unsafe { System.alloc_zeroed(layout) },
        }
    }

    unsafe fn dealloc(&self, piece: *mut u8, layout: Layout) {
        if !give(piece, layout.size()) {
            // SAFETY: it is no piece of ours, so it came from there.
            // WHY: as above.
            unsafe { System.dealloc(piece, layout) };
        }
    }

    unsafe fn realloc(&self, old: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if !is_ours(layout.size()) && !is_ours(size) {
            // SAFETY: the caller's promise is handed on; neither the old nor the new is a piece of ours.
            // WHY: as above.
            return unsafe { System.realloc(old, layout, size) };
        }
        // SAFETY: the caller promises that this size, rounded up to the alignment, is a valid one.
        // WHY: checking it again would be done for nothing.
        let wanted = unsafe { Layout::from_size_align_unchecked(size, layout.align()) };
        // SAFETY: the caller promises that the size is not zero.
        // WHY: as above.
        let new = unsafe { self.alloc(wanted) };
        if !new.is_null() {
            // SAFETY: both are at least so long, and the new one overlaps nothing; the old one is the caller's, who
            // gives it up.
            // WHY: moving memory without a type has no safe way.
            unsafe {
                ptr::copy_nonoverlapping(old, new, layout.size().min(size));
                self.dealloc(old, layout);
            }
        }
        new
    }
}

#[cfg(test)]
mod tests;
