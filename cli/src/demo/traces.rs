//! What a mesh leaves in a namespace: tables of rules, policy routing, listeners. Counted, not read.

use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use ambit_sys::netlink::{Family, Netlink};

use crate::local::{SpaceError, within};

/// The kernel answers at once, but not while namespaces are made and cleared up beside us.
const PATIENCE: Duration = Duration::from_secs(20);
/// Larger than any message of the kernel's.
const BUFFER: usize = 64 * 1024;

/// `NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_GETTABLE` and the answer to it.
const GET_TABLE: u16 = 0x0a01;
const NEW_TABLE: u16 = 0x0a00;
/// `RTM_GETRULE` and the answer to it.
const GET_RULE: u16 = 34;
const NEW_RULE: u16 = 32;
const DONE: u16 = 3;
const ERROR: u16 = 2;
/// `NLM_F_REQUEST | NLM_F_DUMP`.
const DUMP: u16 = 0x301;

/// Ports on which only a mesh listens in a pod.
const MESH_PORTS: [u16; 4] = [15001, 15006, 15008, 15053];

/// What was found in one namespace.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Traces {
    /// nftables tables.
    pub(crate) tables: usize,
    /// Policy routing rules of both families, the kernel's own included.
    pub(crate) rules: usize,
    /// Listeners on the mesh's ports.
    pub(crate) listeners: usize,
}

/// Why nothing could be counted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TraceError {
    #[error(transparent)]
    Space(#[from] SpaceError),
    #[error("cannot read the namespace")]
    Io(#[from] io::Error),
}

/// Counts what is in the namespace.
pub(crate) fn traces(space: &Path) -> Result<Traces, TraceError> {
    Ok(within(space, || {
        Ok::<_, io::Error>(Traces {
            tables: count(Family::Netfilter, GET_TABLE, NEW_TABLE, &[0; 4])?,
            rules: count(Family::Route, GET_RULE, NEW_RULE, &[0; 12])?,
            listeners: listeners()?,
        })
    })??)
}

fn count(family: Family, ask: u16, wanted: u16, body: &[u8]) -> io::Result<usize> {
    let socket = Netlink::open(family, PATIENCE)?;
    let length = u32::try_from(16 + body.len()).map_err(io::Error::other)?;
    let mut message = length.to_ne_bytes().to_vec();
    message.extend(ask.to_ne_bytes());
    message.extend(DUMP.to_ne_bytes());
    message.extend([1, 0, 0, 0, 0, 0, 0, 0]);
    message.extend(body);
    socket.send(&message)?;
    let mut buffer = vec![0; BUFFER];
    let mut found = 0;
    loop {
        let mut rest = socket.recv(&mut buffer)?;
        while let Some((kind, payload, next)) = split(rest) {
            match kind {
                DONE => return Ok(found),
                ERROR => return Err(refusal(payload)),
                kind => found += usize::from(kind == wanted),
            }
            rest = next;
        }
    }
}

/// The first message's kind and payload, and what follows it.
fn split(bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let length = usize::try_from(u32::from_ne_bytes(bytes.get(..4)?.try_into().ok()?)).ok()?;
    let kind = u16::from_ne_bytes(bytes.get(4..6)?.try_into().ok()?);
    let next = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    Some((kind, bytes.get(16..length)?, next))
}

fn refusal(payload: &[u8]) -> io::Error {
    let code = payload.get(..4).and_then(|code| code.try_into().ok()).map_or(0, i32::from_ne_bytes);
    io::Error::from_raw_os_error(-code)
}

fn listeners() -> io::Result<usize> {
    let mut found = 0;
    for table in ["tcp", "tcp6"] {
        let text = fs::read_to_string(format!("/proc/thread-self/net/{table}"))?;
        found += text.lines().filter(|line| is_mesh_listener(line)).count();
    }
    Ok(found)
}

/// `  0: 0100007F:3A99 00000000:0000 0A …`: local address, remote address, state.
fn is_mesh_listener(line: &str) -> bool {
    const LISTEN: &str = "0A";
    let mut words = line.split_ascii_whitespace().skip(1);
    let port = words.next().and_then(|local| local.rsplit_once(':')).map(|(_, port)| port);
    let port = port.and_then(|port| u16::from_str_radix(port, 16).ok());
    words.nth(1) == Some(LISTEN) && port.is_some_and(|port| MESH_PORTS.contains(&port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_of_the_mesh_is_told_from_others() {
        for (line, found) in [
            ("  0: 00000000:3A99 00000000:0000 0A 00000000:00000000", true),
            ("  0: 00000000:1F90 00000000:0000 0A 00000000:00000000", false),
            ("  0: 0100007F:3A99 0100007F:0050 01 00000000:00000000", false),
            ("  sl  local_address rem_address   st tx_queue rx_queue", false),
        ] {
            assert_eq!(is_mesh_listener(line), found, "{line}");
        }
    }
}
