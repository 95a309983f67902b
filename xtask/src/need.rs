//! What a command needs from the machine: root, kernel features, Debian packages, cargo tools.
//! Owns finding out and installing; each failure is one line that says what to do.

use std::process::Command;

use anyhow::{Result, bail, ensure};

use crate::run;
use crate::workspace::cargo;

/// A program, by name or by file, and the Debian package it comes in.
pub(crate) struct Tool {
    pub(crate) program: &'static str,
    pub(crate) package: &'static str,
}

/// The C compiler that builds the cryptography (aws-lc); nothing else is compiled from C.
pub(crate) const COMPILER: Tool = Tool { program: "cc", package: "gcc libc6-dev" };

/// Makes and looks into namespaces; used by tests to look at the machine from outside.
pub(crate) const IPROUTE: Tool = Tool { program: "ip", package: "iproute2" };

/// Shows the rules that are in force, to compare with what we meant to install.
pub(crate) const NFT: Tool = Tool { program: "nft", package: "nftables" };

/// Plays another mesh's agent, whose chains the node daemon takes over.
pub(crate) const IPTABLES: Tool = Tool { program: "iptables-nft", package: "iptables" };

/// Shows programs a clock that is wrong.
pub(crate) const FAKETIME: Tool = Tool { program: "faketime", package: "faketime" };

/// Clients of HTTP that others wrote, who are to find it at a waypoint as they know it.
pub(crate) const CURL: Tool = Tool { program: "curl", package: "curl" };
pub(crate) const H2LOAD: Tool = Tool { program: "h2load", package: "nghttp2-client" };

/// Asks the dashboards' questions; `promtool`, in the same package, tries the alerts.
pub(crate) const PROMETHEUS: Tool = Tool { program: "prometheus", package: "prometheus" };

/// Asks for root; namespaces and redirection cannot be had without it.
pub(crate) fn root(what: &str) -> Result<()> {
    let id = Command::new("id").arg("-u").output()?;
    let uid = String::from_utf8_lossy(&id.stdout);
    ensure!(uid.trim() == "0", "{what} makes network namespaces and needs root: run it under sudo");
    Ok(())
}

/// Tries what a mesh needs of the kernel, in a namespace that vanishes with the trial.
pub(crate) fn kernel() -> Result<()> {
    let trials: &[(&str, &str)] = &[
        ("network and mount namespaces", "true"),
        ("IPv6", "test -d /proc/sys/net/ipv6"),
        ("veth links (CONFIG_VETH)", "ip link add name try0 type veth peer name try1"),
        ("bridges (CONFIG_BRIDGE)", "ip link add name try2 type bridge"),
        ("policy routing (CONFIG_IP_MULTIPLE_TABLES)", "ip rule add fwmark 0x1 lookup 100"),
        ("nf_tables", "nft add table inet t"),
        (
            "nft redirection, marks and sets (CONFIG_NFT_REDIR, CONFIG_NFT_CT, CONFIG_NF_TABLES_INET)",
            "nft 'add table inet t; add chain inet t c { type nat hook output priority -100; }; \
             add set inet t s { type ipv4_addr; }; \
             add rule inet t c meta mark != 0x539 tcp dport 80 ct mark set 0x111 redirect to :15001'",
        ),
    ];
    for (feature, trial) in trials {
        let script = ["--net", "--mount", "sh", "-c", trial];
        let tried = Command::new("unshare").args(script).output()?;
        if !tried.status.success() {
            let said = String::from_utf8_lossy(&tried.stderr);
            bail!("this kernel or container does not offer {feature}: {}", said.lines().next().unwrap_or(""));
        }
    }
    Ok(())
}

/// Makes sure the tools are there; installs missing ones where apt and root allow it.
pub(crate) fn tools(wanted: &[&Tool]) -> Result<()> {
    let missing: Vec<&str> = wanted
        .iter()
        .filter(|tool| !on_path(tool.program))
        .flat_map(|tool| tool.package.split(' '))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let install = format!("apt-get install -y {}", missing.join(" "));
    if root("").is_err() || !on_path("apt-get") {
        bail!("missing on this machine: {}; install with `{install}`", missing.join(", "));
    }
    apt(&["update", "-qq"])?;
    let mut arguments = vec!["install", "-y", "-qq", "--no-install-recommends"];
    arguments.extend(missing);
    apt(&arguments)
}

/// Makes sure a cargo subcommand is there, building it once when it is not.
pub(crate) fn cargo_tool(subcommand: &str, package: &str) -> Result<()> {
    if run::succeeds(cargo().args([subcommand, "--version"])) {
        return Ok(());
    }
    run::shown(cargo().args(["install", "--locked", package]))
}

fn apt(arguments: &[&str]) -> Result<()> {
    // A mirror that does not answer once usually does the next time.
    let retried = ["-o", "Acquire::Retries=4"];
    run::shown(Command::new("apt-get").args(retried).args(arguments).env("DEBIAN_FRONTEND", "noninteractive"))
}

fn on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| dir.join(program).is_file())
}
