//! What a token may do: asked before the work begins, so that a missing permission is not found by a failed pull request.

use http::{HeaderMap, Method, StatusCode};
use serde::Deserialize;
use serde_json::json;

use super::client::Client;
use super::installation::{About, App};
use super::wire::{Answered, Call, parse, refused};
use crate::model::github::Trouble;
use crate::model::id::RepositorySlug;

/// How many repositories are looked at.
const REPOSITORIES_MAX: usize = 20;

/// The header in which GitHub names the scopes of a classic token; other tokens have permissions, which it names nowhere.
const SCOPES: &str = "x-oauth-scopes";

/// Something that a token may not do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lack {
    /// What it is called on GitHub's page for tokens.
    pub permission: String,
    /// What does not work without it.
    pub purpose: &'static str,
}

/// Who a token is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// The account.
    pub login: String,
    /// The scopes of a classic token; a fine-grained one, or that of an app, has none.
    pub scopes: Option<Vec<String>>,
}

#[derive(Debug, Deserialize)]
struct User {
    login: String,
}

#[derive(Debug, Deserialize)]
struct Repository {
    #[serde(default)]
    private: bool,
    #[serde(default = "is_there")]
    has_issues: bool,
    #[serde(default)]
    archived: bool,
    permissions: Option<Permissions>,
}

#[derive(Debug, Deserialize)]
struct Permissions {
    #[serde(default)]
    push: bool,
}

const fn is_there() -> bool {
    true
}

/// Asks who the token is.
///
/// # Errors
/// [`Trouble::Refused`] with 401 when GitHub does not accept the token.
pub async fn holder(client: &Client) -> Result<Holder, Trouble> {
    let Answered { status, headers, body } = client.ask(Call::get("/user")).await?;
    if !status.is_success() {
        return Err(refused(status, &body));
    }
    Ok(Holder { login: parse::<User>(&body)?.login, scopes: scopes(&headers) })
}

fn scopes(headers: &HeaderMap) -> Option<Vec<String>> {
    let named = headers.get(SCOPES)?.to_str().ok()?;
    Some(named.split(',').map(|scope| scope.trim().to_owned()).filter(|scope| !scope.is_empty()).collect())
}

/// Finds what the token may not do in repositories. Nothing is changed there: where only a try can tell, what is sent lacks
/// what GitHub needs to act on it.
///
/// # Errors
/// Those of the calls; a repository that the token cannot see is no error but a lack.
pub async fn lacks(
    client: &Client,
    holder: &Holder,
    repositories: &[RepositorySlug],
) -> Result<Vec<(RepositorySlug, Vec<Lack>)>, Trouble> {
    let mut found = Vec::new();
    for slug in repositories.iter().take(REPOSITORIES_MAX) {
        found.push((slug.clone(), lacks_of_token(client, holder, slug).await?));
    }
    Ok(found)
}

async fn lacks_of_token(client: &Client, holder: &Holder, slug: &RepositorySlug) -> Result<Vec<Lack>, Trouble> {
    let lack = |permission: &str, purpose| vec![Lack { permission: permission.to_owned(), purpose }];
    let Answered { status, body, .. } = client.ask(Call::get(&format!("/repos/{slug}"))).await?;
    if status == StatusCode::NOT_FOUND || status == StatusCode::FORBIDDEN {
        return Ok(lack("access to the repository", "to see that it exists"));
    }
    if !status.is_success() {
        return Err(refused(status, &body));
    }
    let repository: Repository = parse(&body)?;
    if repository.archived {
        return Ok(lack("a repository that is not archived", "to write anything"));
    }
    if !repository.has_issues {
        return Ok(lack("issues switched on in the repository's settings", "to find work"));
    }
    if repository.permissions.as_ref().is_some_and(|permissions| !permissions.push) {
        return Ok(lack(&format!("the role Write for {}", holder.login), "to push branches"));
    }
    match &holder.scopes {
        Some(scopes) => Ok(lacking_scopes(scopes, repository.private)),
        None => lacking_permissions(client, slug).await,
    }
}

