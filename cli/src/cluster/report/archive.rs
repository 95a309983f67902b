//! A report as it is written: a tar archive, compressed, bounded. Owns the only door into it, through which every text
//! goes without its secrets.

use std::io::{self, Write};

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::Value;

use super::redact;

/// How large a report may become, before compression.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// All texts together.
    all: usize,
    /// One text; its end is kept, which is the latest of a log.
    one: usize,
}

/// Twenty dumps of a large mesh, or all of a small one.
pub(super) const BOUNDS: Bounds = Bounds { all: 96 << 20, one: 24 << 20 };

/// Tar's unit.
const BLOCK: usize = 512;
/// What a name may take in a head of ustar without a prefix.
const NAME_BYTES: usize = 100;

/// A report that is being written.
pub(super) struct Archive<W: Write> {
    to: GzEncoder<W>,
    /// Its folder: archives that fill the folder where they are unpacked are a nuisance.
    root: String,
    /// Seconds since 1970, for every file.
    written_at: u64,
    bounds: Bounds,
    bytes: usize,
    /// What did not go in, and why.
    missing: Vec<String>,
}

impl<W: Write> Archive<W> {
    pub(super) fn new(to: W, root: String, written_at: u64, bounds: Bounds) -> Self {
        let to = GzEncoder::new(to, Compression::default());
        Self { to, root, written_at, bounds, bytes: 0, missing: Vec::new() }
    }

    /// Adds a text, without what is secret in it.
    pub(super) fn text(&mut self, name: &str, text: &str) -> io::Result<()> {
        let clean = redact::text(text);
        let start = clean.len().saturating_sub(self.bounds.one);
        let start = (start..clean.len()).find(|at| clean.is_char_boundary(*at)).unwrap_or(clean.len());
        if start > 0 {
            self.miss(name, &format!("its first {start} bytes"));
        }
        let kept = clean.get(start..).unwrap_or_default();
        if self.bytes + kept.len() > self.bounds.all {
            self.miss(name, "the report is full");
            return Ok(());
        }
        self.bytes += kept.len();
        self.file(name, kept.as_bytes())
    }

    /// Adds an object, without what is secret in it.
    pub(super) fn object(&mut self, name: &str, value: Value) -> io::Result<()> {
        let text = serde_json::to_string_pretty(&redact::object(value))?;
        self.text(name, &(text + "\n"))
    }

    /// Says that something is not in it.
    pub(super) fn miss(&mut self, name: &str, why: &str) {
        self.missing.push(format!("{name}: {}", redact::text(why)));
    }

    /// What is not in it.
    pub(super) fn missing(&self) -> &[String] {
        &self.missing
    }

    /// Ends it.
    pub(super) fn finish(mut self) -> io::Result<W> {
        self.to.write_all(&[0; 2 * BLOCK])?;
        self.to.finish()
    }

    fn file(&mut self, name: &str, content: &[u8]) -> io::Result<()> {
        let full = format!("{}/{name}", self.root);
        let Some(head) = head(&full, content.len(), self.written_at) else {
            self.miss(name, "its name is too long");
            return Ok(());
        };
        self.to.write_all(&head)?;
        self.to.write_all(content)?;
        let rest = content.len().next_multiple_of(BLOCK) - content.len();
        self.to.write_all(&vec![0; rest])
    }
}

/// The head of a file (POSIX ustar), whose name fits.
fn head(name: &str, size: usize, written_at: u64) -> Option<Vec<u8>> {
    if name.len() > NAME_BYTES {
        return None;
    }
    let mut head = Vec::with_capacity(BLOCK);
    let mut field = |content: &[u8], width: usize| {
        head.extend_from_slice(content);
        head.resize(head.len() + width.saturating_sub(content.len()), 0);
    };
    field(name.as_bytes(), NAME_BYTES);
    field(b"0000600\0", 8);
    field(b"0000000\0", 8);
    field(b"0000000\0", 8);
    field(format!("{size:011o}\0").as_bytes(), 12);
    field(format!("{written_at:011o}\0").as_bytes(), 12);
    // While the sum is made, it is blanks.
    field(b"        ", 8);
    field(b"0", 1);
    field(b"", 100);
    field(b"ustar\x0000", 8);
    field(b"", BLOCK - 265);
    let sum: u32 = head.iter().map(|byte| u32::from(*byte)).sum();
    head.splice(148..156, format!("{sum:06o}\0 ").into_bytes());
    Some(head)
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use serde_json::json;

    use super::*;

    fn unpacked(archive: &[u8], arguments: &[&str]) -> String {
        let mut tar = Command::new("tar")
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("install tar: apt-get install tar");
        tar.stdin.take().unwrap().write_all(archive).unwrap();
        let output = tar.wait_with_output().unwrap();
        assert!(output.status.success());
        String::from_utf8(output.stdout).unwrap()
    }

    #[test]
    fn the_machines_own_tar_reads_it_and_no_secret_is_in_it() {
        let mut archive = Archive::new(Vec::new(), "report".into(), 1_790_000_000, BOUNDS);
        archive.text("a/log.txt", "first\npassword=hunter2\n").unwrap();
        archive.object("b.json", json!({"kind": "Secret", "data": {"x": "hunter2"}, "kept": 1})).unwrap();
        archive.text("empty.txt", "").unwrap();
        archive.text(&"n".repeat(200), "too long").unwrap();
        assert_eq!(archive.missing().len(), 1);
        let bytes = archive.finish().unwrap();
        assert_eq!(unpacked(&bytes, &["-tz"]), "report/a/log.txt\nreport/b.json\nreport/empty.txt\n");
        let all = unpacked(&bytes, &["-xzO"]);
        assert!(all.contains("first") && all.contains("\"kept\": 1") && !all.contains("hunter2"), "{all}");
    }

    #[test]
    fn it_is_bounded_and_says_what_is_missing() {
        let mut archive = Archive::new(Vec::new(), "report".into(), 0, Bounds { all: 4100, one: 1024 });
        let long = "x".repeat(1024) + "the end";
        for i in 0..6 {
            archive.text(&format!("log-{i}.txt"), &long).unwrap();
        }
        let full = archive.missing().iter().filter(|it| it.contains("full")).count();
        assert_eq!((archive.missing().len(), full), (8, 2), "{:?}", archive.missing());
        assert_eq!(archive.bytes, 4096);
        let all = unpacked(&archive.finish().unwrap(), &["-xzO"]);
        assert!(all.ends_with("the end"), "the latest is kept");
    }
}
