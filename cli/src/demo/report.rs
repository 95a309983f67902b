//! What the demo says: a line a step, with what was seen below it, or a JSON object a step.

use std::io::{self, Write};

use serde_json::json;

use super::stage::Shown;

/// One step and what was seen in it.
pub(crate) struct Scene {
    number: u8,
    done: &'static str,
    seen: Vec<(bool, String)>,
}

impl Scene {
    pub(crate) fn new(number: u8, done: &'static str) -> Self {
        Self { number, done, seen: Vec::new() }
    }

    /// Notes what was seen, or that `what` was not.
    pub(crate) fn see(&mut self, what: &str, seen: Shown<impl Into<String>>) -> bool {
        let ok = seen.is_ok();
        self.seen.push(match seen {
            Ok(text) => (true, text.into()),
            Err(why) => (false, format!("{what}: {why}")),
        });
        ok
    }

    fn ok(&self) -> bool {
        !self.seen.is_empty() && self.seen.iter().all(|(ok, _)| *ok)
    }
}

/// Prints scenes as they end.
pub(crate) struct Report {
    json: bool,
    all_ok: bool,
}

impl Report {
    pub(crate) fn new(json: bool) -> Self {
        Self { json, all_ok: true }
    }

    pub(crate) fn add(&mut self, scene: &Scene) {
        self.all_ok &= scene.ok();
        let mut out = io::stdout().lock();
        // A closed standard output must not stop the clearing up.
        let _unheard = if self.json { as_json(&mut out, scene) } else { as_text(&mut out, scene) };
    }

    pub(crate) fn all_ok(&self) -> bool {
        self.all_ok
    }
}

fn as_json(out: &mut impl Write, scene: &Scene) -> io::Result<()> {
    let seen: Vec<_> = scene.seen.iter().map(|(ok, text)| format!("{} {text}", mark(*ok))).collect();
    let line = json!({ "step": scene.number, "ok": scene.ok(), "did": scene.done, "seen": seen });
    writeln!(out, "{line}")?;
    out.flush()
}

fn as_text(out: &mut impl Write, scene: &Scene) -> io::Result<()> {
    writeln!(out, "{} {}. {}", mark(scene.ok()), scene.number, scene.done)?;
    for (ok, text) in &scene.seen {
        writeln!(out, "     {} {text}", mark(*ok))?;
    }
    out.flush()
}

fn mark(ok: bool) -> char {
    if ok { '✓' } else { '✗' }
}
