//! GitHub, through octocrab.
//!
//! Nothing here repeats a call by itself: whether and when to ask again is the core's to decide.

pub mod client;
pub mod connection;
mod discover;
pub mod hooks;
pub mod installation;
pub mod rights;
mod wire;
mod write;

/// Why GitHub could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum GithubError {
    /// The address of the API is none.
    #[error("`{api}` is no address of an API")]
    Address {
        /// The address as given.
        api: String,
        /// What is wrong with it.
        #[source]
        source: Box<octocrab::Error>,
    },
    /// The client cannot be built on this machine.
    #[error("no connection to GitHub can be set up")]
    Setup(#[source] Box<octocrab::Error>),
}
