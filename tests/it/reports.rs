//! Reports as a runner would write them, for tests without one.

use miyabi::model::id::Incarnation;
use miyabi::model::order::WorkOrder;
use miyabi::model::report::{Outcome, REPORT_SCHEMA, Report};
use miyabi::model::time::Timestamp;

/// Returns the report on an order that came to an end as it was to, at once, without a commit, a check or a cost.
pub(crate) fn report_on(order: &WorkOrder, incarnation: Incarnation, outcome: Outcome, at: Timestamp) -> Report {
    Report {
        schema: REPORT_SCHEMA.to_owned(),
        order: order.id,
        task: order.task.clone(),
        run: order.run,
        stage: order.stage.clone(),
        attempt: order.attempt,
        agent: order.agent.clone(),
        incarnation,
        outcome,
        failure: None,
        retry_at: None,
        summary: "so it went".to_owned(),
        commit: None,
        base: None,
        branch: None,
        checks: Vec::new(),
        output: String::new(),
        diff: String::new(),
        comments: Vec::new(),
        title: None,
        body: None,
        exit_code: Some(0),
        log: None,
        spent: None,
        started_at: at,
        ended_at: at,
    }
}
