//! The decisions: a value without I/O, clock or randomness.

pub mod dag;
pub mod snapshot;
