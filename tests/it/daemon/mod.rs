//! The whole house, end to end: the real program, real tmux, real git, real files.

mod adoption;
mod deaths;
mod reload;
mod root;
mod work;
