//! Commands in documents, run as a reader would run them: found in marked blocks, run in order in one shell, their
//! output compared with what the document shows. Owns that; what the commands need around them is the caller's.
//!
//! A marked block holds lines `$ COMMAND`, each followed by what must appear in its output, in order; a line of `…`
//! stands for anything, and so does `…` within a line. `> ` goes on with the command. A command `$ !COMMAND` must fail.
//! All blocks of a document share one shell, as they share one reader.

mod run;
mod step;

pub use run::{Verdict, run};
pub use step::{Step, steps};
