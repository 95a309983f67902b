//! What the mesh's own programs keep in memory. Owns finding them on nodes, and what is too much.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, TcpStream};

use anyhow::{Context as _, Result, ensure};

use super::table::row;
use crate::lab::Lab;

/// Each with its mark, in MB.
const PROGRAMS: [(&str, u32); 3] = [("ambit-cni-node", 12), ("istiod-lite", 40), ("ztunnel", 14)];

/// Programs that keep more than they may, a line for each.
#[derive(Debug, Default)]
pub(super) struct Excess(Vec<String>);

impl Excess {
    /// # Errors
    /// When there is any. A debug build is not judged.
    pub(super) fn judge(self) -> Result<()> {
        ensure!(cfg!(debug_assertions) || self.0.is_empty(), "beyond their marks:\n{}", self.0.join("\n"));
        Ok(())
    }
}

/// Prints a line for each program, and notes those beyond their mark on any node.
pub(super) fn run(lab: &Lab, when: &str, excess: &mut Excess) -> Result<()> {
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
        let over = seen.iter().filter(|said| {
            resident(said).is_none_or(|kib| u64::from(kib) * 1024 > u64::from(mark) * 1_000_000)
        });
        excess.0.extend(over.map(|said| format!("{program}, {when}: {mark} MB, and {said}")));
        row(&format!("memory of {program}, {when}"), &format!("{mark} MB"), &seen.join("; "));
    }
    Ok(())
}

/// KiB; of several processes, the largest.
fn resident(said: &str) -> Option<u32> {
    let all = said.split("VmRSS: ").skip(1).map(|rest| rest.split_whitespace().next()?.parse().ok());
    all.collect::<Option<Vec<u32>>>()?.into_iter().max()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_of_several_processes_counts_and_what_does_not_read_counts_as_too_much() {
        let one = "n1: VmHWM: 20768 kB VmRSS: 13000 kB RssAnon: 6060 kB";
        assert_eq!(resident(one), Some(13_000));
        assert_eq!(resident(&format!("{one} VmHWM: 1 kB VmRSS: 14001 kB RssAnon: 2 kB")), Some(14_001));
        for said in ["", "n1:", "n1: VmRSS: much"] {
            assert_eq!(resident(said), None, "{said}");
        }
    }
}
