//! Namespaces, for real. Needs root: `sudo` or a container with `SYS_ADMIN`.

use std::net::{TcpListener, TcpStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use super::*;

fn fresh() -> Netns {
    Netns::anonymous().expect("needs root (run as root, or with CAP_SYS_ADMIN)")
}

#[test]
fn two_descriptors_of_one_namespace_have_one_identity_and_two_namespaces_have_two() {
    let a = fresh();
    let b = fresh();
    assert_eq!(a.id(), a.try_clone().unwrap().id());
    assert_ne!(a.id(), b.id());
    assert_ne!(a.id(), Netns::current().unwrap().id());
}

#[test]
fn work_happens_inside_and_the_thread_is_back_afterwards() {
    let home = Netns::current().unwrap().id();
    let ns = fresh();
    let listener = ns.run(|| TcpListener::bind("127.0.0.1:0").unwrap()).unwrap();
    let at = listener.local_addr().unwrap();
    assert_eq!(Netns::current().unwrap().id(), home);
    assert!(TcpStream::connect(at).is_err(), "the port must not exist outside");
    assert!(ns.run(|| TcpStream::connect(at).is_ok()).unwrap());
    assert!(ns.run_on_thread(|| TcpStream::connect(at).is_ok()).unwrap());
}

#[test]
fn a_panic_inside_still_brings_the_thread_back() {
    let home = Netns::current().unwrap().id();
    let ns = fresh();
    let caught = catch_unwind(AssertUnwindSafe(|| ns.run(|| panic!("inside"))));
    assert!(caught.is_err());
    assert_eq!(Netns::current().unwrap().id(), home);
}

#[test]
fn a_nested_visit_returns_to_the_outer_one() {
    let (outer, inner) = (fresh(), fresh());
    let seen = outer
        .run(|| {
            let within = inner.run(|| Netns::current().unwrap().id()).unwrap();
            (within, Netns::current().unwrap().id())
        })
        .unwrap();
    assert_eq!(seen, (inner.id(), outer.id()));
}

#[test]
fn a_named_namespace_can_be_opened_by_its_name_until_it_is_removed() {
    let dir = std::env::temp_dir().join(format!("ambit-sys-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let path = dir.join("one");
    let made = Netns::create_named(&path).unwrap();
    assert_eq!(Netns::open(&path).unwrap().id(), made.id());
    assert!(matches!(Netns::create_named(&path), Err(NetnsError::Open { .. })), "a name is taken once");
    remove_named(&path).unwrap();
    remove_named(&path).unwrap();
    assert!(!path.exists());
    std::fs::remove_dir(&dir).unwrap();
}

#[test]
fn what_is_no_network_namespace_is_refused() {
    for path in ["/dev/null", "/proc/self/ns/mnt", "/etc"] {
        assert!(matches!(Netns::open(Path::new(path)), Err(NetnsError::NoNetns)), "{path}");
    }
    assert!(matches!(Netns::open(Path::new("/nonexistent")), Err(NetnsError::Open { .. })));
}
