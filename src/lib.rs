//! miyabi-orchestra keeps a team of named CLI coding agents working in tmux panes, day and night, without a human.
//!
//! The modules in reading order:
//! - [`model`]: the nouns. Plain values.
//! - [`config`]: text to model. Pure; collects every fault with its place.
//! - [`core`]: the decisions. Pure; the same history gives the same decisions.
//! - [`io`]: the effects, one outside thing per file.
//! - [`drivers`]: how each kind of agent program is started.
//! - [`runner`]: the process in a pane.
//! - [`daemon`]: the supervisor's loop; the only importer of both `core` and `io`.
//! - [`control`]: the contract between the supervisor and those who ask.
//! - [`http`]: what is answered over HTTP: GitHub's webhooks.
//! - [`cli`]: the command line.

pub mod cli;
pub mod config;
pub mod control;
pub mod core;
pub mod daemon;
pub mod drivers;
pub mod http;
pub mod io;
pub mod model;
pub mod runner;
pub mod tasks;
pub mod telemetry;
