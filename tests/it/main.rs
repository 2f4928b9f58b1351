//! End-to-end and integration tests, in one binary.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so by failing")]

mod agent_schemas;
mod aider;
mod benches;
mod boundaries;
mod cli;
mod config;
mod daemon;
mod docs;
mod drivers;
mod envelopes;
mod git_merge;
mod git_queue;
mod git_worktree;
mod hub;
mod intake;
mod journal;
mod process;
mod reports;
mod repository;
mod restore;
mod rng;
mod runner;
mod runner_events;
mod runner_support;
mod sim;
mod spool;
mod systemd;
mod tmux;
mod tmux_traps;
