//! x
pub mod attempt;
pub mod event;
pub mod machine;
