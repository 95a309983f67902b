//! The CNI node daemon: decides who is in the mesh and redirects their traffic.

pub mod apply;
pub mod rules;
