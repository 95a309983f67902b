//! A read buffer that fits the flow: 1 KiB for talk, up to 256 KiB for bulk, back down when talk resumes.
//! In a steady flow it allocates nothing: what was handed on comes back once it is sent.

use bytes::{Bytes, BytesMut};

/// Sizes, the small first.
const SIZES: [usize; 3] = [1024, 16 * 1024, 256 * 1024];
/// Reads in a row that would have fitted the next smaller size, before it is taken.
const SMALL_READS: u8 = 8;

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
        if self.bytes.capacity() - self.bytes.len() < size / 2 {
            self.bytes.reserve(size);
        }
        self.room = self.bytes.capacity() - self.bytes.len();
        &mut self.bytes
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
}
