//! Pieces of one size, side by side in address space that is set aside once. Owns which are taken, without a lock;
//! what is written into them is whose they are.

use std::ffi::c_void;
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU64, AtomicUsize, Ordering};

/// `WORDS` times 64 pieces.
pub(super) struct Shelf<const SIZE: usize, const WORDS: usize> {
    base: AtomicPtr<u8>,
    /// No word before it has a free piece; a guess, for others change it meanwhile.
    first_free: AtomicUsize,
    /// Words that have ever had a piece taken.
    touched: AtomicUsize,
    /// A bit for each piece.
    taken: [AtomicU64; WORDS],
}

/// In place of the base: the system has refused the address space.
const REFUSED: *mut u8 = ptr::dangling_mut();

impl<const SIZE: usize, const WORDS: usize> Shelf<SIZE, WORDS> {
    const BYTES: usize = SIZE * WORDS * 64;

    pub(super) const fn new() -> Self {
        Self {
            base: AtomicPtr::new(ptr::null_mut()),
            first_free: AtomicUsize::new(0),
            touched: AtomicUsize::new(0),
            taken: [const { AtomicU64::new(0) }; WORDS],
        }
    }

    pub(super) fn take(&self) -> Option<*mut u8> {
        let base = self.base()?;
        let from = self.first_free.load(Ordering::Relaxed);
        for (number, word) in self.taken.iter().enumerate().skip(from) {
            let claim = |bits: u64| (bits != u64::MAX).then(|| bits | (bits + 1));
            if let Ok(before) = word.fetch_update(Ordering::Acquire, Ordering::Relaxed, claim) {
                self.first_free.store(number, Ordering::Relaxed);
                self.touched.fetch_max(number + 1, Ordering::Relaxed);
                let piece = number * 64 + before.trailing_ones() as usize;
                return Some(base.wrapping_add(piece * SIZE));
            }
        }
        self.first_free.store(WORDS, Ordering::Relaxed);
        None
    }

    /// False when the address is none of ours.
    pub(super) fn give(&self, piece: *mut u8) -> bool {
        let base = self.base.load(Ordering::Acquire);
        let Some(offset) = piece.addr().checked_sub(base.addr()).filter(|offset| *offset < Self::BYTES)
        else {
            return false;
        };
        let number = offset / SIZE;
        if base.is_null() || base == REFUSED {
            return false;
        }
        if let Some(word) = self.taken.get(number / 64) {
            word.fetch_and(!(1 << (number % 64)), Ordering::Release);
            self.first_free.fetch_min(number / 64, Ordering::Relaxed);
        }
        true
    }

    /// Lets go of the pages of free pieces. They are taken meanwhile, so that nobody gets one whose bytes vanish.
    pub(super) fn release(&self) {
        let base = self.base.load(Ordering::Acquire);
        if base.is_null() || base == REFUSED {
            return;
        }
        let touched = self.touched.load(Ordering::Relaxed);
        for (number, word) in self.taken.iter().enumerate().take(touched) {
            let free = !word.swap(u64::MAX, Ordering::Acquire);
            let mut left = free;
            while left != 0 {
                let start = left.trailing_zeros();
                let length = (left >> start).trailing_ones();
                let at = base.wrapping_add((number * 64 + start as usize) * SIZE);
                let_go(at, length as usize * SIZE);
                left &= u64::MAX.checked_shl(start + length).unwrap_or(0);
            }
            word.fetch_and(!free, Ordering::Release);
            self.first_free.fetch_min(number, Ordering::Relaxed);
        }
    }

    /// Where the pieces are; none when there is no address space for them.
    fn base(&self) -> Option<*mut u8> {
        let mut base = self.base.load(Ordering::Acquire);
        if base.is_null() {
            let new = set_aside(Self::BYTES).unwrap_or(REFUSED);
            let stored =
                self.base.compare_exchange(ptr::null_mut(), new, Ordering::AcqRel, Ordering::Acquire);
            base = match stored {
                Ok(_) => new,
                Err(other) => {
                    give_up(new, Self::BYTES);
                    other
                }
            };
        }
        (base != REFUSED).then_some(base)
    }
}

/// Address space without memory behind it.
fn set_aside(bytes: usize) -> Option<*mut u8> {
    let (rights, how) =
        (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE);
    // SAFETY: a new mapping at an address that the kernel chooses touches nothing that exists; the advice only
    // says that small pages are wanted.
    // WHY: wrappers of it allocate, and this is the allocator.
    unsafe {
        let base = libc::mmap(ptr::null_mut(), bytes, rights, how, -1, 0);
        if base == libc::MAP_FAILED {
            return None;
        }
        libc::madvise(base, bytes, libc::MADV_NOHUGEPAGE);
        Some(base.cast())
    }
}

/// Undoes [`set_aside`].
fn give_up(base: *mut u8, bytes: usize) {
    if base != REFUSED {
        // SAFETY: the mapping was made a moment ago, and nobody has heard of it.
        // WHY: as above.
        unsafe { libc::munmap(base.cast::<c_void>(), bytes) };
    }
}

fn let_go(at: *mut u8, bytes: usize) {
    // SAFETY: the pages are of our own mapping, and hold only pieces that the caller has taken.
    // WHY: no safe wrapper knows that.
    unsafe { libc::madvise(at.cast::<c_void>(), bytes, libc::MADV_DONTNEED) };
}
