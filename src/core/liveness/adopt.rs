//! What is found when the supervisor comes back: panes that fit are adopted, everything else is cleared away.

use crate::core::Core;
use crate::core::effect::Effect;
use crate::core::event::{OrderPlace, PaneFound};
use crate::core::fact::DownCause;
use crate::core::team;
use crate::model::id::{AgentId, EnvelopeId, Incarnation};

use super::table::News;
use super::{Liveness, Pane};

impl Core {
    /// Returns who has a pane, as far as is known, and for which start.
    #[must_use]
    pub fn with_panes(&self) -> Vec<(AgentId, Incarnation)> {
        let have = self.agents.iter().filter(|(_, live)| live.state.pane().is_some());
        have.map(|(agent, _)| (agent.clone(), self.incarnation(agent))).collect()
    }

    /// Takes what was found at the start: matching panes are adopted, everything else is cleared away. Returns who was
    /// adopted, and what differed from the journal, for people.
    pub(in crate::core) fn reconcile_panes(
        &mut self,
        panes: &[PaneFound],
        orders: &[(AgentId, EnvelopeId, OrderPlace)],
    ) -> (Vec<AgentId>, Vec<String>) {
        let mut names: Vec<AgentId> = self.agents.keys().cloned().collect();
        names.extend(self.durable.agents.keys().filter(|agent| self.was_running(agent)).cloned());
        names.extend(panes.iter().map(|pane| pane.agent.clone()));
        names.extend(orders.iter().map(|(agent, _, _)| agent.clone()));
        names.sort();
        names.dedup();
        let (mut adopted, mut repaired) = (Vec::new(), Vec::new());
        for agent in names {
            let found: Vec<&PaneFound> = panes.iter().filter(|pane| pane.agent == agent).collect();
            let order = orders.iter().find(|(owner, _, _)| *owner == agent).map(|(_, _, place)| *place);
            let known = self.plan.agent(&agent).is_some();
            match (found.as_slice(), self.difference(&agent, &found, order)) {
                ([pane], None) => {
                    self.take_over(pane);
                    adopted.push(agent);
                }
                ([], None) if known => {
                    if let Some(hold) = self.hold_of(&agent) {
                        self.enter(&agent, News::Held, Liveness::Held(hold));
                    }
                }
                ([], None) => {
                    self.agents.remove(&agent);
                }
                ([] | [_, ..], difference) => {
                    repaired.extend(difference);
                    self.clear(&agent, News::Lost, DownCause::Lost);
                }
            }
        }
        (adopted, repaired)
    }

    /// Tells where pane, lease and journal disagree about an agent; nothing when they do not.
    fn difference(&self, agent: &AgentId, found: &[&PaneFound], order: Option<OrderPlace>) -> Option<String> {
        let expected = self.incarnation(agent);
        match found {
            [] if self.was_running(agent) && matches!(order, Some(OrderPlace::Leased(_))) => {
                Some(format!("{agent} has a lease and no pane"))
            }
            [] if self.was_running(agent) => Some(format!("{agent} has no pane any more")),
            [] if order.is_some() => Some(format!("{agent} has an order and is down")),
            [] => None,
            [pane] if !self.durable.agents.contains_key(agent) => {
                Some(format!("pane {} is of {agent}, whom nobody knows", pane.pane))
            }
            [pane] if pane.incarnation != expected => Some(format!(
                "pane {} is {agent}'s start {}, and {expected} is the newest",
                pane.pane, pane.incarnation
            )),
            [pane] if !self.is_current(agent, pane.incarnation) => {
                Some(format!("pane {} is of {agent}, who was said to be down", pane.pane))
            }
            [_] => match order {
                Some(OrderPlace::Leased(holder)) if holder != expected => {
                    Some(format!("{agent}'s lease is held by its start {holder}, and {expected} has the pane"))
                }
                // Reports were taken before: what is neither waiting nor held was lost, and nobody will report it.
                Some(OrderPlace::Done | OrderPlace::Dead) => Some(format!("{agent} has a pane, and its lease is gone")),
                Some(OrderPlace::Missing) if self.has_begun_order(agent) => {
                    Some(format!("{agent} has a pane, and its lease is gone"))
                }
                Some(OrderPlace::Leased(_) | OrderPlace::New | OrderPlace::Missing) | None => None,
            },
            [_, ..] => Some(format!("{agent} has {} panes", found.len())),
        }
    }

    fn take_over(&mut self, found: &PaneFound) {
        let agent = &found.agent;
        // An agent that is no longer in the team may end its work first.
        let spec = self.plan.agent(agent);
        let outdated = team::is_outdated(found.launched.as_deref(), spec);
        let deadline = self.now + self.start_slice(agent);
        self.push(Effect::AdoptPane {
            agent: agent.clone(),
            incarnation: found.incarnation,
            pane: found.pane.clone(),
            pid: found.pid,
        });
        let pane = Pane { id: found.pane.clone(), pid: found.pid };
        self.enter(agent, News::Found, Liveness::Starting { pane, deadline, slice: 1 });
        if let Some(live) = self.agents.get_mut(agent) {
            live.outdated = outdated;
        }
    }
}
