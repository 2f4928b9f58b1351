//! The arguments: what can be written behind `miyabi`.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use super::{
    agent, attach, completions, config, dag, dead, doctor, down, events, freeze, github, inbox, init, install, journal,
    lease, logs, receipt, reload, reply, report, route, runner, send, sent, status, submit, task, top,
};

const AFTER_HELP: &str = "\
Examples:
  miyabi init                      makes this folder a root: agents.toml, dag/
  miyabi up                        runs the supervisor in the foreground
  miyabi submit \"fix the login\"    hands work to the first free agent
  miyabi status --watch            shows the team, always up to date
  miyabi attach kaede              looks over an agent's shoulder

Exit codes: 0 done, 1 failed, 2 usage, 3 no supervisor running, 4 invalid input, 5 refused,
            6 no room for a message, 7 timed out.";

/// Keeps a team of named CLI coding agents working in tmux panes, without losing, doubling or forgetting work.
#[derive(Debug, Parser)]
#[command(name = "miyabi", version, propagate_version = false, after_help = AFTER_HELP, max_term_width = 100)]
pub struct Args {
    /// The folder with agents.toml [default: MIYABI_ROOT, or the current folder]
    #[arg(short = 'C', value_name = "ROOT", global = true)]
    pub root: Option<PathBuf>,

    /// Writes results for programs: one JSON value, or one a line where it follows something
    #[arg(long, global = true)]
    pub json: bool,

    /// What to do
    #[command(subcommand)]
    pub verb: Verb,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Makes a folder a root: agents.toml with the agent CLIs found on PATH, dag/, .gitignore entries
    Init(init::Args),
    /// Runs the supervisor in the foreground
    #[command(after_help = "Ends on Ctrl-C or `miyabi down`. Where it is installed as a service, use\n\
        `systemctl start miyabi-orchestra` instead.\n\nExamples:\n  miyabi up\n  miyabi -C ~/project up")]
    Up,
    /// Lets running work end, then stops the agents and the supervisor
    Down(down::Args),
    /// Reads agents.toml and dag/ again; only what has changed is touched
    Reload(reload::Args),
    /// Stops all dispatch and suspends the agents where they are, also without a supervisor
    Freeze(freeze::FreezeArgs),
    /// Lets everything go on that was frozen
    Thaw(freeze::ThawArgs),
    /// Shows agents, queues and tasks at a glance
    Status(status::Args),
    /// Shows what every agent uses: processor, memory, disk, open files
    Top(top::Args),
    /// Attaches to the tmux session
    Attach(attach::Args),
    /// Hands work to an agent and prints the work order's id
    Submit(submit::Args),
    /// Shows the report of a task or work order
    Report(report::Args),
    /// Shows and steers tasks
    #[command(subcommand)]
    Task(task::Verb),
    /// Checks and draws dependency files
    #[command(subcommand)]
    Dag(dag::Verb),
    /// Shows how everything about GitHub stands, or asks it what has changed
    #[command(subcommand)]
    Github(github::Verb),
    /// Explains where an issue goes, and why
    Route(route::Args),
    /// Sends a message to an agent or a role
    Send(send::Args),
    /// Shows how far sent messages got, or waits until one got there
    Sent(sent::Args),
    /// Lists the messages of a mailbox
    Inbox(inbox::Args),
    /// Takes the next message of a mailbox for a while
    Lease(lease::Args),
    /// Answers a leased message and says that it is dealt with
    Reply(reply::Args),
    /// Says that a leased message is dealt with
    Ack(receipt::AckArgs),
    /// Gives a leased message back
    Nack(receipt::NackArgs),
    /// Keeps a leased message for longer
    Extend(receipt::ExtendArgs),
    /// Shows and revives messages that nobody could deal with
    #[command(subcommand)]
    Dead(dead::Verb),
    /// Shows and steers agents
    #[command(subcommand)]
    Agent(agent::Verb),
    /// Shows the log of the supervisor, or the output of an agent's newest attempt
    Logs(logs::Args),
    /// Tells what has happened
    Events(events::Args),
    /// Checks agents.toml, or prints the JSON schema of a file
    #[command(subcommand)]
    Config(config::Verb),
    /// Checks and repairs the record of what has happened
    #[command(subcommand)]
    Journal(journal::Verb),
    /// Looks for what is missing on this machine, and says what to do
    Doctor(doctor::Args),
    /// Installs the systemd units
    Install(install::Args),
    /// Prints a completion script for a shell
    Completions(completions::Args),
    /// The process in an agent's pane; the supervisor starts it
    #[command(hide = true)]
    Runner(runner::Args),
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_arguments_fit_together() {
        Args::command().debug_assert();
    }

    #[test]
    fn every_visible_verb_has_an_example() {
        fn look(command: &clap::Command) {
            for verb in command.get_subcommands().filter(|verb| !verb.is_hide_set() && verb.get_name() != "help") {
                if verb.has_subcommands() {
                    look(verb);
                } else {
                    let help = verb.get_after_help().map(ToString::to_string).unwrap_or_default();
                    assert!(help.contains("miyabi"), "`{}` has no example", verb.get_name());
                }
            }
        }
        look(&Args::command());
    }
}
