//! How traffic is carried: sockets, tunnels and their limits. Owns those settings only.

use std::time::Duration;

use ambit_hbone::Windows;
use ambit_process::config::{Faults, Key, Source, duration, flag, number};

/// How traffic is carried.
#[derive(Debug, Clone)]
pub struct Traffic {
    /// Connections are carried; if not, names are all that is answered.
    pub carry: bool,
    /// The mark our sockets carry, which keeps redirection from taking them again.
    pub mark: Option<u32>,
    /// Whether applications see their client's address: required, forbidden or, without a word, if possible.
    pub original_source: Option<bool>,
    /// Whether IPv6 is used at all.
    pub ipv6: bool,
    /// Keepalive of captured and outgoing sockets.
    pub keepalive: Option<Keepalive>,
    /// Data without an answer for this long ends a connection.
    pub user_timeout: Option<Duration>,
    /// Connections on one tunnel.
    pub streams_per_tunnel: usize,
    /// When a tunnel without connections is closed.
    pub tunnel_idle: Duration,
    /// Tunnels without connections that are kept for that long.
    pub idle_tunnels: usize,
    /// What may be under way to us in tunnels.
    pub windows: Windows,
    /// Tell peers of the workload behind a connection, and believe what they tell.
    pub baggage: bool,
    /// Applications behind an application tunnel see loopback.
    pub localhost_app_tunnel: bool,
    /// Plaintext into a pod that has a waypoint goes through it.
    pub plaintext_via_waypoint: bool,
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
}

const CARRY: Key<bool> =
    Key::new("ENABLE_PROXY", "carry connections; false: answer names only", flag, || true);
const MARK: Key<Option<u32>> =
    Key::new("PACKET_MARK", "the mark of our sockets", |t| number(t).map(Some), || None);
const ORIGINAL_SOURCE: Key<Option<bool>> =
    Key::new("ENABLE_ORIG_SRC", "let applications see their client", |t| flag(t).map(Some), || None);
const IPV6: Key<bool> = Key::new("IPV6_ENABLED", "use IPv6", flag, || true);
const KEEPALIVE: Key<bool> = Key::new("KEEPALIVE_ENABLED", "TCP keepalive", flag, || true);
const IDLE: Key<Duration> =
    Key::new("KEEPALIVE_TIME", "silence before a probe", seconds, || Duration::from_secs(180));
const INTERVAL: Key<Duration> =
    Key::new("KEEPALIVE_INTERVAL", "between probes", seconds, || Duration::from_secs(180));
const PROBES: Key<u32> = Key::new("KEEPALIVE_RETRIES", "probes without an answer", probes, || 9);
const USER_TIMEOUT: Key<bool> =
    Key::new("USER_TIMEOUT_ENABLED", "end connections whose data is not answered", flag, || false);
const STREAMS: Key<usize> =
    Key::new("POOL_MAX_STREAMS_PER_CONNECTION", "connections on one tunnel", streams, || 100);
const TUNNEL_IDLE: Key<Duration> =
    Key::new("POOL_UNUSED_RELEASE_TIMEOUT", "when an unused tunnel is closed", duration, || {
        Duration::from_secs(300)
    });
const IDLE_TUNNELS: Key<usize> = Key::new(
    "POOL_IDLE_TUNNELS",
    "unused tunnels that all pods together keep for POOL_UNUSED_RELEASE_TIMEOUT; beyond it the longest unused \
     are closed",
    number,
    || ambit_hbone::pool::IDLE_TUNNELS,
);
const STREAM_WINDOW: Key<u32> =
    Key::new("HTTP2_STREAM_WINDOW_SIZE", "bytes of one connection under way in a tunnel", window, || {
        Windows::default().stream
    });
const TUNNEL_WINDOW: Key<u32> =
    Key::new("HTTP2_CONNECTION_WINDOW_SIZE", "bytes of one tunnel under way", window, || {
        Windows::default().tunnel
    });
const FRAME: Key<u32> =
    Key::new("HTTP2_FRAME_SIZE", "the largest piece in a tunnel", frame, || Windows::default().frame);
