//! Whether and when an agent is started again. Pure arithmetic over its record and its policy.

use std::time::Duration;

use crate::model::agent::{RestartKind, RestartPolicy};
use crate::model::id::AgentId;
use crate::model::time::Timestamp;

use super::fact::{Budget, DownCause, Hold};
use super::state::AgentRecord;

/// What follows the end of an incarnation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Restart {
    /// It is started again at this time.
    At(Timestamp, Budget),
    /// It stays down.
    Hold(Hold),
}

/// Decides what follows an end.
///
/// `record` is the agent's record before the end was applied; `now` is the time of the end.
#[must_use]
pub fn after_end(
    agent: &AgentId,
    record: &AgentRecord,
    policy: &RestartPolicy,
    cause: &DownCause,
    now: Timestamp,
    seed: u64,
) -> Restart {
    match (policy.policy, cause) {
        (
            _,
            DownCause::Operator | DownCause::Lost | DownCause::Drain | DownCause::Removed | DownCause::Reconfigured,
        ) => return Restart::At(now, Budget::Free),
        (RestartKind::Temporary, _) | (RestartKind::Transient, DownCause::Clean) => return Restart::Hold(Hold::Ended),
        (
            RestartKind::Permanent | RestartKind::Transient,
            DownCause::Clean
            | DownCause::PaneDied
            | DownCause::StartTimeout
            | DownCause::Silent
            | DownCause::Overdue
            | DownCause::Stalled
            | DownCause::SpawnFailed { .. },
        ) => {}
    }
    // OTP counts restarts inside a window, so one bad night does not use up the budget for good.
    if restarts_within(record, policy, now) >= policy.intensity {
        return Restart::Hold(Hold::CrashLoop);
    }
    let waited = wait(agent, policy, streak_before(record, policy, now), record.incarnation.0, seed);
    Restart::At(now + waited, Budget::Counted)
}

/// Counts the faulty ends in a row before this one; a stable time ends the row.
fn streak_before(record: &AgentRecord, policy: &RestartPolicy, now: Timestamp) -> u32 {
    let stable = record.up_since.is_some_and(|since| now.since(since) >= policy.reset_after);
    if stable { 0 } else { record.streak }
}

/// Counts the faulty ends in a row with this one.
#[must_use]
pub fn streak_after(record: &AgentRecord, policy: &RestartPolicy, cause: &DownCause, now: Timestamp) -> u32 {
    if cause.is_fault() { streak_before(record, policy, now).saturating_add(1) } else { 0 }
}

/// Counts the restarts inside the budget's window. They need not lie in order, and may lie ahead: a supervisor that was started
/// after the clock was set back records earlier times than the one before it.
#[must_use]
pub fn restarts_within(record: &AgentRecord, policy: &RestartPolicy, now: Timestamp) -> u32 {
    let inside = record.restarts.iter().filter(|at| now.since(**at) < policy.period).count();
    u32::try_from(inside).unwrap_or(u32::MAX)
}

/// The first restart is immediate; from the second on the wait doubles, with up to a quarter of jitter on top.
fn wait(agent: &AgentId, policy: &RestartPolicy, streak: u32, incarnation: u64, seed: u64) -> Duration {
    if streak == 0 {
        return Duration::ZERO;
    }
    let doubled = policy.backoff.saturating_mul(1_u32.checked_shl(streak - 1).unwrap_or(u32::MAX));
    let quarter = doubled.min(policy.backoff_max) / 4;
    let jitter = hash(seed, agent.as_str(), incarnation) % (u64::try_from(quarter.as_millis()).unwrap_or(u64::MAX) + 1);
    (doubled.min(policy.backoff_max) + Duration::from_millis(jitter)).min(policy.backoff_max)
}

/// Mixes a seed, a name and a number into evenly spread bits (FNV-1a with a final avalanche); stable across versions.
#[must_use]
pub fn hash(seed: u64, name: &str, number: u64) -> u64 {
    let mut state: u64 = 0xcbf2_9ce4_8422_2325 ^ seed;
    for byte in name.bytes().chain(number.to_le_bytes()) {
        state = (state ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    state = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    state = (state ^ (state >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    state ^ (state >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy() -> RestartPolicy {
        RestartPolicy {
            policy: RestartKind::Permanent,
            intensity: 3,
            period: Duration::from_secs(600),
            backoff: Duration::from_secs(1),
            backoff_max: Duration::from_secs(60),
            reset_after: Duration::from_secs(600),
        }
    }

    fn kaede() -> AgentId {
        AgentId::new("kaede").unwrap()
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_millis(seconds * 1_000)
    }

    #[test]
    fn the_first_restart_is_immediate_and_the_next_ones_wait_longer_and_longer() {
        let mut record = AgentRecord::default();
        let mut waits = Vec::new();
        for streak in 0..3 {
            record.streak = streak;
            match after_end(&kaede(), &record, &policy(), &DownCause::PaneDied, at(100), 7) {
                Restart::At(time, Budget::Counted) => waits.push(time.since(at(100))),
                other @ (Restart::At(..) | Restart::Hold(_)) => panic!("{other:?}"),
            }
        }
        assert_eq!(waits[0], Duration::ZERO);
        assert!(waits[1] >= Duration::from_secs(1) && waits[1] <= Duration::from_millis(1_250), "{waits:?}");
        assert!(waits[2] >= Duration::from_secs(2) && waits[2] <= Duration::from_millis(2_500), "{waits:?}");
    }

    #[test]
    fn a_used_up_budget_is_a_crash_loop_until_the_window_has_passed() {
        let record = AgentRecord { restarts: vec![at(100), at(101), at(102)], ..AgentRecord::default() };
        assert_eq!(
            after_end(&kaede(), &record, &policy(), &DownCause::PaneDied, at(103), 7),
            Restart::Hold(Hold::CrashLoop)
        );
        assert_eq!(
            after_end(&kaede(), &record, &policy(), &DownCause::PaneDied, at(703), 7),
            Restart::At(at(703), Budget::Counted)
        );
    }

    #[test]
    fn a_clock_that_was_set_back_does_not_refill_the_budget() {
        let record = AgentRecord { restarts: vec![at(9_000), at(9_001), at(1_000)], ..AgentRecord::default() };
        assert_eq!(restarts_within(&record, &policy(), at(1_700)), 2);
        assert_eq!(restarts_within(&record, &policy(), at(9_100)), 2);
    }

    #[test]
    fn a_stable_time_resets_the_back_off() {
        let record = AgentRecord { streak: 9, up_since: Some(at(0)), ..AgentRecord::default() };
        assert_eq!(
            after_end(&kaede(), &record, &policy(), &DownCause::PaneDied, at(600), 7),
            Restart::At(at(600), Budget::Counted)
        );
    }

    #[test]
    fn policies_tell_a_clean_end_from_a_fault() {
        let record = AgentRecord::default();
        let transient = RestartPolicy { policy: RestartKind::Transient, ..policy() };
        let temporary = RestartPolicy { policy: RestartKind::Temporary, ..policy() };
        assert_eq!(after_end(&kaede(), &record, &transient, &DownCause::Clean, at(1), 7), Restart::Hold(Hold::Ended));
        assert_eq!(
            after_end(&kaede(), &record, &transient, &DownCause::PaneDied, at(1), 7),
            Restart::At(at(1), Budget::Counted)
        );
        assert_eq!(
            after_end(&kaede(), &record, &temporary, &DownCause::PaneDied, at(1), 7),
            Restart::Hold(Hold::Ended)
        );
    }
}
