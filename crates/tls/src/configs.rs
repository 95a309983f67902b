//! The only place that builds rustls configurations. TLS 1.3 and aws-lc-rs everywhere, no process-wide default.

pub mod control_plane;
pub(crate) mod hbone;
pub(crate) mod provider;
mod served;

pub use hbone::Mismatch;
pub(crate) use hbone::server_name;
pub use served::{Caller, Served};

#[cfg(test)]
mod tests;
