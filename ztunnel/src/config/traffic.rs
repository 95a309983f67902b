//! How traffic is carried: sockets, tunnels and their limits. Owns those settings only.

use std::time::Duration;

use ambit_process::config::{Faults, Key, Source, duration, flag, number};

/// How traffic is carried.
#[derive(Debug, Clone)]
pub struct Traffic {
    /// The mark our sockets carry, which keeps redirection from taking them again.
    pub mark: Option<u32>,
    /// Whether applications see their client's address: required, forbidden or, without a word, if possible.
    pub original_source: Option<bool>,
    /// Whether IPv6 is used at all.
    pub ipv6: bool,
    /// Keepalive of captured and outgoing sockets.
    pub keepalive: Option<Keepalive>,
    /// Connections on one tunnel.
    pub streams_per_tunnel: usize,
    /// When a tunnel without connections is closed.
    pub tunnel_idle: Duration,
    /// Tell peers of the workload behind a connection, and believe what they tell.
    pub baggage: bool,
    /// Applications behind an application tunnel see loopback.
    pub localhost_app_tunnel: bool,
}

/// TCP keepalive.
#[derive(Debug, Clone, Copy)]
pub struct Keepalive {
    /// Silence before the first probe.
    pub idle: Duration,
    /// Between probes.
    pub interval: Duration,
    /// Probes without an answer that end a connection.
    pub probes: u32,
    /// Whether data without an answer ends a connection after the same time.
    pub user_timeout: bool,
}

const MARK: Key<Option<u32>> =
    Key::new("PACKET_MARK", "the mark of our sockets", |t| number(t).map(Some), || None);
const ORIGINAL_SOURCE: Key<Option<bool>> =
    Key::new("ENABLE_ORIG_SRC", "let applications see their client", |t| flag(t).map(Some), || None);
const IPV6: Key<bool> = Key::new("IPV6_ENABLED", "use IPv6", flag, || true);
const KEEPALIVE: Key<bool> = Key::new("KEEPALIVE_ENABLED", "TCP keepalive", flag, || true);
const IDLE: Key<Duration> =
    Key::new("KEEPALIVE_TIME", "silence before a probe", at_least_a_second, || Duration::from_secs(180));
const INTERVAL: Key<Duration> =
    Key::new("KEEPALIVE_INTERVAL", "between probes", at_least_a_second, || Duration::from_secs(180));
const PROBES: Key<u32> = Key::new("KEEPALIVE_RETRIES", "probes without an answer", number, || 9);
const USER_TIMEOUT: Key<bool> =
    Key::new("USER_TIMEOUT_ENABLED", "end connections whose data is not answered", flag, || false);
const STREAMS: Key<usize> =
    Key::new("POOL_MAX_STREAMS_PER_CONNECTION", "connections on one tunnel", streams, || 100);
const TUNNEL_IDLE: Key<Duration> =
    Key::new("POOL_UNUSED_RELEASE_TIMEOUT", "when an unused tunnel is closed", duration, || {
        Duration::from_secs(300)
    });
const BAGGAGE: Key<bool> =
    Key::new("ENABLE_RESPONSE_BAGGAGE", "tell peers of the workload behind a connection", flag, || true);
const LOCALHOST: Key<bool> =
    Key::new("LOCALHOST_APP_TUNNEL", "hand over to application tunnels on loopback", flag, || true);

/// The mark that redirection rules leave alone (`ztunnel.md` Appendix B).
const SHARED_MARK: u32 = 1337;

impl Traffic {
    pub(super) fn read(source: &dyn Source, f: &mut Faults, shared: bool) -> Self {
        let keepalive = Keepalive {
            idle: IDLE.read(source, f),
            interval: INTERVAL.read(source, f),
            probes: PROBES.read(source, f),
            user_timeout: USER_TIMEOUT.read(source, f),
        };
        Self {
            mark: MARK.read(source, f).or_else(|| shared.then_some(SHARED_MARK)),
            original_source: ORIGINAL_SOURCE.read(source, f),
            ipv6: IPV6.read(source, f),
            keepalive: KEEPALIVE.read(source, f).then_some(keepalive),
            streams_per_tunnel: STREAMS.read(source, f),
            tunnel_idle: TUNNEL_IDLE.read(source, f),
            baggage: BAGGAGE.read(source, f),
            localhost_app_tunnel: LOCALHOST.read(source, f),
        }
    }
}

fn at_least_a_second(given: &str) -> Result<Duration, String> {
    match duration(given)? {
        short if short < Duration::from_secs(1) => Err("the kernel counts seconds: write 1s or more".into()),
        enough => Ok(enough),
    }
}

fn streams(given: &str) -> Result<usize, String> {
    match number(given)? {
        0 => Err("write 1 or more".into()),
        count => Ok(count),
    }
}
