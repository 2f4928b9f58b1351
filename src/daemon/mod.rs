//! The supervisor.

pub mod start;
