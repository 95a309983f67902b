//! Network configurations as other programs write them: used or passed over; ours is in once and last, and out again.
//! The first byte chooses the file's name.
#![no_main]

use ambit_cni::install::list::Network;
use ambit_cni::install::plan::{self, File, Folder, Plan, Step, Way};
use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};

const NAMES: [&str; 3] = ["10-a.conflist", "10-a.conf", "10-a.json"];

fuzz_target!(|data: &[u8]| {
    let Some((choice, bytes)) = data.split_first() else { return };
    let name = NAMES[usize::from(*choice) % NAMES.len()];
    let entry = json!({ "type": "ambit-cni", "cni_agent_run_dir": "/run/x" });
    if let Ok(network) = Network::parse(name, bytes) {
        let list = network.with(&entry);
        let plugins = list["plugins"].as_array().unwrap();
        assert_eq!(plugins.last(), Some(&entry));
        let ours = |it: &&Value| it["type"] == "ambit-cni" || it["type"] == "istio-cni";
        assert_eq!(plugins.iter().filter(ours).count(), 1);
    }
    let mut folder = Folder::from([(name.to_owned(), File { bytes: bytes.to_vec(), mode: 0o600 })]);
    let before = folder.clone();
    let way = Way::Chained { named: None, former: "02-x.conflist".into() };
    let Plan::Do(steps) = plan::install(&folder, &way, &entry, 0o600) else { return };
    let had_ours = Network::parse(name, bytes).is_ok_and(|it| it.has_ours());
    act(&mut folder, steps);
    assert_eq!(plan::install(&folder, &way, &entry, 0o600), Plan::Do(Vec::new()), "installed once is installed");
    let steps = plan::remove(&folder, None);
    act(&mut folder, steps);
    assert!(had_ours || folder == before, "what was there is there again");
    assert!(plan::remove(&folder, None).is_empty());
});

fn act(folder: &mut Folder, steps: Vec<Step>) {
    for step in steps {
        match step {
            Step::Write(name, file) => drop(folder.insert(name, file)),
            Step::Remove(name) => drop(folder.remove(&name)),
        }
    }
}
