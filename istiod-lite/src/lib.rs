//! The control plane: reads the cluster, translates it to the mesh's nouns, serves them, and issues certificates.

pub mod admin;
pub mod admit;
pub mod ca;
pub mod catalog;
pub mod conditions;
pub mod config;
pub mod deploy;
pub mod dump;
pub mod hooks;
pub mod index;
pub mod mesh;
pub mod metrics;
pub mod origin;
pub mod publish;
pub mod run;
pub mod serve;
pub mod status;
#[cfg(test)]
mod testing;
pub mod translate;
pub mod trust;
pub mod vips;
mod waiting;
