//! Our programs as images on every node. Owns where the built programs are found.

use std::path::{Path, PathBuf};

use ambit_cluster_lab::Lab;
use ambit_images::Component;
use anyhow::{Context as _, Result, ensure};

/// What the charts name when nothing else is said.
const REGISTRY: &str = "localhost/ambit";

/// Gives every node the images that the charts name.
pub(crate) fn import(lab: &Lab) -> Result<()> {
    let lab_program = Path::new(env!("CARGO_BIN_EXE_ambit-lab"));
    let programs = lab_program.parent().context("a program is in a folder")?;
    let plugin = plugin(programs)?;
    for component in Component::all() {
        let image = component.image((REGISTRY, env!("CARGO_PKG_VERSION")), programs, &plugin)?;
        let tar = lab.layout().dir().join(format!("{}.tar", component.name));
        image.write(&tar)?;
        lab.import_image(&tar)?;
        std::fs::remove_file(&tar)?;
    }
    Ok(())
}

/// The static plugin, which is not built beside the other programs.
fn plugin(programs: &Path) -> Result<PathBuf> {
    let target = programs.parent().context("programs are in the target folder")?;
    let plugin =
        target.join(format!("{}-unknown-linux-gnu", std::env::consts::ARCH)).join("plugin/ambit-cni");
    ensure!(plugin.is_file(), "{} is not built: cargo xtask images --debug", plugin.display());
    Ok(plugin)
}
