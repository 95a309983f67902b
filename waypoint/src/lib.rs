//! The waypoint: takes tunnels, understands the HTTP inside them, and sends each request on through another tunnel.

mod accept;
mod admin;
mod believed;
mod body;
mod call;
pub mod config;
mod crew;
mod idle;
mod inner;
pub mod keys;
mod lane;
mod limits;
mod line;
mod messages;
pub mod metrics;
mod opaque;
mod phases;
mod refused;
mod room;
mod routed;
pub mod run;
mod session;
mod sniff;
mod stream;
mod strict;
mod trace;
mod upstream;
