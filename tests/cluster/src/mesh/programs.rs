//! Our programs as images on every node. Owns where the built programs are found.

use std::path::{Path, PathBuf};

use ambit_images::Component;
use anyhow::{Context as _, Result, ensure};

use crate::lab::Lab;

/// What the charts name when nothing else is said.
const REGISTRY: &str = "localhost/ambit";

/// Gives every node the images that the charts name.
pub(super) fn import(lab: &Lab) -> Result<()> {
    let programs = programs()?;
    let plugin = plugin(&programs)?;
    for component in Component::all() {
        let image = component.image((REGISTRY, env!("CARGO_PKG_VERSION")), &programs, &plugin)?;
        let tar = lab.layout().dir().join(format!("{}.tar", component.name));
        image.write(&tar)?;
        lab.import_image(&tar)?;
        std::fs::remove_file(&tar)?;
    }
    Ok(())
}

/// Where the programs are that were built with the one that runs: beside it, or a folder up for a test.
pub(super) fn programs() -> Result<PathBuf> {
    let own = std::env::current_exe().context("this program's own path is not known")?;
    let folder = own.parent().context("a program is in a folder")?;
    let folder =
        if folder.ends_with("deps") { folder.parent().context("deps is in a folder")? } else { folder };
    Ok(folder.to_path_buf())
}

/// The static plugin, which is not built beside the other programs.
fn plugin(programs: &Path) -> Result<PathBuf> {
    let target = programs.parent().context("programs are in the target folder")?;
    let plugin =
        target.join(format!("{}-unknown-linux-gnu", std::env::consts::ARCH)).join("plugin/ambit-cni");
    ensure!(plugin.is_file(), "{} is not built: cargo xtask images --debug", plugin.display());
    Ok(plugin)
}
