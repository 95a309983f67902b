//! What the mesh's own programs keep in memory. Owns finding them on nodes.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, TcpStream};

use anyhow::{Context as _, Result, ensure};

use super::table::row;
use crate::lab::Lab;

/// Each with its mark, in MB.
const PROGRAMS: [(&str, u32); 3] = [("ambit-cni-node", 12), ("istiod-lite", 40), ("ztunnel", 14)];

/// Prints a line for each program on each node.
pub(super) fn run(lab: &Lab, when: &str) -> Result<()> {
    for (program, mark) in PROGRAMS {
        let mut seen = Vec::new();
        for node in lab.nodes()? {
            // A name in /proc is cut after 15 letters; the whole one is the first argument's end.
            let look = format!(
                "for it in /proc/[0-9]*; do case $(tr '\\0' ' ' <$it/cmdline 2>/dev/null) in \
                 */{program}|*/{program}' '*) grep -E '^(VmRSS|RssAnon|VmHWM)' $it/status | tr -s '\\t\\n ' '   ';; esac; done"
            );
            let said = node.exec(&["sh", "-c", &look])?;
            if !said.trim().is_empty() {
                seen.push(format!("{}: {}", node.name(), said.trim()));
            }
        }
        ensure!(!seen.is_empty(), "{program} runs nowhere");
        row(&format!("memory of {program}, {when}"), &format!("{mark} MB"), &seen.join("; "));
    }
    Ok(())
}

/// What a program that shares its node's network says to a scraper.
pub(super) fn scrape(lab: &Lab, node: &str, port: u16) -> Result<String> {
    let mut stream = TcpStream::connect((IpAddr::from(lab.node(node)?.address()), port))?;
    stream.write_all(b"GET /metrics HTTP/1.0\r\nhost: node\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    let (_, body) = text.split_once("\r\n\r\n").context("it says nothing")?;
    Ok(body.to_owned())
}
