//! Text to model, pure: agents.toml and dependency files. Every fault is collected with its place.
//!
//! Both formats go the same way: text to a `tree` with places, tree to `read` values under the [`keys`] that the
//! format knows, values to the model. The tables in [`keys`] are the one source of what may be written: the parsers
//! refuse everything else, the JSON schemas are made from them, and a test compares the documentation with them.

pub mod agents;
pub mod dag;
pub mod faults;
pub mod keys;
pub mod render;
pub mod schema;

mod lookalike;
mod read;
mod report;
mod section;
mod source;
mod stages;
mod suggest;
mod toml_tree;
mod tree;
mod yaml_tree;

/// The largest file that is read, in bytes.
pub const FILE_BYTES_MAX: usize = 1024 * 1024;
