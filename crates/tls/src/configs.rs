//! The only place that builds rustls configurations. aws-lc-rs everywhere, TLS 1.3 unless
//! older peers are asked for, no process-wide default.

pub mod control_plane;
pub(crate) mod hbone;
pub(crate) mod provider;
mod revoked;
mod served;

pub use hbone::Mismatch;
pub(crate) use hbone::server_name;
pub use provider::Algorithms;
pub use revoked::{RevocationError, Revocations};
pub use served::{Caller, Served};

#[cfg(test)]
mod tests;
