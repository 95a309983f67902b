//! An image: files in one layer, how its program starts, and the tar it is written as.
//! The tar is an OCI image layout that also holds Docker's manifest, so that `ctr`, `docker load`, `podman load` and
//! `skopeo` all read it.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use aws_lc_rs::digest::{SHA256, digest};
use serde_json::{Value, json};

use crate::program::{ProgramError, libraries};
use crate::tar::{Kind, Tar, TooLong};

/// Where programs are looked for inside, and where ours are.
const PATH: &str = "PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// An image being put together.
#[derive(Debug, Clone)]
pub struct Image {
    name: String,
    /// By path without the leading slash, so that the order is the same each time.
    entries: BTreeMap<String, Entry>,
    entrypoint: Vec<String>,
    user: String,
}

#[derive(Debug, Clone)]
enum Entry {
    File { mode: u32, content: Vec<u8> },
    Link { target: String },
    Directory { mode: u32 },
}

/// What was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// Digest of the tar itself, in hexadecimal.
    pub sha256: String,
    /// Its length.
    pub bytes: usize,
}

/// Why there is no image.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// A program could not be put in.
    #[error(transparent)]
    Program(#[from] ProgramError),
    /// Something does not fit a tar.
    #[error(transparent)]
    TooLong(#[from] TooLong),
    /// The tar cannot be written.
    #[error("cannot write {path}")]
    Write {
        /// The tar.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
}

impl Image {
    /// An image of this name (`localhost/x:1`) with the folders every program expects, run by nobody in particular
    /// but not by root.
    #[must_use]
    pub fn new(name: &str) -> Self {
        let image = Self {
            name: name.to_owned(),
            entries: BTreeMap::new(),
            entrypoint: Vec::new(),
            user: "65532:65532".to_owned(),
        };
        let image = ["dev", "etc", "proc", "run", "sys", "var"]
            .iter()
            .fold(image, |image, folder| image.directory(folder, 0o755));
        let people = b"root:x:0:0::/:/nonexistent\nambit:x:65532:65532::/:/nonexistent\n";
        let image = image.directory("tmp", 0o1777).file("etc/passwd", 0o644, people);
        // Without it the C library asks DNS before it looks into /etc/hosts.
        image.file("etc/nsswitch.conf", 0o644, b"hosts: files dns\n")
    }

    /// Adds a file; its folders come by themselves.
    #[must_use]
    pub fn file(mut self, path: &str, mode: u32, content: &[u8]) -> Self {
        self.folders_of(path);
        self.entries.insert(path.to_owned(), Entry::File { mode, content: content.to_vec() });
        self
    }

    /// Adds a symbolic link.
    #[must_use]
    pub fn link(mut self, path: &str, target: &str) -> Self {
        self.folders_of(path);
        self.entries.insert(path.to_owned(), Entry::Link { target: target.to_owned() });
        self
    }

    /// Adds a folder.
    #[must_use]
    pub fn directory(mut self, path: &str, mode: u32) -> Self {
        self.folders_of(path);
        self.entries.insert(path.to_owned(), Entry::Directory { mode });
        self
    }

    /// Adds a program of this machine, with the libraries it needs at the places where it looks for them.
    pub fn program(mut self, path: &str, from: &Path) -> Result<Self, ImageError> {
        for library in libraries(from)? {
            let at = library.to_string_lossy().trim_start_matches('/').to_owned();
            self = self.file(&at, 0o755, &read(&library)?);
        }
        Ok(self.file(path, 0o755, &read(from)?))
    }

    /// What runs when nothing else is asked for.
    #[must_use]
    pub fn entrypoint(mut self, words: &[&str]) -> Self {
        self.entrypoint = words.iter().map(|word| (*word).to_owned()).collect();
        self
    }

    /// Who runs it, in numbers: `runAsNonRoot` in a pod cannot judge a name.
    #[must_use]
    pub fn user(mut self, user: u32, group: u32) -> Self {
        self.user = format!("{user}:{group}");
        self
    }

    /// Writes the image; the file is there whole or not at all.
    pub fn write(&self, path: &Path) -> Result<Written, ImageError> {
        let tar = self.tar()?;
        let part = path.with_extension(format!("part-{}", std::process::id()));
        let written = fs::write(&part, &tar).and_then(|()| fs::rename(&part, path));
        if let Err(source) = written {
            // What is left of the attempt is of no use to anyone, and its removal may fail for the same reason.
            let _gone = fs::remove_file(&part);
            return Err(ImageError::Write { path: path.to_owned(), source });
        }
        Ok(Written { sha256: sha256(&tar), bytes: tar.len() })
    }

    fn tar(&self) -> Result<Vec<u8>, TooLong> {
        let layer = self.layer()?;
        let config = self.config(&sha256(&layer));
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": described("application/vnd.oci.image.config.v1+json", &config),
            "layers": [described("application/vnd.oci.image.layer.v1.tar", &layer)],
        });
        let manifest = manifest.to_string().into_bytes();
        let mut entry = described("application/vnd.oci.image.manifest.v1+json", &manifest);
        if let Some(entry) = entry.as_object_mut() {
            let names = json!({
                "io.containerd.image.name": self.name,
                "org.opencontainers.image.ref.name": self.name.rsplit_once(':').map_or("latest", |(_, tag)| tag),
            });
            entry.insert("annotations".to_owned(), names);
        }
        let index = json!({ "schemaVersion": 2, "manifests": [entry] });
        let docker = json!([{
            "Config": blob(&sha256(&config)), "RepoTags": [self.name], "Layers": [blob(&sha256(&layer))],
        }]);
        let files: BTreeMap<String, Vec<u8>> = [
            (blob(&sha256(&config)), config),
            (blob(&sha256(&layer)), layer),
            (blob(&sha256(&manifest)), manifest),
            ("index.json".to_owned(), index.to_string().into_bytes()),
            ("manifest.json".to_owned(), docker.to_string().into_bytes()),
            ("oci-layout".to_owned(), br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec()),
        ]
        .into();
        let mut tar = Tar::default();
        tar.add("blobs/", 0o755, &Kind::Directory)?;
        tar.add("blobs/sha256/", 0o755, &Kind::Directory)?;
        for (name, content) in &files {
            tar.add(name, 0o644, &Kind::File(content))?;
        }
        Ok(tar.finish())
    }

    fn layer(&self) -> Result<Vec<u8>, TooLong> {
        let mut tar = Tar::default();
        for (path, entry) in &self.entries {
            match entry {
                Entry::File { mode, content } => tar.add(path, *mode, &Kind::File(content))?,
                Entry::Link { target } => tar.add(path, 0o777, &Kind::Link(target))?,
                Entry::Directory { mode } => tar.add(&format!("{path}/"), *mode, &Kind::Directory)?,
            }
        }
        Ok(tar.finish())
    }

    fn config(&self, layer: &str) -> Vec<u8> {
        let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
        let config = json!({
            "architecture": architecture,
            "os": "linux",
            "config": { "Entrypoint": self.entrypoint, "User": self.user, "Env": [PATH], "WorkingDir": "/" },
            "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{layer}")] },
        });
        config.to_string().into_bytes()
    }

    fn folders_of(&mut self, path: &str) {
        let mut rest = path;
        while let Some((folder, _)) = rest.rsplit_once('/') {
            self.entries.entry(folder.to_owned()).or_insert(Entry::Directory { mode: 0o755 });
            rest = folder;
        }
    }
}

