//! Sockets in namespaces of the test's own. Needs root.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr};

use super::*;
use crate::netns::Netns;

fn listener(at: &str) -> Listen {
    Listen {
        at: at.parse().unwrap(),
        mark: Some(Mark(1337)),
        transparency: Transparency::Require,
        reuse_port: true,
        backlog: 128,
    }
}

#[test]
fn two_listeners_share_a_port_and_are_transparent_and_marked() {
    let ns = Netns::anonymous().expect("needs root");
    ns.run(|| {
        for at in ["[::]:15001", "0.0.0.0:15002", "127.0.0.1:15003", "[::1]:15004"] {
            let first = listen(&listener(at)).unwrap();
            let second = listen(&listener(at)).unwrap();
            assert!(first.transparent && second.transparent, "{at}");
            assert_eq!(SockRef::from(&first.socket).mark().unwrap(), 1337);
        }
    })
    .unwrap();
}

#[test]
fn a_port_in_use_is_named_in_the_error() {
    let ns = Netns::anonymous().expect("needs root");
    let error = ns
        .run(|| {
            let _held = TcpListener::bind("0.0.0.0:15006").unwrap();
            listen(&listener("0.0.0.0:15006")).unwrap_err()
        })
        .unwrap();
    assert_eq!((error.step, error.source.kind()), ("bind", io::ErrorKind::AddrInUse));
    assert!(error.to_string().contains("0.0.0.0:15006"), "{error}");
}

#[test]
fn an_outgoing_socket_speaks_from_the_borrowed_address() {
    let ns = Netns::anonymous().expect("needs root");
    // 127.0.0.9 is local by the route of 127.0.0.0/8, so the answer comes back.
    let source = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 9));
    ns.run(|| {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let to = server.local_addr().unwrap();
        let how = Outgoing {
            borrow_source: Some(source),
            mark: Some(Mark(1337)),
            keepalive: Some(Keepalive {
                idle: Duration::from_secs(180),
                interval: Duration::from_secs(180),
                probes: 9,
            }),
            user_timeout: Some(Duration::from_secs(30)),
        };
        let client = Socket::from(outgoing(to, &how).unwrap());
        client.set_nonblocking(false).unwrap();
        client.connect(&to.into()).unwrap();
        assert!(client.keepalive().unwrap() && client.tcp_nodelay().unwrap());
        let seconds = Duration::from_secs;
        assert_eq!(client.tcp_keepalive_time().unwrap(), seconds(180));
        assert_eq!(client.tcp_keepalive_interval().unwrap(), seconds(180));
        assert_eq!(client.tcp_keepalive_retries().unwrap(), 9);
        assert_eq!(client.tcp_user_timeout().unwrap(), Some(seconds(30)));
        let (mut accepted, from) = server.accept().unwrap();
        assert_eq!(from.ip(), source);
        accepted.write_all(b"x").unwrap();
        let mut byte = [0];
        (&client).read_exact(&mut byte).unwrap();
    })
    .unwrap();
}

#[test]
fn a_connection_that_was_not_redirected_has_no_original_destination() {
    for at in [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)] {
        let ns = Netns::anonymous().expect("needs root");
        ns.run(|| {
            let server = TcpListener::bind((at, 0)).unwrap();
            let _client = TcpStream::connect(server.local_addr().unwrap()).unwrap();
            let (accepted, _) = server.accept().unwrap();
            assert_eq!(original_destination(&accepted), None, "{at}");
        })
        .unwrap();
    }
}
