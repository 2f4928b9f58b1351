//! What `[defaults]` and every agent may say of time and restarts.

use std::time::Duration;

use super::super::keys;
use super::super::read;
use super::super::report::{Note, Report};
use super::super::section::{Field, Section};
use super::super::source::Span;
use super::super::tree::Node;
use crate::model::agent::{RestartKind, RestartPolicy, StallAnswer};
use crate::model::fault_code::Mistake;
use crate::model::span;

/// The shortest heartbeat: a beat is a file that is replaced, and the supervisor reads every one.
const HEARTBEAT_MIN: Duration = Duration::from_millis(50);

/// The shortest of all other durations.
const SHORTEST: Duration = Duration::from_millis(1);

/// The words of `policy`.
const POLICIES: [(&str, RestartKind); 3] = [
    ("permanent", RestartKind::Permanent),
    ("transient", RestartKind::Transient),
    ("temporary", RestartKind::Temporary),
];

/// A setting and where it comes from, so that a contradiction can show both of its sides.
#[derive(Debug, Clone, Copy)]
pub(super) struct Setting<T> {
    /// What holds.
    pub(super) value: T,
    origin: Origin,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Origin {
    BuiltIn,
    Written(Span),
    /// What was written is wrong and has been told; nothing may be concluded from it.
    Broken,
}

impl<T: Copy> Setting<T> {
    const fn built_in(value: T) -> Self {
        Self { value, origin: Origin::BuiltIn }
    }

    /// Takes what a table says, or what held before.
    fn or(field: &Field<T>, base: Self) -> Self {
        match field {
            Field::Given(value, span) => Self { value: *value, origin: Origin::Written(*span) },
            Field::Absent => base,
            Field::Broken => Self { value: base.value, origin: Origin::Broken },
        }
    }
}

/// Durations and restart policy of an agent, or of all.
#[derive(Debug, Clone, Copy)]
pub(super) struct Timing {
    pub(super) heartbeat: Setting<Duration>,
    pub(super) heartbeat_timeout: Setting<Duration>,
    pub(super) start_timeout: Setting<Duration>,
    pub(super) stop_timeout: Setting<Duration>,
    pub(super) timeout: Setting<Duration>,
    pub(super) stall: Setting<Duration>,
    pub(super) on_stall: Setting<StallAnswer>,
    restart: Restart,
}

#[derive(Debug, Clone, Copy)]
struct Restart {
    policy: Setting<RestartKind>,
    intensity: Setting<u32>,
    period: Setting<Duration>,
    backoff: Setting<Duration>,
    backoff_max: Setting<Duration>,
    reset_after: Setting<Duration>,
}

impl Timing {
    /// Returns what holds when nothing is written.
    pub(super) const fn built_in() -> Self {
        const fn seconds(seconds: u64) -> Setting<Duration> {
            Setting::built_in(Duration::from_secs(seconds))
        }
        Self {
            heartbeat: seconds(5),
            heartbeat_timeout: seconds(30),
            start_timeout: seconds(30),
            stop_timeout: seconds(10),
            timeout: seconds(45 * 60),
            stall: seconds(20 * 60),
            on_stall: Setting::built_in(StallAnswer::Escalate),
            restart: Restart {
                policy: Setting::built_in(RestartKind::Permanent),
                intensity: Setting::built_in(5),
                period: seconds(10 * 60),
                backoff: seconds(1),
                backoff_max: seconds(5 * 60),
                reset_after: seconds(10 * 60),
            },
        }
    }

