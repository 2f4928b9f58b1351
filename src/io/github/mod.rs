//! GitHub, through octocrab.
//!
//! Nothing here repeats a call by itself: whether and when to ask again is the core's to decide.

pub mod client;
mod discover;
mod write;

use octocrab::Octocrab;
use serde::Deserialize;

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
    /// GitHub does not accept the token.
    #[error("GitHub does not accept the token")]
    Token,
    /// GitHub did not answer, or not as expected.
    #[error("GitHub cannot be asked")]
    Call(#[source] Box<octocrab::Error>),
}

/// How many calls a token may still make.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct RateLimit {
    /// Calls per hour.
    pub limit: u32,
    /// Calls left in this hour.
    pub remaining: u32,
    /// When the hour ends, in seconds of Unix time.
    pub reset: i64,
}

/// Only what we read: octocrab's own models fail as a whole when one field is missing.
#[derive(Debug, Deserialize)]
struct RateLimits {
    resources: Resources,
}

#[derive(Debug, Deserialize)]
struct Resources {
    core: RateLimit,
}

/// The status with which GitHub refuses a token.
const UNAUTHORIZED: u16 = 401;

/// Asks how many calls a token may still make; the call itself is free.
///
/// # Errors
/// [`GithubError::Token`] when the token is refused. No error holds the token.
pub async fn rate_limit(token: &str, api: Option<&str>) -> Result<RateLimit, GithubError> {
    let client = connect(token, api)?;
    let limits: RateLimits = client.get("/rate_limit", None::<&()>).await.map_err(refused)?;
    Ok(limits.resources.core)
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

fn refused(error: octocrab::Error) -> GithubError {
    if let octocrab::Error::GitHub { source, .. } = &error
        && source.status_code.as_u16() == UNAUTHORIZED
    {
        return GithubError::Token;
    }
    GithubError::Call(Box::new(error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use wiremock::matchers::{header, method, path};
    use wiremock::{Mock, MockServer, ResponseTemplate};

    const SECRET: &str = "ghp_a-very-secret-token";

    async fn answering(response: ResponseTemplate) -> MockServer {
        let server = MockServer::start().await;
        Mock::given(method("GET"))
            .and(path("/rate_limit"))
            .and(header("authorization", format!("Bearer {SECRET}")))
            .respond_with(response)
            .expect(1)
            .mount(&server)
            .await;
        server
    }

    #[tokio::test]
    async fn the_calls_that_are_left_are_read_from_the_fields_that_matter() {
        let body =
            serde_json::json!({"resources": {"core": {"limit": 5000, "remaining": 4999, "reset": 1, "used": 1}}});
        let server = answering(ResponseTemplate::new(200).set_body_json(body)).await;
        let limit = rate_limit(SECRET, Some(&server.uri())).await.unwrap();
        assert_eq!(limit, RateLimit { limit: 5000, remaining: 4999, reset: 1 });
    }

    #[tokio::test]
    async fn a_refused_token_is_told_apart_and_never_shown() {
        let body =
            serde_json::json!({"message": "Bad credentials", "documentation_url": "https://docs.github.com/rest"});
        let server = answering(ResponseTemplate::new(401).set_body_json(body)).await;
        let error = rate_limit(SECRET, Some(&server.uri())).await.unwrap_err();
        assert!(matches!(error, GithubError::Token), "{error:?}");
        assert!(!format!("{error:?}").contains(SECRET));
    }

    #[tokio::test]
    async fn a_broken_server_is_asked_once_only() {
        let server = answering(ResponseTemplate::new(502)).await;
        let error = rate_limit(SECRET, Some(&server.uri())).await.unwrap_err();
        assert!(matches!(error, GithubError::Call(_)), "{error:?}");
        assert!(!format!("{error:?}").contains(SECRET));
    }
}
