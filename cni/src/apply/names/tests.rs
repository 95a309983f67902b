//! Queries for names while a pod joins and leaves, in real namespaces. Needs root and the `ip` and `nft` programs.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::process::Command;
use std::time::Duration;

use ambit_kit::eventually;
use ambit_sys::netns::Netns;

use super::*;
use crate::apply::flows::AT_ONCE;
use crate::apply::open::remember;
use crate::apply::pair::{PEER, POD, pair};
use crate::apply::{Life, asks_for_names, ease_pod, install_pod, part_pod, remove_pod};
use crate::rules::{Families, PodRules, TABLE};

const RULES: PodRules =
    PodRules { families: Families::Both, dns: true, bypass_inbound: false, inner_interfaces: Vec::new() };
const LOOPBACK: [&str; 2] = ["127.0.0.1", "::1"];
/// For what must arrive.
const PATIENCE: Duration = Duration::from_secs(30);

/// Who asks, who is asked, and the proxy, by one family.
struct Side {
    pod: Netns,
    here: IpAddr,
    proxy: UdpSocket,
    server: UdpSocket,
    /// Holds the server's namespace.
    _peer: Netns,
}

impl Side {
    /// One of each family, each in namespaces of its own.
    fn both() -> [Self; 2] {
        [0, 1].map(|family| {
            let (pod, peer) = pair();
            let bound = |ns: &Netns, at: &str, port| ns.run(|| udp(at.parse().unwrap(), port)).unwrap();
            let (proxy, server) = (bound(&pod, LOOPBACK[family], NAMES), bound(&peer, PEER[family], 53));
            Self { pod, here: POD[family].parse().unwrap(), proxy, server, _peer: peer }
        })
    }

    /// Asks from a port, 0 being any.
    fn ask(&self, port: u16) -> UdpSocket {
        let asker = self.pod.run(|| udp(self.here, port)).unwrap();
        asker.connect(self.server.local_addr().unwrap()).unwrap();
        asker.send(b"who").unwrap();
        asker
    }

    fn install(&self) {
        install_pod(&self.pod, &RULES, Life::Runs).unwrap().result.unwrap();
    }

    /// How many queries the kernel remembers.
    fn known(&self) -> usize {
        let all = |family| {
            let mut talk = Talk::open(Family::Netfilter).unwrap();
            find(&mut talk, family, Attributes::new()).unwrap()
        };
        self.pod.run(|| FAMILIES.map(all)).unwrap().iter().map(Vec::len).sum()
    }
}

fn udp(at: IpAddr, port: u16) -> UdpSocket {
    // A program that a test beside this one starts has our sockets, too, until it has begun; a port that was used
    // before is free after that.
    let socket = eventually(PATIENCE, || UdpSocket::bind((at, port))).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

/// A question comes in, from whom is returned.
fn asked(at: &UdpSocket) -> SocketAddr {
    let (length, from) = at.recv_from(&mut [0; 16]).expect("no question came here");
    assert_eq!(length, 3);
    from
}

fn answered(asker: &UdpSocket, what: &str) {
    asker.recv(&mut [0; 16]).unwrap_or_else(|error| panic!("{what}, {asker:?}: {error}"));
}

/// A question that the proxy answers; the port it came from.
fn carried(side: &Side) -> u16 {
    let asker = side.ask(0);
    let from = asked(&side.proxy);
    side.proxy.send_to(b"me", from).unwrap();
    answered(&asker, "carried");
    from.port()
}

#[test]
fn while_a_pod_leaves_names_are_asked_directly_also_from_a_port_that_was_used_before() {
    for side in Side::both() {
        side.install();
        let port = carried(&side);
        let waits = side.ask(0);
        let waiting = asked(&side.proxy);
        ease_pod(&side.pod, &RULES).unwrap();
        // As resolvers do: one query for each family, from one port, to be answered by the same.
        waits.send(b"who").unwrap();
        assert_eq!(asked(&side.proxy), waiting);
        drop(side.ask(0));
        asked(&side.server);
        part_pod(&side.pod, &RULES).unwrap();
        let direct = side.ask(port);
        assert_eq!(asked(&side.server), SocketAddr::new(side.here, port));
        // Whichever comes first: the one's answer needs the rules gone or there, the other's needs them there.
        side.proxy.send_to(b"me", waiting).unwrap();
        answered(&waits, "asked before");
        remove_pod(&side.pod).unwrap();
        side.server.send_to(b"me", (side.here, port)).unwrap();
        answered(&direct, "asked while leaving");
    }
}

#[test]
fn a_name_that_is_asked_when_a_pod_joins_is_answered_also_to_a_port_that_was_used_before() {
    for side in Side::both() {
        side.install();
        let port = carried(&side);
        // As somebody leaves it who does not forget.
        let gone = side.pod.run(|| Command::new("nft").args(["delete", "table", "inet", TABLE]).status());
        assert!(gone.unwrap().expect("needs nft: apt-get install nftables").success());
        let asker = side.ask(port);
        let from = asked(&side.server);
        // Flows are known only where there are sockets of connections.
        let _listener = side.pod.run(|| std::net::TcpListener::bind("127.0.0.1:0").unwrap()).unwrap();
        let tracked = side.pod.run(|| remember().unwrap().unwrap()).unwrap();
        side.server.send_to(b"me", from).unwrap();
        answered(&asker, "asked before");
        let during = side.ask(0);
        let from = asked(&side.server);
        drop(tracked);
        side.install();
        side.server.send_to(b"me", from).unwrap();
        answered(&during, "asked while joining");
        drop((asker, during));
        carried(&side);
    }
}

#[test]
fn a_pod_that_has_left_has_no_flow_of_names_to_the_proxy() {
    for side in Side::both() {
        side.install();
        // Two may come from the same port, by chance, and are one flow then.
        let asked = (0..4 * AT_ONCE).find(|_| {
            carried(&side);
            side.known() > AT_ONCE
        });
        assert!(asked.is_some(), "{} flows are known", side.known());
        remove_pod(&side.pod).unwrap();
        assert_eq!(side.known(), 0);
    }
}

#[test]
fn a_port_that_asked_directly_while_its_pod_left_is_led_again_when_the_pod_is_back() {
    for side in Side::both() {
        side.install();
        ease_pod(&side.pod, &RULES).unwrap();
        let asker = side.ask(0);
        let from = asked(&side.server);
        side.server.send_to(b"me", from).unwrap();
        answered(&asker, "asked while leaving");
        remove_pod(&side.pod).unwrap();
        side.install();
        asker.send(b"who").unwrap();
        assert_eq!(asked(&side.proxy).port(), from.port());
    }
}

#[test]
fn a_query_is_waited_for_until_it_is_answered() {
    for side in Side::both() {
        let asks = || asks_for_names(&side.pod).unwrap();
        assert!(!asks());
        side.install();
        let waits = side.ask(0);
        let from = asked(&side.proxy);
        assert!(asks());
        side.proxy.send_to(b"me", from).unwrap();
        answered(&waits, "carried");
        assert!(!asks());
    }
}