    /// Reads what a table says, on top of what held before.
    pub(super) fn read(section: &Section<'_>, base: &Self, report: &mut Report<'_>) -> Self {
        let heartbeat = duration(section, "heartbeat", HEARTBEAT_MIN, report);
        let heartbeat_timeout = duration(section, "heartbeat_timeout", SHORTEST, report);
        let timing = Self {
            heartbeat: Setting::or(&heartbeat, base.heartbeat),
            heartbeat_timeout: Setting::or(&heartbeat_timeout, base.heartbeat_timeout),
            start_timeout: Setting::or(&duration(section, "start_timeout", SHORTEST, report), base.start_timeout),
            stop_timeout: Setting::or(&duration(section, "stop_timeout", SHORTEST, report), base.stop_timeout),
            timeout: Setting::or(&duration(section, "timeout", SHORTEST, report), base.timeout),
            stall: Setting::or(&duration(section, "stall", SHORTEST, report), base.stall),
            on_stall: Setting::or(
                &section.field("on_stall", report, |key, node, report| {
                    read::choice(key, &StallAnswer::ALL.map(|answer| (answer.as_str(), answer)), node, report)
                }),
                base.on_stall,
            ),
            restart: base.restart.read(section, report),
        };
        let is_new = heartbeat.span().is_some() || heartbeat_timeout.span().is_some();
        if is_new && timing.heartbeat_timeout.value <= timing.heartbeat.value {
            let sides = [("heartbeat_timeout", timing.heartbeat_timeout), ("heartbeat", timing.heartbeat)];
            contradiction(sides, "longer than", "a healthy agent would be suspected between two beats", report);
        }
        timing
    }

    /// Returns the restart policy.
    pub(super) const fn restart(&self) -> RestartPolicy {
        RestartPolicy {
            policy: self.restart.policy.value,
            intensity: self.restart.intensity.value,
            period: self.restart.period.value,
            backoff: self.restart.backoff.value,
            backoff_max: self.restart.backoff_max.value,
            reset_after: self.restart.reset_after.value,
        }
    }
}

impl Restart {
    fn read(&self, outer: &Section<'_>, report: &mut Report<'_>) -> Self {
        let Some(entry) = outer.entry("restart") else { return *self };
        let section = Section::open(&entry.key, &entry.node, entry.key_span, keys::agents::RESTART.keys, report);
        let policy = section.field("policy", report, |key, node, report| read::choice(key, &POLICIES, node, report));
        let intensity = section.field("intensity", report, |key, node, report| {
            read::count(key, 0..=keys::agents::INTENSITY_MAX, node, report)
        });
        let backoff = duration(&section, "backoff", SHORTEST, report);
        let backoff_max = duration(&section, "backoff_max", SHORTEST, report);
        let restart = Self {
            policy: Setting::or(&policy, self.policy),
            intensity: Setting::or(&intensity, self.intensity),
            period: Setting::or(&duration(&section, "period", SHORTEST, report), self.period),
            backoff: Setting::or(&backoff, self.backoff),
            backoff_max: Setting::or(&backoff_max, self.backoff_max),
            reset_after: Setting::or(&duration(&section, "reset_after", SHORTEST, report), self.reset_after),
        };
        let is_new = backoff.span().is_some() || backoff_max.span().is_some();
        if is_new && restart.backoff_max.value < restart.backoff.value {
            let sides = [("backoff_max", restart.backoff_max), ("backoff", restart.backoff)];
            contradiction(sides, "at least as long as", "the waits grow from the one to the other", report);
        }
        restart
    }
}

fn duration(section: &Section<'_>, name: &'static str, min: Duration, report: &mut Report<'_>) -> Field<Duration> {
    section
        .field(name, report, |key: &str, node: &Node, report: &mut Report<'_>| read::duration(key, min, node, report))
}

/// Tells that two settings cannot hold together, at the one that was written last.
fn contradiction(sides: [(&str, Setting<Duration>); 2], must_be: &str, why: &str, report: &mut Report<'_>) {
    let [(long, long_set), (short, short_set)] = sides;
    let message = format!(
        "`{long}` ({}) must be {must_be} `{short}` ({})",
        span::format(long_set.value),
        span::format(short_set.value)
    );
    let (at, other) = match (long_set.origin, short_set.origin) {
        (Origin::Broken, _) | (_, Origin::Broken) | (Origin::BuiltIn, Origin::BuiltIn) => return,
        (Origin::Written(at), Origin::BuiltIn) | (Origin::BuiltIn, Origin::Written(at)) => (at, None),
        (Origin::Written(at), Origin::Written(other)) if at > other => (at, Some((other, short))),
        (Origin::Written(other), Origin::Written(at)) => (at, Some((other, long))),
    };
    let mut note = Note::new(Mistake::Contradiction, at, message).help(why);
    if let Some((span, name)) = other {
        note = note.related(span, format!("`{name}` is set here"));
    }
    report.add(note);
}
