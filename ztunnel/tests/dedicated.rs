//! Two proxies in dedicated mode, as real processes in namespaces of their own, with identities from files and a
//! world from a local file: captured HTTP goes from one to the other through a tunnel.

#[cfg(test)]
mod scene;

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::scene::{Answer, DENY, Scene, Who};

    /// Shown to nobody between the two namespaces.
    const SECRET: &str = "/secret-in-the-clear";

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn captured_http_is_tunnelled_under_both_identities_and_the_server_sees_its_client() {
        let scene = Scene::new("");
        for (family, server) in [("v4", "10.77.0.2:8080"), ("v6", "[fd77::2]:8080")] {
            let client = if family == "v4" { ip("10.77.0.1") } else { ip("fd77::1") };
            let answer = scene.ask(Who::Client, server, SECRET);
            assert_eq!(answer, Answer::Served { seen: client }, "{family}\n{}", scene.logs());
        }
        let wire = scene.wire();
        assert!(!wire.contains(SECRET.as_bytes()), "plaintext on the wire");
        assert!(wire.tls_to(15008), "no TLS to port 15008 on the wire");
        for (who, direction, peer) in
            [(Who::Client, "outbound", "client"), (Who::Server, "inbound", "client")]
        {
            let line = scene.access(who, &format!("direction=\"{direction}\""));
            let from = format!("src.identity=\"spiffe://cluster.local/ns/shop/sa/{peer}\"");
            assert!(line.contains(&from), "{line}");
            assert!(line.contains("dst.identity=\"spiffe://cluster.local/ns/shop/sa/server\""), "{line}");
            assert!(line.contains("dst.hbone_addr=10.77.0.2:8080"), "{line}");
            assert!(!line.contains("error="), "{line}");
        }
        let metrics = scene.get(Who::Server, 15020, "/metrics");
        let opened = metrics
            .lines()
            .find(|l| l.starts_with("istio_tcp_connections_opened_total{reporter=\"destination\""));
        assert!(opened.is_some_and(|l| l.contains("connection_security_policy=\"mutual_tls\"") && l.ends_with(" 2")), "{metrics}");
        let dump = scene.get(Who::Client, 15000, "/config_dump");
        for key in
            ["certificates", "policies", "services", "stagedServices", "staticConfig", "version", "workloads"]
        {
            assert!(dump.contains(&format!("\"{key}\":")), "{key}");
        }
        assert!(dump.contains("\"state\": \"Available\""), "{dump}");
    }

    #[test]
    fn an_endpoint_whose_application_has_ended_is_replaced_before_the_client_notices() {
        let scene = Scene::half_gone();
        let served = Answer::Served { seen: ip("10.77.0.1") };
        for number in 0..40 {
            let answer = scene.ask(Who::Client, "10.77.0.80:8080", "/");
            assert_eq!(answer, served, "{number}\n{}", scene.logs());
        }
        // It was asked, and said no: else nothing was shown.
        let refused = scene.access(Who::Ended, "dst.hbone_addr=10.77.0.3:8080");
        assert!(refused.contains("io error: Connection refused"), "{refused}");
    }

    #[test]
    fn a_connection_waits_for_a_far_proxy_that_comes_back() {
        let mut scene = Scene::new("");
        let served = Answer::Served { seen: ip("10.77.0.1") };
        assert_eq!(scene.ask(Who::Client, "10.77.0.2:8080", "/"), served, "{}", scene.logs());
        // A machine that does much else may take longer to start a proxy than a connection waits for one.
        let waited = |_| scene.ask_while_away(std::time::Duration::from_millis(200)) == served;
        assert!((0..10).any(waited), "{}", scene.logs());
    }

    #[test]
    fn a_deny_policy_refuses_the_client_in_tunnel_and_in_plaintext_but_nobody_else() {
        let scene = Scene::new(DENY);
        assert_eq!(scene.ask(Who::Client, "10.77.0.2:8080", "/"), Answer::Cut, "{}", scene.logs());
        let refused = scene.access(Who::Client, "direction=\"outbound\"");
        assert!(refused.contains("error=\"http status: 401 Unauthorized\""), "{refused}");
        let refused = scene.access(Who::Server, "direction=\"inbound\"");
        assert!(refused.contains("explicitly denied by: shop/no-clients"), "{refused}");
        // A third machine, without a mesh: plaintext, and no identity that the policy could name.
        let answer = scene.ask(Who::Outsider, "10.77.0.2:8080", "/");
        assert_eq!(answer, Answer::Served { seen: ip("10.77.0.9") }, "{}", scene.logs());
    }

    #[test]
    fn a_proven_client_may_ask_for_nothing_but_the_pods_own_addresses_and_not_for_the_meshs_ports() {
        let scene = Scene::new("");
        for (target, status) in [
            ("10.77.0.2:8080", 200),
            ("[fd77::2]:8080", 200),
            ("10.77.0.9:8080", 400),
            ("10.77.0.1:8080", 400),
            ("127.0.0.1:8080", 400),
            ("169.254.169.254:80", 400),
            ("10.77.0.2:15001", 503),
            ("10.77.0.2:15006", 503),
            ("10.77.0.2:15008", 503),
            ("10.77.0.2:9", 503),
            ("nowhere.shop.svc.cluster.local:80", 503),
        ] {
            assert_eq!(scene.connect_as_client(target), status, "{target}\n{}", scene.logs());
        }
        // Strangers are led to waypoints, and this is none.
        assert_eq!(scene.connect_for_stranger("10.77.0.2:8080"), 400, "{}", scene.logs());
    }

    #[test]
    fn a_stranger_is_led_through_the_pods_waypoint_where_that_is_asked_for_or_gets_nowhere() {
        let (scene, way) = Scene::with_waypoint(false);
        let asks = |scene: &Scene, path: &str| scene.ask(Who::Outsider, "10.77.0.2:8080", path);
        let direct = Answer::Served { seen: ip("10.77.0.9") };
        assert_eq!(asks(&scene, "/"), direct, "{}", scene.logs());
        assert!(way.asked().is_empty());
        drop((scene, way));

        let (scene, way) = Scene::with_waypoint(true);
        let answer = asks(&scene, "/first");
        assert_eq!(answer, Answer::Served { seen: ip("10.77.0.8") }, "{}", scene.logs());
        let [(peer, head)] = &way.asked()[..] else { panic!("{}", scene.logs()) };
        assert_eq!(peer, "spiffe://cluster.local/ns/shop/sa/server");
        assert!(head.for_stranger && head.baggage == Default::default(), "{head:?}");
        let stranger = head.forwarded.as_ref().and_then(|said| said.client).unwrap();
        assert_eq!((head.authority.to_string(), stranger.ip()), ("10.77.0.2:8080".into(), ip("10.77.0.9")));
        assert!(way.heard().starts_with("GET /first "), "{}", way.heard());
        let line = scene.access(Who::Server, &format!("src.addr={stranger}"));
        assert!(line.contains("direction=\"inbound\"") && line.contains("dst.workload=\"server\""), "{line}");
        assert!(!line.contains("src.identity") && !line.contains("error="), "{line}");
        // One of the mesh is no stranger.
        let answer = scene.ask(Who::Client, "10.77.0.2:8080", "/");
        assert_eq!(answer, Answer::Served { seen: ip("10.77.0.8") }, "{}", scene.logs());
        assert!(!way.asked()[0].1.for_stranger);

        // A waypoint that would take it for the pod does not get to hear a word of it, and nobody else does.
        way.forget_strangers();
        assert_eq!(asks(&scene, "/second"), Answer::Cut, "{}", scene.logs());
        let line = scene.access(Who::Server, "the waypoint cannot tell who comes from outside the mesh");
        assert!(line.contains("src.addr=10.77.0.9:"), "{line}");
        assert!(!way.heard().contains("/second"), "{}", way.heard());
        let metrics = scene.get(Who::Server, 15020, "/metrics");
        let failed = metrics.lines().find(|l| l.starts_with("istio_tcp_connections_failed_total{"));
        assert!(failed.is_some_and(|l| l.contains("reporter=\"destination\"")), "{metrics}");

        // And without a waypoint nobody is passed on.
        drop(way);
        assert_eq!(asks(&scene, "/third"), Answer::Cut, "{}", scene.logs());
    }

    #[test]
    fn a_waypoint_that_has_not_heard_yet_what_goes_through_it_is_asked_again_and_not_for_ever() {
        let (scene, way) = Scene::with_waypoint(false);
        let seen = Answer::Served { seen: ip("10.77.0.8") };
        way.lag(2);
        assert_eq!(scene.ask(Who::Client, "10.77.0.2:8080", "/"), seen, "{}", scene.logs());
        assert_eq!(way.asked().len(), 3, "{}", scene.logs());
        // And one that never hears gets nobody past it.
        way.lag(usize::MAX);
        assert_eq!(scene.ask(Who::Client, "10.77.0.2:8080", "/"), Answer::Cut, "{}", scene.logs());
        let line = scene.access(Who::Client, "404 Not Found");
        assert!(line.contains("direction=\"outbound\""), "{line}");
    }

    #[test]
    fn without_a_certificate_nothing_is_sent_at_all() {
        let scene = Scene::new("");
        scene.take_identity_away(Who::Client);
        assert_eq!(scene.ask(Who::Client, "10.77.0.2:8080", SECRET), Answer::Cut, "{}", scene.logs());
        assert!(!scene.wire().contains(SECRET.as_bytes()), "plaintext on the wire");
        let line = scene.access(Who::Client, "direction=\"outbound\"");
        assert!(line.contains("no certificate"), "{line}");
    }

    #[test]
    fn a_peer_of_another_authority_is_not_spoken_to() {
        let scene = Scene::new("");
        scene.replace_identity_by_a_stranger(Who::Server);
        assert_eq!(scene.ask(Who::Client, "10.77.0.2:8080", SECRET), Answer::Cut, "{}", scene.logs());
        assert!(!scene.wire().contains(SECRET.as_bytes()), "plaintext on the wire");
    }

    #[test]
    fn a_certificate_that_is_revoked_by_a_list_that_came_later_opens_no_tunnel() {
        for (who, reporter) in [(Who::Client, "destination"), (Who::Server, "source")] {
            let scene = Scene::new("");
            scene.revoke(who);
            let in_force = |other| scene.logged(other, "revocation lists are in force\tlists=1");
            in_force(Who::Client);
            in_force(Who::Server);
            assert_eq!(scene.ask(Who::Client, "10.77.0.2:8080", SECRET), Answer::Cut, "{}", scene.logs());
            assert!(!scene.wire().contains(SECRET.as_bytes()), "plaintext on the wire");
            let other = if who == Who::Client { Who::Server } else { Who::Client };
            let metrics = scene.get(other, 15020, "/metrics");
            let series = format!("istio_crl_policy_rejections_total{{reporter=\"{reporter}\"}} ");
            let count = metrics.lines().find_map(|line| line.strip_prefix(&series)?.parse().ok());
            assert!(count.is_some_and(|count: u64| count > 0), "{who:?}: {metrics}");
        }
    }

    #[test]
    fn a_connection_whose_peer_is_revoked_later_is_cut_at_either_end_and_a_new_one_is_refused() {
        for (who, reporter) in [(Who::Client, "destination"), (Who::Server, "source")] {
            let scene = Scene::new("");
            let mut open = scene.open(Who::Client, "10.77.0.2:8080");
            assert!(open.ask(SECRET), "{}", scene.logs());
            let before = std::time::Instant::now();
            scene.revoke(who);
            while open.ask(SECRET) {
                assert!(before.elapsed() < std::time::Duration::from_secs(60), "{who:?}: {}", scene.logs());
                ambit_kit::pause(std::time::Duration::from_millis(50));
            }
            let other = if who == Who::Client { Who::Server } else { Who::Client };
            scene.logged(other, "open tunnels end: their peers' certificates were revoked\ttunnels=1");
            let metrics = scene.get(other, 15020, "/metrics");
            let series = format!("istio_crl_policy_rejections_total{{reporter=\"{reporter}\"}} ");
            let count = metrics.lines().find_map(|line| line.strip_prefix(&series)?.parse().ok());
            assert!(count.is_some_and(|count: u64| count > 0), "{who:?}: {metrics}");
            assert_eq!(scene.ask(Who::Client, "10.77.0.2:8080", SECRET), Answer::Cut, "{}", scene.logs());
        }
    }

    #[test]
    fn a_stop_lets_an_open_connection_finish_and_ends_the_process_at_the_deadline() {
        let mut scene = Scene::draining("10s");
        let mut open = scene.open(Who::Client, "10.77.0.2:8080");
        assert!(open.ask("/"), "{}", scene.logs());
        scene.terminate(Who::Server);
        assert!(open.ask("/"), "the open connection goes on\n{}", scene.logs());
        // Nothing else ends it: without a deadline it would be waited for until the test's own patience ends.
        scene.wait_for_end(Who::Server);
        assert!(!open.ask("/"), "the connection ended with the process");
    }
}
