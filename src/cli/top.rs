//! `miyabi top`.

use super::context::Context;
use super::failure::{Ended, Result};
use super::output::Tone;
use super::table::{Cell, Table};
use crate::control::protocol::{Call, Top};
use crate::model::size::{Size, round};
use crate::model::usage::{AgentUsage, Usage};

/// The arguments of `top`.
#[derive(Debug, clap::Args)]
#[command(after_help = "The share of the processor is that of the last half second; 100 % is one core.\n\n\
    Examples:\n  miyabi top\n  miyabi top --json | jq '.agents[] | [.name, .memory_bytes]'")]
pub struct Args {}

/// Shows what every agent uses of the machine.
///
/// # Errors
/// Exit code 3 without a supervisor.
pub fn run(context: &Context) -> Result {
    let top: Top = context.client()?.ask(Call::Top)?;
    let out = &context.out;
    out.show(&top, || {
        let mut table =
            Table::new(&["AGENT", "PROCESSES", "CPU", "CPU TIME", "MEMORY", "READ", "WRITTEN", "FILES", "DISK"]);
        for agent in top.usage.agents.iter().chain([&top.usage.supervisor]) {
            table.row(row(agent));
        }
        table.row(row(&whole(&top.usage)));
        let mut text = table.render(out.color, out.width);
        let room = |bytes: Option<u64>| bytes.map_or_else(|| "unknown".to_owned(), |bytes| round(Size(bytes)));
        let (disk, memory) = (room(top.disk_free_bytes), room(top.memory_available_bytes));
        text.push_str(&out.color.paint(Tone::Faint, &format!("left: disk {disk}, memory {memory}")));
        let bound = top.worktrees_max_bytes.map_or_else(String::new, |max| format!(" of {}", round(Size(max))));
        let worktrees = format!("\nworktrees: {}{bound}\n", round(Size(top.worktrees_bytes)));
        text.push_str(&out.color.paint(Tone::Faint, &worktrees));
        text
    })?;
    Ok(Ended::Well)
}

/// Adds up what the agents and the supervisor use.
fn whole(usage: &Usage) -> AgentUsage {
    let none = AgentUsage { name: "all".to_owned(), ..AgentUsage::default() };
    usage.agents.iter().chain([&usage.supervisor]).fold(none, |sum, one| AgentUsage {
        name: sum.name,
        processes: sum.processes + one.processes,
        cpu_permille: sum.cpu_permille + one.cpu_permille,
        cpu_ms: sum.cpu_ms + one.cpu_ms,
        memory_bytes: sum.memory_bytes + one.memory_bytes,
        read_bytes: sum.read_bytes + one.read_bytes,
        written_bytes: sum.written_bytes + one.written_bytes,
        files: sum.files + one.files,
        disk_bytes: sum.disk_bytes + one.disk_bytes,
    })
}

fn row(agent: &AgentUsage) -> Vec<Cell> {
    let tone = if agent.processes == 0 { Tone::Faint } else { Tone::Plain };
    let seconds = agent.cpu_ms / 1_000;
    let cell = |text: &str| Cell::new(tone, text);
    vec![
        cell(&agent.name),
        cell(&agent.processes.to_string()),
        cell(&format!("{}.{} %", agent.cpu_permille / 10, agent.cpu_permille % 10)),
        cell(&format!("{}:{:02}", seconds / 60, seconds % 60)),
        cell(&round(Size(agent.memory_bytes))),
        cell(&round(Size(agent.read_bytes))),
        cell(&round(Size(agent.written_bytes))),
        cell(&agent.files.to_string()),
        cell(&round(Size(agent.disk_bytes))),
    ]
}
