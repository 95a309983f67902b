//! The node proxy: carries pods' traffic over HBONE under their own identities.

pub mod config;
pub mod enrol;
pub mod ledger;
pub mod world;

#[cfg(test)]
mod sample;
