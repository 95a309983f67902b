//! The command line of Ambit: local meshes of network namespaces, the demo, explanations.
//! A table of contents; `args` says what can be asked, each command has a module.

mod analyze;
mod args;
mod capture;
mod cluster;
mod demo;
mod enter;
mod local;
mod observe;
mod output;
mod pod;
mod table;
mod why;

pub use args::{Cli, run};
