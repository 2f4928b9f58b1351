//! GitHub, through octocrab.
//!
//! Nothing here repeats a call by itself: whether and when to ask again is the core's to decide.

pub mod client;
mod discover;
pub mod rights;
mod write;

use octocrab::Octocrab;

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

fn connect(token: &str, api: Option<&str>) -> Result<Octocrab, GithubError> {
    // octocrab is built without its feature `retry`: its repeats would also send writes twice.
    let mut builder = Octocrab::builder().personal_token(token.to_owned());
    if let Some(api) = api {
        builder = builder
            .base_uri(api)
            .map_err(|source| GithubError::Address { api: api.to_owned(), source: Box::new(source) })?;
    }
    builder.build().map_err(|source| GithubError::Setup(Box::new(source)))
}
