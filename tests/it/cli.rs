//! The command line, as people and programs use it: the real program, real folders, and a supervisor that answers as told.

#![expect(clippy::unwrap_used, reason = "what a test needs and does not get ends the test")]

mod app;
mod dialogue;
mod documentation;
mod graph;
mod logs;
mod mail;
mod panes;
mod room;
mod roots;
mod service;
mod supervised;
mod support;
mod webhook;
