//! Proxies in shared mode, each in a namespace of its own beside the pod's, told of the pod by an agent that hands
//! over the pod's namespace: enrolment, loss of the agent, an overlapping restart, removal.

#[cfg(test)]
mod scene;

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
    use std::time::{Duration, Instant};

    use super::scene::raw::{GOAWAY, RST_STREAM};
    use super::scene::{Answer, Scene, Who};

    const SERVER: &str = "10.77.0.2:8080";

    /// Says that it is over, also when the test fails.
    struct Over<'a>(&'a AtomicBool);

    impl Drop for Over<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    fn served() -> Answer {
        Answer::Served { seen: "10.77.0.1".parse().unwrap() }
    }

    #[test]
    fn a_pod_is_carried_for_from_outside_its_namespace_as_long_as_the_agent_wants_it() {
        let scene = Scene::shared("");
        assert_eq!(scene.ask(Who::Client, SERVER, "/"), served(), "{}", scene.logs());
        assert!(scene.wire().tls_to(15008), "no TLS to port 15008 on the wire");
        let dump = scene.get(Who::Server, 15000, "/config_dump");
        assert!(dump.contains("\"uid-of-server\"") && dump.contains("\"state\": \"Up\""), "{dump}");
        // The agent goes and comes back: no pod is lost in between.
        scene.agent(Who::Server).hang_up();
        assert_eq!(scene.ask(Who::Client, SERVER, "/"), served(), "{}", scene.logs());
        scene.wait_for_agent(Who::Server, 1);
        assert_eq!(scene.ask(Who::Client, SERVER, "/"), served(), "{}", scene.logs());
        scene.agent(Who::Server).delete();
        assert_eq!(scene.ask(Who::Client, SERVER, "/"), Answer::Cut, "{}", scene.logs());
    }

    #[test]
    fn no_new_connection_fails_while_one_proxy_replaces_another() {
        let mut scene = Scene::patient(true);
        let mut open = scene.open(Who::Client, SERVER);
        assert!(open.ask("/"), "{}", scene.logs());
        let mut open = Some(open);
        for who in [Who::Server, Who::Client] {
            let (over, asked) = (AtomicBool::new(false), AtomicUsize::new(0));
            let old = scene.start_another(who);
            std::thread::scope(|scope| {
                let _over = Over(&over);
                for _ in 0..4 {
                    scope.spawn(|| scene.ask_until(&over, SERVER, (&served(), &asked)));
                }
                let more = || {
                    let wanted = asked.load(Ordering::Relaxed) + 25;
                    let there = || asked.load(Ordering::Relaxed) >= wanted;
                    ambit_kit::eventually(Duration::from_secs(60), || there().then_some(()).ok_or("stuck"))
                };
                assert_eq!(more(), Ok(()), "before\n{}", scene.logs());
                old.terminate();
                ambit_kit::pause(Duration::from_secs(1));
                assert_eq!(more(), Ok(()), "afterwards\n{}", scene.logs());
            });
            // Through the first of the two; it may end when this has.
            let goes_on = open.take().is_none_or(|mut open| open.ask("/"));
            assert!(goes_on, "the open connection goes on\n{}", scene.logs());
            assert!(old.ended().success());
        }
    }

    #[test]
    fn the_peers_of_a_deleted_pod_are_told_to_go_away_and_its_connections_and_its_key_end_with_it() {
        let scene = Scene::patient(true);
        let mut captured = scene.open(Who::Client, SERVER);
        assert!(captured.ask("/"), "{}", scene.logs());
        let (mut busy, mut idle, mut rude) = (scene.raw(true), scene.raw(true), scene.raw(false));
        for peer in [&mut busy, &mut rude] {
            assert!(peer.connect(1, SERVER.parse().unwrap()), "{}", scene.logs());
            assert!(peer.ask(1), "{}", scene.logs());
        }
        assert!(scene.get(Who::Server, 15000, "/config_dump").contains("ns/shop/sa/server\""));
        let began = Instant::now();
        scene.agent(Who::Server).delete();
        let [busy, idle, rude] = [&mut busy, &mut idle, &mut rude].map(|peer| peer.rest());
        assert!(!captured.ask("/"), "the connection goes on without its pod\n{}", scene.logs());
        assert!(began.elapsed() < Duration::from_secs(30), "the drain deadline has passed");
        for (who, frames) in [("busy", &busy), ("idle", &idle), ("rude", &rude)] {
            let away = frames.iter().position(|frame| frame.kind == GOAWAY);
            let away = away.unwrap_or_else(|| panic!("{who} was not told: {frames:?}\n{}", scene.logs()));
            assert_eq!(frames[away].code(), 0, "{who}: NO_ERROR, or the peer takes it for a fault");
            let end = frames.iter().position(|frame| frame.ends_stream());
            assert!(
                end.is_none_or(|end| away < end),
                "{who}: new streams must go elsewhere first {frames:?}"
            );
        }
        let cancelled = |frame: &super::scene::raw::Frame| (frame.kind, frame.stream, frame.code());
        assert!(busy.iter().any(|f| f.kind == RST_STREAM && cancelled(f) == (RST_STREAM, 1, 8)), "{busy:?}");
        let dropped = ambit_kit::eventually(Duration::from_secs(60), || {
            let dump = scene.get(Who::Server, 15000, "/config_dump");
            if dump.contains("\"state\": \"Available\"") { Err(dump) } else { Ok(()) }
        });
        assert!(dropped.is_ok(), "the key is still held: {dropped:?}");
    }
}
