//! Step 8: the mesh goes, and the machine is looked over for anything that stayed.

use std::collections::BTreeSet;
use std::fs;
use std::io;

use super::report::Scene;
use super::stage::Stage;
use super::traces::{Traces, traces};
use crate::args::chain;
use crate::local::{down as take_down, pins, processes_in};

/// What the machine itself has, apart from any mesh.
pub(super) struct Footprint {
    links: BTreeSet<String>,
    own: Option<Traces>,
}

impl Footprint {
    pub(super) fn of_machine() -> io::Result<Self> {
        let text = fs::read_to_string("/proc/net/dev")?;
        let links = text.lines().skip(2).filter_map(|line| Some(line.split_once(':')?.0.trim().to_owned()));
        Ok(Self { links: links.collect(), own: traces("/proc/self/ns/net".as_ref()).ok() })
    }
}

/// Takes the mesh down and looks what is left of it.
pub(super) fn down(stage: &Stage, before: &Footprint, scene: &mut Scene) {
    let pins = pins(&stage.mesh);
    let namespaces: Vec<_> = pins.iter().filter_map(|pin| ambit_sys::netns::Netns::open(pin).ok()).collect();
    let (count, ids) = (namespaces.len(), namespaces.iter().map(|ns| ns.id()).collect::<Vec<_>>());
    scene.see("down", take_down(&stage.mesh).map(|()| "the mesh is down").map_err(|e| chain(&e)));
    let left: Vec<_> = processes_in(&ids).iter().map(|it| it.told()).collect();
    let processes = if left.is_empty() { Ok("no process is left") } else { Err(left.join("; ")) };
    // Held open until they have been looked for: the kernel gives the number of one that is gone to the next.
    drop(namespaces);
    scene.see("processes", processes);
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let dir = stage.mesh.dir().to_string_lossy().into_owned();
    let mounted: Vec<_> = mounts.lines().filter(|line| line.contains(&dir)).collect();
    let spaces = if mounted.is_empty() {
        Ok(format!("none of its {count} namespaces is left"))
    } else {
        Err(mounted.join("; "))
    };
    scene.see("namespaces", spaces);
    let files =
        if stage.mesh.dir().exists() { Err(format!("{dir} is still there")) } else { Ok("no file is left") };
    scene.see("files", files);
    scene.see("links and rules", machine(before));
}

fn machine(before: &Footprint) -> Result<String, String> {
    let after = Footprint::of_machine().map_err(|e| e.to_string())?;
    let new: Vec<_> = after.links.difference(&before.links).collect();
    if !new.is_empty() {
        return Err(format!("new links {new:?}"));
    }
    if after.own != before.own {
        return Err(format!("rules before {:?}, now {:?}", before.own, after.own));
    }
    Ok("no link and no rule is left on the machine".to_owned())
}
