//! The nouns of the orchestra: plain values without I/O, clock or randomness.
//!
//! Everything here is `Serialize` and `Deserialize`, because these values travel through the spool, the journal and
//! the control socket. The module may use `std`, `serde`, `serde_json`, `schemars` (derives), `ulid` and `chrono` (both for text forms only).

pub mod agent;
pub mod alert;
pub mod beat;
pub mod claim;
pub mod envelope;
pub mod fault;
pub mod fault_code;
pub mod freeze;
pub mod github;
pub mod github_view;
pub mod id;
pub mod launch;
pub mod layout;
pub mod order;
pub mod plan;
pub mod report;
pub mod request;
pub mod secret;
pub mod shared;
pub mod signal;
pub mod size;
pub mod span;
pub mod spent;
pub mod stage;
pub mod stock;
pub mod task;
pub mod time;
pub mod touch;
pub mod usage;
pub mod watching;
