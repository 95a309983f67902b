//! What a mesh's users rely on without thinking of it: what is counted, that a proxy never talks to itself, and that
//! it ends when it is asked to. `README.md` beside this file says which scenario is tested where.

#[cfg(test)]
mod scene;

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use ambit_kit::{eventually, pause};

    use super::scene::{Answer, Scene, Who};

    const SERVER: &str = "10.77.0.2:8080";
    const PATIENCE: Duration = Duration::from_secs(60);

    /// The sum of a family's series of one reporter.
    fn count(scene: &Scene, who: Who, family: &str, reporter: &str) -> u64 {
        let metrics = scene.get(who, 15020, "/metrics");
        let (family, reporter) = (format!("{family}{{"), format!("reporter=\"{reporter}\""));
        let of_family = metrics.lines().filter(|line| line.starts_with(&family) && line.contains(&reporter));
        of_family.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
    }

    #[test]
    fn both_ends_count_a_connection_while_it_is_open_and_what_it_carried() {
        let scene = Scene::new("");
        let ends = [(Who::Client, "source"), (Who::Server, "destination")];
        let mut open = scene.open(Who::Client, SERVER);
        assert!(open.ask("/"), "{}", scene.logs());
        for (who, reporter) in ends {
            assert_eq!(count(&scene, who, "istio_tcp_connections_opened_total", reporter), 1, "{who:?}");
            assert_eq!(count(&scene, who, "istio_tcp_connections_closed_total", reporter), 0, "{who:?}");
        }
        drop(open);
        let request = "GET / HTTP/1.1\r\nhost: server\r\n\r\n".len();
        let answer = "HTTP/1.1 200 OK\r\nx-seen: 10.77.0.1\r\ncontent-length: 0\r\n\r\n".len();
        for (who, reporter) in ends {
            let closed = eventually(PATIENCE, || {
                match count(&scene, who, "istio_tcp_connections_closed_total", reporter) {
                    1 => Ok(()),
                    other => Err(other),
                }
            });
            assert_eq!(closed, Ok(()), "{who:?}");
            // From the client's view on both ends: received is what the client has sent.
            for (family, bytes) in
                [("istio_tcp_received_bytes_total", request), ("istio_tcp_sent_bytes_total", answer)]
            {
                assert_eq!(count(&scene, who, family, reporter), bytes as u64, "{who:?} {family}");
            }
        }
        // A record says what the application beside it has sent.
        for (who, direction, sent, received) in
            [(Who::Client, "outbound", request, answer), (Who::Server, "inbound", answer, request)]
        {
            let line = scene.access(who, &format!("direction=\"{direction}\""));
            let bytes = format!("bytes_sent={sent} bytes_recv={received}");
            assert!(line.contains(&bytes), "{bytes} is not in\n{line}");
        }
    }

    #[test]
    fn every_metric_but_those_for_good_is_marked_as_unstable_and_the_build_is_among_them() {
        /// Those that dashboards are built on, and what the runtime tells of itself.
        const FOR_GOOD: [&str; 7] = [
            "istio_build",
            "istio_tcp_connections_opened",
            "istio_tcp_connections_closed",
            "istio_tcp_received_bytes",
            "istio_tcp_sent_bytes",
            "process_",
            "tokio_",
        ];
        let for_good = |family: &str| {
            FOR_GOOD.iter().any(|name| family == *name || (name.ends_with('_') && family.starts_with(name)))
        };
        let scene = Scene::shared("");
        assert_ne!(scene.ask(Who::Client, SERVER, "/"), Answer::Cut, "{}", scene.logs());
        for who in [Who::Client, Who::Server] {
            let metrics = scene.get(who, 15020, "/metrics");
            assert!(metrics.lines().any(|line| line.starts_with("istio_build{") && line.ends_with(" 1")));
            let helps: Vec<_> = metrics.lines().filter_map(|line| line.strip_prefix("# HELP ")).collect();
            assert!(helps.len() > FOR_GOOD.len(), "{metrics}");
            for help in helps {
                let family = help.split(' ').next().unwrap();
                assert_ne!(for_good(family), help.contains("(unstable)"), "{help}");
            }
        }
    }

    #[test]
    fn the_meshs_own_ports_lead_nowhere_from_wherever_they_are_called_and_never_round_in_circles() {
        let scene = Scene::new("");
        for port in [15001, 15006, 15008] {
            for (who, address) in [
                (Who::Client, "10.77.0.2"),
                (Who::Client, "10.77.0.1"),
                (Who::Client, "127.0.0.1"),
                (Who::Server, "10.77.0.2"),
                (Who::Outsider, "10.77.0.2"),
            ] {
                let began = Instant::now();
                let answer = scene.ask(who, &format!("{address}:{port}"), "/");
                assert_eq!(answer, Answer::Cut, "{who:?} {address}:{port}");
                let after = began.elapsed();
                assert!(
                    after < Duration::from_secs(15),
                    "{who:?} {address}:{port}: {after:?}\n{}",
                    scene.logs()
                );
            }
        }
        // A circle would still be turning, and would have opened ever more.
        pause(Duration::from_millis(500));
        for who in [Who::Client, Who::Server] {
            let opened: u64 = ["source", "destination"]
                .map(|reporter| count(&scene, who, "istio_tcp_connections_opened_total", reporter))
                .iter()
                .sum();
            assert!(opened <= 15, "{who:?}: {opened} connections\n{}", scene.logs());
        }
        let served = Answer::Served { seen: "10.77.0.1".parse().unwrap() };
        assert_eq!(scene.ask(Who::Client, SERVER, "/"), served, "{}", scene.logs());
    }

    #[test]
    fn a_proxy_that_is_asked_to_quit_ends_as_soon_as_its_last_connection_has() {
        for asked_over_http in [true, false] {
            let mut scene = Scene::patient(false);
            let mut open = scene.open(Who::Client, SERVER);
            assert!(open.ask("/"), "{}", scene.logs());
            if asked_over_http {
                let answer = scene.post(Who::Client, 15000, "/quitquitquit");
                assert!(answer.contains("200 OK"), "{answer}");
            } else {
                scene.terminate(Who::Client);
            }
            assert!(open.ask("/"), "the open connection goes on\n{}", scene.logs());
            drop(open);
            let lasted = scene.wait_for_end(Who::Client);
            assert!(lasted < Duration::from_secs(30), "{lasted:?}; the deadline is a minute");
        }
    }
}
