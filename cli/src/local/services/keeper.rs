//! Keeps each node's packet filter at what the services mean there. Calls the kernel only when that has changed.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use ambit_sys::netlink::{DATAGRAM, Family, Netlink};

use super::rules::transaction;
use super::{Services, services};
use crate::args::chain;
use crate::local::pods::Ground;
use crate::local::space::{self, SpaceError};
use crate::local::world::World;

/// The kernel answers at once.
const PATIENCE: Duration = Duration::from_secs(2);
/// After a refusal.
const PAUSE: Duration = Duration::from_secs(1);
/// Kinds of answers: `NLMSG_ERROR` carries the acknowledgement, too.
const ERROR: u16 = 2;

/// Why the services are not as they should be.
#[derive(Debug, thiserror::Error)]
enum ApplyError {
    #[error(transparent)]
    Space(#[from] SpaceError),
    #[error(
        "the packet filter did not take the services (CONFIG_NF_TABLES_INET, CONFIG_NFT_NUMGEN, CONFIG_NFT_HASH, CONFIG_NFT_REJECT)"
    )]
    Kernel(#[source] io::Error),
}

/// What the nodes were told.
#[derive(Default)]
pub(crate) struct ServiceKeeper {
    told: BTreeMap<u8, Services>,
    not_before: Option<Instant>,
}

impl ServiceKeeper {
    /// Brings all nodes to what the world means.
    pub(crate) fn tend(&mut self, ground: &Ground, world: &World, now: Instant) {
        if self.not_before.is_some_and(|at| now < at) {
            return;
        }
        self.not_before = None;
        for node in &ground.nodes {
            let wanted = services(world, &node.name);
            if self.told.get(&node.number) == Some(&wanted) {
                continue;
            }
            match apply(&ground.mesh.space(&node.space()), &wanted) {
                Ok(()) => drop(self.told.insert(node.number, wanted)),
                Err(error) => {
                    tracing::warn!(node = node.name, error = chain(&error), "services are not translated");
                    self.not_before = Some(now + PAUSE);
                }
            }
        }
    }
}

fn apply(node: &Path, services: &Services) -> Result<(), ApplyError> {
    let (messages, last) = transaction(services);
    space::within(node, || tell(&messages, last))?.map_err(ApplyError::Kernel)
}

/// Sends a transaction and waits for the acknowledgement of its last message, or for a refusal of any.
fn tell(messages: &[u8], last: u32) -> io::Result<()> {
    let socket = Netlink::open(Family::Netfilter, PATIENCE)?;
    socket.send(messages)?;
    let mut buffer = vec![0; DATAGRAM];
    loop {
        let mut rest = socket.recv(&mut buffer)?;
        while let Some((kind, number, code, next)) = answer(rest) {
            if kind == ERROR && code != 0 {
                return Err(io::Error::from_raw_os_error(code.saturating_neg()));
            }
            if kind == ERROR && number == last {
                return Ok(());
            }
            rest = next;
        }
    }
}

/// The first answer's kind, number and error code, and what follows it.
fn answer(bytes: &[u8]) -> Option<(u16, u32, i32, &[u8])> {
    let four = |at: usize| bytes.get(at..at + 4)?.try_into().ok();
    let length = usize::try_from(u32::from_ne_bytes(four(0)?)).ok().filter(|length| *length >= 16)?;
    let kind = u16::from_ne_bytes(bytes.get(4..6)?.try_into().ok()?);
    let code = four(16).map_or(0, i32::from_ne_bytes);
    let next = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    Some((kind, u32::from_ne_bytes(four(8)?), code, next))
}
