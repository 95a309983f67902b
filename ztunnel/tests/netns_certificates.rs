//! A certificate that changes while a proxy runs: to whom it is shown, and what goes on.

#[cfg(test)]
mod scene;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ambit_kit::{eventually, pause};

    use super::scene::{Scene, Who};

    const PATIENCE: Duration = Duration::from_secs(60);
    const SERVER: &str = "10.77.0.2:8080";

    #[test]
    fn a_renewed_certificate_is_shown_to_new_tunnels_and_those_that_live_go_on() {
        let scene = Scene::new("");
        let mut captured = scene.open(Who::Client, SERVER);
        let mut old = scene.raw(true);
        assert!(
            captured.ask("/") && old.connect(1, SERVER.parse().unwrap()) && old.ask(1),
            "{}",
            scene.logs()
        );
        let shown = old.server_certificate();
        assert_eq!(scene.raw(true).server_certificate(), shown, "the same for each tunnel");
        scene.renew_identity(Who::Server);
        let renewed = eventually(PATIENCE, || {
            let mut new = scene.raw(true);
            let another = new.server_certificate() != shown;
            if another { Ok(new.connect(1, SERVER.parse().unwrap()) && new.ask(1)) } else { Err(()) }
        });
        assert_eq!(renewed, Ok(true), "{}", scene.logs());
        assert!(old.ask(1) && captured.ask("/"), "a live connection ended\n{}", scene.logs());
        assert!(
            old.connect(3, SERVER.parse().unwrap()) && old.ask(3),
            "a live tunnel takes no more\n{}",
            scene.logs()
        );
        scene.renew_identity(Who::Client);
        pause(Duration::from_secs(2));
        assert!(captured.ask("/"), "{}", scene.logs());
    }
}
