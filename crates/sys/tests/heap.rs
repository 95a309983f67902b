//! How many heaps the threads of a process have: a target of its own, for it is said once, for the whole process.

#[cfg(target_env = "gnu")]
#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Barrier;

    use ambit_sys::heap::share_among_threads;

    /// Heaps beside the first begin at a multiple of this, and are no longer.
    const HEAP: usize = 64 * 1024 * 1024;

    /// In which heaps so many threads, all alive at the same time, find room.
    fn heaps_of(threads: usize) -> BTreeSet<usize> {
        let all_have = Barrier::new(threads);
        let allocate = || {
            let room = Box::new([1_u8; 100]);
            all_have.wait();
            room.as_ptr().addr() / HEAP
        };
        std::thread::scope(|scope| {
            let all: Vec<_> = (0..threads).map(|_| scope.spawn(allocate)).collect();
            all.into_iter().map(|thread| thread.join().unwrap()).collect()
        })
    }

    #[test]
    fn threads_that_begin_share_the_heaps_that_there_are() {
        share_among_threads(1);
        // The first may reach over such a multiple, and this test runs on a thread of its own, which has begun before.
        let heaps = heaps_of(8);
        assert!(heaps.len() <= 3, "{heaps:x?}");
    }
}
