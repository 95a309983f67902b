//! The serving certificate over time.

use super::*;
use crate::ca::keeper::{Keeper, Place};
use crate::ca::root::Recipe;
use crate::metrics::Metrics;
use ambit_tls::configs::control_plane::Speaks;

const HOUR: Duration = Duration::from_secs(3600);

#[test]
fn the_serving_certificate_is_short_lived_renewed_in_time_and_anew_when_another_root_signs() {
    let folder = tempfile::tempdir().unwrap();
    let recipe = Recipe { lifetime: 1000 * HOUR, ..Recipe::new("cluster.local".parse().unwrap()) };
    let place = Place { state: folder.path().into(), plugged: None, recipe };
    let start = SystemTime::UNIX_EPOCH + 480_000 * HOUR;
    let mut keeper = Keeper::open(place, Metrics::default(), start).unwrap();
    let mut serving = Serving::new(keeper.newest(), vec!["localhost".into()], Speaks::Grpc, start).unwrap();
    let mut now = start;
    let mut before = serving.config(now);
    let mut renewals = Vec::new();
    let mut signers = 1;
    for minute in 0..(900 * 60_u32) {
        now = start + minute * HOUR / 60;
        if minute % 60 == 0 {
            let signer = keeper.rotation().current().certificate().clone();
            keeper.look(now);
            if signer != *keeper.rotation().current().certificate() {
                signers += 1;
                assert!(!Arc::ptr_eq(&before, &serving.config(now)), "at once when another root signs");
            }
        }
        let config = serving.config(now);
        if !Arc::ptr_eq(&before, &config) {
            renewals.push(minute);
            before = config;
        }
    }
    assert_eq!(signers, 2);
    let longest = renewals.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap();
    assert!(longest <= 6 * 60, "half of twelve hours: {longest} minutes");
    assert!(renewals.len() < 400, "{} renewals", renewals.len());
}

#[test]
fn a_certificate_that_is_given_is_read_again_when_it_changes_and_a_bad_one_is_not_taken() {
    let folder = tempfile::tempdir().unwrap();
    let files = Files { certificate: folder.path().join("tls.crt"), key: folder.path().join("tls.key") };
    let now = SystemTime::UNIX_EPOCH + 480_000 * HOUR;
    let missing = Serving::given(files.clone(), Speaks::Grpc, now).err();
    assert!(matches!(missing, Some(ServingError::Io { path, .. }) if path == files.certificate));
    let put = || {
        let made = rcgen::generate_simple_self_signed(["istiod.istio-system.svc".to_owned()]).unwrap();
        fs::write(&files.certificate, made.cert.pem()).unwrap();
        fs::write(&files.key, made.signing_key.serialize_pem()).unwrap();
    };
    put();
    let mut serving = Serving::given(files.clone(), Speaks::Grpc, now).unwrap();
    let first = serving.config(now);
    assert!(Arc::ptr_eq(&first, &serving.config(now + HOUR)), "nothing changed");
    fs::write(&files.key, "no key").unwrap();
    assert!(Arc::ptr_eq(&first, &serving.config(now + 2 * HOUR)), "no key");
    put();
    let second = serving.config(now + 3 * HOUR);
    assert!(!Arc::ptr_eq(&first, &second));
    fs::remove_file(&files.certificate).unwrap();
    assert!(Arc::ptr_eq(&second, &serving.config(now + 4 * HOUR)), "taken away");
}
