//! What an agent's CLI says of its own state, by a hook or in its stream of events.

use super::time::Timestamp;

/// One such word. The newest counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Signal {
    /// It works.
    Busy,
    /// It waits for a human's answer.
    Waiting {
        /// What for.
        reason: String,
    },
    /// A usage limit is in force.
    Limited {
        /// When it will end, if known.
        until: Option<Timestamp>,
        /// What it said.
        reason: String,
    },
    /// Its turn is over: it has nothing more to do and should end.
    Over,
}
