//! The picture of everything: what `status` shows once and `status --watch` keeps showing.

use crate::control::protocol::{Status, SupervisorState};
use crate::core::snapshot::{AgentState, AgentView, QueueView, TaskState};
use crate::model::alert::AlertKind;
use crate::model::time::Timestamp;

use super::output::{Color, Tone, one_line};
use super::table::{Cell, Table, cut};
use super::when;

/// Draws the picture; lines longer than `width` are cut.
#[must_use]
pub fn draw(status: &Status, now: Timestamp, color: Color, width: Option<usize>) -> String {
    let mut text = heading(status, now, color, width);
    text.push_str(&notices(status, color, width));
    text.push('\n');
    text.push_str(&agents(&status.agents, now).render(color, width));
    text.push('\n');
    text.push_str(&tasks(status, color));
    for queue in &status.merge_queues {
        let names: Vec<&str> = queue.tasks.iter().map(|task| task.as_str()).collect();
        let line = format!("MERGES {} of {}: {}", names.len(), queue.repository, names.join(", "));
        text.push_str(&color.paint(Tone::Faint, &cut(&one_line(&line), width.unwrap_or(usize::MAX))));
        text.push('\n');
    }
    let busy: Vec<&QueueView> =
        status.queues.iter().filter(|queue| queue.new + queue.leased + queue.later + queue.dead > 0).collect();
    if !busy.is_empty() {
        text.push('\n');
        text.push_str(&queues(&busy).render(color, width));
    }
    if !status.faults.is_empty() {
        text.push('\n');
        for fault in &status.faults {
            let line = one_line(&fault.to_string());
            text.push_str(&color.paint(Tone::Bad, &cut(&line, width.unwrap_or(usize::MAX))));
            text.push('\n');
        }
        text.push_str(&color.paint(Tone::Faint, "the last good version stays in force; see `miyabi dag check`"));
        text.push('\n');
    }
    text
}

fn heading(status: &Status, now: Timestamp, color: Color, width: Option<usize>) -> String {
    let supervisor = &status.supervisor;
    let (tone, state) = match supervisor.state {
        SupervisorState::Running => (Tone::Good, "up"),
        SupervisorState::Draining => (Tone::Warning, "draining, up"),
    };
    let rest = format!(
        " {state} {} · pid {} · miyabi {}",
        when::short(now.since(supervisor.since)),
        supervisor.pid,
        supervisor.version
    );
    let room = width.unwrap_or(usize::MAX).saturating_sub(10);
    let mut text = format!("{}{}\n", color.paint(Tone::Heading, "supervisor"), color.paint(tone, &cut(&rest, room)));
    if let Some(found) = &supervisor.found {
        let line = one_line(&format!("at its start {found}"));
        text.push_str(&color.paint(Tone::Faint, &cut(&line, width.unwrap_or(usize::MAX))));
        text.push('\n');
    }
    text
}

/// Says what holds everything up, and what needs an operator's eye.
fn notices(status: &Status, color: Color, width: Option<usize>) -> String {
    let mut lines: Vec<(Tone, String)> = Vec::new();
    if let Some(since) = status.frozen {
        lines.push((Tone::Warning, format!("FROZEN since {since}: nothing is begun or judged; `miyabi thaw` goes on")));
    }
    if let Some(holding) = &status.holding {
        lines.push((Tone::Warning, format!("HOLDING: {holding}")));
    }
    for alert in &status.alerts {
        // What is held is said above, with its newest figures.
        let holds = matches!(
            alert.kind,
            AlertKind::LowDisk | AlertKind::LowMemory | AlertKind::WorktreesFull | AlertKind::Failures
        );
        let is_told = holds && status.holding.is_some();
        if !is_told {
            lines.push((Tone::Bad, format!("ALERT {}: {}", alert.kind.as_str(), alert.text)));
        }
    }
    lines
        .into_iter()
        .map(|(tone, line)| color.paint(tone, &cut(&one_line(&line), width.unwrap_or(usize::MAX))) + "\n")
        .collect()
}

/// Lists agents.
#[must_use]
pub fn agents(agents: &[AgentView], now: Timestamp) -> Table {
    let mut table = Table::new(&["AGENT", "NAME", "ROLE", "STATE", "SINCE", "RESTARTS", "TASK", ""]);
    for agent in agents {
        let restarts = if agent.restarts == 0 { Tone::Faint } else { Tone::Warning };
        table.row(vec![
            Cell::plain(agent.id.as_str()),
            Cell::plain(&agent.name),
            Cell::plain(agent.role.as_str()),
            Cell::new(agent_tone(agent.state), agent.state.as_str()),
            Cell::plain(&when::short(now.since(agent.since))),
            Cell::new(restarts, &agent.restarts.to_string()),
            Cell::maybe(agent.task.as_ref().map(|task| task.as_str())),
            Cell::new(Tone::Faint, agent.reason.as_deref().unwrap_or_default()),
        ]);
    }
    table
}

fn tasks(status: &Status, color: Color) -> String {
    let mut parts: Vec<String> = Vec::new();
    for state in TaskState::ALL {
        let count = status.tasks.get(&state).copied().unwrap_or_default();
        if count > 0 {
            parts.push(color.paint(task_tone(state), &format!("{count} {}", state.as_str())));
        }
    }
    let list = if parts.is_empty() { color.paint(Tone::Faint, "none yet") } else { parts.join(" · ") };
    format!("{}  {list}\n", color.paint(Tone::Faint, "TASKS"))
}

fn queues(queues: &[&QueueView]) -> Table {
    let mut table = Table::new(&["MAILBOX", "NEW", "LEASED", "LATER", "DEAD"]);
    for queue in queues {
        let dead = if queue.dead == 0 { Tone::Plain } else { Tone::Bad };
        table.row(vec![
            Cell::plain(queue.mailbox.as_str()),
            Cell::plain(&queue.new.to_string()),
            Cell::plain(&queue.leased.to_string()),
            Cell::plain(&queue.later.to_string()),
            Cell::new(dead, &queue.dead.to_string()),
        ]);
    }
    table
}

const fn agent_tone(state: AgentState) -> Tone {
    match state {
        AgentState::Idle => Tone::Good,
        AgentState::Busy => Tone::Active,
        AgentState::Absent | AgentState::Starting | AgentState::Stopping | AgentState::Paused => Tone::Faint,
        AgentState::Waiting | AgentState::Limited | AgentState::Suspect | AgentState::BackingOff => Tone::Warning,
        AgentState::CrashLoop => Tone::Bad,
    }
}

/// Says what a task's state means for the eye.
#[must_use]
pub const fn task_tone(state: TaskState) -> Tone {
    match state {
        TaskState::Done => Tone::Good,
        TaskState::Leased | TaskState::Verifying => Tone::Active,
        TaskState::Blocked | TaskState::Cancelled => Tone::Faint,
        TaskState::Ready | TaskState::Queued => Tone::Plain,
        TaskState::Parked => Tone::Warning,
        TaskState::Dead => Tone::Bad,
    }
}
