//! runner.

pub mod start;
