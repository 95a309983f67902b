//! A read buffer that fits the flow: 1 KiB for talk, up to 256 KiB for bulk, back down when talk resumes.
//! In a steady flow it allocates nothing: what was handed on comes back once it is sent. While there is nothing to
//! read, it is lent to the thread's other streams, so that the many idle ones hold none.

use std::cell::RefCell;
use std::io;
use std::task::{Context, Poll};

use ambit_process::net::TcpStream;
use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};

/// Sizes, the small first.
const SIZES: [usize; 3] = [1024, 16 * 1024, 256 * 1024];
/// Reads in a row that would have fitted the next smaller size, before it is taken.
const SMALL_READS: u8 = 8;

/// Buffers of each size that a thread keeps while nobody reads: 1.3 MiB in all.
const SPARE: [usize; 3] = [64, 16, 4];

thread_local! {
    /// By size. A stream never leaves its thread, so nobody waits for another here.
    static LENT: RefCell<[Vec<BytesMut>; 3]> = const { RefCell::new([Vec::new(), Vec::new(), Vec::new()]) };
}

pub(super) struct Buffer {
    bytes: BytesMut,
    step: usize,
    small: u8,
    room: usize,
}

impl Buffer {
    pub(super) fn new() -> Self {
        Self { bytes: BytesMut::new(), step: 0, small: 0, room: 0 }
    }

    /// Room to read into, at least half of the present size.
    pub(super) fn room(&mut self) -> &mut BytesMut {
        let size = self.size(self.step);
        if self.bytes.capacity() - self.bytes.len() < size / 2 && !self.bytes.try_reclaim(size) {
            if self.bytes.is_empty() {
                self.bytes = borrow(self.step);
            }
            self.bytes.reserve(size);
        }
        self.room = self.bytes.capacity() - self.bytes.len();
        &mut self.bytes
    }

    /// Reads once, into room that is there only when there is something to read.
    pub(super) fn poll_read<R: AsyncRead + AsRef<TcpStream> + Unpin>(
        &mut self,
        from: &mut R,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        // Asked first, for most polls find nothing: another side of the flow has woken its task.
        if (*from).as_ref().poll_read_ready(cx).is_pending() {
            self.rest();
            return Poll::Pending;
        }
        // Made anew at each poll: it keeps nothing between them.
        let read = std::pin::pin!(from.read_buf(self.room())).poll(cx);
        if read.is_pending() {
            self.rest();
        }
        read
    }

    /// There is nothing to read. Gives the memory away, unless what was read into it is still on its way.
    fn rest(&mut self) {
        if self.bytes.is_empty() && self.bytes.try_reclaim(self.size(self.step)) {
            give(self.step, std::mem::take(&mut self.bytes));
        }
    }

    /// What was read, as one piece that shares the buffer's memory.
    pub(super) fn take(&mut self) -> Bytes {
        let read = self.bytes.split().freeze();
        self.adapt(read.len());
        read
    }

    /// What was read, to be written from here.
    pub(super) fn read(&mut self) -> &mut BytesMut {
        self.adapt(self.bytes.len());
        &mut self.bytes
    }

    fn size(&self, step: usize) -> usize {
        SIZES.get(step).copied().unwrap_or(1024)
    }

    fn adapt(&mut self, read: usize) {
        if read >= self.room && self.step + 1 < SIZES.len() {
            (self.step, self.small) = (self.step + 1, 0);
        } else if self.step > 0 && read <= self.size(self.step - 1) {
            self.small += 1;
            if self.small >= SMALL_READS {
                (self.step, self.small) = (self.step - 1, 0);
                // The large buffer goes as soon as what was handed on of it is sent.
                self.shrink();
            }
        } else {
            self.small = 0;
        }
    }

    fn shrink(&mut self) {
        if self.bytes.is_empty() {
            self.bytes = BytesMut::new();
        }
    }
}

/// A buffer of that size that nobody needs at the moment, or an empty one.
fn borrow(step: usize) -> BytesMut {
    LENT.with_borrow_mut(|lent| lent.get_mut(step).and_then(Vec::pop)).unwrap_or_default()
}

fn give(step: usize, buffer: BytesMut) {
    LENT.with_borrow_mut(|lent| {
        if let (Some(lent), Some(most)) = (lent.get_mut(step), SPARE.get(step))
            && lent.len() < *most
        {
            lent.push(buffer);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(buffer: &mut Buffer, bytes: usize) -> Bytes {
        let room = buffer.room();
        let bytes = bytes.min(room.capacity());
        room.resize(bytes, 7);
        buffer.take()
    }

    #[test]
    fn full_reads_grow_it_and_small_ones_shrink_it() {
        let mut buffer = Buffer::new();
        for expected in [1024, 16 * 1024, 256 * 1024, 256 * 1024] {
            let got = read(&mut buffer, usize::MAX).len();
            assert!((expected..expected * 2).contains(&got), "{got} for {expected}");
        }
        for _ in 0..2 * SMALL_READS {
            read(&mut buffer, 100);
        }
        assert!(buffer.room().capacity() < 2048);
    }

    #[test]
    fn a_steady_talk_reuses_the_same_memory() {
        let mut buffer = Buffer::new();
        drop(read(&mut buffer, 600));
        let first = buffer.room().as_ptr();
        let mut places = std::collections::HashSet::new();
        for _ in 0..1000 {
            places.insert(buffer.room().as_ptr());
            drop(read(&mut buffer, 600));
        }
        assert!(places.contains(&first));
        assert!(places.len() <= 2, "{} different places", places.len());
    }

    /// The buffer's memory, with nothing read into it.
    fn place(buffer: &mut Buffer) -> *const u8 {
        buffer.room().as_ptr()
    }

    #[test]
    fn streams_that_rest_share_the_memory_of_those_that_read() {
        let (mut one, mut two) = (Buffer::new(), Buffer::new());
        let first = place(&mut one);
        drop(read(&mut one, 600));
        one.rest();
        assert_eq!(one.bytes.capacity(), 0, "an idle stream holds nothing");
        assert_eq!(place(&mut two), first);
        let sent = read(&mut two, 600);
        two.rest();
        assert_ne!(two.bytes.capacity(), 0, "what is on its way is not given away");
        assert_ne!(place(&mut one), first);
        assert_eq!(sent[..], [7; 600]);
        drop(sent);
        two.rest();
        assert_eq!(two.bytes.capacity(), 0);
    }

    #[test]
    fn buffers_of_each_size_are_lent_to_those_who_need_that_size_and_not_too_many_kept() {
        let mut bulk = Buffer::new();
        drop(read(&mut bulk, usize::MAX));
        let large = place(&mut bulk);
        bulk.rest();
        assert_eq!(bulk.bytes.capacity(), 0);
        assert_ne!(place(&mut Buffer::new()), large);
        assert_eq!(place(&mut bulk), large);
        let mut many: Vec<_> = (0..2 * SPARE[0]).map(|_| Buffer::new()).collect();
        assert!(many.iter_mut().all(|buffer| buffer.room().capacity() >= 1024));
        many.iter_mut().for_each(Buffer::rest);
        assert_eq!(LENT.with_borrow(|lent| lent[0].len()), SPARE[0]);
    }
}
