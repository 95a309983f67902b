//! The network between hosts: a bridge in a namespace of its own, a link to each host, routes between pods.
//! Owns namespaces and links. What the cluster's own CNI plugins and kube-proxy do inside is theirs.

use std::fs;
use std::io::Write as _;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use ambit_sys::netns::{Netns, remove_named};
use anyhow::{Context as _, Result, ensure};

use crate::layout::{LAN, Layout};
use crate::spec::Spec;
use crate::wait::wait;

/// The kernel takes links away after their namespace, when it gets to it.
const LINK_WAIT: Duration = Duration::from_secs(60);

/// Makes the bridge, and this machine's own way into the cluster.
pub fn make(layout: &Layout, spec: &Spec) -> Result<()> {
    fs::create_dir_all(layout.pins())?;
    let lan = layout.pin(LAN);
    Netns::create_named(&lan)?;
    inside(&lan, "link add br0 type bridge\nlink set br0 up\n")?;
    let (slot, link) = (spec.slot, spec.slot.link());
    machine(&format!("link add {link} type veth peer name machine netns {}\n", lan.display()))?;
    inside(&lan, "link set machine master br0 up\n")?;
    let mut commands = format!("addr add {}/24 dev {link}\nlink set {link} up\n", slot.machine());
    for (number, _) in spec.each_node() {
        commands += &format!("route add {} via {}\n", slot.node_pods(number), slot.node(number));
    }
    // The control plane's host translates service addresses, whatever becomes of the nodes.
    commands += &format!("route add {} via {}\n", slot.services(), slot.plane());
    machine(&commands)
}

/// Makes a host's namespace and joins it to the bridge. A host that was there before starts with nothing.
pub fn attach(layout: &Layout, spec: &Spec, host: &str, address: Ipv4Addr) -> Result<()> {
    detach(layout, host)?;
    let (lan, pin) = (layout.pin(LAN), layout.pin(host));
    let netns = Netns::create_named(&pin)?;
    let link = format!("to-{host}");
    let add = format!("link add {link} type veth peer name eth0 netns {}\n", pin.display());
    inside(&lan, &format!("{add}link set {link} master br0 up\n"))?;
    // Any default route will do: without one a service's address is unreachable before it is translated.
    let mut commands = format!(
        "addr add {address}/24 dev eth0\nlink set eth0 up\nroute add default via {}\n",
        spec.slot.machine()
    );
    for (number, name) in spec.each_node().filter(|(_, name)| name != host) {
        let _other = name;
        commands += &format!("route add {} via {}\n", spec.slot.node_pods(number), spec.slot.node(number));
    }
    inside(&pin, &commands)?;
    let forward = || fs::write("/proc/sys/net/ipv4/ip_forward", "1");
    netns.run_on_thread(forward)?.context("cannot let a host forward")
}

/// Takes a host off the network, with everything in its namespace.
pub fn detach(layout: &Layout, host: &str) -> Result<()> {
    remove_named(&layout.pin(host))?;
    let lan = layout.pin(LAN);
    if host != LAN && lan.exists() {
        // With the host's end the kernel removes ours, in its own time; it must not be in the way of the next.
        let _gone_already = inside(&lan, &format!("link del to-{host}\n"));
    }
    Ok(())
}

/// Removes all of it. Safe to repeat, and after a crash at any point of the making.
pub fn remove(layout: &Layout, spec: Option<&Spec>) -> Result<()> {
    let pins = fs::read_dir(layout.pins()).into_iter().flatten().flatten();
    for pin in pins {
        remove_named(&pin.path())?;
    }
    let Some(link) = spec.map(|spec| spec.slot.link()) else { return Ok(()) };
    wait(&format!("the link {link} to go"), LINK_WAIT, &[], || {
        // Its other end went with the namespace; this only hurries it along.
        let _gone_already = Command::new("ip").args(["link", "del", &link]).stderr(Stdio::null()).status();
        ensure!(!Path::new("/sys/class/net").join(&link).exists(), "it is still there");
        Ok(())
    })
}

/// Runs commands of `ip` in a namespace, one a line.
pub fn inside(pin: &Path, commands: &str) -> Result<()> {
    let mut ip = Command::new("nsenter");
    ip.arg(format!("--net={}", pin.display())).args(["ip", "-batch", "-"]);
    batch(ip, commands)
}

fn machine(commands: &str) -> Result<()> {
    let mut ip = Command::new("ip");
    ip.args(["-batch", "-"]);
    batch(ip, commands)
}

fn batch(mut ip: Command, commands: &str) -> Result<()> {
    let mut child = ip.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
    if let Some(mut input) = child.stdin.take() {
        input.write_all(commands.as_bytes())?;
    }
    let output = child.wait_with_output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "ip: {} (of: {})", said.trim(), commands.trim().replace('\n', "; "));
    Ok(())
}
