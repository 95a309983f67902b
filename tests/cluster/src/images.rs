//! The images that every cluster has: the pod's holder, the name server, and one application for tests.
//! Made from programs of this machine and our own; no registry is asked.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use ambit_images::Image;
use anyhow::{Context as _, Result, ensure};

use crate::layout::Layout;

/// Holds a pod's namespaces.
pub const PAUSE: &str = "localhost/ambit-lab-pause:1";
/// Answers names.
pub const COREDNS: &str = "localhost/ambit-lab-coredns:1";
/// `ambit pod serve`, `fetch`, `hold` and `load`; without arguments it serves on port 8080.
pub const APP: &str = "localhost/ambit-lab-app:1";

const PAUSE_SOURCE: &str = include_str!("pause.c");

/// Writes all of them as tars; `ambit` is our program, `coredns` the name server.
pub fn write(layout: &Layout, ambit: &Path, coredns: &Path) -> Result<Vec<PathBuf>> {
    let dir = layout.images();
    fs::create_dir_all(&dir)?;
    let pause = compile_pause(&dir)?;
    let images = [
        ("pause", Image::new(PAUSE).program("pause", &pause)?.entrypoint(&["/pause"])),
        // It binds port 53; only root may, in a container that is granted nothing.
        ("coredns", Image::new(COREDNS).program("coredns", coredns)?.entrypoint(&["/coredns"]).user(0, 0)),
        ("app", app(ambit, &pause)?),
    ];
    let mut tars = Vec::new();
    for (name, image) in images {
        let tar = dir.join(format!("{name}.tar"));
        image.write(&tar)?;
        tars.push(tar);
    }
    Ok(tars)
}

fn app(ambit: &Path, pause: &Path) -> Result<Image> {
    let image =
        Image::new(APP).program("usr/local/bin/ambit", ambit)?.program("usr/local/bin/pause", pause)?;
    Ok(image.entrypoint(&["/usr/local/bin/ambit", "pod", "serve"]))
}

fn compile_pause(dir: &Path) -> Result<PathBuf> {
    let (source, program) = (dir.join("pause.c"), dir.join("pause"));
    fs::write(&source, PAUSE_SOURCE)?;
    let mut cc = Command::new("cc");
    // Without a build id the same source makes the same program in whatever folder.
    cc.args(["-Os", "-static", "-s", "-Wl,--build-id=none", "-o"])
        .arg(&program)
        .arg("pause.c")
        .current_dir(dir);
    let output = cc.output().context("no C compiler: `apt-get install -y gcc libc6-dev`")?;
    ensure!(output.status.success(), "pause.c: {}", String::from_utf8_lossy(&output.stderr));
    Ok(program)
}
