//! Orders that must leave their mailboxes: each is asked for until it is known to be out, and until then nothing is begun that
//! it could collide with.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::model::id::{AgentId, EnvelopeId, TaskId};
use crate::model::time::Timestamp;

use super::Core;
use super::effect::{Effect, Retire};

/// How long an order may take to leave its mailbox before it is asked for again.
const ASK_AGAIN: Duration = Duration::from_secs(5);

/// An order on its way out of its mailbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Retiring {
    agent: AgentId,
    task: TaskId,
    how: Retire,
    pub(super) again_at: Timestamp,
}

impl Core {
    /// Takes an order out of its mailbox, for certain.
    pub(super) fn retire(&mut self, agent: &AgentId, envelope: EnvelopeId, task: &TaskId, how: Retire) {
        let again_at = self.now + ASK_AGAIN;
        self.push(Effect::RetireOrder { agent: agent.clone(), envelope, how: how.clone() });
        self.retiring.insert(envelope, Retiring { agent: agent.clone(), task: task.clone(), how, again_at });
    }

    pub(super) fn on_retired(&mut self, envelope: EnvelopeId) {
        self.retiring.remove(&envelope);
    }

    /// Asks again for orders that are not known to be out of their mailboxes.
    pub(super) fn wake_retiring(&mut self) {
        let now = self.now;
        let mut effects = Vec::new();
        for (envelope, retiring) in self.retiring.iter_mut().filter(|(_, retiring)| retiring.again_at <= now) {
            retiring.again_at = now + ASK_AGAIN;
            let (agent, how) = (retiring.agent.clone(), retiring.how.clone());
            effects.push(Effect::RetireOrder { agent, envelope: *envelope, how });
        }
        for effect in effects {
            self.push(effect);
        }
    }

    /// Says whether an order that is over may still lie in an agent's mailbox: beside it no other is written.
    pub(super) fn has_stray_order(&self, agent: &AgentId) -> bool {
        self.retiring.values().any(|retiring| retiring.agent == *agent)
    }

    /// Says whether an earlier order of a task may still be leased by somebody; one whose report is in was done.
    pub(super) fn is_retiring(&self, task: &TaskId) -> bool {
        self.retiring.values().any(|retiring| retiring.task == *task && retiring.how != Retire::Done)
    }

    /// Returns the tasks whose earlier orders may still be leased by somebody.
    pub(super) fn retiring_tasks(&self) -> BTreeSet<&TaskId> {
        self.retiring.values().filter(|retiring| retiring.how != Retire::Done).map(|retiring| &retiring.task).collect()
    }

    /// Takes the newest order of each agent out of its mailbox again, if its attempt has ended: the supervisor may have died
    /// between the record and the act, and nobody may lease it any more.
    pub(super) fn retire_again(&mut self) {
        let last: Vec<(AgentId, TaskId, EnvelopeId)> = self
            .durable
            .agents
            .iter()
            .filter_map(|(agent, record)| {
                let (task, envelope) = record.last_order.clone()?;
                Some((agent.clone(), task, envelope))
            })
            .collect();
        for (agent, task, envelope) in last {
            let is_open = self.index.open_order(&agent).is_some_and(|(_, open)| open == envelope);
            if is_open {
                continue;
            }
            let attempts = self.durable.tasks.get(&task).map(|record| record.attempts.as_slice()).unwrap_or_default();
            let how = match attempts.iter().find(|attempt| attempt.envelope == envelope) {
                Some(attempt) if attempt.report.is_some() => Retire::Done,
                Some(attempt) => Retire::Dead { reason: attempt.reason.clone().unwrap_or_default() },
                None => Retire::Dead { reason: "its run is over".to_owned() },
            };
            self.retire(&agent, envelope, &task, how);
        }
    }
}
