//! The CNI node daemon: decides who is in the mesh and redirects their traffic.

pub mod apply;
pub mod config;
pub mod install;
mod metrics;
pub mod node;
pub mod rules;
pub mod uninstall;