const BAGGAGE: Key<bool> =
    Key::new("ENABLE_RESPONSE_BAGGAGE", "tell peers of the workload behind a connection", flag, || true);
const LOCALHOST: Key<bool> =
    Key::new("LOCALHOST_APP_TUNNEL", "hand over to application tunnels on loopback", flag, || true);
const PLAINTEXT: Key<bool> = Key::new(
    "ENABLE_PLAINTEXT_VIA_WAYPOINT",
    "lead plaintext from outside the mesh into a pod that has a waypoint through that waypoint",
    flag,
    || false,
);

/// The mark that redirection rules leave alone (`ztunnel.md` Appendix B).
const SHARED_MARK: u32 = 1337;

impl Traffic {
    pub(super) fn read(source: &dyn Source, f: &mut Faults, shared: bool) -> Self {
        let keepalive = Keepalive {
            idle: IDLE.read(source, f),
            interval: INTERVAL.read(source, f),
            probes: PROBES.read(source, f),
        };
        // As long as it takes until probes without an answer end a silent connection.
        let patience = keepalive.idle + keepalive.interval * keepalive.probes;
        Self {
            carry: CARRY.read(source, f),
            mark: MARK.read(source, f).or_else(|| shared.then_some(SHARED_MARK)),
            original_source: ORIGINAL_SOURCE.read(source, f),
            ipv6: IPV6.read(source, f),
            keepalive: KEEPALIVE.read(source, f).then_some(keepalive),
            user_timeout: USER_TIMEOUT.read(source, f).then_some(patience),
            streams_per_tunnel: STREAMS.read(source, f),
            tunnel_idle: TUNNEL_IDLE.read(source, f),
            idle_tunnels: IDLE_TUNNELS.read(source, f),
            windows: Windows {
                stream: STREAM_WINDOW.read(source, f),
                tunnel: TUNNEL_WINDOW.read(source, f),
                frame: FRAME.read(source, f),
            },
            baggage: BAGGAGE.read(source, f),
            localhost_app_tunnel: LOCALHOST.read(source, f),
            plaintext_via_waypoint: PLAINTEXT.read(source, f),
        }
    }
}

/// The kernel counts whole seconds, up to this many.
const KEEPALIVE_MOST: Duration = Duration::from_secs(32_767);
/// And this many probes.
const PROBES_MOST: u32 = 127;
/// RFC 9113, 6.9.1 and 6.9.2: no window is larger.
const WINDOW_MOST: u32 = (1 << 31) - 1;
/// RFC 9113, 6.9.2: a tunnel's window begins with this and cannot be made smaller; a smaller one of a stream would
/// only slow it down.
const WINDOW_LEAST: u32 = (1 << 16) - 1;
/// RFC 9113, 4.2.
const FRAMES: std::ops::RangeInclusive<u32> = (1 << 14)..=((1 << 24) - 1);

fn seconds(given: &str) -> Result<Duration, String> {
    match duration(given)? {
        fits if (Duration::from_secs(1)..=KEEPALIVE_MOST).contains(&fits) => Ok(fits),
        _ => Err("the kernel counts seconds: write 1s to 32767s".into()),
    }
}

fn probes(given: &str) -> Result<u32, String> {
    match number(given)? {
        count @ 1..=PROBES_MOST => Ok(count),
        _ => Err(format!("write 1 to {PROBES_MOST}")),
    }
}

fn window(given: &str) -> Result<u32, String> {
    match given.parse() {
        Ok(bytes @ WINDOW_LEAST..=WINDOW_MOST) => Ok(bytes),
        _ => Err(format!("write a number of bytes, {WINDOW_LEAST} to {WINDOW_MOST}")),
    }
}

fn frame(given: &str) -> Result<u32, String> {
    let refuse = || format!("write a number of bytes, {} to {}", FRAMES.start(), FRAMES.end());
    given.parse().ok().filter(|bytes| FRAMES.contains(bytes)).ok_or_else(refuse)
}

fn streams(given: &str) -> Result<usize, String> {
    match number(given)? {
        0 => Err("write 1 or more".into()),
        count => Ok(count),
    }
}
