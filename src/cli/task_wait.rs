//! Waiting for tasks: `miyabi task wait` and `miyabi submit --wait`.

use std::collections::{BTreeMap, BTreeSet};

use super::board::task_tone;
use super::context::Context;
use super::failure::{Ended, Result};
use super::output::one_line;
use crate::control::client::Client;
use crate::control::protocol::Call;
use crate::core::snapshot::{TaskState, TaskView};
use crate::model::id::TaskId;

/// Waits until all tasks have ended; none named: all that there are. States go to standard error.
///
/// # Errors
/// Exit code 3 when there is no supervisor, or when it ends first.
pub fn wait(context: &Context, client: &Client, ids: &BTreeSet<TaskId>) -> Result {
    let mut states: BTreeMap<TaskId, TaskState> = BTreeMap::new();
    for task in client.stream::<TaskView>(Call::WaitTask { ids: ids.iter().cloned().collect() })? {
        let task = task?;
        let before = states.insert(task.id.clone(), task.state);
        // Of a task that was done long ago nobody wants to hear, unless it was asked for.
        let news = before != Some(task.state) && !(before.is_none() && ids.is_empty() && task.state.is_settled());
        if news {
            context.out.note(&describe(context, &task));
        }
    }
    let all_done =
        ids.iter().all(|id| states.contains_key(id)) && states.values().all(|state| *state == TaskState::Done);
    Ok(if all_done { Ended::Well } else { Ended::NotWell })
}

fn describe(context: &Context, task: &TaskView) -> String {
    let state = context.out.note_color.paint(task_tone(task.state), task.state.as_str());
    let mut line = format!("{} {state}", task.id);
    if let Some(agent) = &task.agent {
        line.push_str(&format!(" · {agent}"));
    }
    if task.attempt > 1 {
        line.push_str(&format!(" · attempt {}", task.attempt));
    }
    if let Some(reason) = &task.reason {
        line.push_str(&format!(" · {}", one_line(reason)));
    }
    line
}
