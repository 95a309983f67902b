//! Names asked over UDP while the pod that asks goes into the mesh and out of it. A query that is lost costs a resolver
//! five seconds, so none may be.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use ambit_kit::eventually;
use ambit_sys::netns::Netns;

use crate::mesh::{Mesh, SOON};
use crate::names::ASKER;

/// In and out again.
const FLAPS: usize = 6;
/// Ports that the pod asks from, one after the other: each was used before not long ago.
const PORTS: u16 = 2_000;
/// They are none that anybody is given by chance.
const FIRST_PORT: u16 = 20_000;
/// Between queries: most of the time one is under way.
const PAUSE: Duration = Duration::from_micros(200);
/// After this a query is lost: it is never that slow, whatever else the machine does.
const LOST: Duration = Duration::from_secs(20);
/// "cart.shop.svc.cluster.local", IPv4, beginning behind the number.
const QUESTION: &[u8] = b"\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\
    \x04cart\x04shop\x03svc\x07cluster\x05local\x00\x00\x01\x00\x01";

/// What became of the queries so far.
#[derive(Default)]
struct Seen {
    over: AtomicBool,
    /// Answered with addresses: by the mesh, for the server knows none.
    by_mesh: AtomicU64,
    by_server: AtomicU64,
    lost: AtomicU64,
}

impl Seen {
    /// Tells that everything has ended also when the test fails.
    fn until_dropped(&self) -> impl Drop {
        struct End<'a>(&'a AtomicBool);
        impl Drop for End<'_> {
            fn drop(&mut self) {
                self.0.store(true, Ordering::Relaxed);
            }
        }
        End(&self.over)
    }

    /// Waits for one more of these.
    fn one_more(&self, of: &AtomicU64, who: &str) {
        let before = of.load(Ordering::Relaxed);
        let more = || if of.load(Ordering::Relaxed) > before { Ok(()) } else { Err("no answer") };
        eventually(SOON + LOST, more).unwrap_or_else(|error| panic!("{who}: {error}"));
    }

    fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }
}

fn place(mesh: &Mesh, pod: &str) -> (Netns, IpAddr) {
    let pod = mesh.pod(pod).unwrap();
    let space = Netns::open(pod["space"].as_str().unwrap().as_ref()).unwrap();
    (space, pod["ips"][0].as_str().unwrap().parse().unwrap())
}

/// Answers every query with itself.
fn serve(at: &UdpSocket, seen: &Seen) {
    at.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    let mut bytes = [0; 512];
    while !seen.is_over() {
        let Ok((length, from)) = at.recv_from(&mut bytes) else { continue };
        bytes[2] |= 0x80;
        at.send_to(&bytes[..length], from).unwrap();
    }
}

/// Asks again and again, one at a time, each once.
fn ask(from: IpAddr, server: SocketAddr, seen: &Seen) {
    let mut number = 0_u16;
    while !seen.is_over() {
        number = number.wrapping_add(1);
        // A program that the test starts meanwhile has the port, too, until it has begun.
        let bind = || UdpSocket::bind((from, FIRST_PORT + number % PORTS));
        let asker = eventually(SOON, bind).unwrap();
        asker.set_read_timeout(Some(LOST)).unwrap();
        asker.connect(server).unwrap();
        asker.send(&[&number.to_be_bytes(), QUESTION].concat()).unwrap();
        let mut answer = [0; 512];
        let became = match asker.recv(&mut answer) {
            Ok(_) if answer[..2] != number.to_be_bytes() => panic!("an answer to another query"),
            Ok(_) if answer[7] > 0 => &seen.by_mesh,
            Ok(_) => &seen.by_server,
            Err(error) => {
                eprintln!("query {number} is lost: {error}");
                &seen.lost
            }
        };
        became.fetch_add(1, Ordering::Relaxed);
        thread::park_timeout(PAUSE);
    }
}

/// There are none of the mesh's rules in there.
fn is_plain(space: &Netns) -> Result<(), String> {
    let listed = space.run(|| Command::new("nft").args(["list", "tables"]).output()).unwrap();
    let listed = String::from_utf8(listed.expect("needs nft: apt-get install nftables").stdout).unwrap();
    if listed.is_empty() { Ok(()) } else { Err(listed) }
}

#[test]
fn no_query_for_a_name_is_lost_while_a_pod_goes_in_and_out() {
    let mesh = Mesh::up("flapping");
    mesh.write("asker.yaml", ASKER);
    eventually(SOON * 2, || mesh.phase("shop/asker", "Running")).unwrap();
    let ((space, ip), (outside, server)) = (place(&mesh, "shop/asker"), place(&mesh, "outside/visitor"));
    let seen = Seen::default();
    let server = SocketAddr::new(server, 53);
    let names = outside.run(|| UdpSocket::bind(server).unwrap()).unwrap();
    thread::scope(|scope| {
        let _over = seen.until_dropped();
        scope.spawn(|| serve(&names, &seen));
        scope.spawn(|| space.run(|| ask(ip, server, &seen)).unwrap());
        seen.one_more(&seen.by_mesh, "the mesh answers at first");
        for number in 0..FLAPS {
            mesh.run(&["label", "namespace", "shop", "istio.io/dataplane-mode-"]);
            seen.one_more(&seen.by_server, &format!("the server answers, {number}"));
            eventually(SOON, || is_plain(&space)).unwrap();
            mesh.run(&["label", "namespace", "shop", "istio.io/dataplane-mode=ambient"]);
            seen.one_more(&seen.by_mesh, &format!("the mesh answers, {number}"));
        }
    });
    assert_eq!(seen.lost.into_inner(), 0, "{:?} and {:?} were answered", seen.by_mesh, seen.by_server);
}
