//! When may be written, and when asked: the buckets of one token. Pure: times in, times out.

use std::time::Duration;

use crate::model::github::{Pace, Quota};
use crate::model::time::Timestamp;

/// The bucket of a minute.
const MINUTE: Duration = Duration::from_secs(60);

/// The bucket of an hour.
pub(super) const HOUR: Duration = Duration::from_secs(3_600);

/// The first and the longest wait when GitHub asks to wait and does not say how long.
const LIMITED: (Duration, Duration) = (MINUTE, Duration::from_secs(1_800));

/// The first and the longest wait after an answer that did not come.
const UNSURE: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(300));

/// The first and the longest wait after a refusal: somebody may have given a permission meanwhile.
const REFUSED: (Duration, Duration) = (Duration::from_secs(300), HOUR);

/// How often a wait doubles at most.
const DOUBLINGS_MAX: u32 = 10;

/// Returns the earliest time at which another write may begin. `begun` are the beginnings of earlier ones, oldest first.
#[must_use]
pub fn next_write(begun: &[Timestamp], pace: &Pace, now: Timestamp) -> Timestamp {
    let after = |count: u32, window: Duration| {
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        begun.len().checked_sub(count).and_then(|index| begun.get(index)).map(|at| *at + window)
    };
    let last = begun.last().map(|at| *at + pace.interval);
    // A write counts for the whole millisecond in which it began, so the bucket has room only after that.
    let tick = Duration::from_millis(1);
    [last, after(pace.per_minute, MINUTE + tick), after(pace.per_hour, HOUR + tick)]
        .into_iter()
        .flatten()
        .fold(now, std::cmp::max)
}

/// Drops the writes that no bucket counts any more.
pub(super) fn forget(begun: &mut Vec<Timestamp>, now: Timestamp) {
    begun.retain(|at| now.since(*at) <= HOUR);
}

/// Returns how long to wait until the next question about what has changed. When the quota runs low, questions become rare, so
/// that what was done can still be reported.
#[must_use]
pub fn poll_wait(poll: Duration, quota: Option<&Quota>, now: Timestamp) -> Duration {
    let Some(quota) = quota.filter(|quota| quota.limit > 0 && quota.reset > now) else { return poll };
    let left = u64::from(quota.remaining) * 100 / u64::from(quota.limit);
    let until_reset = quota.reset.since(now);
    match left {
        20.. => poll,
        10..20 => (poll * 4).min(until_reset.max(poll)),
        5..10 => (poll * 16).min(until_reset.max(poll)),
        _ => until_reset.max(poll),
    }
}

/// Returns how long nothing may be asked after the `times`-th answer in a row that said so without a time.
#[must_use]
pub fn limited_wait(times: u32) -> Duration {
    growing(LIMITED, times)
}

/// Returns how long to wait after the `times`-th time in a row without an answer.
#[must_use]
pub fn unsure_wait(times: u32) -> Duration {
    growing(UNSURE, times)
}

/// Returns how long to wait after the `times`-th refusal in a row.
#[must_use]
pub fn refused_wait(times: u32) -> Duration {
    growing(REFUSED, times)
}

fn growing((first, longest): (Duration, Duration), times: u32) -> Duration {
    (first * 2_u32.pow(times.saturating_sub(1).min(DOUBLINGS_MAX))).min(longest)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes as fast as it may for some hours, with pauses and lost memory by a seed, and returns when each write began.
    fn simulate(pace: &Pace, seed: u64, hours: u64) -> Vec<Timestamp> {
        let mut state = seed;
        let mut random = move |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % below
        };
        let mut now = Timestamp::from_millis(1_000_000_000_000);
        let end = now + HOUR * u32::try_from(hours).unwrap();
        let (mut kept, mut all) = (Vec::new(), Vec::new());
        while now < end {
            forget(&mut kept, now);
            let at = next_write(&kept, pace, now);
            now = at;
            kept.push(at);
            all.push(at);
            // Sometimes nothing is to be written for a while, and then much at once.
            if random(200) == 0 {
                now = now + Duration::from_millis(random(600_000));
            }
        }
        all
    }

    fn most_within(begun: &[Timestamp], window: Duration) -> usize {
        let mut most = 0;
        let mut first = 0;
        for (index, at) in begun.iter().enumerate() {
            while at.since(begun[first]) > window {
                first += 1;
            }
            most = most.max(index + 1 - first);
        }
        most
    }

    #[test]
    fn no_bucket_ever_overflows_and_none_is_left_unused() {
        for seed in 1..=20 {
            let pace = Pace::default();
            let begun = simulate(&pace, seed, 12);
            assert!(begun.windows(2).all(|two| two[1].since(two[0]) >= pace.interval), "seed {seed}");
            assert!(most_within(&begun, MINUTE) <= 80, "seed {seed}: {}", most_within(&begun, MINUTE));
            assert!(most_within(&begun, HOUR) <= 500, "seed {seed}: {}", most_within(&begun, HOUR));
            assert!(begun.len() >= 12 * 450, "seed {seed}: only {} writes in 12 hours", begun.len());
        }
        let small = Pace { interval: Duration::from_millis(10), per_minute: 3, per_hour: 100 };
        let begun = simulate(&small, 7, 2);
        assert_eq!((most_within(&begun, MINUTE), most_within(&begun, HOUR)), (3, 100));
    }

    #[test]
    fn discovery_slows_down_before_reports_have_to() {
        let now = Timestamp::from_millis(0);
        let quota = |remaining| Quota { limit: 5_000, remaining, reset: now + HOUR };
        let wait = |remaining| poll_wait(MINUTE, Some(&quota(remaining)), now);
        assert_eq!(wait(5_000), MINUTE);
        assert_eq!(wait(999), 4 * MINUTE);
        assert_eq!(wait(499), 16 * MINUTE);
        assert_eq!(wait(249), HOUR, "what is left belongs to the reports");
        assert_eq!(poll_wait(MINUTE, None, now), MINUTE);
        let past = Quota { limit: 5_000, remaining: 0, reset: now };
        assert_eq!(poll_wait(MINUTE, Some(&past), now), MINUTE, "a new hour has begun");
    }

    #[test]
    fn waits_grow_and_have_an_end() {
        assert_eq!([1, 2, 3, 30].map(limited_wait), [MINUTE, 2 * MINUTE, 4 * MINUTE, Duration::from_secs(1_800)]);
        assert_eq!(unsure_wait(1), Duration::from_secs(2));
        assert_eq!(unsure_wait(99), Duration::from_secs(300));
        assert_eq!(refused_wait(99), HOUR);
    }
}
