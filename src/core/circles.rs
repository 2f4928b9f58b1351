//! Tasks that wait for one another although each source of needs is good on its own: a file says one thing, GitHub another.
//!
//! What is in such a circle waits, and everything else goes on. Circles within files never come into force.

use std::collections::BTreeMap;

use petgraph::graph::{DiGraph, NodeIndex};

use crate::model::alert::{Alert, AlertKind};
use crate::model::id::TaskId;

use super::Core;
use super::dag;
use super::state::{Phase, TaskRecord};

/// How many circles are told.
const CIRCLES_MAX: usize = 100;

/// How many needs of one circle are told with their origins.
const NEEDS_MAX: usize = 20;

impl Core {
    /// Looks for circles, if what tasks need has changed.
    pub(super) fn settle_circles(&mut self) {
        let is_waiting = |task: &TaskId| {
            matches!(self.durable.tasks.get(task).map(|record| &record.phase), Some(Phase::Waiting { .. }))
        };
        let is_over = !self.circles.iter().flatten().all(is_waiting);
        if !self.index.take_changed() && !is_over || !self.plan.uses_github() {
            return;
        }
        self.circles = self.find_circles();
        let alerts: Vec<Alert> = self.circles.iter().filter_map(|circle| self.tell_circle(circle)).collect();
        for alert in alerts {
            self.raise(alert);
        }
    }

    fn find_circles(&self) -> Vec<Vec<TaskId>> {
        let is_waiting =
            |record: &TaskRecord| matches!(record.phase, Phase::Waiting { .. }) && !record.waits_for_merge();
        let waiting = self.durable.tasks.iter().filter(|(_, record)| is_waiting(record));
        let mut graph: DiGraph<&TaskId, ()> = DiGraph::new();
        let mut index: BTreeMap<&TaskId, NodeIndex> = BTreeMap::new();
        for (task, _) in waiting.clone() {
            index.insert(task, graph.add_node(task));
        }
        for (task, record) in waiting {
            for need in record.spec.needs.iter().rev() {
                if let (Some(from), Some(to)) = (index.get(task), index.get(need)) {
                    graph.add_edge(*from, *to, ());
                }
            }
        }
        let circles = dag::shortest_cycles(&graph).into_iter().take(CIRCLES_MAX);
        circles.map(|circle| circle.into_iter().map(|node| graph[node].clone()).collect()).collect()
    }

    fn tell_circle(&self, circle: &[TaskId]) -> Option<Alert> {
        let first = circle.first()?;
        let text = format!(
            "{}; none of them can begin, everything else goes on: take one of these needs away",
            self.circle_text(circle)
        );
        let kind = AlertKind::Circle;
        Some(Alert { kind, agent: None, task: Some(first.clone()), attempt: None, since: self.now, text })
    }

    /// Names a circle as one whole path, with the origin of every need.
    pub(super) fn circle_text(&self, circle: &[TaskId]) -> String {
        let closed: Vec<&TaskId> = circle.iter().chain(circle.first()).collect();
        let path: Vec<&str> = closed.iter().map(|task| task.as_str()).collect();
        let mut needs: Vec<String> = Vec::new();
        for pair in closed.windows(2).take(NEEDS_MAX) {
            let [task, need] = pair else { continue };
            needs.push(format!("{task} needs {need} ({})", self.origins_of(task, need).join("; ")));
        }
        format!("tasks wait for one another: {}: {}", path.join(" -> "), needs.join(", "))
    }

    /// Returns the circle that a task is in, if any.
    pub(super) fn circle_of(&self, task: &TaskId) -> Option<&Vec<TaskId>> {
        self.circles.iter().find(|circle| circle.contains(task))
    }
}
