//! The only door through which time and randomness enter.

use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::SystemTime;

use ulid::{Generator, Ulid};

use crate::model::id::{EnvelopeId, RunId};
use crate::model::time::Timestamp;

/// The newest time that was handed out: a clock that steps back must not make history run backwards.
static NEWEST: AtomicI64 = AtomicI64::new(0);

static GENERATOR: Mutex<Generator> = Mutex::new(Generator::new());

/// Returns the current time; within one process it never goes backwards.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this is the door")]
pub fn now() -> Timestamp {
    let millis = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX));
    Timestamp::from_millis(NEWEST.fetch_max(millis, Ordering::Relaxed).max(millis))
}

/// Returns a new ULID; within one process each is greater than the one before.
fn fresh() -> Ulid {
    let mut generator = GENERATOR.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
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
