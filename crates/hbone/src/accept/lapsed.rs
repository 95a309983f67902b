//! Certificates that end under live tunnels: whoever has shown one may end what was begun, and begins nothing more.

use std::time::{Duration, SystemTime};

use ambit_process::stop::Stop;
use tokio::time::{Instant, sleep, timeout};

use super::Accepted;
use crate::testing::{Bench, opened};

/// Enough for a handshake on a machine that does much else meanwhile.
const LIFE: Duration = Duration::from_secs(6);

/// Opens every stream and keeps it.
async fn keep(accepted: Accepted, stop: Stop) {
    let mut kept = Vec::new();
    accepted.serve(stop, |arrival| kept.push(opened(arrival))).await;
}

fn sign_until(bench: &Bench, ends: SystemTime) {
    *bench.authority.ends.lock().unwrap() = ends;
}

#[tokio::test]
async fn a_tunnel_takes_no_more_streams_once_the_certificate_of_either_end_has_ended_and_keeps_its_own() {
    for short in ["db", "web"] {
        let mut bench = Bench::new();
        let (soon, late) = (ambit_process::clock::now_system() + LIFE, *bench.authority.ends.lock().unwrap());
        let ends = |account: &str| if account == short { soon } else { late };
        sign_until(&bench, ends("db"));
        let hop = bench.listen(keep).await;
        sign_until(&bench, ends("web"));
        let mut first = bench.open(hop).await.unwrap_or_else(|e| panic!("{short}: {e:?}"));
        let began = Instant::now();
        while let Ok(more) = bench.open(hop).await {
            assert!(began.elapsed() < LIFE * 5, "{short}: streams are still opened");
            drop(more);
            sleep(Duration::from_millis(20)).await;
        }
        // Rounded down to whole seconds, and some went by before.
        assert!(began.elapsed() > Duration::from_millis(20), "{short}");
        let reset = std::future::poll_fn(|cx| first.stream.send.poll_reset(cx));
        assert!(timeout(Duration::from_millis(200), reset).await.is_err(), "{short}: the open stream ended");
    }
}
