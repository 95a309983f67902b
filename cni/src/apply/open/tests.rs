//! Connections through a pod's joining, in real namespaces. Needs root and the `ip` program.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::time::Duration;

use ambit_kit::eventually;
use ambit_sys::netns::Netns;
use ambit_sys::socket::{Listen, Mark, Outgoing, Transparency, listen, outgoing};

use super::*;
use crate::apply::pair::{PEER, pair};
use crate::apply::{Life, ease_pod, install_pod, remove_pod};
use crate::rules::{Families, PROXY_MARK, PodRules};

const RULES: PodRules =
    PodRules { families: Families::Both, dns: true, bypass_inbound: false, inner_interfaces: Vec::new() };
/// For what must arrive.
const PATIENCE: Duration = Duration::from_secs(30);
/// For what must not.
const A_WHILE: Duration = Duration::from_secs(1);
const PEER_V4: &str = PEER[0];
const PEER_V6: &str = PEER[1];

fn connect(from: &Netns, to: SocketAddr) -> std::io::Result<TcpStream> {
    let stream = from.run(|| TcpStream::connect_timeout(&to, PATIENCE)).unwrap()?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// Both ends of a connection to a listener.
fn open(from: &Netns, listener: &TcpListener, to: SocketAddr) -> (TcpStream, TcpStream) {
    let this = connect(from, to).unwrap();
    let that = listener.accept().unwrap().0;
    that.set_read_timeout(Some(PATIENCE)).unwrap();
    (this, that)
}

/// That nothing sent here arrives there any more, or sending fails at once.
fn ended(from: &mut TcpStream, to: &mut TcpStream, what: &str) {
    to.set_read_timeout(Some(A_WHILE)).unwrap();
    passes(from, to).expect_err(what);
}

fn passes(from: &mut TcpStream, to: &mut TcpStream) -> std::io::Result<()> {
    from.write_all(b"word")?;
    to.read_exact(&mut [0; 4])
}

/// What is open between a pod and its peer: made by either, silent or not, of each family.
fn all_kinds(pod: &Netns, peer: &Netns) -> Vec<(String, TcpStream, TcpStream)> {
    // A socket of both families carries IPv4, too; one end at least. Each side has one listener for all: a program
    // that a test beside this one starts has our sockets, too, until it has begun, so that a port is not free for a
    // second listener as soon as the first is dropped.
    let listen = |ns: &Netns| ns.run(|| TcpListener::bind("[::]:8080").unwrap()).unwrap();
    let (in_pod, in_peer) = (listen(pod), listen(peer));
    let mut all = Vec::new();
    for (family, here, there) in [("IPv4", "10.99.0.1", PEER_V4), ("IPv6", "fd99::1", PEER_V6)] {
        for (way, from, listener, to) in [("out", pod, &in_peer, there), ("in", peer, &in_pod, here)] {
            let to = SocketAddr::new(to.parse().unwrap(), 8080);
            for who in ["made this end", "made that end"] {
                let (this, that) = open(from, listener, to);
                let (first, second) = if who == "made this end" { (this, that) } else { (that, this) };
                all.push((format!("{family}, {way}, first to speak is who {who}"), first, second));
            }
        }
    }
    all
}

#[test]
fn connections_that_are_open_when_a_pod_joins_go_on_and_new_ones_are_redirected() {
    let (pod, peer) = pair();
    let mut open = all_kinds(&pod, &peer);
    install_pod(&pod, &RULES, Life::Runs).unwrap().result.unwrap();
    for (what, first, second) in &mut open {
        passes(first, second)
            .and_then(|()| passes(second, first))
            .unwrap_or_else(|it| panic!("{what}: {it}"));
    }
    // Nobody listens where new ones are taken to.
    let listener = peer.run(|| TcpListener::bind("[::]:8081").unwrap()).unwrap();
    for to in [PEER_V4, PEER_V6] {
        let refused = connect(&pod, SocketAddr::new(to.parse().unwrap(), 8081)).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused, "{to}");
    }
    drop(listener);
    remove_pod(&pod).unwrap();
    for (what, first, second) in &mut open {
        passes(first, second).unwrap_or_else(|it| panic!("{what}, after leaving: {it}"));
    }
}

