//! A control plane that comes back under another root while a proxy runs.

#[cfg(test)]
#[path = "scene/told.rs"]
mod told;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ambit_kit::eventually;

    use super::told::{Told, target, world};

    const PATIENCE: Duration = Duration::from_secs(20);

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
}
