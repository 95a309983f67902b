//! Wall clocks that are a day off, with traffic running: a node's, and the control plane's. What is open goes on, nobody
//! new is let in with what cannot be judged, nothing falls back to plaintext, and when the clock is right again so is
//! the mesh, with no program started anew. Programs are shown their clocks by libfaketime.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ambit_kit::eventually;
use ambit_sys::netns::Netns;
use serde_json::Value;

use crate::CART;
use crate::mesh::{Mesh, SOON, ticket};
use crate::programs::copied;

const LIBRARY: &str = "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1";

/// A certificate is asked for again after growing pauses, the longest of which is about this.
const LATER: Duration = Duration::from_mins(2);

/// Programs whose clocks can be set while they run.
struct Clocks {
    dir: tempfile::TempDir,
}

impl Clocks {
    fn new() -> Self {
        assert!(Path::new(LIBRARY).exists(), "install it: apt-get install faketime");
        Self { dir: tempfile::tempdir().unwrap() }
    }

    /// The folder of programs. Each of the two looks at the clock of its node, or at its own.
    fn programs(&self) -> PathBuf {
        let bin = copied(self.dir.path());
        for name in ["ztunnel", "istiod-lite"] {
            let real = bin.join(format!("{name}.real"));
            fs::rename(bin.join(name), &real).unwrap();
            let (real, dir) = (real.display(), self.dir.path().display());
            let script = format!(
                "#!/bin/sh\nclock={dir}/${{NODE_NAME:-{name}}}.clock\n[ -e $clock ] || echo +0 > $clock\n\
                 export LD_PRELOAD={LIBRARY} FAKETIME_TIMESTAMP_FILE=$clock FAKETIME_NO_CACHE=1 \
                 FAKETIME_DONT_FAKE_MONOTONIC=1\nexec {real} \"$@\"\n"
            );
            fs::write(bin.join(name), script).unwrap();
            fs::set_permissions(bin.join(name), fs::Permissions::from_mode(0o755)).unwrap();
        }
        bin
    }

    /// Whole at once: it is read at any time.
    fn set(&self, whose: &str, to: &str) {
        let path = self.dir.path().join(format!("{whose}.clock"));
        let hidden = path.with_extension("new");
        fs::write(&hidden, format!("{to}\n")).unwrap();
        fs::rename(hidden, path).unwrap();
    }
}

/// How many certificates a node's ztunnel has in this state.
fn certificates(mesh: &Mesh, component: &str, state: &str) -> Result<u64, String> {
    let netns = Netns::open(Path::new(mesh.component(component)["space"].as_str().unwrap()))
        .map_err(|e| e.to_string())?;
    let page = netns.run(|| {
        let mut stream = TcpStream::connect("127.0.0.1:15020")?;
        stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")?;
        let mut page = String::new();
        stream.read_to_string(&mut page).map(|_| page)
    });
    let page = page.map_err(|e| e.to_string())?.map_err(|e| e.to_string())?;
    let name = format!("ambit_certificates{{state=\"{state}\"}} ");
    let line =
        page.lines().find_map(|line| line.strip_prefix(&name)).ok_or(format!("no {name} in {page}"))?;
    line.trim().parse().map_err(|_| line.to_owned())
}

fn readable(seen: &[Value], word: &str) -> bool {
    seen.iter().any(|segment| segment.to_string().contains(word))
}

#[test]
fn a_node_whose_clock_is_a_day_off_keeps_what_is_open_lets_nobody_new_in_and_recovers_by_itself() {
    let clocks = Clocks::new();
    let mesh = Mesh::up_from("clock", &clocks.programs());
    let new = [("+1d", "ahead"), ("-1d", "behind")];
    mesh.write("new.yaml", &new.map(|(_, name)| newcomer(name)).join("---\n"));
    for (_, name) in new {
        eventually(SOON, || mesh.phase(&format!("shop/{name}"), "Running")).unwrap();
    }
    eventually(SOON, || mesh.fetch("shop/web", CART)).unwrap();
    let mut held = mesh.hold("shop/web", &format!("{CART}/open"));
    for ((off, name), times) in new.into_iter().zip([1, 3]) {
        let (wire, word) = (mesh.wire(), ticket());
        clocks.set("node-2", off);
        // Nobody has a tunnel in this one's name: it is to be judged by this clock.
        mesh.refused(&format!("shop/{name}"), &format!("{CART}/{word}")).unwrap();
        assert!(!readable(&wire.finish(), &word), "{off}: it fell back to plaintext");
        let told = || {
            let said = fs::read_to_string(mesh.log("ztunnel-node-2")).unwrap();
            if said.matches("the clock was set").count() >= times { Ok(()) } else { Err(said) }
        };
        eventually(LATER, told).unwrap_or_else(|said| panic!("{off}: {said}"));
        if off == "+1d" {
            let lapsed = || match certificates(&mesh, "ztunnel@node-2", "lapsed") {
                Ok(count) if count > 0 => Ok(()),
                other => Err(format!("{other:?}")),
            };
            eventually(LATER, lapsed).unwrap();
        }
        held.answers();
        clocks.set("node-2", "+0");
        let back = || mesh.fetch(&format!("shop/{name}"), &format!("{CART}/back"));
        eventually(LATER, back).unwrap_or_else(|error| panic!("{off}: {error}"));
    }
    held.answers();
    assert_eq!(mesh.component("ztunnel@node-2")["restarts"], 0);
}

#[test]
fn a_control_plane_whose_clock_is_a_day_off_harms_nobody_who_is_in_and_serves_again_when_it_is_right() {
    let clocks = Clocks::new();
    let mesh = Mesh::up_from("plane-clock", &clocks.programs());
    eventually(SOON, || mesh.fetch("shop/web", CART)).unwrap();
    let load = mesh.load("shop/web", &format!("{CART}/open"), 50);
    load.until(true);
    for (off, name) in [("+1d", "ahead"), ("-1d", "behind")] {
        clocks.set("istiod-lite", off);
        let (wire, word) = (mesh.wire(), ticket());
        mesh.write("new.yaml", &newcomer(name));
        eventually(SOON, || mesh.phase(&format!("shop/{name}"), "Running")).unwrap();
        mesh.refused(&format!("shop/{name}"), &format!("{CART}/{word}")).unwrap();
        assert!(!readable(&wire.finish(), &word), "{off}: it fell back to plaintext");
        clocks.set("istiod-lite", "+0");
        let back = || mesh.fetch(&format!("shop/{name}"), &format!("{CART}/back"));
        eventually(LATER, back).unwrap_or_else(|error| panic!("{off}: {error}"));
        mesh.remove("new.yaml");
        eventually(SOON, || mesh.absent(&format!("shop/{name}"))).unwrap();
    }
    let done = load.finish();
    assert_eq!(done["failed"], 0, "{done}");
    assert_eq!(mesh.component("istiod")["restarts"], 0);
}

/// A pod of an account that nobody had before.
fn newcomer(name: &str) -> String {
    let account = serde_json::json!({
        "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "name": name, "namespace": "shop" },
    });
    let pod = serde_json::json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": name, "namespace": "shop", "labels": { "app": name } },
        "spec": {
            "nodeName": "node-1", "serviceAccountName": name,
            "containers": [{ "name": "app", "command": ["ambit", "pod", "serve"], "args": ["--port", "8080"] }],
        },
    });
    format!("{account}\n---\n{pod}\n")
}
