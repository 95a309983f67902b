//! Connections through a pod's joining, in real namespaces. Needs root and the `ip` program.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::time::Duration;

use ambit_kit::eventually;
use ambit_sys::netns::Netns;

use super::*;
use crate::apply::pair::{PEER, pair};
use crate::apply::{Life, ease_pod, install_pod, remove_pod};
use crate::rules::{Families, PodRules};

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
    let listen = |ns: &Netns, at: &str| ns.run(|| TcpListener::bind(at).unwrap()).unwrap();
    let mut all = Vec::new();
    for (family, here, there) in [("IPv4", "10.99.0.1", PEER_V4), ("IPv6", "fd99::1", PEER_V6)] {
        for (way, from, at, to) in [("out", pod, peer, there), ("in", peer, pod, here)] {
            // A socket of both families carries IPv4, too; one end at least.
            let listener = listen(at, "[::]:8080");
            let to = SocketAddr::new(to.parse().unwrap(), 8080);
            for who in ["made this end", "made that end"] {
                let (this, that) = open(from, &listener, to);
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
    const DELETE_FLOW: u16 = 1 << 8 | 2;
    let (mut talk, mut messages) = (Talk::open(Family::Netfilter).unwrap(), Messages::default());
    let last = messages.push(DELETE_FLOW, REQUEST | ACK, &head(0, 0), &Attributes::new());
    talk.tell(&messages, last).unwrap();
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
    assert_eq!(read(&body), Some(Socket { open: Some((this, that)) }));
    body[1] = LISTENING;
    assert_eq!(read(&body), Some(Socket { open: None }));
    for length in 0..body.len() {
        assert_eq!(read(&body[..length]), None, "{length}");
    }
}
