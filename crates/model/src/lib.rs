//! What a mesh is, and every decision about it: pure, no I/O, no clock, no chance of its own.

#![deny(clippy::wildcard_enum_match_arm)]

pub mod address;
pub mod authentication;
pub mod balance;
pub mod credential;
pub mod delta;
pub mod dns;
pub mod ext_proc;
pub mod http_head;
pub mod http_path;
pub mod http_route;
pub mod judge;
pub mod name;
pub mod operator;
pub mod outside;
pub mod policy;
pub mod provider;
pub mod rate_limit;
pub mod request_policy;
pub mod route;
pub mod service;
pub mod snapshot;
pub mod telemetry;
pub mod tls_hello;
pub mod trace;
pub mod traffic;
pub mod workload;

#[cfg(test)]
mod sample;
