//! Waiting until links between namespaces carry packets.

use std::process::Command;
use std::time::Duration;

use crate::eventually;

/// A busy machine comes round to it in a second or two.
const PATIENCE: Duration = Duration::from_secs(30);

/// Waits until these links of the namespace that the thread is in work, both ends of each being set up.
///
/// A link that is set up is not yet one that works: the kernel sees to it when it gets to it, and drops what is
/// sent until then. On a busy machine that takes the first packets of a connection and their repetition.
pub fn until_up(links: &[&str]) {
    for link in links {
        let outcome = eventually(PATIENCE, || {
            let shown = Command::new("ip").args(["-o", "link", "show", "dev", link]).output();
            let shown = shown.expect("needs ip: apt-get install iproute2");
            let text = String::from_utf8_lossy(&shown.stdout).into_owned();
            if text.contains(" state UP ") { Ok(()) } else { Err((text, shown.stderr)) }
        });
        if let Err((text, error)) = outcome {
            panic!("{link} does not come up: {text}{}", String::from_utf8_lossy(&error));
        }
    }
}
