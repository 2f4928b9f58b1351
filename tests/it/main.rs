//! End-to-end and integration tests, in one binary.

mod sim;
