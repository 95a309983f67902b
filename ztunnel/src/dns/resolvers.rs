//! Whom to ask what we do not know: the resolver file of the machine, read again when it changes.
//! Owns reading it (resolv.conf(5)) and its limits. Asking is `forward`'s.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ambit_process::stop::Stop;
use arc_swap::ArcSwap;
use tracing::{info, warn};

/// Where the machine keeps it.
const FILE: &str = "/etc/resolv.conf";
/// How long a change may go unnoticed.
const LOOK: Duration = Duration::from_secs(10);
/// What we read of it: lines of a person's length for every server and domain we take.
const MOST_BYTES: usize = 64 << 10;
const MOST_SERVERS: usize = 4;
const MOST_DOMAINS: usize = 32;
const PORT: u16 = 53;

/// How long one may be silent before the next is asked as well.
const PATIENCE: Duration = Duration::from_millis(500);

/// What the file says, and what it does not let anybody say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Told {
    /// Whom to ask, the first first.
    pub(crate) servers: Vec<SocketAddr>,
    /// What short names are completed by.
    pub(crate) search: Vec<String>,
    /// How long an answer may take.
    pub(crate) limit: Duration,
    /// How long one may be silent before the next is asked as well.
    pub(crate) patience: Duration,
    /// How often each is asked.
    pub(crate) attempts: usize,
}

/// The file, as it was read last.
pub struct Resolvers {
    path: PathBuf,
    told: ArcSwap<Told>,
}

impl Resolvers {
    /// The machine's file. One that cannot be read says what an empty one says.
    #[must_use]
    pub fn open() -> Self {
        Self::at(FILE.into())
    }

    fn at(path: PathBuf) -> Self {
        let this = Self { told: ArcSwap::from_pointee(Told::parse("")), path };
        this.look();
        this
    }

    #[cfg(test)]
    pub(super) fn of(told: Told) -> Self {
        Self { path: FILE.into(), told: ArcSwap::from_pointee(told) }
    }

    pub(crate) fn current(&self) -> Arc<Told> {
        self.told.load_full()
    }

    /// Looks for changes until stopped.
    pub async fn follow(&self, stop: Stop) {
        loop {
            tokio::select! {
                () = stop.stopped() => return,
                () = tokio::time::sleep(LOOK) => self.look(),
            }
        }
    }

    /// What it says now counts. A file that is away for a moment, as while it is written, changes nothing.
    fn look(&self) {
        let text = match std::fs::read(&self.path) {
            Ok(bytes) => String::from_utf8_lossy(bytes.get(..MOST_BYTES).unwrap_or(&bytes)).into_owned(),
            Err(error) => {
                return warn!(path = %self.path.display(), %error, "cannot read whom to ask for names");
            }
        };
        let told = Told::parse(&text);
        if *self.told.load_full() != told {
            info!(servers = ?told.servers, "asks these for names it does not know");
            self.told.store(Arc::new(told));
        }
    }
}

impl Told {
    fn parse(text: &str) -> Self {
        let mut this = Self {
            servers: Vec::new(),
            search: Vec::new(),
            limit: Duration::from_secs(5),
            patience: PATIENCE,
            attempts: 2,
        };
        for line in text.lines() {
            let mut words = line.split(['#', ';']).next().unwrap_or("").split_whitespace();
            match words.next() {
                Some("nameserver") => this.servers.extend(words.next().and_then(server)),
                // The last one counts, of both.
                Some("search") => this.search = words.filter_map(domain).take(MOST_DOMAINS).collect(),
                Some("domain") => this.search = words.filter_map(domain).take(1).collect(),
                Some("options") => words.for_each(|option| this.option(option)),
                _ => {}
            }
        }
        this.servers.truncate(MOST_SERVERS);
        if this.servers.is_empty() {
            this.servers.push(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), PORT));
        }
        this
    }

    fn option(&mut self, option: &str) {
        match option.split_once(':') {
            Some(("timeout", seconds)) => {
                if let Ok(seconds) = seconds.parse::<u64>() {
                    self.limit = Duration::from_secs(seconds.clamp(1, 30));
                }
            }
            Some(("attempts", count)) => self.attempts = count.parse().map_or(2, |n: usize| n.clamp(1, 5)),
            _ => {}
        }
    }
}

/// An address with a zone is one of the machine's links, which no pod has.
fn server(word: &str) -> Option<SocketAddr> {
    word.parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip.to_canonical(), PORT))
}

fn domain(word: &str) -> Option<String> {
    let name = word.trim_matches('.');
    (!name.is_empty() && name.len() < 255).then(|| name.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn servers(texts: &[&str]) -> Vec<SocketAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn a_file_of_kubernetes_reads_as_it_is_meant() {
        let told = Told::parse(
            "search shop.svc.cluster.local svc.cluster.local Cluster.Local. \nnameserver 10.96.0.10 # ours\n\
             nameserver fd00::a\noptions ndots:5 timeout:2 attempts:3\n; nameserver 1.1.1.1\n",
        );
        assert_eq!(told.servers, servers(&["10.96.0.10:53", "[fd00::a]:53"]));
        assert_eq!(told.search, ["shop.svc.cluster.local", "svc.cluster.local", "cluster.local"]);
        assert_eq!((told.limit, told.attempts), (Duration::from_secs(2), 3));
    }

    #[test]
    fn what_makes_no_sense_is_left_out_and_everything_has_a_limit() {
        let told = Told::parse(
            "nameserver\nnameserver x\nnameserver fe80::1%eth0\nsearch . \noptions timeout:x attempts:0",
        );
        assert_eq!(told, Told { attempts: 1, ..Told::parse("") });
        assert_eq!(told.servers, servers(&["127.0.0.1:53"]), "as resolv.conf(5) says");
        let many = "nameserver 10.0.0.1\n".repeat(100) + "search a\ndomain b\noptions timeout:9999";
        let told = Told::parse(&many);
        assert_eq!((told.servers.len(), told.search.len()), (MOST_SERVERS, 1));
        assert_eq!(told.limit, Duration::from_secs(30));
    }

    #[test]
    fn a_change_counts_and_a_file_that_is_gone_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("resolv.conf");
        let resolvers = Resolvers::at(path.clone());
        assert_eq!(resolvers.current().servers, servers(&["127.0.0.1:53"]));
        std::fs::write(&path, "nameserver 10.0.0.1").unwrap();
        resolvers.look();
        assert_eq!(resolvers.current().servers, servers(&["10.0.0.1:53"]));
        std::fs::remove_file(&path).unwrap();
        resolvers.look();
        assert_eq!(resolvers.current().servers, servers(&["10.0.0.1:53"]));
    }
}
