//! How every program starts, stops, is configured and is observed. Knows nothing of the mesh.

pub mod admin;
pub mod clock;
pub mod config;
pub mod net;
pub mod observe;
pub mod ready;
pub mod scrape;
pub mod start;
pub mod stop;
pub mod tasks;
pub mod usage;
