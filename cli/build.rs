//! Puts the charts of `deploy/helm` into the program, so that what it installs is what it was built with.

use std::error::Error;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs};

fn main() -> Result<(), Box<dyn Error>> {
    // Asked when it runs: of two checkouts with one folder of built things, the second runs what the first compiled.
    let here = env::var_os("CARGO_MANIFEST_DIR").ok_or("cargo names no folder of this package")?;
    let charts = Path::new(&here).join("../deploy/helm").canonicalize()?;
    println!("cargo::rerun-if-changed={}", charts.display());
    let mut files = Vec::new();
    collect(&charts, Path::new(""), &mut files)?;
    files.sort();
    let mut code = "/// Paths below the charts' folder, and what is in the files.\n".to_owned();
    code += "pub(super) const FILES: &[(&str, &str)] = &[\n";
    for (name, file) in &files {
        writeln!(code, "    ({:?}, include_str!({:?})),", name.display(), file.display())?;
    }
    code += "];\n";
    let out = env::var_os("OUT_DIR").ok_or("cargo names no folder for what is made")?;
    Ok(fs::write(PathBuf::from(out).join("charts.rs"), code)?)
}

/// Links are followed: the chart of all holds links to the others.
fn collect(charts: &Path, below: &Path, files: &mut Vec<(PathBuf, PathBuf)>) -> Result<(), Box<dyn Error>> {
    for entry in fs::read_dir(charts.join(below))? {
        let name = below.join(entry?.file_name());
        let path = charts.join(&name);
        if path.is_dir() {
            collect(charts, &name, files)?;
        } else {
            println!("cargo::rerun-if-changed={}", path.display());
            files.push((name, path));
        }
    }
    Ok(())
}