fn read(path: &Path) -> Result<Vec<u8>, ProgramError> {
    fs::read(path).map_err(|source| ProgramError::Read { path: path.to_owned(), source })
}

fn described(kind: &str, content: &[u8]) -> Value {
    json!({ "mediaType": kind, "digest": format!("sha256:{}", sha256(content)), "size": content.len() })
}

fn blob(sha256: &str) -> String {
    format!("blobs/sha256/{sha256}")
}

fn sha256(content: &[u8]) -> String {
    digest(&SHA256, content).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    fn image() -> Image {
        let shell = Path::new("/bin/sh");
        Image::new("localhost/x:1")
            .program("usr/local/bin/sh", shell)
            .unwrap()
            .entrypoint(&["sh", "-c", "exit 7"])
    }

    #[test]
    fn an_image_written_twice_is_the_same_to_the_last_byte() {
        let dir = tempfile::tempdir().unwrap();
        let (one, two) = (dir.path().join("1.tar"), dir.path().join("2.tar"));
        let digests = (image().write(&one).unwrap(), image().write(&two).unwrap());
        assert_eq!(digests.0, digests.1);
        assert_eq!(fs::read(one).unwrap(), fs::read(two).unwrap());
        let other = image().file("etc/more", 0o644, b"").write(&dir.path().join("3.tar")).unwrap();
        assert_ne!(other.sha256, digests.0.sha256);
    }

    #[test]
    fn every_blob_has_the_digest_that_it_is_called_by_and_the_layer_is_what_the_config_says() {
        let dir = tempfile::tempdir().unwrap();
        let tar = dir.path().join("x.tar");
        image().write(&tar).unwrap();
        let unpacked = Command::new("tar").arg("-xf").arg(&tar).arg("-C").arg(dir.path()).status().unwrap();
        assert!(unpacked.success());
        for blob in fs::read_dir(dir.path().join("blobs/sha256")).unwrap().flatten() {
            assert_eq!(sha256(&fs::read(blob.path()).unwrap()), blob.file_name().to_str().unwrap());
        }
        let json = |path: &str| -> Value {
            serde_json::from_slice(&fs::read(dir.path().join(path)).unwrap()).unwrap()
        };
        let docker = json("manifest.json");
        let config = json(docker[0]["Config"].as_str().unwrap());
        let layer = docker[0]["Layers"][0].as_str().unwrap().rsplit('/').next().unwrap().to_owned();
        assert_eq!(config["rootfs"]["diff_ids"][0], format!("sha256:{layer}"));
        let manifest = json("index.json")["manifests"][0]["digest"].as_str().unwrap().replace("sha256:", "");
        assert_eq!(json(&blob(&manifest))["layers"][0]["digest"], format!("sha256:{layer}"));
    }

    #[test]
    fn a_program_runs_from_its_image_with_nothing_of_the_machine_around_it() {
        let dir = tempfile::tempdir().unwrap();
        let layer = dir.path().join("layer.tar");
        fs::write(&layer, image().layer().unwrap()).unwrap();
        let unpacked = Command::new("tar").arg("-xf").arg(&layer).arg("-C").arg(dir.path()).status().unwrap();
        assert!(unpacked.success());
        let run = Command::new("chroot")
            .arg(dir.path())
            .args(["/usr/local/bin/sh", "-c", "exit 7"])
            .status()
            .unwrap();
        assert_eq!(run.code(), Some(7), "chroot needs root: run the tests with sudo");
    }

    #[test]
    fn a_program_that_is_not_there_is_named() {
        let refused = Image::new("x").program("bin/x", Path::new("/nowhere/x")).unwrap_err();
        assert!(refused.to_string().contains("/nowhere/x"), "{refused}");
    }
}
