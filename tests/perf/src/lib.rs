//! Measurements of the whole: load, a server to bear it, two pods to stand in, and the reading of meters.
//! Owns no budget tests: it prints numbers, and says which of them miss their mark.

pub mod bench;
pub mod load;
pub mod meter;
pub mod pods;
pub mod report;
pub mod scale;
pub mod server;
pub mod upload;
pub mod waypoint;
