//! The commands. Each reads, asks if there is something to ask, and answers.

use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::ask::{Said, ask};
use crate::failure::Failure;
use crate::input::{Network, Surroundings, VERSIONS};

/// What the process says, and how it ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// For standard output.
    pub output: String,
    /// For standard error.
    pub note: String,
    /// Whether the command succeeded.
    pub good: bool,
}

/// The newest version of those spoken.
const NEWEST: &str = "1.1.0";

/// The daemon's own pods must start without the daemon. By name, as nothing else is known here.
const OWN_POD: &str = "istio-cni-node-";

const SOCKET: &str = "pluginevent.sock";

/// Runs the command that the surroundings name.
#[must_use]
pub fn run(given: &Surroundings, input: &[u8]) -> Answer {
    let command = given.text("CNI_COMMAND");
    if command.is_empty() {
        let note = format!("ambit-cni: the mesh's CNI plugin; CNI versions {}\n", VERSIONS.join(", "));
        return Answer { output: String::new(), note, good: true };
    }
    if command == "VERSION" {
        return good(&json!({ "cniVersion": NEWEST, "supportedVersions": VERSIONS }).to_string());
    }
    let network = Network::parse(input);
    let version = network.as_ref().map_or_else(|_| NEWEST.to_owned(), |it| it.version.clone());
    match network.and_then(|network| obey(command, given, &network)) {
        Ok(output) => good(&output),
        Err(failure) => {
            let output = failure.object(&version);
            Answer { note: format!("ambit-cni: {output}\n"), output, good: false }
        }
    }
}

fn good(output: &str) -> Answer {
    Answer { output: output.to_owned(), note: String::new(), good: true }
}

fn obey(command: &str, given: &Surroundings, network: &Network) -> Result<String, Failure> {
    match command {
        "ADD" => {
            given.demand(&["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_PATH"])?;
            add(given, network)
        }
        "DEL" => {
            given.demand(&["CNI_CONTAINERID", "CNI_IFNAME", "CNI_PATH"])?;
            del(given, network)
        }
        "CHECK" => {
            given.demand(&["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_PATH"])?;
            since(network, "0.4.0", command)?;
            check(given, network)
        }
        "GC" => {
            given.demand(&["CNI_PATH"])?;
            since(network, "1.1.0", command)?;
            collect(network)
        }
        "STATUS" => {
            given.demand(&["CNI_PATH"])?;
            since(network, "1.1.0", command)?;
            status(network)
        }
        other => Err(Failure::Environment(format!("CNI_COMMAND {other:?} is no command"))),
    }
}

fn since(network: &Network, version: &str, command: &str) -> Result<(), Failure> {
    if network.is_at_least(version) {
        return Ok(());
    }
    Err(Failure::Version(format!("{command} came with {version}, the configuration is {}", network.version)))
}

/// Fails closed: what cannot be asked about does not start. A daemon that is about to come is waited for.
fn add(given: &Surroundings, network: &Network) -> Result<String, Failure> {
    if is_not_asked_about(given, network) {
        return Ok(result(network));
    }
    let said = tell_within(given.absence, network, "/cmdadd", &question(given, network))?;
    match said.status {
        200 => Ok(result(network)),
        503 => Err(Failure::TryAgain(said.text)),
        _ => Err(Failure::Refused(format!("{} ({})", said.text, said.status))),
    }
}

/// May be repeated, and must succeed when all is gone. A daemon that is away finds out by itself.
fn del(given: &Surroundings, network: &Network) -> Result<String, Failure> {
    if is_not_asked_about(given, network) {
        return Ok(String::new());
    }
    match tell(network, "/cmddel", &question(given, network)) {
        Ok(Said { status: 200 | 404, .. }) | Err(_) => Ok(String::new()),
        Ok(said) => Err(Failure::TryAgain(said.text)),
    }
}

fn check(given: &Surroundings, network: &Network) -> Result<String, Failure> {
    if is_not_asked_about(given, network) {
        return Ok(String::new());
    }
    let said = tell(network, "/check", &question(given, network))?;
    match said.status {
        200 => Ok(String::new()),
        503 => Err(Failure::TryAgain(said.text)),
        _ => Err(Failure::NotAsItShouldBe(said.text)),
    }
}

/// Everything that is not listed is let go of, so there must be a list.
fn collect(network: &Network) -> Result<String, Failure> {
    let Some(valid) = &network.valid else {
        let what = "cni.dev/valid-attachments is missing or no list of attachments";
        return Err(Failure::Configuration(what.into()));
    };
    let said = tell(network, "/gc", &json!({ "ValidContainerIDs": valid }))?;
    if said.status == 200 { Ok(String::new()) } else { Err(Failure::TryAgain(said.text)) }
}

