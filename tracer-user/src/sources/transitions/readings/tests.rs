use std::time::Instant;

use super::super::testing::Crowd;
use super::*;

/// Takes the parts of the reading that is under way, until it has ended.
fn take_all(readings: &mut Readings) -> Vec<SchedSnapshot> {
    let until = Instant::now() + Duration::from_secs(60);
    let mut parts = Vec::new();
    while readings.is_under_way() {
        assert!(Instant::now() < until, "the reading does not end");
        parts.extend(readings.take(Duration::from_millis(100), 0));
    }
    parts
}

#[test]
fn parts_come_from_the_thread_one_reading_after_the_other() {
    let mut readings = Readings::start(Crowd::reader(30_000, 0)).unwrap();
    assert!(readings.take(Duration::ZERO, 0).is_none(), "none was asked for");
    assert!(readings.begin(now_ns(), 0));
    let first = take_all(&mut readings);
    assert_eq!(first.len(), 4);
    readings.begin_at_once(now_ns());
    // One that is under way is not begun once more.
    readings.begin_at_once(now_ns());
    let second = take_all(&mut readings);
    assert_eq!(second.len(), 4);
    let begun = |parts: &[SchedSnapshot]| parts[0].part.unwrap().begin_ns;
    assert!(begun(&second) > begun(&first));
    assert!(!readings.are_needed(u64::MAX, begun(&first)));
    assert!(readings.are_needed(u64::MAX, u64::MAX));
}

#[test]
fn one_that_is_dropped_in_the_middle_of_a_reading_ends_its_thread() {
    let mut readings = Readings::start(Crowd::reader(1_000_000, 0)).unwrap();
    readings.begin_at_once(now_ns());
    assert!(readings.take(Duration::from_secs(10), 0).is_some());
    drop(readings);
}
