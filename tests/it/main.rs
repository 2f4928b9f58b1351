//! End-to-end and integration tests, in one binary.

mod cli;
mod config;
mod journal;
mod process;
