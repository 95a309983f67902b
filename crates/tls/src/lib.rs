//! Who is there: identities, certificates and the only place that builds rustls configurations.

pub mod configs;
pub mod credential;
pub mod issue;
pub mod peer;
pub mod vault;

pub use tokio_rustls::{TlsAcceptor, TlsConnector};

#[cfg(test)]
mod testing;
