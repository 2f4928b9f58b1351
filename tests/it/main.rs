//! End-to-end and integration tests, in one binary.

mod agent_schemas;
mod aider;
mod boundaries;
mod config;
mod git_merge;
mod git_worktree;
mod journal;
mod process;
mod repository;
mod runner;
mod runner_support;
mod spool;
mod tmux;
