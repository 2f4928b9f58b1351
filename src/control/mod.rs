//! The contract between the supervisor and those who ask: one call per connection, lines of JSON over a Unix socket.
//!
//! - [`protocol`]: calls, replies and the values that they carry.
//! - [`socket`]: where supervisor and client meet.
//! - [`server`]: the supervisor's side; hands each call to the supervisor's loop.
//! - [`answer`]: how that loop answers, without ever waiting for a client.
//! - [`client`]: the asking side, blocking, for the command line.

pub mod answer;
pub mod client;
pub mod protocol;
pub mod server;
pub mod socket;
