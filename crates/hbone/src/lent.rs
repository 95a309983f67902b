//! Memory that a tunnel needs only while bytes pass through it. A thread keeps a few pieces and lends them, so that
//! the many tunnels that are idle hold none. Owns the pieces; what is in them is the borrower's.

use std::cell::RefCell;

/// Room in each piece: as much as one TLS record.
pub(crate) const ROOM: usize = 16 * 1024;
/// Pieces that a thread keeps while nobody needs them. Most are given back in the turn they were lent in, so it is
/// about those of tunnels whose peer or application is slow.
const SPARE: usize = 8;

thread_local! {
    /// A tunnel never leaves its thread, so nobody waits for another here.
    static PIECES: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// An empty piece with all its room.
pub(crate) fn borrow() -> Vec<u8> {
    PIECES.with_borrow_mut(Vec::pop).unwrap_or_else(|| Vec::with_capacity(ROOM))
}

/// Gives one back. What is in it is forgotten; what is no piece, or one too many, is freed.
pub(crate) fn give(mut piece: Vec<u8>) {
    if piece.capacity() != ROOM {
        return;
    }
    piece.clear();
    PIECES.with_borrow_mut(|pieces| {
        if pieces.len() < SPARE {
            pieces.push(piece);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_back_is_lent_again_empty_and_not_too_much_is_kept() {
        let mut piece = borrow();
        piece.extend_from_slice(b"secret");
        let at = piece.as_ptr();
        give(piece);
        let again = borrow();
        assert_eq!((again.as_ptr(), again.len(), again.capacity()), (at, 0, ROOM));
        give(Vec::new());
        let many: Vec<_> = (0..2 * SPARE).map(|_| borrow()).collect();
        assert!(many.iter().all(|piece| piece.capacity() == ROOM));
        many.into_iter().for_each(give);
        assert_eq!(PIECES.with_borrow(Vec::len), SPARE);
    }
}
