//! A control plane and its subscribers on a simulated network with virtual time. Owns the network's faults and
//! the actors' lives; every decision under test is `ambit_xds`'s own state machines. One seed, one course.

mod clock;
mod control;
mod network;
mod node;
mod nouns;
mod run;
mod views;

pub use run::{Failure, Summary, run};
