//! The thread on which subscribers are told: whoever has to wait for it, the rest of the control plane does not.

use std::time::Duration;

use ambit_process::start::Runtimes;
use ambit_process::stop::Stop;
use ambit_process::tasks::Tasks;

use crate::place::{POLICY, Place, Running, Tunnel, WAIT, http};

/// Whoever could be told is told sooner; nobody can, so that no machine is too slow for this.
const NOBODY_TOLD: Duration = Duration::from_millis(300);

async fn is_published(running: &Running, times: &str) {
    let published = async {
        let line = format!("publications_total {times}\n");
        while !http(running.addresses.monitoring, "/metrics").await.contains(&line) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(WAIT, published).await.unwrap();
}

#[test]
fn while_the_thread_that_tells_is_busy_changes_are_published_and_are_told_when_it_is_not() {
    let runtimes = Runtimes::start("telling", 1).unwrap();
    runtimes.run(async {
        let place = Place::new();
        let running = Running::start_on(place.config(0), runtimes.traffic().first()).await;
        let mut tunnel = Tunnel::start(&place, running.addresses);
        tunnel.changes(3).await;

        let (free, busy) = std::sync::mpsc::channel::<()>();
        let (begun, begins) = tokio::sync::oneshot::channel();
        let mut tasks = Tasks::new(&Stop::new());
        tasks.spawn_on(&runtimes.traffic()[0], "busy", |_| async move {
            begun.send(()).unwrap();
            // Its end is an answer, too: of a test that has failed.
            let _ = busy.recv();
        });
        begins.await.unwrap();
        place.write("policy.yaml", &POLICY.replace("NAME", "first"));
        is_published(&running, "2").await;
        let told = tokio::time::timeout(NOBODY_TOLD, tunnel.next()).await;
        assert!(told.is_err(), "{told:?} though the thread is busy");

        free.send(()).unwrap();
        assert_eq!(tunnel.next().await, ["+policy shop/first"]);
        running.end().await;
    });
}
