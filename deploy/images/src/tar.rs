//! Tar archives (POSIX ustar) in which nothing but names, modes and contents is said.
//! Owns the format; who puts what in, and in which order, is the caller's.

/// What an entry is, beside its name and mode.
pub(crate) enum Kind<'a> {
    File(&'a [u8]),
    Link(&'a str),
    Directory,
}

/// The entry does not fit the format.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name}: names and targets of links in an image are at most 100 bytes, files at most 8 GiB")]
pub struct TooLong {
    name: String,
}

/// Sizes in a tar are counted in these.
const BLOCK: usize = 512;
/// The name, and the target of a link.
const NAME: usize = 100;

/// An archive being written.
#[derive(Default)]
pub(crate) struct Tar {
    bytes: Vec<u8>,
}

impl Tar {
    /// Adds an entry owned by root, changed at the beginning of time.
    pub(crate) fn add(&mut self, name: &str, mode: u32, kind: &Kind<'_>) -> Result<(), TooLong> {
        let (flag, target, content): (u8, &str, &[u8]) = match kind {
            Kind::File(content) => (b'0', "", content),
            Kind::Link(target) => (b'2', target, &[]),
            Kind::Directory => (b'5', "", &[]),
        };
        let head = head(name, target, (mode, content.len()), flag);
        self.bytes.extend(head.ok_or_else(|| TooLong { name: name.to_owned() })?);
        self.bytes.extend(content);
        self.bytes.resize(self.bytes.len().next_multiple_of(BLOCK), 0);
        Ok(())
    }

    /// The whole archive: after the last entry come two empty blocks.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.bytes.resize(self.bytes.len() + 2 * BLOCK, 0);
        self.bytes
    }
}

/// A header block. POSIX.1-1988: fields of fixed length, numbers in octal, the checksum over the block with blanks
/// in the place of the checksum.
fn head(name: &str, target: &str, (mode, size): (u32, usize), flag: u8) -> Option<Vec<u8>> {
    let mut block = Vec::with_capacity(BLOCK);
    let mut field = |bytes: &[u8], length: usize| {
        let fits = bytes.len() <= length;
        block.extend(bytes);
        block.resize(block.len() + length.saturating_sub(bytes.len()), 0);
        fits
    };
    let octal = |number: usize, digits: usize| format!("{number:0digits$o}\0");
    let fits = [
        field(name.as_bytes(), NAME),
        field(octal(usize::try_from(mode).ok()?, 7).as_bytes(), 8),
        field(octal(0, 7).as_bytes(), 8),
        field(octal(0, 7).as_bytes(), 8),
        field(octal(size, 11).as_bytes(), 12),
        field(octal(0, 11).as_bytes(), 12),
        field(b"        ", 8),
        field(&[flag], 1),
        field(target.as_bytes(), NAME),
        field(b"ustar\x0000", 8),
        field(b"", BLOCK - 265),
    ];
    if fits.contains(&false) {
        return None;
    }
    let sum: usize = block.iter().map(|byte| usize::from(*byte)).sum();
    let sum = format!("{sum:06o}\0 ");
    block.get_mut(148..156)?.copy_from_slice(sum.as_bytes());
    Some(block)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn the_machines_own_tar_reads_every_kind_of_entry() {
        let mut archive = Tar::default();
        archive.add("d/", 0o1777, &Kind::Directory).unwrap();
        archive.add("d/f", 0o755, &Kind::File(&[7; 513])).unwrap();
        archive.add("d/l", 0o777, &Kind::Link("f")).unwrap();
        let mut tar = Command::new("tar");
        let mut list = tar
            .args(["-tvf", "-", "--utc", "--numeric-owner"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        list.stdin.take().unwrap().write_all(&archive.finish()).unwrap();
        let listed = list.wait_with_output().unwrap();
        assert!(listed.status.success());
        let listed = String::from_utf8(listed.stdout).unwrap();
        let lines: Vec<String> =
            listed.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        assert_eq!(lines[0], "drwxrwxrwt 0/0 0 1970-01-01 00:00 d/");
        assert_eq!(lines[1], "-rwxr-xr-x 0/0 513 1970-01-01 00:00 d/f");
        assert_eq!(lines[2], "lrwxrwxrwx 0/0 0 1970-01-01 00:00 d/l -> f");
    }

    #[test]
    fn a_name_that_does_not_fit_is_refused_not_cut() {
        let long = "x".repeat(101);
        assert!(Tar::default().add(&long, 0o644, &Kind::File(&[])).is_err());
        assert!(Tar::default().add("l", 0o777, &Kind::Link(&long)).is_err());
        Tar::default().add(&long[1..], 0o644, &Kind::File(&[])).unwrap();
    }
}
