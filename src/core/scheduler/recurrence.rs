//! Tasks that come again: when the next run begins, and what becomes of runs that nobody could begin in time.

use std::str::FromStr;
use std::time::Duration;

use chrono::{DateTime, TimeZone};
use chrono_tz::Tz;
use croner::Cron;

use crate::core::Core;
use crate::core::fact::Fact;
use crate::core::state::{Phase, TaskRecord};
use crate::model::id::TaskId;
use crate::model::task::{Every, Missed};
use crate::model::time::Timestamp;

/// How late a run may begin before it counts as missed.
const PUNCTUAL: Duration = Duration::from_secs(60);

/// Returns the first time after another at which a run begins; nothing if there is none.
#[must_use]
pub(in crate::core) fn next_after(every: &Every, after: Timestamp) -> Option<Timestamp> {
    let zone = Tz::from_str(&every.zone).ok()?;
    let cron = Cron::from_str(&every.cron).ok()?;
    let after: DateTime<Tz> = zone.timestamp_millis_opt(after.as_millis()).single()?;
    let next = cron.find_next_occurrence(&after, false).ok()?;
    Some(Timestamp::from_millis(next.timestamp_millis()))
}

/// Returns when the run begins that follows one that began at `base`: in the future, or at once.
pub(in crate::core) fn following(every: &Every, base: Timestamp, now: Timestamp) -> Option<Timestamp> {
    let next = next_after(every, base)?;
    if next > now {
        return Some(next);
    }
    match every.missed {
        Missed::All => Some(next),
        Missed::Once => Some(now),
        Missed::Skip if now.since(next) <= PUNCTUAL => Some(next),
        Missed::Skip => next_after(every, now),
    }
}

/// Returns when something must be done about a task that comes again; `now`, if its next run is not scheduled.
pub(in crate::core) fn wake_at(record: &TaskRecord, now: Timestamp) -> Option<Timestamp> {
    let every = record.spec.every.as_ref()?;
    match record.phase {
        Phase::Waiting { .. } if record.is_scheduled || record.attempt > 0 => None,
        Phase::Waiting { .. } => following(every, record.occurrence(), now).map(|_| now),
        Phase::Done { .. } | Phase::Failed { .. } if !record.detached => following(every, record.occurrence(), now),
        Phase::Done { .. } | Phase::Failed { .. } => None,
        Phase::Queued | Phase::Merging { .. } | Phase::Cancelled { .. } => None,
    }
}

impl Core {
    /// Begins the runs that are due, and schedules those that are not.
    pub(in crate::core) fn wake_recurring(&mut self) {
        for task in self.index.recurring_due(self.now) {
            let Some(record) = self.durable.tasks.get(&task) else { continue };
            let Some(every) = record.spec.every.clone() else { continue };
            let (base, target) = (record.occurrence(), record.target.clone());
            let Some(at) = following(&every, base, self.now) else { continue };
            let is_waiting = matches!(record.phase, Phase::Waiting { .. });
            if !is_waiting {
                if at > self.now {
                    self.index.update(&self.durable, &task, self.now);
                    continue;
                }
                let run = self.fresh_run();
                self.record(Fact::TaskRetried { task: task.clone(), run, target, no_cache: false });
            }
            self.record(Fact::RunScheduled { task, at });
        }
    }

    /// Lets a task that comes again begin a run at once, because somebody asked for it.
    pub(in crate::core) fn schedule_now(&mut self, task: &TaskId) {
        if self.durable.tasks.get(task).is_some_and(|record| record.spec.every.is_some()) {
            self.record(Fact::RunScheduled { task: task.clone(), at: self.now });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn every(cron: &str, zone: &str, missed: Missed) -> Every {
        Every { cron: cron.to_owned(), zone: zone.to_owned(), missed }
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn nexts(cron: &str, zone: &str, from: &str, count: usize) -> Vec<String> {
        let every = every(cron, zone, Missed::Once);
        let mut time = at(from);
        let mut next = || {
            time = next_after(&every, time).unwrap();
            time.to_string()
        };
        (0..count).map(|_| next()).collect()
    }

    #[test]
    fn times_are_those_of_the_zone() {
        assert_eq!(
            nexts("0 3 * * *", "Asia/Tokyo", "2026-11-20T12:00:00Z", 2),
            ["2026-11-20T18:00:00.000Z", "2026-11-21T18:00:00.000Z"]
        );
        assert_eq!(
            nexts("*/15 9 * * MON-FRI", "UTC", "2026-11-20T09:44:59Z", 3),
            ["2026-11-20T09:45:00.000Z", "2026-11-23T09:00:00.000Z", "2026-11-23T09:15:00.000Z"]
        );
    }

    #[test]
    fn a_day_on_which_the_clocks_change_has_one_run() {
        // 2:30 does not exist on the 29th of March in Berlin, and exists twice on the 25th of October.
        assert_eq!(
            nexts("30 2 * * *", "Europe/Berlin", "2026-03-28T02:00:00Z", 2),
            ["2026-03-29T01:00:00.000Z", "2026-03-30T00:30:00.000Z"]
        );
        assert_eq!(
            nexts("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00:00Z", 2),
            ["2026-10-25T00:30:00.000Z", "2026-10-26T01:30:00.000Z"]
        );
    }

    #[test]
    fn missed_runs_are_made_up_for_as_asked() {
        let (base, now) = (at("2026-11-20T00:00:00Z"), at("2026-11-20T05:30:00Z"));
        let of = |missed| following(&every("0 * * * *", "UTC", missed), base, now).unwrap().to_string();
        assert_eq!(of(Missed::All), "2026-11-20T01:00:00.000Z");
        assert_eq!(of(Missed::Once), "2026-11-20T05:30:00.000Z");
        assert_eq!(of(Missed::Skip), "2026-11-20T06:00:00.000Z");
        let late = following(&every("0 * * * *", "UTC", Missed::Skip), base, at("2026-11-20T01:00:59Z")).unwrap();
        assert_eq!(late.to_string(), "2026-11-20T01:00:00.000Z", "a minute is not late");
    }
}
