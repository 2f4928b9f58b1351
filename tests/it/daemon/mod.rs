//! The whole house, end to end: the real program, real tmux, real git, real files.

mod deaths;
mod root;
mod work;
