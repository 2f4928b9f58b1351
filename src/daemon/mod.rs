//! The supervisor: the only place where decisions (`core`) and effects (`io`) meet.
//!
//! [`repair`] looks after a journal that does not restore. Reading order: [`start`] puts the house in order and hands over
//! to the loop; `turn` is the loop; `hands` runs the effects, with `desk` for the spool, `panes` for tmux, `github` and `alerts` for
//! the operator; `eyes` reads what lies in folders; `answers` and `streams`
//! serve those who ask.

mod alerts;
mod answers;
mod desk;
mod eyes;
mod github;
mod hands;
mod merging;
mod panes;
pub mod repair;
pub mod start;
mod streams;
mod told;
mod turn;
mod webhooks;
