//! A control plane that comes back under another root while a proxy runs, and an authority that is another's.

#[cfg(test)]
#[path = "scene/told.rs"]
mod told;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ambit_kit::eventually;

    use super::told::{Told, target, world};

    const PATIENCE: Duration = Duration::from_secs(60);

    #[test]
    fn new_roots_of_the_control_plane_are_read_when_it_is_called_again() {
        let told = Told::new(&[]).restart_plane();
        let refused = eventually(PATIENCE, || {
            let log = told.log();
            if log.contains("invalid peer certificate") { Ok(()) } else { Err(log) }
        });
        assert_eq!(refused, Ok(()), "a stranger is not believed");
        // Losing the control plane changes nothing for connections.
        assert!(told.peer().connect(1, target()), "{}", told.log());
        told.believe_plane();
        told.plane.publish(&world(&["shop/never"]));
        assert!(
            !told.peer().connect(1, target()),
            "what the control plane tells is in force\n{}",
            told.log()
        );
    }

    #[test]
    fn certificates_come_from_an_authority_of_another_root_than_the_control_planes() {
        let (told, elsewhere) = Told::signed_elsewhere("token");
        assert_ne!(elsewhere.root_pem(), told.plane.root_pem());
        assert!(told.peer().connect(1, target()), "{}", told.log());
        assert!(elsewhere.counts().0 > 0, "{}", told.log());
    }

    #[test]
    fn an_authority_that_refuses_is_asked_again_and_nothing_is_carried_without_it() {
        let (told, elsewhere) = Told::signed_elsewhere("another token");
        let peer =
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| told.peer().connect(1, target())));
        assert!(!peer.unwrap_or_default(), "{}", told.log());
        let (signed, refused) = elsewhere.counts();
        assert!(signed == 0 && refused > 0, "{signed} {refused}");
    }
}
