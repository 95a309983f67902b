//! What the mesh costs, and how fast it is, on a real cluster: printed beside the marks; memory is judged by them, for
//! it does not depend on what else the machine does.
//! Owns the order; each part measures one thing. `cargo xtask bench cluster` builds all that is in the images first.

mod api;
mod ask;
mod crowd;
mod memory;
mod policy;
mod start;
mod table;

use anyhow::Result;

use crate::lab::Lab;
use crate::mesh::told;

use api::Api;
use crowd::Crowd;
use memory::Excess;

/// Brings a cluster up, measures, and takes it down.
pub fn run() -> Result<()> {
    told("numbers", measure)
}

fn measure(lab: &Lab) -> Result<()> {
    lab.import_programs()?;
    let crowd = Crowd::start(lab)?;
    lab.install_mesh(&[])?;
    let api = Api::start(lab)?;
    if cfg!(debug_assertions) {
        println!("of a debug build: these are no numbers to be told");
    }
    let mut excess = Excess::default();
    memory::run(lab, "no pod enrolled", &mut excess)?;
    crowd.enrol(lab, &api)?;
    memory::run(lab, "50 pods enrolled", &mut excess)?;
    policy::run(&api, &crowd)?;
    memory::run(lab, "after 100 policies", &mut excess)?;
    start::run(lab, &api)?;
    excess.judge()
}
