//! A node agent with one pod: names it to every proxy that connects, and takes it back when told.

use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ambit_kit::{eventually, pause};
use ambit_sys::netns::Netns;
use ambit_sys::pass::{SeqPacket, SeqPacketListener};
use ambit_wire::node_link::{
    PodInfo, PodUid, Request, Response, decode_hello, decode_response, encode_request,
};

const PATIENCE: Duration = Duration::from_secs(60);

/// The agent; its thread ends with the test's process.
pub(crate) struct Agent {
    links: Arc<Mutex<Vec<SeqPacket>>>,
    uid: PodUid,
}

impl Agent {
    /// Listens at `path`, and names a pod in `netns`.
    pub(crate) fn start(path: &Path, pod: PodInfo, netns: Netns) -> Self {
        let listener = SeqPacketListener::bind(path).unwrap();
        let uid = PodUid::new(&format!("uid-of-{}", pod.name)).unwrap();
        let links = Arc::new(Mutex::new(Vec::new()));
        let (keep, add) = (Arc::clone(&links), Request::Add { uid: uid.clone(), info: pod });
        std::thread::spawn(move || {
            loop {
                match listener.try_accept() {
                    // A proxy that goes away in the middle is no concern of the agent.
                    Ok(link) => {
                        if greet(&link, &add, &netns).is_ok() {
                            keep.lock().unwrap().push(link);
                        }
                    }
                    Err(_) => pause(Duration::from_millis(5)),
                }
            }
        });
        Self { links, uid }
    }

    /// Deletes the pod at every proxy.
    pub(crate) fn delete(&self) {
        for link in self.links.lock().unwrap().iter() {
            // A proxy that has ended meanwhile is not told.
            let _ = ask(link, &Request::Del { uid: self.uid.clone() }, None);
        }
    }

    /// Loses every connection, as a restart of the agent does.
    pub(crate) fn hang_up(&self) {
        self.links.lock().unwrap().clear();
    }

    /// Proxies that are connected and know all pods.
    pub(crate) fn connected(&self) -> usize {
        self.links.lock().unwrap().len()
    }
}

fn greet(link: &SeqPacket, add: &Request, netns: &Netns) -> io::Result<()> {
    let mut buffer = [0; 64];
    let hello = eventually(PATIENCE, || link.try_recv(&mut buffer))?;
    decode_hello(&buffer[..hello.len]).map_err(io::Error::other)?;
    ask(link, add, Some(netns))?;
    ask(link, &Request::SnapshotSent, None)
}

fn ask(link: &SeqPacket, request: &Request, netns: Option<&Netns>) -> io::Result<()> {
    let packet = encode_request(request).unwrap();
    eventually(PATIENCE, || link.try_send(&packet, netns.map(AsFd::as_fd)))?;
    let mut buffer = [0; 1024];
    let answer = eventually(PATIENCE, || link.try_recv(&mut buffer))?;
    if answer.len == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    match decode_response(&buffer[..answer.len]).map_err(io::Error::other)? {
        Response::Done | Response::Carried(_) => Ok(()),
        Response::Failed(why) => Err(io::Error::other(why)),
    }
}
