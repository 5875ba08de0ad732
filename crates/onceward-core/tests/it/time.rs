//! The time of a store that has no clock of its own but the machine's.

use std::sync::Arc;
use std::time::Duration;

use onceward_core::store::StoreTime;
use onceward_core::{Clock, Timestamp};
use onceward_testkit::HandClock;

const HOUR: Duration = Duration::from_secs(3600);

fn begin(clock: &HandClock, high_water: Timestamp) -> StoreTime {
    StoreTime::begin(Arc::new(clock.clone()), high_water)
}

#[test]
fn it_begins_at_the_later_of_wall_clock_and_high_water_mark_and_runs_with_the_boot_clock() {
    let clock = HandClock::new();
    let wall = clock.wall();
    let (fresh, behind) = (begin(&clock, Timestamp::ZERO), begin(&clock, wall));
    let ahead = begin(&clock, wall.after(HOUR));
    assert_eq!((fresh.ahead(), behind.ahead(), ahead.ahead()), (Duration::ZERO, Duration::ZERO, HOUR));
    for jump in [30 * 86_400_000, -60 * 86_400_000] {
        clock.jump_wall(jump);
        assert_eq!((fresh.now(), behind.now(), ahead.now()), (wall, wall, wall.after(HOUR)));
    }
    clock.advance(Duration::from_millis(1));
    let later = wall.after(Duration::from_millis(1));
    assert_eq!((fresh.now(), behind.now(), ahead.now()), (later, later, later.after(HOUR)));
}
