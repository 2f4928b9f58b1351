//! The words in which facts are told.

use super::{Then, Told};
use crate::model::id::{AgentId, Incarnation, TaskId};

impl Then {
    pub(super) fn text(&self) -> String {
        match self {
            Self::Done => "; the task is done".to_owned(),
            Self::Merge => "; it is merged next".to_owned(),
            Self::Stage { stage } => format!("; the stage {} is next", stage.as_str()),
            Self::Rework => "; it goes back to whoever did it".to_owned(),
            Self::Redo => "; it does not hold where it would be merged, and goes back to whoever did it".to_owned(),
            Self::Retry { not_before } => format!("; again from {not_before} on"),
            Self::GiveUp => "; its attempts are used up, and the task is dead".to_owned(),
        }
    }
}

impl Told {
    pub(super) const fn new(kind: &'static str, text: String) -> Self {
        Self { kind, agent: None, incarnation: None, task: None, attempt: None, text }
    }

    pub(super) fn of_agent(self, agent: &AgentId, incarnation: Incarnation) -> Self {
        Self { agent: Some(agent.clone()), incarnation: Some(incarnation), ..self }
    }

    pub(super) fn of_task(self, task: &TaskId) -> Self {
        Self { task: Some(task.clone()), ..self }
    }

    pub(super) fn of_attempt(self, task: &TaskId, attempt: u32) -> Self {
        Self { task: Some(task.clone()), attempt: Some(attempt), ..self }
    }
}
