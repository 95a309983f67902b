//! Delta subscription, both ends: two pure state machines, and what drives them over gRPC.

pub mod backoff;
pub mod content;
pub mod library;
pub mod lookup;
pub mod loopback;
pub mod publisher;
pub mod pump;
pub mod server;
pub mod subscriber;

#[cfg(test)]
mod sample;
