//! The one table of an agent's life: which news moves it from which state to which.
//!
//! Every change of state goes through [`targets`]: what the table does not name cannot happen, and what it leaves empty changes
//! nothing. The table in docs/operations.md is made from this one.

/// The states, without what they hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// Nothing of it runs, and it is started next unless something holds it.
    Absent,
    /// A pane was asked for.
    Spawning,
    /// The pane is there; the first ready beat is awaited.
    Starting,
    /// It beats: idle, busy, waiting for a human, or limited.
    Up,
    /// One sign says that it hangs; a second one is looked for.
    Suspect,
    /// It was told to end: SIGTERM, then SIGKILL.
    Stopping,
    /// Its pane is gone; every process that it left is ended.
    Clearing,
    /// It is started again at a known time.
    BackingOff,
    /// Its restart budget is used up: it stays down, and an alert is raised.
    CrashLoop,
    /// The operator keeps it down.
    Paused,
    /// It ended, and its restart policy leaves it so.
    Ended,
}

/// The news of an agent's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum News {
    /// The supervisor found its pane at the start.
    Found,
    /// The supervisor found nothing, or too much, at the start.
    Lost,
    /// Nothing holds it, nothing drains, nothing is frozen.
    Wanted,
    /// Something holds it, or agents.toml has another one or none, and it has no work in hand.
    Held,
    /// Its pane was made.
    Spawned,
    /// Its pane could not be made.
    SpawnFailed,
    /// It beats and is ready.
    ReadyBeat,
    /// Looks at it, apart from each other, say that it hangs.
    SecondSign,
    /// Its attempt stands still or is far beyond its limits, and a restart is the answer.
    Hopeless,
    /// Its pane's process has ended.
    PaneDied,
    /// Nothing of it is left; its restart policy decides.
    Cleared,
    /// What it waited for in its state did not come in time.
    Due,
    /// The operator wants it to be started anew.
    RestartAsked,
    /// The operator lets it run again.
    Released,
    /// The supervisor is going down, and it has no work in hand or no time left.
    Drained,
}

impl State {
    /// All states, in the order of a life.
    pub const ALL: [Self; 11] = [
        Self::Absent,
        Self::Spawning,
        Self::Starting,
        Self::Up,
        Self::Suspect,
        Self::Stopping,
        Self::Clearing,
        Self::BackingOff,
        Self::CrashLoop,
        Self::Paused,
        Self::Ended,
    ];

    /// Returns the name for people.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Absent => "absent",
            Self::Spawning => "spawning",
            Self::Starting => "starting",
            Self::Up => "up",
            Self::Suspect => "suspect",
            Self::Stopping => "stopping",
            Self::Clearing => "clearing",
            Self::BackingOff => "backing-off",
            Self::CrashLoop => "crash-loop",
            Self::Paused => "paused",
            Self::Ended => "ended",
        }
    }
}

impl News {
    /// All news, in the order of a life.
    pub const ALL: [Self; 15] = [
        Self::Found,
        Self::Lost,
        Self::Wanted,
        Self::Held,
        Self::Spawned,
        Self::SpawnFailed,
        Self::ReadyBeat,
        Self::SecondSign,
        Self::Hopeless,
        Self::PaneDied,
        Self::Cleared,
        Self::Due,
        Self::RestartAsked,
        Self::Released,
        Self::Drained,
    ];

    /// Returns the words for people.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Found => "its pane is found at the start",
            Self::Lost => "no fitting pane is found at the start",
            Self::Wanted => "nothing holds it",
            Self::Held => "held, leaving or changed, and no work in hand",
            Self::Spawned => "its pane is made",
            Self::SpawnFailed => "its pane cannot be made",
            Self::ReadyBeat => "a ready heartbeat",
            Self::SecondSign => "a second sign that it hangs",
            Self::Hopeless => "its attempt is stalled or overdue",
            Self::PaneDied => "its pane dies",
            Self::Cleared => "nothing of it is left",
            Self::Due => "its state lasts too long",
            Self::RestartAsked => "`agent restart`",
            Self::Released => "`agent resume`",
            Self::Drained => "the supervisor goes down",
        }
    }
}

