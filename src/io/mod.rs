//! The effects: one outside thing per file. Nothing here decides.

pub mod attachment;
pub mod cgroup;
pub mod clock;
pub mod freeze;
pub mod git;
pub mod github;
pub mod inotify;
pub mod journal;
pub mod lockfile;
pub mod process;
pub mod queue;
pub mod resources;
pub mod spool;
pub mod stock;
pub mod systemd;
pub mod tmux;
pub mod watch;
pub mod webhooks;
