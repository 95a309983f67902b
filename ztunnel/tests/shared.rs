//! Proxies in shared mode, each in a namespace of its own beside the pod's, told of the pod by an agent that hands
//! over the pod's namespace: enrolment, loss of the agent, an overlapping restart, removal.

#[cfg(test)]
mod scene;

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::scene::{Answer, Scene, Who};

    const SERVER: &str = "10.77.0.2:8080";

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
        let mut scene = Scene::shared("");
        let mut open = scene.open(Who::Client, SERVER);
        assert!(open.ask("/"), "{}", scene.logs());
        for who in [Who::Server, Who::Client] {
            let over = AtomicBool::new(false);
            let old = scene.start_another(who);
            let asked = std::thread::scope(|scope| {
                let ask = || scene.ask_until(&over, SERVER, &served());
                let asking = [(); 4].map(|()| scope.spawn(ask));
                ambit_kit::pause(std::time::Duration::from_millis(500));
                old.terminate();
                ambit_kit::pause(std::time::Duration::from_secs(1));
                over.store(true, Ordering::Relaxed);
                asking.into_iter().map(|t| t.join().unwrap()).sum::<usize>()
            });
            assert!(asked > 50, "{asked} requests");
            assert!(who == Who::Client || open.ask("/"), "the open connection goes on\n{}", scene.logs());
            assert!(old.ended().success());
        }
    }
}