/// What an app needs, and what for.
const APP_NEEDS: [(&str, &str, &str); 4] = [
    ("issues", "Issues: read and write", "to read issues and to comment on them"),
    ("pull_requests", "Pull requests: read and write", "to open pull requests"),
    ("contents", "Contents: read and write", "to push branches"),
    ("statuses", "Commit statuses: read and write", "to show the checks on a commit"),
];

/// Finds what an app may not do in repositories: GitHub names the permissions of each installation.
///
/// # Errors
/// Those of the calls; where the app is not installed, that is what is lacking.
pub async fn lacks_of(app: &App, repositories: &[RepositorySlug]) -> Result<Vec<(RepositorySlug, Vec<Lack>)>, Trouble> {
    let mut found = Vec::new();
    for slug in repositories.iter().take(REPOSITORIES_MAX) {
        found.push((slug.clone(), lacks_of_installation(app.find(slug).await?.as_ref())));
    }
    Ok(found)
}

fn lacks_of_installation(found: Option<&About>) -> Vec<Lack> {
    let lack = |permission: &str, purpose| Lack { permission: permission.to_owned(), purpose };
    let Some(about) = found else { return vec![lack("an installation of the app", "to do anything there")] };
    if about.suspended_at.is_some() {
        return vec![lack("an installation that is not suspended", "to do anything there")];
    }
    let may = |name: &str| about.permissions.get(name).is_some_and(|word| word == "write" || word == "admin");
    APP_NEEDS
        .into_iter()
        .filter(|(name, ..)| !may(name))
        .map(|(_, permission, purpose)| lack(permission, purpose))
        .collect()
}

fn lacking_scopes(scopes: &[String], private: bool) -> Vec<Lack> {
    let has = |wanted: &str| scopes.iter().any(|scope| scope == wanted);
    let mut lacks = Vec::new();
    if !has("repo") && (private || !has("public_repo")) {
        let wanted = if private { "scope repo" } else { "scope public_repo" };
        lacks.push(Lack {
            permission: wanted.to_owned(),
            purpose: "to push branches, to open pull requests and to comment",
        });
    }
    lacks
}

