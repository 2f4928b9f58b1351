//! End-to-end and integration tests, in one binary.

mod config;
mod journal;
mod process;