#[test]
fn connections_that_are_carried_when_a_pod_leaves_go_on_until_the_end_and_new_ones_are_not_redirected() {
    let (pod, peer) = pair();
    ease_pod(&pod, &RULES).unwrap();
    install_pod(&pod, &RULES, Life::Runs).unwrap().result.unwrap();
    let listen = |ns: &Netns, port: u16| ns.run(|| TcpListener::bind(("::", port)).unwrap()).unwrap();
    let (out, into) = (listen(&pod, 15001), listen(&pod, 15006));
    let (far, near) = (listen(&peer, 8081), listen(&pod, 8081));
    let at = |ip: &str| SocketAddr::new(ip.parse().unwrap(), 8081);
    let ways = [(&pod, PEER_V4, &out, &far), (&peer, "10.99.0.1", &into, &near)];
    let ways = ways.into_iter().chain([(&pod, PEER_V6, &out, &far), (&peer, "fd99::1", &into, &near)]);
    let mut carried: Vec<_> =
        ways.clone().map(|(from, to, proxy, _)| (to, open(from, proxy, at(to)))).collect();
    for _ in 0..2 {
        ease_pod(&pod, &RULES).unwrap();
        for (to, (this, that)) in &mut carried {
            passes(this, that).and_then(|()| passes(that, this)).unwrap_or_else(|it| panic!("{to}: {it}"));
        }
        for (from, to, _, application) in ways.clone() {
            let (mut this, mut that) = open(from, application, at(to));
            passes(&mut this, &mut that).unwrap_or_else(|it| panic!("{to}, new: {it}"));
        }
    }
    remove_pod(&pod).unwrap();
    for (to, (this, that)) in &mut carried {
        ended(this, that, to);
    }
}

#[test]
fn once_redirected_an_unknown_flow_is_taken_for_a_new_one_whatever_packet_comes_first() {
    let (pod, peer) = pair();
    let mut open = all_kinds(&pod, &peer);
    install_pod(&pod, &RULES, Life::Runs).unwrap().result.unwrap();
    pod.run(forget_all).unwrap();
    // Doing it again is no joining: what is not known now may have been redirected before, and must not get out.
    assert!(install_pod(&pod, &RULES, Life::Runs).unwrap().was_redirected);
    for (what, first, second) in &mut open {
        ended(first, second, what);
    }
}

/// Empties the kernel's list of flows.
fn forget_all() {
    let mut talk = Talk::open(Family::Netfilter).unwrap();
    for family in FAMILIES {
        let all = list_flows(&mut talk, family, &Attributes::new()).unwrap();
        forget(&mut talk, family, &all).unwrap();
    }
}

#[test]
fn the_table_that_tracks_goes_with_its_owner() {
    let pod = Netns::anonymous().expect("needs root");
    let _listener = pod.run(|| TcpListener::bind("127.0.0.1:0").unwrap()).unwrap();
    let tables = || {
        let output = pod.run(|| Command::new("nft").args(["list", "tables"]).output()).unwrap();
        String::from_utf8(output.expect("needs nft: apt-get install nftables").stdout).unwrap()
    };
    let tracked = pod.run(|| remember().unwrap().unwrap()).unwrap();
    assert!(tables().contains(TRACKING), "{}", tables());
    drop(tracked);
    // A program that a test beside this one starts has our sockets, too, until it has begun.
    let gone = || if tables().is_empty() { Ok(()) } else { Err(tables()) };
    assert_eq!(eventually(PATIENCE, gone), Ok(()));
}

