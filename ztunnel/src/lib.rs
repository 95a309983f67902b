//! The node proxy: carries pods' traffic over HBONE under their own identities.

pub mod admin;
pub mod board;
mod captured;
pub mod config;
pub mod dns;
pub mod enrol;
pub mod feed;
mod inbound;
mod led;
pub mod ledger;
pub mod metrics;
mod outbound;
pub mod outcome;
mod plaintext;
pub mod pod;
mod proxy_header;
pub mod record;
pub mod run;
pub mod sockets;
pub mod world;

#[cfg(test)]
mod sample;
