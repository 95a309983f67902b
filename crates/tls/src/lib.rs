//! Who is there: identities, certificates and the only place that builds rustls configurations.

pub mod configs;
pub mod credential;
pub mod handshake;
pub mod issue;
pub mod peer;
pub mod vault;

pub use rustls::{ClientConfig, ServerConfig};
pub use tokio_rustls::{client::TlsStream as ClientStream, server::TlsStream as ServerStream};

#[cfg(test)]
mod testing;
