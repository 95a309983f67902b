//! A hosts file that changes while it is read. Processes of a pod have the very file mounted, so that another cannot
//! take its name, and whoever looks a name up reads it whenever they like: a file cut short and written anew has, for
//! that moment, no names at all.
//!
//! So lines never move. A line that goes becomes a comment by its first byte; one that comes takes the room of a line
//! that has gone, its first byte last, or the end of the file. What stays is there for whoever reads, all the time.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// The first byte of a line that has gone.
const GONE: u8 = b'#';

/// What is in the file, line by line.
#[derive(Debug, Default)]
pub(crate) struct Hosts {
    lines: Vec<Line>,
}

/// One line: where it begins, the bytes it has room for, and what it says. The line's end is not counted.
#[derive(Debug)]
struct Line {
    at: usize,
    room: usize,
    says: Option<String>,
}

/// Bytes and where they go. Each is one write.
#[derive(Debug, PartialEq, Eq)]
struct Edit {
    at: usize,
    bytes: Vec<u8>,
}

impl Hosts {
    /// Makes the file say this text and nothing else, if it does not; new lines are there before old ones go. A file of
    /// this that was never written is made anew.
    ///
    /// # Errors
    /// When the file cannot be written. It is then made anew the next time.
    pub(crate) fn write(&mut self, path: &Path, text: &str) -> io::Result<()> {
        let anew = self.lines.is_empty();
        let edits = self.become_of(text);
        if edits.is_empty() && !anew {
            return Ok(());
        }
        let file = File::options().write(true).create(true).truncate(anew).open(path);
        let written = file.and_then(|file| {
            edits.iter().try_for_each(|edit| file.write_all_at(&edit.bytes, edit.at.try_into().unwrap_or(0)))
        });
        if written.is_err() {
            *self = Self::default();
        }
        written
    }

    /// The writes after which the file says this text, in their order.
    fn become_of(&mut self, text: &str) -> Vec<Edit> {
        let mut edits = Vec::new();
        let mut wanted: Vec<&str> = text.lines().collect();
        let mut going = Vec::new();
        for line in &self.lines {
            let Some(says) = &line.says else { continue };
            match wanted.iter().position(|one| one == says) {
                Some(stays) => drop(wanted.remove(stays)),
                None => going.push(line.at),
            }
        }
        edits.extend(wanted.into_iter().flat_map(|text| self.add(text)));
        for line in self.lines.iter_mut().filter(|line| going.contains(&line.at)) {
            line.says = None;
            edits.push(Edit { at: line.at, bytes: vec![GONE] });
        }
        edits
    }

    /// Takes the room of a line that has gone, or the end of the file.
    fn add(&mut self, text: &str) -> Vec<Edit> {
        let is_room = |line: &&mut Line| line.says.is_none() && line.room >= text.len();
        if let Some(line) = self.lines.iter_mut().find(is_room) {
            line.says = Some(text.to_owned());
            let mut first = text.as_bytes().to_vec();
            first.resize(line.room, b' ');
            let rest = first.split_off(1.min(first.len()));
            return vec![Edit { at: line.at + 1, bytes: rest }, Edit { at: line.at, bytes: first }];
        }
        let at = self.lines.last().map_or(0, |last| last.at + last.room + 1);
        self.lines.push(Line { at, room: text.len(), says: Some(text.to_owned()) });
        vec![Edit { at, bytes: format!("{text}\n").into_bytes() }]
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;

    use proptest::prelude::*;

    use super::*;

    /// What a reader makes of it.
    fn said(file: &[u8]) -> Vec<String> {
        let text = std::str::from_utf8(file).unwrap();
        let mut lines: Vec<_> = text
            .lines()
            .filter(|line| !line.starts_with('#'))
            .map(|line| line.trim_end().to_owned())
            .collect();
        lines.sort();
        lines
    }

    fn sorted(text: &str) -> Vec<String> {
        said(text.as_bytes())
    }

    fn done(file: &mut Vec<u8>, edit: &Edit) {
        let end = edit.at + edit.bytes.len();
        file.resize(end.max(file.len()), 0);
        file[edit.at..end].copy_from_slice(&edit.bytes);
    }

    fn texts() -> impl Strategy<Value = Vec<String>> {
        let line = (0_u8..12, 0_usize..3).prop_map(|(host, more)| {
            let names = ["one", "one.shop", "one.shop.svc.cluster.local"];
            format!("10.96.0.{host} {}{host}", names[more])
        });
        let text = proptest::collection::btree_set(line, 0..8);
        let all = |texts: Vec<BTreeSet<String>>| {
            let joined = |lines: BTreeSet<String>| lines.iter().map(|line| format!("{line}\n")).collect();
            texts.into_iter().map(joined).collect()
        };
        proptest::collection::vec(text, 1..12).prop_map(all)
    }

    proptest! {
        #[test]
        fn what_stays_is_there_after_every_write_and_nothing_is_there_that_nobody_wanted(texts in texts()) {
            let (mut hosts, mut file, mut before) = (Hosts::default(), Vec::new(), Vec::new());
            for text in texts {
                let after = sorted(&text);
                for edit in hosts.become_of(&text) {
                    done(&mut file, &edit);
                    let now = said(&file);
                    prop_assert!(before.iter().filter(|line| after.contains(line)).all(|line| now.contains(line)));
                    prop_assert!(now.iter().all(|line| before.contains(line) || after.contains(line)), "{now:?}");
                }
                prop_assert_eq!(said(&file), after.clone());
                before = after;
            }
        }
    }

    #[test]
    fn a_file_whose_lines_come_and_go_does_not_grow() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("hosts");
        let mut hosts = Hosts::default();
        for host in 10..90 {
            hosts.write(&path, &format!("127.0.0.1 localhost\n10.0.0.{host} it\n")).unwrap();
        }
        let text = fs::read(&path).unwrap();
        assert_eq!(said(&text), ["10.0.0.89 it", "127.0.0.1 localhost"]);
        assert!(text.len() < 80, "{}", text.len());
        // What was there before, and is not known to be the pod's own, is not kept.
        Hosts::default().write(&path, "::1 localhost\n").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "::1 localhost\n");
        assert!(Hosts::default().write(dir.path(), "").is_err());
    }
}
