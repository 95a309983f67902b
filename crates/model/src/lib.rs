//! What a mesh is, and every decision about it: pure, no I/O, no clock, no chance of its own.

pub mod address;
pub mod delta;
pub mod name;
pub mod policy;
pub mod service;
pub mod workload;
