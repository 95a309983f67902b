//! What the proxies do alike: settings of control plane and certificates, the world in force, their own ports.
//! What they carry, and how, is each proxy's.

pub mod control;
pub mod course;
pub mod discovery;
pub mod fault;
pub mod place;
pub mod ports;
pub mod side;
pub mod terms;
pub mod unproven;
pub mod world;