/// Success by default, even without the daemon: a node that reports no network starts no pods, and the daemon is one.
fn status(network: &Network) -> Result<String, Failure> {
    if !network.strict_status {
        return Ok(String::new());
    }
    match tell(network, "/status", &json!({})) {
        Ok(Said { status: 200, .. }) => Ok(String::new()),
        Ok(said) => Err(Failure::Unavailable(said.text)),
        Err(Failure::TryAgain(why)) => Err(Failure::Unavailable(why)),
        Err(other) => Err(other),
    }
}

/// No pod of Kubernetes, the daemon's own, or one of a namespace that is never in the mesh: those start without it.
fn is_not_asked_about(given: &Surroundings, network: &Network) -> bool {
    let (name, namespace) = (given.argument("K8S_POD_NAME"), given.argument("K8S_POD_NAMESPACE"));
    let own = name.starts_with(OWN_POD) && namespace == network.system_namespace;
    name.is_empty() || namespace.is_empty() || own || network.excluded.iter().any(|it| it == namespace)
}

fn tell(network: &Network, path: &str, body: &Value) -> Result<Said, Failure> {
    tell_within(Duration::ZERO, network, path, body)
}

fn tell_within(absence: Duration, network: &Network, path: &str, body: &Value) -> Result<Said, Failure> {
    let socket = network.run_dir.join(SOCKET);
    ask(&socket, path, &body.to_string(), absence)
        .map_err(|error| Failure::TryAgain(not_reached(&socket, &error)))
}

fn not_reached(socket: &Path, error: &std::io::Error) -> String {
    format!("the node daemon did not answer at {}: {error}; is it running?", socket.display())
}

/// Upstream's members, and three of ours that its daemon passes over.
fn question(given: &Surroundings, network: &Network) -> Value {
    json!({
        "Netns": given.text("CNI_NETNS"),
        "PodName": given.argument("K8S_POD_NAME"),
        "PodNamespace": given.argument("K8S_POD_NAMESPACE"),
        "IPs": network.previous.as_ref().map(addresses),
        "PodUID": given.argument("K8S_POD_UID"),
        "ContainerID": given.text("CNI_CONTAINERID"),
        "IfName": given.text("CNI_IFNAME"),
    })
}

/// The addresses of the previous result, in the daemon's shape. Old results have one of each family.
fn addresses(previous: &Value) -> Value {
    let listed = previous.get("ips").and_then(Value::as_array).into_iter().flatten().filter_map(|it| {
        let address = network_address(it.get("address")?.as_str()?)?;
        let gateway = it.get("gateway").cloned().unwrap_or_else(|| json!(""));
        Some(json!({ "Interface": it.get("interface"), "Address": address, "Gateway": gateway }))
    });
    let old = ["ip4", "ip6"].into_iter().filter_map(|family| {
        let address = network_address(previous.get(family)?.get("ip")?.as_str()?)?;
        Some(json!({ "Interface": null, "Address": address, "Gateway": "" }))
    });
    listed.chain(old).collect()
}

/// `10.0.0.5/24` as address and mask.
fn network_address(text: &str) -> Option<Value> {
    let (ip, length) = text.split_once('/')?;
    let ip: IpAddr = ip.parse().ok()?;
    let bytes = if ip.is_ipv4() { 4 } else { 16 };
    let length: u32 = length.parse().ok().filter(|length| *length <= bytes * 8)?;
    let mask: Vec<u8> = (0..bytes).map(|at| octet(length.saturating_sub(at * 8).min(8))).collect();
    Some(json!({ "IP": ip, "Mask": base64(&mask) }))
}

/// A byte with its first `ones` bits set.
fn octet(ones: u32) -> u8 {
    u8::MAX.checked_shl(8 - ones).unwrap_or(0)
}

fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for part in bytes.chunks(3) {
        let number = part.iter().fold(0, |number: usize, byte| number << 8 | usize::from(*byte));
        let number = number << (8 * (3 - part.len()));
        for at in 0..4 {
            let letter = LETTERS.get(number >> (18 - 6 * at) & 63).copied().unwrap_or(b'=');
            text.push(if at <= part.len() { char::from(letter) } else { '=' });
        }
    }
    text
}

/// The previous result as it is, unknown members included; without one, an empty result.
fn result(network: &Network) -> String {
    let mut previous = match &network.previous {
        Some(Value::Object(members)) => members.clone(),
        _ => Map::new(),
    };
    previous.insert("cniVersion".into(), json!(network.version));
    Value::Object(previous).to_string()
}

#[cfg(test)]
mod tests;
