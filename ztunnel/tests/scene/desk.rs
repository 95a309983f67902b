//! A node agent that a test speaks for, request by request, and the proxy that is connected to it.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use ambit_kit::{Authority, Namespace, eventually};
use ambit_sys::pass::{SeqPacket, SeqPacketListener};
use ambit_wire::node_link::{
    PodInfo, PodUid, Request, Response, decode_hello, decode_response, encode_request,
};

/// Long enough for two cores that also compile.
const PATIENCE: Duration = Duration::from_secs(60);

/// A proxy in shared mode, in a namespace of its own, and its agent.
pub(crate) struct Desk {
    own: Namespace,
    listener: SeqPacketListener,
    link: Option<SeqPacket>,
    proxy: Child,
    dir: tempfile::TempDir,
}

impl Desk {
    /// Starts a proxy with this local world. The agent knows no pod yet, and has said so.
    pub(crate) fn new(world: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (own, socket) = (Namespace::new(), dir.path().join("zds.sock"));
        std::fs::write(dir.path().join("world.yaml"), world).unwrap();
        let authority = Authority::new();
        for name in ["server", "client"] {
            authority
                .issue(&format!("spiffe://cluster.local/ns/shop/sa/{name}"))
                .write(&dir.path().join(name));
        }
        let log = File::create(dir.path().join("log")).unwrap();
        let listener = SeqPacketListener::bind(&socket).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_ztunnel"));
        command
            .env_clear()
            .env("XDS_ADDRESS", "")
            .env("INPOD_UDS", socket)
            .env("IDENTITY_DIR", dir.path().join("server"))
            .env("LOCAL_XDS_PATH", dir.path().join("world.yaml"))
            .env("CONNECTION_TERMINATION_DEADLINE", "2s")
            // There are no rules in these pods that would bring answers to a borrowed address back.
            .env("ENABLE_ORIG_SRC", "false")
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        let proxy = own.within(move || command.spawn().unwrap());
        let mut this = Self { own, listener, link: None, proxy, dir };
        this.welcome();
        this.ask(&Request::SnapshotSent, None).unwrap();
        this
    }

    /// Takes the proxy's next connection. Nothing is said of any pod.
    pub(crate) fn welcome(&mut self) {
        let link = eventually(PATIENCE, || self.listener.try_accept()).unwrap();
        let mut buffer = [0; 64];
        let hello = eventually(PATIENCE, || link.try_recv(&mut buffer)).unwrap();
        decode_hello(&buffer[..hello.len]).unwrap();
        self.link = Some(link);
    }

    /// Loses the connection, as a restart of the agent does.
    pub(crate) fn hang_up(&mut self) {
        self.link = None;
    }

    pub(crate) fn add(&self, uid: &str, info: PodInfo, pod: &Namespace) -> Result<(), String> {
        self.ask(&Request::Add { uid: PodUid::new(uid).unwrap(), info }, Some(pod))
    }

    pub(crate) fn del(&self, uid: &str) -> Result<(), String> {
        self.ask(&Request::Del { uid: PodUid::new(uid).unwrap() }, None)
    }

    /// One request and its answer.
    pub(crate) fn ask(&self, request: &Request, pod: Option<&Namespace>) -> Result<(), String> {
        let link = self.link.as_ref().unwrap();
        let packet = encode_request(request).unwrap();
        eventually(PATIENCE, || link.try_send(&packet, pod.map(|pod| pod.netns().as_fd()))).unwrap();
        let mut buffer = [0; 1024];
        let answer = eventually(PATIENCE, || link.try_recv(&mut buffer)).unwrap();
        match decode_response(&buffer[..answer.len]).unwrap() {
            Response::Done | Response::Carried(_) => Ok(()),
            Response::Failed(why) => Err(why),
        }
    }

    /// What one of the proxy's own ports answers.
    pub(crate) fn get(&self, port: u16, path: &str) -> String {
        self.own.within(|| {
            let mut stream = TcpStream::connect(SocketAddr::from(([127, 0, 0, 1], port))).unwrap();
            let request = format!("GET {path} HTTP/1.1\r\nhost: proxy\r\nconnection: close\r\n\r\n");
            stream.write_all(request.as_bytes()).unwrap();
            let mut all = Vec::new();
            let _ = stream.read_to_end(&mut all);
            String::from_utf8_lossy(&all).into_owned()
        })
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.get(15021, "/healthz/ready").contains("200 OK")
    }

    /// Descriptors that the proxy has open.
    pub(crate) fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.proxy.id())).unwrap().count()
    }

    /// KiB of the proxy's memory that are no file's.
    pub(crate) fn anonymous(&self) -> usize {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.proxy.id())).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
        line.split_whitespace().next().unwrap().parse().unwrap()
    }

    /// Processor time that the proxy has used.
    pub(crate) fn processor_time(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.proxy.id())).unwrap();
        // proc(5): after the name in parentheses, fields 14 and 15 are ticks of a hundredth of a second.
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
        let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
        Duration::from_millis(ticks * 10)
    }

    pub(crate) fn client_identity(&self) -> std::path::PathBuf {
        self.dir.path().join("client")
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap()
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        let _ = self.proxy.kill();
        let _ = self.proxy.wait();
    }
}
