//! The only door through which time and randomness enter.

use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use ulid::{Generator, Ulid};

use crate::model::id::{EnvelopeId, RunId};
use crate::model::time::Timestamp;

/// The newest time that was handed out, in nanoseconds since 1970, and the monotonic time at that moment.
static NEWEST: Mutex<Option<(i64, Instant)>> = Mutex::new(None);

static GENERATOR: Mutex<Generator> = Mutex::new(Generator::new());

/// Returns the current time. Within one process it never goes backwards and never stands still: when the wall clock is set
/// back, time goes on from where it was, at the speed of the monotonic clock.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this is the door")]
pub fn now() -> Timestamp {
    let wall = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| i64::try_from(since.as_nanos()).unwrap_or(i64::MAX));
    let monotonic = Instant::now();
    let mut newest = NEWEST.lock().unwrap_or_else(PoisonError::into_inner);
    let nanos = after(*newest, wall, monotonic);
    *newest = Some((nanos, monotonic));
    Timestamp::from_millis(nanos / 1_000_000)
}

/// Returns how long this process has been awake since it first asked: nobody sets this clock, and it stands still while the
/// machine is suspended.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this is the door")]
pub fn awake() -> Duration {
    static FIRST: OnceLock<Instant> = OnceLock::new();
    FIRST.get_or_init(Instant::now).elapsed()
}

/// Returns the time that a file system tells.
#[must_use]
pub fn timestamp(told: SystemTime) -> Timestamp {
    let since = told.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

fn after(newest: Option<(i64, Instant)>, wall: i64, monotonic: Instant) -> i64 {
    newest.map_or(wall, |(nanos, at)| {
        let elapsed = i64::try_from(monotonic.saturating_duration_since(at).as_nanos()).unwrap_or(i64::MAX);
        wall.max(nanos.saturating_add(elapsed))
    })
}

/// Returns a new ULID; within one process each is greater than the one before.
fn fresh() -> Ulid {
    let mut generator = GENERATOR.lock().unwrap_or_else(PoisonError::into_inner);
    match generator.generate() {
        Ok(ulid) => ulid,
        Err(overflow) => overflow.commit_overflow_increment(),
    }
}

/// Returns a new id for an envelope.
#[must_use]
pub fn fresh_envelope_id() -> EnvelopeId {
    EnvelopeId(fresh())
}

/// Returns a new id for a run.
#[must_use]
pub fn fresh_run_id() -> RunId {
    RunId(fresh())
}

#[cfg(test)]
mod tests {

    use super::*;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "the monotonic clock cannot be made by hand")]
    fn time_goes_on_when_the_wall_clock_is_set_back_and_leaps_when_it_is_set_forward() {
        let start = Instant::now();
        let later = start + Duration::from_secs(5);
        let second = 1_000_000_000;
        assert_eq!(after(None, 100 * second, start), 100 * second);
        assert_eq!(after(Some((100 * second, start)), 40 * second, later), 105 * second);
        assert_eq!(after(Some((100 * second, start)), 400 * second, later), 400 * second);
    }
}
