//! End-to-end and integration tests, in one binary.

mod git_merge;
mod git_worktree;
mod journal;
mod repository;
