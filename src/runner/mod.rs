//! The process in a pane: it leases work orders, drives one agent, shows it, commits, checks, reports.
//!
//! [`machine`] and [`attempt`] decide and are pure; everything else does what they ask.

pub mod attempt;
pub mod event;
pub mod machine;