#[test]
fn a_namespace_without_a_socket_is_not_looked_at_any_further() {
    let empty = Netns::anonymous().expect("needs root");
    assert!(empty.run(|| remember().unwrap()).unwrap().is_none());
    let listener = empty.run(|| TcpListener::bind("127.0.0.1:0").unwrap()).unwrap();
    assert!(empty.run(|| remember().unwrap()).unwrap().is_some(), "{listener:?}");
}

#[test]
fn sockets_are_read_as_the_kernel_lists_them_and_cut_ones_are_none() {
    let mut body = vec![V6, 1, 0, 0, 0x1f, 0x90, 0x30, 0x39];
    body.extend(Ipv6Addr::from([0, 0, 0, 0, 0, 0xffff, 0x0a63, 1]).octets());
    body.extend(Ipv6Addr::from([0, 0, 0, 0, 0, 0xffff, 0x0a63, 2]).octets());
    let this = End { address: "10.99.0.1".parse().unwrap(), port: 8080 };
    let that = End { address: "10.99.0.2".parse().unwrap(), port: 12345 };
    assert_eq!(read(&body), Some(Socket { this, that, state: 1 }));
    for length in 0..body.len() {
        assert_eq!(read(&body[..length]), None, "{length}");
    }
}

/// `TCP_CONNTRACK_ESTABLISHED`.
const ESTABLISHED: u8 = 3;

/// Of so few ports, those that the kernel takes here meet those that it takes there.
const PORTS: u16 = 100;

/// Takes connections in ztunnel's place, and delivers each in its client's name.
struct Proxy<'a> {
    pod: &'a Netns,
    peer: &'a Netns,
    taken: TcpListener,
    application: TcpListener,
    to: SocketAddr,
}

impl<'a> Proxy<'a> {
    fn begin(pod: &'a Netns, peer: &'a Netns, ip: &str) -> Self {
        for ns in [pod, peer] {
            let range = format!("40000 {}", 40_000 + PORTS - 1);
            ns.run(|| std::fs::write("/proc/sys/net/ipv4/ip_local_port_range", range)).unwrap().unwrap();
        }
        let how = Listen {
            at: "[::]:15006".parse().unwrap(),
            mark: Some(Mark(PROXY_MARK.value)),
            transparency: Transparency::Require,
            reuse_port: true,
            backlog: 128,
        };
        let taken = pod.run(|| listen(&how)).unwrap().unwrap().socket;
        let application = pod.run(|| TcpListener::bind("[::]:8080").unwrap()).unwrap();
        Self { pod, peer, taken, application, to: SocketAddr::new(ip.parse().unwrap(), 8080) }
    }

    /// A connection that nobody takes, with its other end.
    fn plain(&self) -> (TcpStream, TcpStream) {
        open(self.peer, &self.application, self.to)
    }

    /// A connection that is taken, and the one by which it is delivered, with the application's end.
    fn carried(&self) -> std::io::Result<[TcpStream; 4]> {
        let client = self.peer.run(|| TcpStream::connect_timeout(&self.to, PATIENCE)).unwrap()?;
        let taken = || self.taken.accept().map_err(|it| it.to_string());
        let (served, from) = eventually(PATIENCE, taken)
            .map_err(|it| format!("it went past: {it}"))
            .map_err(std::io::Error::other)?;
        served.set_nonblocking(false)?;
        let how = Outgoing {
            mark: Some(Mark(PROXY_MARK.value)),
            borrow_source: Some(from.ip().to_canonical()),
            ..Outgoing::default()
        };
        let delivery = socket2::Socket::from(self.pod.run(|| outgoing(self.to, &how).unwrap()).unwrap());
        delivery.connect_timeout(&self.to.into(), PATIENCE)?;
        let delivery = TcpStream::from(delivery);
        delivery.set_nonblocking(false)?;
        let application = self.application.accept()?.0;
        for stream in [&client, &served, &delivery, &application] {
            stream.set_read_timeout(Some(PATIENCE))?;
        }
        Ok([client, served, delivery, application])
    }
}

