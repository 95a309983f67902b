//! Transactions to the packet filter (nf_tables) as bytes: the batch and the numbers of its messages.
//! Owns what frames a transaction. What a table, a chain or a rule consists of is the caller's.

use super::attribute::{Attributes, Messages};
use super::{ACK, REQUEST};

// Numbers of linux/netfilter/nfnetlink.h.
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const SUBSYSTEM: u16 = 10;

/// The family of rules for both IPv4 and IPv6: `NFPROTO_INET`.
pub const FAMILY_INET: u8 = 1;

// Numbers of linux/netfilter/nf_tables.h.
/// `NFT_MSG_NEWTABLE`.
pub const NEW_TABLE: u16 = 0;
/// `NFT_MSG_GETTABLE`.
pub const GET_TABLE: u16 = 1;
/// `NFT_MSG_DELTABLE`.
pub const DEL_TABLE: u16 = 2;
/// `NFT_MSG_NEWCHAIN`.
pub const NEW_CHAIN: u16 = 3;
/// `NFT_MSG_GETCHAIN`.
pub const GET_CHAIN: u16 = 4;
/// `NFT_MSG_NEWRULE`.
pub const NEW_RULE: u16 = 6;
/// `NFT_MSG_GETRULE`.
pub const GET_RULE: u16 = 7;
/// `NFT_MSG_NEWSET`.
pub const NEW_SET: u16 = 9;
/// `NFT_MSG_GETSET`.
pub const GET_SET: u16 = 10;
/// `NFT_MSG_NEWSETELEM`.
pub const NEW_ELEMENTS: u16 = 12;

/// A transaction being written. The kernel takes all of it or nothing.
#[derive(Debug)]
pub struct Batch(Messages);

impl Batch {
    /// An empty one.
    #[must_use]
    pub fn begin() -> Self {
        let mut messages = Messages::default();
        messages.push(BATCH_BEGIN, REQUEST, &head(0, SUBSYSTEM), &Attributes::new());
        Self(messages)
    }

    /// Adds a message about rules of both families.
    pub fn add(&mut self, kind: u16, flags: u16, attributes: &Attributes) {
        self.add_to(FAMILY_INET, kind, flags, attributes);
    }

    /// Adds a message about rules of one family.
    pub fn add_to(&mut self, family: u8, kind: u16, flags: u16, attributes: &Attributes) {
        self.0.push(message(kind), REQUEST | flags, &head(family, 0), attributes);
    }

    /// The end, and the number of the message that is acknowledged.
    #[must_use]
    pub fn end(mut self) -> (Messages, u32) {
        // Acknowledging each message would fill the socket's buffer for nothing: errors are told anyway, and the
        // end of the batch is acknowledged when all of it is in force.
        let last = self.0.push(BATCH_END, REQUEST | ACK, &head(0, SUBSYSTEM), &Attributes::new());
        (self.0, last)
    }
}

/// The number of a message as it stands in its header.
#[must_use]
pub const fn message(kind: u16) -> u16 {
    SUBSYSTEM << 8 | kind
}

/// What follows each message's header: the family, and whose resource is meant.
#[must_use]
pub const fn head(family: u8, resource: u16) -> [u8; 4] {
    let [high, low] = resource.to_be_bytes();
    [family, 0, high, low]
}

#[cfg(test)]
mod tests {
    use super::super::attribute::messages;
    use super::*;

    #[test]
    fn a_transaction_is_framed_by_its_subsystem_and_asks_for_one_acknowledgement_at_its_end() {
        let mut batch = Batch::begin();
        batch.add(NEW_TABLE, super::super::CREATE, &Attributes::new().text(1, "own"));
        let (bytes, last) = batch.end();
        let read: Vec<_> = messages(bytes.bytes()).collect();
        let kinds: Vec<_> = read.iter().map(|(header, _)| (header.kind, header.flags)).collect();
        assert_eq!(kinds, [(0x10, 1), (0x0a00, 0x401), (0x11, 5)]);
        assert_eq!((read[0].1, read[2].1), (&[0, 0, 0, 10][..], &[0, 0, 0, 10][..]));
        assert_eq!((read[1].1[0], last), (FAMILY_INET, 3));
    }
}
