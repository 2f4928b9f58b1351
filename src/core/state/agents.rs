//! What facts mean for agents.

use crate::core::fact::{Budget, DownCause, Fact};
use crate::model::id::{AgentId, Incarnation};
use crate::model::time::Timestamp;

use super::{AgentRecord, Durable, IllegalFact, RESTARTS_KEPT_MAX, illegal};

impl Durable {
    #[expect(clippy::wildcard_enum_match_arm, reason = "apply names every variant; this is its part on agents")]
    pub(super) fn apply_to_agent(&mut self, fact: &Fact, at: Timestamp) -> Result<(), IllegalFact> {
        match fact {
            Fact::SpawnRequested { agent, incarnation, budget } => {
                let record = self.agents.entry(agent.clone()).or_default();
                let fits = *incarnation == record.incarnation.next()
                    && (record.down || record.incarnation == Incarnation(0))
                    && record.hold.is_none();
                if !fits {
                    return Err(illegal("spawn-requested", agent, record.describe()));
                }
                record.incarnation = *incarnation;
                record.down = false;
                record.up_since = None;
                match budget {
                    Budget::Free => {}
                    Budget::Counted => {
                        record.restarts.push(at);
                        if record.restarts.len() > RESTARTS_KEPT_MAX {
                            record.restarts.remove(0);
                        }
                    }
                }
                Ok(())
            }
            Fact::AgentUp { agent, incarnation } => {
                let record = self.running(agent, *incarnation, "agent-up")?;
                record.up_since = Some(at);
                Ok(())
            }
            Fact::AgentDown { agent, incarnation, cause, streak } => {
                let record = self.running(agent, *incarnation, "agent-down")?;
                record.down = true;
                record.streak = *streak;
                record.last_end = Some((at, cause.text()));
                if *cause == DownCause::Operator {
                    record.restarts.clear();
                }
                Ok(())
            }
            Fact::AgentHeld { agent, hold } => {
                self.agents.entry(agent.clone()).or_default().hold = Some(*hold);
                Ok(())
            }
            Fact::AgentReleased { agent } => {
                let record = self.agents.entry(agent.clone()).or_default();
                record.hold = None;
                record.streak = 0;
                record.restarts.clear();
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn running(
        &mut self,
        agent: &AgentId,
        incarnation: Incarnation,
        fact: &'static str,
    ) -> Result<&mut AgentRecord, IllegalFact> {
        let record = self.agents.get_mut(agent).ok_or_else(|| illegal(fact, agent, "unknown".to_owned()))?;
        if record.incarnation == incarnation && !record.down {
            Ok(record)
        } else {
            Err(illegal(fact, &format!("{agent}#{incarnation}"), record.describe()))
        }
    }
}

impl AgentRecord {
    fn describe(&self) -> String {
        let life = if self.down { "down" } else { "running" };
        match self.hold {
            Some(hold) => format!("{life} as incarnation {} and held: {hold:?}", self.incarnation),
            None => format!("{life} as incarnation {}", self.incarnation),
        }
    }
}
