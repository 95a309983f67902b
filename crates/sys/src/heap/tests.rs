//! Pieces as a program sees them, and the address space behind them.

use std::collections::BTreeSet;

use super::*;

fn layout(size: usize) -> Layout {
    Layout::from_size_align(size, 1).unwrap()
}

/// Which of a piece's pages are in memory.
fn resident(piece: *mut u8, bytes: usize) -> Vec<bool> {
    let mut pages = vec![0_u8; bytes / PAGE];
    // SAFETY: the vector has a byte for each page of the range.
    // WHY: there is no safe wrapper.
    let code = unsafe { libc::mincore(piece.cast(), bytes, pages.as_mut_ptr()) };
    assert_eq!(code, 0, "{}", std::io::Error::last_os_error());
    pages.iter().map(|page| page & 1 == 1).collect()
}

#[test]
fn a_piece_that_is_hardly_used_has_one_page_in_memory_and_none_once_it_is_released() {
    let shelf = Shelf::<LARGE, 1>::new();
    let pieces: Vec<_> = (0..8).map(|_| shelf.take().unwrap()).collect();
    for piece in &pieces {
        assert_eq!(resident(*piece, LARGE), [false; 4]);
        // SAFETY: the piece is ours, and longer.
        // WHY: it is memory without a type.
        unsafe { piece.write_bytes(7, 100) };
        assert_eq!(resident(*piece, LARGE), [true, false, false, false]);
    }
    let (kept, given) = pieces.split_first().unwrap();
    assert!(given.iter().all(|piece| shelf.give(*piece)));
    shelf.release();
    assert!(given.iter().all(|piece| resident(*piece, LARGE) == [false; 4]));
    // SAFETY: the piece was not given back.
    // WHY: it is memory without a type.
    assert_eq!(unsafe { std::slice::from_raw_parts(*kept, 100) }, [7; 100], "what is in use stays as it is");
    assert_eq!(shelf.take(), given.first().copied(), "and the first that is free is taken again");
}

#[test]
fn a_shelf_has_no_more_pieces_than_there_are_and_takes_back_none_of_others() {
    let shelf = Shelf::<SMALL, 2>::new();
    assert!(!shelf.give(ptr::dangling_mut()), "nothing was ever taken");
    let pieces: BTreeSet<_> = (0..128).map(|_| shelf.take().unwrap()).collect();
    assert_eq!(pieces.len(), 128);
    assert!(pieces.iter().all(|piece| piece.addr() % PAGE == 0));
    assert_eq!(shelf.take(), None);
    let (first, last) = (*pieces.first().unwrap(), *pieces.last().unwrap());
    assert_eq!(last.addr() - first.addr(), 127 * SMALL);
    assert!(!shelf.give(last.wrapping_add(SMALL)));
    let mut other = [0; 8];
    assert!(!shelf.give(other.as_mut_ptr()));
    for piece in [first, last] {
        assert!(shelf.give(piece));
        assert_eq!(shelf.take(), Some(piece));
    }
    assert_eq!(shelf.take(), None);
}

#[test]
fn memory_of_any_size_holds_what_is_written_and_moves_with_it() {
    for sizes in [[100, LARGE, 100], [SMALL, LARGE, SMALL], [LARGE, 50_000, SMALL], [SMALL, 10, 20]] {
        let first = layout(sizes[0]);
        // SAFETY: sizes are not zero, each block is used within its size, and given back once with its last size.
        // WHY: that is what is tested.
        unsafe {
            let mut block = Heap.alloc_zeroed(first);
            assert!((0..sizes[0]).all(|at| *block.add(at) == 0));
            block.write_bytes(7, sizes[0]);
            let mut size = sizes[0];
            let mut kept = size;
            for next in &sizes[1..] {
                block = Heap.realloc(block, layout(size), *next);
                (size, kept) = (*next, kept.min(*next));
                assert!((0..kept).all(|at| *block.add(at) == 7), "{sizes:?}");
            }
            Heap.dealloc(block, layout(size));
        }
    }
}

#[test]
fn what_must_begin_at_more_than_a_page_does() {
    let wide = Layout::from_size_align(LARGE, 4 * PAGE).unwrap();
    // SAFETY: the size is not zero, and the block goes back as it came.
    // WHY: that is what is tested.
    unsafe {
        let block = Heap.alloc(wide);
        assert_eq!(block.addr() % wide.align(), 0);
        Heap.dealloc(block, wide);
    }
}

#[test]
fn threads_that_take_give_and_release_at_once_never_share_a_piece() {
    static SHARED: Shelf<SMALL, 2> = Shelf::new();
    let work = |mark: u8| {
        for round in 0..2_000_u32 {
            let pieces: Vec<_> = (0..round % 16).filter_map(|_| SHARED.take()).collect();
            for piece in &pieces {
                // SAFETY: the piece is ours until it is given back.
                // WHY: it is memory without a type.
                unsafe { piece.write_bytes(mark, 64) };
            }
            if round % 64 == 0 {
                SHARED.release();
            }
            for piece in pieces {
                // SAFETY: as above.
                // WHY: as above.
                assert_eq!(unsafe { std::slice::from_raw_parts(piece, 64) }, [mark; 64]);
                assert!(SHARED.give(piece));
            }
        }
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (1..=4).map(|mark| scope.spawn(move || work(mark))).collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
    let all: BTreeSet<_> = std::iter::from_fn(|| SHARED.take()).collect();
    assert_eq!(all.len(), 128, "none was lost");
}
