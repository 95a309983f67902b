//! The simulation tier: whatever the network and the processes do, all views end equal.

use ambit_tests::sim::{Summary, run};

/// As many courses as fit a change's patience.
const SEEDS: u64 = 200;

#[test]
fn two_hundred_courses_end_with_all_views_equal() {
    let mut all = Summary::default();
    for seed in 0..SEEDS {
        let course = run(seed).unwrap_or_else(|failure| panic!("{failure}"));
        all.changes += course.changes;
        all.streams += course.streams;
        all.batches += course.batches;
        all.nacks += course.nacks;
        all.restarts += course.restarts;
        all.cuts += course.cuts;
        all.resources += course.resources;
    }
    println!("{SEEDS} seeds: {all:?}");
    // A simulation in which nothing goes wrong proves nothing.
    assert!(all.nacks > 100 && all.restarts > 200 && all.cuts > 500 && all.streams > 2000, "{all:?}");
}

#[test]
fn a_course_is_decided_by_its_seed() {
    for seed in [1, 7, 42] {
        assert_eq!(run(seed).ok(), run(seed).ok(), "seed {seed}");
    }
}
