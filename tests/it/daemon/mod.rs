//! The whole house, end to end: the real program, real tmux, real git, real files.

mod adoption;
mod chaos;
mod deaths;
mod freeze;
mod github;
mod keeping;
mod memo;
mod queue;
mod reload;
pub(crate) mod root;
mod stages;
mod verb_kills;
mod watching;
mod work;
