//! The built programs, kept apart for this test run: a build that replaces them meanwhile disturbs no test.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

const ALL: [&str; 6] = ["ambit", "ambit-cni", "ambit-cni-node", "ambit-waypoint", "istiod-lite", "ztunnel"];

/// The `ambit` command, the other programs beside it.
pub fn ambit() -> Command {
    static DIR: OnceLock<PathBuf> = OnceLock::new();
    Command::new(DIR.get_or_init(kept).join("ambit"))
}

/// Copies of all programs, below `dir`.
pub fn copied(dir: &Path) -> PathBuf {
    let bin = dir.join("bin");
    fs::create_dir(&bin).unwrap();
    let from = PathBuf::from(ambit().get_program());
    for name in ALL {
        fs::copy(from.with_file_name(name), bin.join(name)).unwrap();
    }
    bin
}

/// A directory named after this process with a link to each program. Those of former runs go.
fn kept() -> PathBuf {
    let all = Path::new(env!("CARGO_TARGET_TMPDIR")).join("netns-programs");
    fs::create_dir_all(&all).unwrap();
    for former in fs::read_dir(&all).unwrap().flatten() {
        let alive = Path::new("/proc").join(former.file_name()).exists();
        if !alive {
            // Another run may be at the same.
            let _gone = fs::remove_dir_all(former.path());
        }
    }
    let own = all.join(std::process::id().to_string());
    fs::create_dir_all(&own).unwrap();
    let built = std::env::current_exe().unwrap();
    let built = built.parent().and_then(Path::parent).unwrap();
    for name in ALL {
        let path = built.join(name);
        fs::hard_link(&path, own.join(name))
            .unwrap_or_else(|e| panic!("{}: {e}: run `cargo build --workspace --bins`", path.display()));
    }
    own
}
