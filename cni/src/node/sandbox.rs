//! What the container runtime told of a pod's sandbox, kept in the run folder so that a new daemon finds it again.
//! One file a pod, replaced atomically. What is on disk is a hint where to look; the kernel decides what is true.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use ambit_sys::netns::NetnsId;
use ambit_wire::node_link::PodUid;
use serde::{Deserialize, Serialize};
use tracing::warn;

/// A pod's sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Sandbox {
    pub(crate) uid: String,
    pub(crate) container_id: String,
    pub(crate) interface: String,
    pub(crate) netns: PathBuf,
    pub(crate) ips: Vec<IpAddr>,
    /// Which namespace the path led to when the runtime named it; a record without is not believed.
    #[serde(default)]
    pub(crate) mark: Option<Mark>,
}

/// Which namespace, beyond doubt. Paths are used again, and after a boot so are the kernel's numbers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Mark {
    pub(crate) boot: String,
    pub(crate) device: u64,
    pub(crate) inode: u64,
}

impl Mark {
    pub(crate) fn new(boot: &str, id: NetnsId) -> Self {
        Self { boot: boot.to_owned(), device: id.device, inode: id.inode }
    }
}

/// The folder of records.
#[derive(Debug, Clone)]
pub(crate) struct Records(PathBuf);

/// A record is under 1 KiB; anything larger was not written by us.
const RECORD: u64 = 64 << 10;

impl Records {
    /// Opens the folder and reads what is there; a file that cannot be read is told and passed over.
    pub(crate) fn open(folder: PathBuf) -> io::Result<(Self, BTreeMap<PodUid, Sandbox>)> {
        fs::create_dir_all(&folder)?;
        let records = Self(folder);
        let all = records.list()?;
        Ok((records, all))
    }

    /// What is there now.
    pub(crate) fn list(&self) -> io::Result<BTreeMap<PodUid, Sandbox>> {
        let mut all = BTreeMap::new();
        for entry in fs::read_dir(&self.0)? {
            let path = entry?.path();
            match read(&path) {
                Ok(Some((uid, sandbox))) => drop(all.insert(uid, sandbox)),
                Ok(None) => {}
                Err(error) => warn!(path = %path.display(), %error, "a sandbox record is not readable"),
            }
        }
        Ok(all)
    }

    /// Writes a pod's record. A crash leaves the former one or this one.
    pub(crate) fn write(&self, uid: &PodUid, sandbox: &Sandbox) -> io::Result<()> {
        let path = self.path(uid).ok_or(io::ErrorKind::InvalidInput)?;
        let hidden = path.with_extension("new");
        let mut file = fs::File::create(&hidden)?;
        file.write_all(&serde_json::to_vec(sandbox)?)?;
        fs::rename(&hidden, &path)
    }

    /// Removes a pod's record; none is fine.
    pub(crate) fn remove(&self, uid: &PodUid) {
        if let Some(path) = self.path(uid) {
            // Left behind, it is removed with the pod after the next start.
            let _ = fs::remove_file(path);
        }
    }

    fn path(&self, uid: &PodUid) -> Option<PathBuf> {
        is_file_name(uid.as_str()).then(|| self.0.join(format!("{uid}.json")))
    }
}

/// Whether a uid can be a file's name; all that Kubernetes makes can.
pub(crate) fn is_file_name(uid: &str) -> bool {
    let fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    (1..=128).contains(&uid.len()) && uid.chars().all(fine) && !uid.starts_with('.')
}

fn read(path: &Path) -> io::Result<Option<(PodUid, Sandbox)>> {
    if path.extension().is_none_or(|it| it != "json") || fs::metadata(path)?.len() > RECORD {
        return Ok(None);
    }
    let sandbox: Sandbox = serde_json::from_slice(&fs::read(path)?)?;
    Ok(PodUid::new(&sandbox.uid).ok().map(|uid| (uid, sandbox)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_found_again_and_damaged_ones_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        let (records, found) = Records::open(dir.path().into()).unwrap();
        assert!(found.is_empty());
        let uid = PodUid::new("u-1").unwrap();
        let sandbox = Sandbox {
            uid: "u-1".into(),
            container_id: "c1".into(),
            interface: "eth0".into(),
            netns: "/run/netns/x".into(),
            ips: vec!["10.0.0.5".parse().unwrap(), "fd00::5".parse().unwrap()],
            mark: Some(Mark::new("b", NetnsId { device: 4, inode: 4_026_531_840 })),
        };
        records.write(&uid, &sandbox).unwrap();
        fs::write(dir.path().join("bad.json"), "{").unwrap();
        fs::write(dir.path().join("u-2.new"), "{}").unwrap();
        assert_eq!(Records::open(dir.path().into()).unwrap().1, BTreeMap::from([(uid.clone(), sandbox)]));
        records.remove(&uid);
        records.remove(&uid);
        assert!(Records::open(dir.path().into()).unwrap().1.is_empty());
    }

    #[test]
    fn a_record_of_an_earlier_version_is_read_but_says_not_which_namespace() {
        let dir = tempfile::tempdir().unwrap();
        let text = r#"{"uid":"u-1","container_id":"c","interface":"eth0","netns":"/run/netns/x","ips":[]}"#;
        fs::write(dir.path().join("u-1.json"), text).unwrap();
        let (_, found) = Records::open(dir.path().into()).unwrap();
        assert_eq!(found.values().map(|it| it.mark.clone()).collect::<Vec<_>>(), [None]);
    }

    #[test]
    fn a_uid_that_would_be_another_path_is_no_file_name() {
        for (uid, fine) in [
            ("u-1", true),
            ("static.pod_1", true),
            ("", false),
            ("../x", false),
            (".x", false),
            ("a/b", false),
        ] {
            assert_eq!(is_file_name(uid), fine, "{uid}");
        }
    }
}
