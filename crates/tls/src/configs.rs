//! The only place that builds rustls configurations. aws-lc-rs everywhere, TLS 1.3 unless
//! older peers are asked for, no process-wide default.

pub mod control_plane;
pub(crate) mod hbone;
pub mod origin;
pub(crate) mod provider;
pub(crate) mod revoked;
mod served;
pub mod web;

pub(crate) use hbone::server_name;
pub use hbone::{Accepting, Dialling, Mismatch};
pub use provider::Algorithms;
pub use revoked::{RevocationError, Revocations, Standing};
pub use served::{Caller, Served};

#[cfg(test)]
mod tests;
