//! The bounds of a spool.

use std::time::Duration;

use crate::model::plan::SpoolLimits;
use crate::model::span::{self, DAY};

const HOUR: Duration = Duration::from_hours(1);

/// The longest reason that is kept, in bytes; the rest is cut off.
pub const REASON_BYTES_MAX: usize = 4_096;

/// The longest idempotency key, in bytes.
pub const KEY_BYTES_MAX: usize = 1_024;

/// The longest name of an order group, in bytes.
pub const GROUP_BYTES_MAX: usize = 256;

/// How long a lessee waits for its turn at a mailbox. Whoever has the turn needs it for less than a millisecond; if it
/// was stopped or frozen meanwhile, the others go on without.
pub const TURN_WAIT_MAX: Duration = Duration::from_secs(1);
/// The longest delay of an envelope; one that seems longer was written under a wrong clock.
pub const DELAY_MAX: Duration = span::MAX;

/// The bounds of a spool. All processes that share a spool should use the same ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// The largest file of an envelope, in bytes. What is larger belongs into a file that the body names.
    pub envelope_bytes_max: usize,
    /// The most envelopes that may wait or be leased in one mailbox; the next sender is refused.
    pub mailbox_envelopes_max: usize,
    /// The most bytes that all mailboxes may hold; the next message is refused.
    pub bytes_max: u64,
    /// How many bytes of the disk are kept free of messages; 0: none. Of a small disk less is kept.
    pub disk_reserve: u64,
    /// The longest lease; a longer one is cut to it. A lease that ends later than this from now was written under a
    /// wrong clock and counts as ended.
    pub lease_max: Duration,
    /// The wait after the first nack; it doubles with every attempt.
    pub backoff_min: Duration,
    /// The longest wait after a nack.
    pub backoff_max: Duration,
    /// How long an idempotency key, and the id of an envelope that was cleared away, are remembered.
    pub key_window: Duration,
    /// How long envelopes stay in `done/`.
    pub done_age_max: Duration,
    /// How many envelopes stay in one `done/`, the newest ones.
    pub done_envelopes_max: usize,
    /// How many bytes stay in one `done/`, those of the newest ones.
    pub done_bytes_max: u64,
    /// How long envelopes stay in `dead/`.
    pub dead_age_max: Duration,
    /// How many envelopes stay in one `dead/`, the newest ones.
    pub dead_envelopes_max: usize,
    /// How many bytes stay in one `dead/`, those of the newest ones.
    pub dead_bytes_max: u64,
    /// Work orders and reports that ended less than this ago are not cleared away for their number or size.
    pub record_age_min: Duration,
    /// After this, a file in `tmp/` belongs to a writer that died.
    pub draft_age_max: Duration,
    /// How many files one sweep removes at most.
    pub sweep_removals_max: usize,
    /// How long a lessee may go by its last look at a mailbox: the longest time for which an envelope that another
    /// process delivers can be overtaken by one of lower priority. It counts once more for every 2,000 that wait.
    pub listing_age_max: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self::from(&SpoolLimits::default())
    }
}

impl From<&SpoolLimits> for Limits {
    fn from(limits: &SpoolLimits) -> Self {
        let count = |number: u32| usize::try_from(number).unwrap_or(usize::MAX);
        Self {
            envelope_bytes_max: usize::try_from(limits.envelope_bytes_max.0).unwrap_or(usize::MAX),
            mailbox_envelopes_max: count(limits.mailbox_envelopes_max),
            bytes_max: limits.bytes_max.0,
            disk_reserve: limits.disk_reserve.0,
            done_age_max: limits.done_age_max,
            done_envelopes_max: count(limits.done_envelopes_max),
            done_bytes_max: limits.done_bytes_max.0,
            dead_age_max: limits.dead_age_max,
            dead_envelopes_max: count(limits.dead_envelopes_max),
            dead_bytes_max: limits.dead_bytes_max.0,
            lease_max: DAY,
            backoff_min: Duration::from_secs(1),
            backoff_max: Duration::from_mins(10),
            key_window: DAY,
            record_age_min: 7 * DAY,
            draft_age_max: HOUR,
            sweep_removals_max: 10_000,
            listing_age_max: Duration::from_millis(20),
        }
    }
}

impl Limits {
    /// Returns how long an envelope waits after its `attempt`-th attempt was nacked.
    #[must_use]
    pub fn backoff(&self, attempt: u32) -> Duration {
        let doublings = attempt.saturating_sub(1).min(20);
        self.backoff_min.saturating_mul(1 << doublings).min(self.backoff_max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_after_a_nack_doubles_up_to_its_bound() {
        let limits = Limits::default();
        let waits = [1, 2, 3, 10, 11, u32::MAX].map(|attempt| limits.backoff(attempt).as_secs());
        assert_eq!(waits, [1, 2, 4, 512, 600, 600]);
    }
}
