//! Text to model, pure: agents.toml and dependency files. Every fault is collected with its place.

pub mod agents;
pub mod dag;
pub mod render;
pub mod schema;
