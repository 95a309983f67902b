//! One conversation with the kernel: send messages, collect acknowledgements or a listing.
//! Owns the socket's patience and the meaning of error answers.

use std::io;
use std::time::Duration;

use super::attribute::{Attributes, Header, Messages, messages, u32_at};
use super::{DATAGRAM, Family, Netlink, REQUEST};

/// The kernel answers while it is being asked; this only guards against an answer lost.
const PATIENCE: Duration = Duration::from_secs(2);

/// A listing that was changed under our eyes is asked for again this often.
const LISTINGS: usize = 5;

const DUMP: u16 = 0x300;
const DUMP_INTERRUPTED: u16 = 0x10;

const ERROR: u16 = 2;
const DONE: u16 = 3;
const OVERRUN: u16 = 4;

/// What came back instead of success.
#[derive(Debug, thiserror::Error)]
pub enum TalkError {
    /// The socket failed; time out means the kernel did not answer.
    #[error("the netlink socket failed")]
    Socket(#[source] io::Error),
    /// The kernel said no.
    #[error("{hint}")]
    Refused {
        /// What it means, with a remedy where there is one.
        hint: &'static str,
        /// The kernel's word.
        source: io::Error,
    },
    /// The listing kept changing while it was read.
    #[error("the rules kept changing while they were read")]
    Restless,
}

impl TalkError {
    /// The kernel's error number, if it said no.
    #[must_use]
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::Refused { source, .. } => source.raw_os_error(),
            Self::Socket(_) | Self::Restless => None,
        }
    }
}

/// A conversation in the calling thread's namespace.
#[derive(Debug)]
pub struct Talk {
    link: Netlink,
    buffer: Vec<u8>,
}

/// One message of a listing.
#[derive(Debug)]
pub struct Listed {
    /// Which message it is: numbers of the subsystem.
    pub kind: u16,
    /// What follows its header.
    pub body: Vec<u8>,
}

impl Talk {
    /// Opens the socket.
    ///
    /// # Errors
    /// When the kernel gives none.
    pub fn open(family: Family) -> Result<Self, TalkError> {
        let link = Netlink::open(family, PATIENCE).map_err(TalkError::Socket)?;
        Ok(Self { link, buffer: vec![0; DATAGRAM] })
    }

    /// Sends messages, of which the one numbered `last` asks for an acknowledgement, and waits for that. The first
    /// refusal is the result.
    ///
    /// # Errors
    /// The refusal, or what the socket said.
    pub fn tell(&mut self, messages_out: &Messages, last: u32) -> Result<(), TalkError> {
        self.link.send(messages_out.bytes()).map_err(TalkError::Socket)?;
        let mut refused = None;
        loop {
            let bytes = self.link.recv(&mut self.buffer).map_err(TalkError::Socket)?;
            let mut done = false;
            for (header, body) in messages(bytes).filter(|(header, _)| header.kind == ERROR) {
                if let Err(error) = judge(body) {
                    refused.get_or_insert(error);
                }
                done |= header.number >= last;
            }
            if let Some(error) = refused {
                // A refused transaction is not acknowledged at its end.
                return Err(error);
            }
            if done {
                return Ok(());
            }
        }
    }

    /// As [`Talk::tell`], for messages that are taken or refused each by itself: refusals are counted, not told.
    ///
    /// # Errors
    /// What the socket said.
    pub fn tell_each(&mut self, messages_out: &Messages, last: u32) -> Result<usize, TalkError> {
        self.link.send(messages_out.bytes()).map_err(TalkError::Socket)?;
        let mut refused = 0;
        loop {
            let bytes = self.link.recv(&mut self.buffer).map_err(TalkError::Socket)?;
            for (header, body) in messages(bytes).filter(|(header, _)| header.kind == ERROR) {
                refused += usize::from(judge(body).is_err());
                if header.number >= last {
                    return Ok(refused);
                }
            }
        }
    }

    /// Asks for a listing and gives every message of it.
    ///
    /// # Errors
    /// The refusal, what the socket said, or that the listing never held still.
    pub fn list(
        &mut self,
        kind: u16,
        fixed: &[u8],
        attributes: &Attributes,
    ) -> Result<Vec<Listed>, TalkError> {
        for _ in 0..LISTINGS {
            let mut question = Messages::default();
            question.push(kind, REQUEST | DUMP, fixed, attributes);
            self.link.send(question.bytes()).map_err(TalkError::Socket)?;
            if let Some(all) = self.collect()? {
                return Ok(all);
            }
        }
        Err(TalkError::Restless)
    }

    /// A listing; none when it changed meanwhile.
    fn collect(&mut self) -> Result<Option<Vec<Listed>>, TalkError> {
        let mut all = Vec::new();
        let mut steady = true;
        loop {
            let bytes = self.link.recv(&mut self.buffer).map_err(TalkError::Socket)?;
            for (Header { kind, flags, .. }, body) in messages(bytes) {
                steady &= flags & DUMP_INTERRUPTED == 0;
                match kind {
                    ERROR => judge(body)?,
                    // The end of a listing may carry an error too.
                    DONE => return judge(body).map(|()| steady.then_some(all)),
                    OVERRUN => steady = false,
                    _ => all.push(Listed { kind, body: body.to_vec() }),
                }
            }
        }
    }
}

/// An error answer begins with the negative error number; 0 is an acknowledgement.
fn judge(body: &[u8]) -> Result<(), TalkError> {
    let code = u32_at(body, 0).unwrap_or(0).cast_signed();
    if code >= 0 {
        return Ok(());
    }
    let source = io::Error::from_raw_os_error(code.saturating_neg());
    Err(TalkError::Refused { hint: hint(code.saturating_neg()), source })
}

fn hint(errno: i32) -> &'static str {
    // Numbers of errno.h, the same on every architecture that Rust's tier 1 knows.
    match errno {
        1 | 13 => "not allowed; run as root or with the capability NET_ADMIN",
        2 => {
            "the kernel does not know it (missing, or a kernel without nf_tables, nft_nat, nft_redir or nft_ct)"
        }
        12 | 105 => "the kernel is out of memory for it",
        16 => "it is in use",
        17 => "it is there already",
        93 | 95 | 97 => "this kernel lacks the feature; load nf_tables, nft_chain_nat and the IPv6 modules",
        _ => "the kernel refused",
    }
}
