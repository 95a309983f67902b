//! Upstream's control plane and node agent, as images and as manifests of our own writing.
//! Owns what is in the images. What is said to the programs is in `istiod.yaml` and `agent.yaml`.

use std::fs;
use std::path::Path;

use ambit_cluster_lab::mesh::SYSTEM;
use ambit_cluster_lab::{Lab, upstream};
use ambit_images::Image;
use anyhow::{Context as _, Result};

/// The control plane: account, rights, configuration, Service, Deployment.
const ISTIOD: &str = include_str!("istiod.yaml");
/// The node agent: account, rights, configuration, DaemonSet.
pub(crate) const AGENT: &str = include_str!("agent.yaml");

/// The packet filter's program under all its names: the agent runs it in pods and on the node.
const IPTABLES: &str = "/usr/sbin/xtables-nft-multi";
/// Where it loads what it knows of matches and targets from.
const EXTENSIONS: &str = "usr/lib/x86_64-linux-gnu/xtables";

/// Installs the control plane as people do who use Helm: as the release `istiod`.
pub(crate) fn install_istiod(lab: &Lab) -> Result<()> {
    let chart = lab.layout().dir().join("upstream-istiod");
    fs::create_dir_all(chart.join("templates"))?;
    fs::write(chart.join("Chart.yaml"), "{apiVersion: v2, name: istiod, version: 1.32.0}\n")?;
    fs::write(chart.join("templates/all.yaml"), ISTIOD)?;
    let folder = chart.display().to_string();
    lab.helm(&["install", "istiod", &folder, "-n", SYSTEM, "--wait", "--timeout", "120s"]).map(drop)
}

/// Gives every node upstream's images.
pub(crate) fn import(lab: &Lab) -> Result<()> {
    let programs = upstream()?;
    let pilot = Image::new("localhost/upstream/pilot:1")
        .program("usr/local/bin/pilot-discovery", &programs.pilot)?
        .entrypoint(&["/usr/local/bin/pilot-discovery"]);
    let agent = Image::new("localhost/upstream/install-cni:1")
        .program("usr/local/bin/install-cni", &programs.agent)?
        .program("opt/cni/bin/istio-cni", &programs.plugin)?
        .program("usr/sbin/nft", Path::new("/usr/sbin/nft"))
        .context("apt-get install -y nftables")?
        .entrypoint(&["/usr/local/bin/install-cni"])
        .user(0, 0);
    let agent = with_iptables(agent).context("apt-get install -y iptables")?;
    for (name, image) in [("pilot", pilot), ("install-cni", agent)] {
        let tar = lab.layout().dir().join(format!("{name}.tar"));
        image.write(&tar)?;
        lab.import_image(&tar)?;
        fs::remove_file(&tar)?;
    }
    Ok(())
}

fn with_iptables(image: Image) -> Result<Image> {
    let mut image = image.program(&IPTABLES[1..], Path::new(IPTABLES))?;
    for family in ["iptables", "ip6tables"] {
        for word in ["", "-save", "-restore"] {
            for kind in ["", "-nft"] {
                image = image.link(&format!("usr/sbin/{family}{kind}{word}"), "xtables-nft-multi");
            }
        }
    }
    let extensions = Path::new("/").join(EXTENSIONS);
    for entry in fs::read_dir(&extensions).with_context(|| extensions.display().to_string())? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if ["libxt_", "libipt_", "libip6t_"].iter().any(|kind| name.starts_with(kind)) {
            image = image.file(&format!("{EXTENSIONS}/{name}"), 0o644, &fs::read(extensions.join(&name))?);
        }
    }
    Ok(image)
}
