//! The spool as the core and the runners see it: work orders in one folder each, and the supervisor's reports.

use std::collections::{BTreeMap, BTreeSet};

use miyabi::core::effect::Retire;
use miyabi::core::event::OrderPlace;
use miyabi::model::id::{AgentId, EnvelopeId, Incarnation, TaskId};
use miyabi::model::order::WorkOrder;
use miyabi::model::report::Report;
use miyabi::model::task::Priority;

/// One envelope with a work order.
#[derive(Debug, Clone)]
pub(super) struct Filed {
    pub(super) order: WorkOrder,
    pub(super) place: OrderPlace,
}

/// One envelope with a report.
#[derive(Debug, Clone)]
pub(super) struct Reported {
    pub(super) report: Report,
    /// The life of the supervisor that holds the lease, and when that ends.
    pub(super) taken: Option<(u64, i64)>,
    pub(super) acknowledged: bool,
}

#[derive(Debug, Default)]
pub(super) struct Spool {
    pub(super) orders: BTreeMap<EnvelopeId, Filed>,
    pub(super) reports: BTreeMap<EnvelopeId, Reported>,
    /// The orders that nobody has leased, most urgent and oldest first.
    waiting: BTreeMap<AgentId, BTreeSet<(Priority, EnvelopeId)>>,
    /// The reports that are not acknowledged.
    open_reports: BTreeSet<EnvelopeId>,
}

impl Spool {
    /// Delivers an order; an id that was accepted before is not accepted again, wherever its envelope is now.
    pub(super) fn deliver(&mut self, order: &WorkOrder) {
        if !self.orders.contains_key(&order.id) {
            self.waiting.entry(order.agent.clone()).or_default().insert((order.priority, order.id));
            self.orders.insert(order.id, Filed { order: order.clone(), place: OrderPlace::New });
        }
    }

    /// Gives the most urgent, then oldest, order of an agent into the hands of one of its incarnations.
    pub(super) fn lease(&mut self, agent: &AgentId, incarnation: Incarnation) -> Option<WorkOrder> {
        let (_, id) = self.waiting.get_mut(agent)?.pop_first()?;
        let filed = self.orders.get_mut(&id)?;
        filed.place = OrderPlace::Leased(incarnation);
        Some(filed.order.clone())
    }

    pub(super) fn place(&self, id: EnvelopeId) -> OrderPlace {
        self.orders.get(&id).map_or(OrderPlace::Missing, |filed| filed.place)
    }

    /// Acknowledges an order for its holder; a name that is gone counts as acknowledged.
    pub(super) fn ack(&mut self, id: EnvelopeId, holder: Incarnation) {
        if let Some(filed) = self.orders.get_mut(&id)
            && filed.place == OrderPlace::Leased(holder)
        {
            filed.place = OrderPlace::Done;
        }
    }

    /// Takes an order out of `new` or `leased`; says who held it.
    pub(super) fn retire(&mut self, id: EnvelopeId, how: &Retire) -> Option<AgentId> {
        let filed = self.orders.get_mut(&id)?;
        match filed.place {
            OrderPlace::New | OrderPlace::Leased(_) => {
                filed.place = match how {
                    Retire::Done => OrderPlace::Done,
                    Retire::Dead { .. } => OrderPlace::Dead,
                };
                if let Some(waiting) = self.waiting.get_mut(&filed.order.agent) {
                    waiting.remove(&(filed.order.priority, id));
                }
                Some(filed.order.agent.clone())
            }
            OrderPlace::Done | OrderPlace::Dead | OrderPlace::Missing => None,
        }
    }

    /// Returns the orders of an agent that wait or are in somebody's hands.
    pub(super) fn open(&self, agent: &AgentId) -> Vec<EnvelopeId> {
        self.orders
            .iter()
            .filter(|(_, filed)| filed.order.agent == *agent)
            .filter(|(_, filed)| matches!(filed.place, OrderPlace::New | OrderPlace::Leased(_)))
            .map(|(id, _)| *id)
            .collect()
    }

    /// Returns the orders of a task that wait or are in somebody's hands.
    pub(super) fn open_of(&self, task: &TaskId) -> Vec<EnvelopeId> {
        self.orders
            .iter()
            .filter(|(_, filed)| filed.order.task == *task)
            .filter(|(_, filed)| matches!(filed.place, OrderPlace::New | OrderPlace::Leased(_)))
            .map(|(id, _)| *id)
            .collect()
    }

    /// Delivers a report; the same id is accepted once.
    pub(super) fn report(&mut self, id: EnvelopeId, report: Report) {
        if !self.reports.contains_key(&id) {
            self.open_reports.insert(id);
            self.reports.insert(id, Reported { report, taken: None, acknowledged: false });
        }
    }

    /// Leases the reports that nobody of this life holds.
    pub(super) fn take_reports(&mut self, life: u64, now: i64) -> Vec<(EnvelopeId, Report)> {
        const LEASE_MS: i64 = 60_000;
        let mut taken = Vec::new();
        for id in &self.open_reports {
            let Some(filed) = self.reports.get_mut(id) else { continue };
            let held = filed.taken.is_some_and(|(holder, until)| holder == life && until > now);
            if !held {
                filed.taken = Some((life, now + LEASE_MS));
                taken.push((*id, filed.report.clone()));
            }
        }
        taken
    }

    /// Returns the reports of one incarnation that are not acknowledged.
    pub(super) fn reports_of(&self, agent: &AgentId, incarnation: Incarnation) -> Vec<(EnvelopeId, Report)> {
        self.reports
            .iter()
            .filter(|(_, filed)| !filed.acknowledged)
            .filter(|(_, filed)| filed.report.agent == *agent && filed.report.incarnation == incarnation)
            .map(|(id, filed)| (*id, filed.report.clone()))
            .collect()
    }

    pub(super) fn ack_report(&mut self, receipt: &str) {
        if let Some((id, filed)) = self.reports.iter_mut().find(|(id, _)| id.to_string() == receipt) {
            filed.acknowledged = true;
            let id = *id;
            self.open_reports.remove(&id);
        }
    }
}
