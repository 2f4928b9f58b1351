//! End-to-end and integration tests, in one binary.

mod boundaries;
mod docs;
