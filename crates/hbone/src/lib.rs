//! HBONE: HTTP/2 CONNECT tunnels over mutual TLS, both ends, and the pool.

pub mod accept;
mod ahead;
pub mod cut;
pub mod dial;
mod gather;
pub mod head;
mod lent;
mod liveness;
pub mod nested;
pub mod pool;
pub mod pump;
mod settings;
mod stall;
pub mod stream;

pub use settings::Windows;

#[cfg(test)]
mod testing;