/// Returns the states that a piece of news can lead to; empty: it changes nothing.
///
/// Where there are several, the first that fits holds: a `Due` is tried a bounded number of times before it is given up, and
/// `Cleared` follows the restart policy.
#[must_use]
pub const fn targets(state: State, news: News) -> &'static [State] {
    use State::{Absent, BackingOff, Clearing, CrashLoop, Ended, Paused, Spawning, Starting, Stopping, Suspect, Up};
    match (state, news) {
        (Absent, News::Found) => &[Starting],
        (Absent, News::Lost) => &[Clearing],
        (Absent, News::Wanted) => &[Spawning],
        (Absent | BackingOff, News::Held) => &[CrashLoop, Paused, Ended],
        // Pausing what is down for another reason is remembered as the operator's wish.
        (CrashLoop | Paused | Ended, News::Held) => &[Paused],
        (Starting | Up | Suspect, News::Held | News::RestartAsked | News::Drained) => &[Stopping],
        (Spawning, News::Spawned) => &[Starting],
        (Spawning, News::SpawnFailed) => &[Clearing],
        (Starting | Up | Suspect, News::ReadyBeat) => &[Up],
        (Suspect, News::SecondSign) => &[Stopping],
        (Starting | Up | Suspect | Stopping, News::Hopeless) => &[Stopping],
        (Spawning | Starting | Up | Suspect | Stopping, News::PaneDied) => &[Clearing],
        (Clearing, News::Cleared) => &[Absent, BackingOff, CrashLoop, Paused, Ended],
        (Spawning, News::Due) => &[Spawning, Clearing],
        (Starting, News::Due) => &[Starting, Stopping],
        (Up | Suspect, News::Due) => &[Suspect],
        (Stopping, News::Due) => &[Stopping],
        (Clearing, News::Due) => &[Clearing],
        (BackingOff, News::Due) => &[Spawning, Absent],
        (BackingOff, News::RestartAsked) => &[Absent],
        (CrashLoop | Paused | Ended, News::Released) => &[Absent],

        (Absent, News::Spawned | News::SpawnFailed | News::ReadyBeat | News::SecondSign | News::Hopeless)
        | (Absent, News::PaneDied | News::Cleared | News::Due | News::RestartAsked | News::Released | News::Drained)
        | (
            Spawning | Starting | Up | Suspect | Stopping | Clearing | BackingOff | CrashLoop | Paused | Ended,
            News::Found | News::Lost | News::Wanted,
        )
        | (Spawning | Stopping | Clearing, News::Held | News::RestartAsked | News::Drained | News::Released)
        | (Starting | Up | Suspect | Stopping | Clearing, News::Spawned | News::SpawnFailed)
        | (BackingOff | CrashLoop | Paused | Ended, News::Spawned | News::SpawnFailed | News::ReadyBeat)
        | (Spawning | Stopping | Clearing, News::ReadyBeat)
        | (
            Spawning | Starting | Up | Stopping | Clearing | BackingOff | CrashLoop | Paused | Ended,
            News::SecondSign,
        )
        | (Spawning | Clearing | BackingOff | CrashLoop | Paused | Ended, News::Hopeless)
        | (Clearing | BackingOff | CrashLoop | Paused | Ended, News::PaneDied)
        | (Spawning | Starting | Up | Suspect | Stopping | BackingOff | CrashLoop | Paused | Ended, News::Cleared)
        | (CrashLoop | Paused | Ended, News::Due | News::RestartAsked | News::Drained)
        | (Starting | Up | Suspect | BackingOff, News::Released)
        | (BackingOff, News::Drained) => &[],
    }
}

/// Writes the table as Markdown, one row for each piece of news, without the pairs that change nothing.
#[must_use]
pub fn markdown() -> String {
    let mut text = "| What happens | From | To |\n| --- | --- | --- |\n".to_owned();
    for news in News::ALL {
        let mut rows: Vec<(&'static [State], Vec<&'static str>)> = Vec::new();
        for state in State::ALL {
            let to = targets(state, news);
            if to.is_empty() {
                continue;
            }
            match rows.iter_mut().find(|(known, _)| *known == to) {
                Some((_, from)) => from.push(state.as_str()),
                None => rows.push((to, vec![state.as_str()])),
            }
        }
        for (to, from) in rows {
            let to: Vec<&str> = to.iter().map(|state| state.as_str()).collect();
            text.push_str(&format!("| {} | {} | {} |\n", news.as_str(), from.join(", "), to.join(" or ")));
        }
    }
    text
}
