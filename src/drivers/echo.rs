//! The `echo` driver: answers with its order. The smallest driver, for trying things out.
//!
//! It changes no file, so in a repository only tasks with `no_change: ok` succeed. The answer is also the report's summary.

use super::Start;
use crate::model::order::WorkOrder;

/// Answers with the order's prompt.
#[must_use]
pub fn start(order: &WorkOrder, prompt: &str) -> Start {
    let answer = if prompt.trim().is_empty() { order.task.to_string() } else { prompt.to_owned() };
    Start::Answer(answer)
}
