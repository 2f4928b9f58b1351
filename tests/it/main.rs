//! End-to-end and integration tests, in one binary.

mod journal;
mod process;
mod tmux;