#[test]
fn what_is_delivered_in_a_clients_name_meets_no_connection_of_the_clients_own() {
    for (ip, family) in [("10.99.0.1", "IPv4"), ("fd99::1", "IPv6")] {
        for kept in [0, PORTS / 3] {
            let (pod, peer) = pair();
            let proxy = Proxy::begin(&pod, &peer, ip);
            // Open before the pod joins; of some, the application's answer is what is heard first.
            let mut plain: Vec<_> = (0..kept).map(|_| proxy.plain()).collect();
            install_pod(&pod, &RULES, Life::Runs).unwrap().result.unwrap();
            let mut carried = Vec::new();
            for number in 0..PORTS / 3 {
                let one =
                    proxy.carried().unwrap_or_else(|it| panic!("{family}, {kept} kept, {number}: {it}"));
                carried.push(one);
            }
            for [client, served, delivery, application] in &mut carried {
                passes(client, served).and_then(|()| passes(served, client)).unwrap();
                passes(delivery, application).and_then(|()| passes(application, delivery)).unwrap();
            }
            for (this, that) in &mut plain {
                passes(that, this).and_then(|()| passes(this, that)).unwrap();
            }
        }
    }
}

#[test]
fn nothing_that_a_pod_left_behind_when_it_went_leads_a_connection_astray_when_it_comes_again() {
    let (pod, peer) = pair();
    let proxy = Proxy::begin(&pod, &peer, "10.99.0.1");
    let plain: Vec<_> = (0..PORTS / 5).map(|_| proxy.plain()).collect();
    install_pod(&pod, &RULES, Life::Runs).unwrap().result.unwrap();
    let carried: Vec<_> = (0..PORTS / 5).map(|_| proxy.carried().unwrap()).collect();
    ease_pod(&pod, &RULES).unwrap();
    remove_pod(&pod).unwrap();
    // All of them end while nobody looks; the kernel's list has them as open for days.
    drop((plain, carried));
    install_pod(&pod, &RULES, Life::Runs).unwrap().result.unwrap();
    let stale = |flow: &Vec<u8>| {
        let state = [PROTOCOL_STATE, 1, 1].into_iter().try_fold(flow.as_slice(), attribute);
        port(flow, TUPLE, (TCP, TO_PORT)) == Some(8080) && state == Some(&[ESTABLISHED])
    };
    let left = pod.run(|| list_flows(&mut Talk::open(Family::Netfilter).unwrap(), V4, &Attributes::new()));
    assert_eq!(left.unwrap().unwrap().iter().filter(|it| stale(it)).count(), 0);
    let again = (0..PORTS / 3).map(|number| proxy.carried().unwrap_or_else(|it| panic!("{number}: {it}")));
    assert_eq!(again.count(), usize::from(PORTS / 3));
}

#[test]
fn a_connection_is_written_as_begun_by_whoever_began_it() {
    let end = |port| End { address: "10.0.0.1".parse().unwrap(), port };
    let socket = |this, that, state| Socket { this: end(this), that: end(that), state };
    let listener = socket(45_000, 0, LISTENING);
    let cases = [
        ("taken", socket(45_000, 40_000, 1), (40_000, 45_000)),
        ("made", socket(40_000, 80, 1), (40_000, 80)),
        ("made to a port that is listened at here, too", socket(40_000, 45_000, 1), (40_000, 45_000)),
        ("being made", socket(80, 40_000, SYN_SENT), (80, 40_000)),
        ("being taken", socket(40_000, 80, NEW_SYN_RECV), (80, 40_000)),
        ("taken by a listener that is gone", socket(8080, 40_000, 8), (40_000, 8080)),
    ];
    for (what, one, (from, to)) in cases {
        let found = connections(&[listener, one]);
        assert_eq!(found, [Open { from: end(from), to: end(to), state: one.state }], "{what}");
    }
}
