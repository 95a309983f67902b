//! The CNI plugin: read, ask the node daemon, wait, answer. One short process for each command of the runtime.
//! Owns the CNI protocol (https://www.cni.dev/docs/spec/). Decides nothing: the daemon knows who is in the mesh.

mod ask;
mod command;
mod failure;
mod input;

pub use command::{Answer, run};
pub use failure::Failure;
pub use input::Surroundings;