/// Tries each write with a body that GitHub cannot act on: 422 says that it would be allowed, 403 that it would not.
async fn lacking_permissions(client: &Client, slug: &RepositorySlug) -> Result<Vec<Lack>, Trouble> {
    let nobody = "0".repeat(40);
    let tries = [
        (format!("/repos/{slug}/issues"), "Issues: read and write", "to read issues and to comment on them"),
        (format!("/repos/{slug}/pulls"), "Pull requests: read and write", "to open pull requests"),
        (format!("/repos/{slug}/git/refs"), "Contents: read and write", "to push branches"),
        (
            format!("/repos/{slug}/statuses/{nobody}"),
            "Commit statuses: read and write",
            "to show the checks on a commit",
        ),
    ];
    let mut lacks = Vec::new();
    for (path, permission, purpose) in tries {
        let call = Call { method: Method::POST, path: &path, body: Some(&json!({})), known: None };
        let Answered { status, body, .. } = client.ask(call).await?;
        if status == StatusCode::FORBIDDEN || status == StatusCode::NOT_FOUND {
            lacks.push(Lack { permission: permission.to_owned(), purpose });
        } else if status.is_server_error() {
            return Err(refused(status, &body));
        }
    }
    Ok(lacks)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::secret::Secret;
    use wiremock::matchers::{body_json, header, method, path};
    use wiremock::{Mock, MockServer, ResponseTemplate};

    const SECRET: &str = "ghp_a-very-secret-token";

    async fn answers(server: &MockServer, verb: &str, at: &str, response: ResponseTemplate) {
        Mock::given(method(verb))
            .and(path(at))
            .and(header("authorization", format!("Bearer {SECRET}")))
            .respond_with(response)
            .expect(1)
            .mount(server)
            .await;
    }

    fn client(server: &MockServer) -> Client {
        Client::new(Secret::new(SECRET.to_owned()), &server.uri()).unwrap()
    }

    fn user(scopes: Option<&str>) -> ResponseTemplate {
        let response = ResponseTemplate::new(200).set_body_json(json!({"login": "octocat", "id": 1}));
        scopes.into_iter().fold(response, |response, scopes| response.insert_header(SCOPES, scopes))
    }

    fn slug() -> RepositorySlug {
        RepositorySlug::new("octo-org/app").unwrap()
    }

    #[tokio::test]
    async fn a_classic_token_is_judged_by_its_scopes() {
        for (scopes, private, wanted) in [
            ("repo, workflow", true, None),
            ("public_repo", false, None),
            ("public_repo", true, Some("scope repo")),
            ("", false, Some("scope public_repo")),
        ] {
            let server = MockServer::start().await;
            answers(&server, "GET", "/user", user(Some(scopes))).await;
            let repository = json!({"private": private, "permissions": {"push": true}});
            answers(&server, "GET", "/repos/octo-org/app", ResponseTemplate::new(200).set_body_json(repository)).await;
            let client = client(&server);
            let holder = holder(&client).await.unwrap();
            let found = lacks(&client, &holder, &[slug()]).await.unwrap();
            let named: Vec<&str> = found[0].1.iter().map(|lack| lack.permission.as_str()).collect();
            assert_eq!(named, Vec::from_iter(wanted), "{scopes} {private}");
        }
    }

    #[tokio::test]
    async fn a_fine_grained_token_is_judged_by_tries_that_change_nothing() {
        let server = MockServer::start().await;
        answers(&server, "GET", "/user", user(None)).await;
        let repository = json!({"permissions": {"push": true}});
        answers(&server, "GET", "/repos/octo-org/app", ResponseTemplate::new(200).set_body_json(repository)).await;
        let nobody = format!("/repos/octo-org/app/statuses/{}", "0".repeat(40));
        for (at, status) in [
            ("/repos/octo-org/app/issues", 422),
            ("/repos/octo-org/app/pulls", 403),
            ("/repos/octo-org/app/git/refs", 422),
            (nobody.as_str(), 404),
        ] {
            Mock::given(method("POST"))
                .and(path(at))
                .and(body_json(json!({})))
                .respond_with(ResponseTemplate::new(status).set_body_json(json!({"message": "no"})))
                .expect(1)
                .mount(&server)
                .await;
        }
        let client = client(&server);
        let holder = holder(&client).await.unwrap();
        assert_eq!(holder, Holder { login: "octocat".to_owned(), scopes: None });
        let found = lacks(&client, &holder, &[slug()]).await.unwrap();
        let named: Vec<&str> = found[0].1.iter().map(|lack| lack.permission.as_str()).collect();
        assert_eq!(named, ["Pull requests: read and write", "Commit statuses: read and write"]);
    }

    #[tokio::test]
    async fn a_repository_that_nothing_can_be_done_in_is_told_with_its_reason() {
        for (response, wanted) in [
            (ResponseTemplate::new(404), "access to the repository"),
            (ResponseTemplate::new(200).set_body_json(json!({"archived": true})), "a repository that is not archived"),
            (
                ResponseTemplate::new(200).set_body_json(json!({"has_issues": false})),
                "issues switched on in the repository's settings",
            ),
            (
                ResponseTemplate::new(200).set_body_json(json!({"permissions": {"push": false}})),
                "the role Write for octocat",
            ),
        ] {
            let server = MockServer::start().await;
            answers(&server, "GET", "/repos/octo-org/app", response).await;
            let holder = Holder { login: "octocat".to_owned(), scopes: Some(vec!["repo".to_owned()]) };
            let found = lacks(&client(&server), &holder, &[slug()]).await.unwrap();
            assert_eq!(found[0].1.iter().map(|lack| lack.permission.as_str()).collect::<Vec<_>>(), [wanted]);
        }
    }

    #[tokio::test]
    async fn a_refused_token_is_told_apart_and_never_shown_and_nothing_is_asked_twice() {
        for (status, refused) in [(401, true), (502, false)] {
            let server = MockServer::start().await;
            answers(
                &server,
                "GET",
                "/user",
                ResponseTemplate::new(status).set_body_json(json!({"message": "Bad credentials"})),
            )
            .await;
            let error = holder(&client(&server)).await.unwrap_err();
            assert_eq!(matches!(error, Trouble::Refused { status: 401, .. }), refused, "{error:?}");
            assert!(!format!("{error:?}").contains(SECRET));
        }
    }
}
