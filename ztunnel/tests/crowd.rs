//! A client that opens connections to the tunnel port and then says nothing, or little, in crowds.

#[cfg(test)]
mod scene;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ambit_kit::eventually;

    use super::scene::{Answer, Scene, Who};

    /// More than there are places for, and fewer than a test's process may have descriptors.
    const CROWD: usize = 700;
    /// Handshakes at a time, and some sockets that are something else.
    const PLACES: usize = 512 + 8;

    #[test]
    fn a_crowd_of_connections_that_prove_nothing_is_bounded_and_keeps_nobody_out() {
        let scene = Scene::new("");
        let mut crowd: Vec<_> = (0..CROWD).map(|_| scene.open(Who::Outsider, "10.77.0.2:15008")).collect();
        for connection in crowd.iter_mut().take(PLACES) {
            // The beginning of a handshake: from here on it has buffers.
            connection.say(&[22, 3, 1, 0, 200, 1]);
        }
        let open = || {
            let metrics = scene.get(Who::Server, 15020, "/metrics");
            let gauge = "istio_tcp_sockets_open{reporter=\"destination\"} ";
            let line = metrics.lines().find_map(|line| line.strip_prefix(gauge));
            line.unwrap_or_else(|| panic!("{metrics}")).parse::<usize>().unwrap()
        };
        // Whoever gives up a place for another closes a moment later: without a bound the whole crowd would stay.
        let bounded = || Some(open()).filter(|count| (256..=PLACES).contains(count)).ok_or_else(open);
        let bounded = eventually(Duration::from_secs(60), bounded);
        assert!(bounded.is_ok(), "{bounded:?} sockets\n{}", scene.logs());
        for _ in 0..20 {
            let answer = scene.ask(Who::Client, "10.77.0.2:8080", "/");
            assert_eq!(answer, Answer::Served { seen: "10.77.0.1".parse().unwrap() }, "{}", scene.logs());
        }
        let metrics = scene.get(Who::Server, 15020, "/metrics");
        assert!(metrics.contains("reason=\"too_many_handshakes\""), "{metrics}");
        assert!(!scene.logs().contains("too many handshakes"), "a line for each is another flood");
        drop(crowd);
    }
}
