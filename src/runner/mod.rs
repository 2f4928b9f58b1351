//! The process in a pane: it leases work orders, drives one agent, shows it, commits, checks, reports.
//!
//! [`machine`] decides, with [`attempt`] and [`event`]; the three are pure. Everything else does what they ask:
//! [`start`] sets up, `drive` turns effects into work and answers into events, and each kind of work has its file.

pub mod attempt;
mod beat;
mod checks;
mod clearing;
mod context;
mod drive;
mod ears;
mod environment;
pub mod event;
mod hints;
mod leftovers;
pub mod machine;
mod output;
mod pane;
mod post;
mod program;
mod progress;
mod project;
mod show;
pub mod start;
mod strays;
mod verdict;
mod work;
mod workplace;
