//! What is answered over HTTP. Everything here listens on loopback only.
//!
//! - [`serve`]: connections, bounded in number and patience.
//! - [`webhook`]: deliveries of GitHub.

pub mod serve;
pub mod webhook;
