//! The webhook: where it is received, its secret, and what GitHub has of it.

use std::net::TcpListener;

use super::super::context::Context;
use super::super::failure::Failure;
use super::Finding;
use super::service::asked;
use crate::control::protocol::Call;
use crate::io::github::connection::{Connection, Credential};
use crate::io::github::hooks::{self, Hook};
use crate::io::github::installation::App;
use crate::model::fault::with_causes;
use crate::model::github::{Trouble, WEBHOOK_EVENTS, WEBHOOK_PATH, WebhookSpec};
use crate::model::github_view::GithubView;
use crate::model::id::RepositorySlug;

/// How many characters a secret should have that nobody can guess.
const SECRET_CHARS_MIN: usize = 20;

/// How many repositories are looked at.
const REPOSITORIES_MAX: usize = 20;

/// How a secret is made.
const MAKE_SECRET: &str = "make one with `openssl rand -hex 32`, and give the same one to GitHub";

/// Looks at the receiving side and, with something to show there, at what GitHub has.
pub(super) fn look(
    context: &Context,
    spec: &WebhookSpec,
    credential: Option<Credential>,
    api: &str,
    slugs: &[RepositorySlug],
) -> Vec<Finding> {
    let client = context.client();
    let view = client.and_then(|client| client.ask::<GithubView>(Call::Github).map_err(Failure::from)).ok();
    let held = view.and_then(|view| view.webhook).filter(|view| view.listen == spec.listen);
    let is_held = held.is_some();
    let mut findings = vec![match held {
        Some(view) => match view.trouble {
            Some(trouble) => Finding::fail(
                "webhook",
                format!("the supervisor cannot listen at {}: {trouble}", spec.listen),
                "end whoever has the address, or name another one in `listen`",
            ),
            None => Finding::ok("webhook", format!("the supervisor listens at {}", spec.listen)),
        },
        None => free(&spec.listen),
    }];
    findings.extend(secret(context, spec, is_held));
    if let Some(credential) = credential {
        findings.extend(on_github(credential, api, slugs));
    }
    findings
}

/// Says whether an address that nobody of ours holds could be had.
fn free(listen: &str) -> Finding {
    match TcpListener::bind(listen) {
        Ok(_) => Finding::ok("webhook", format!("{listen} is free")),
        Err(error) => Finding::fail(
            "webhook",
            format!("{listen} cannot be listened at: {error}"),
            "end whoever has the address, or name another one in `listen`",
        ),
    }
}

fn secret(context: &Context, spec: &WebhookSpec, is_held: bool) -> Option<Finding> {
    let variable = &spec.secret_env;
    match context.environment.webhook_secret(variable) {
        Some(secret) if secret.expose().chars().count() < SECRET_CHARS_MIN => Some(Finding::warn(
            "webhook",
            format!("the secret has fewer than {SECRET_CHARS_MIN} characters: it could be guessed"),
            MAKE_SECRET,
        )),
        Some(_) => Some(Finding::ok("webhook", "the secret is there")),
        // A supervisor that listens has it from somewhere that is not shown here.
        None if is_held => None,
        None => Some(Finding::fail(
            "webhook",
            format!("there is no secret in {variable}, so the supervisor will not start"),
            MAKE_SECRET,
        )),
    }
}

fn on_github(credential: Credential, api: &str, slugs: &[RepositorySlug]) -> Vec<Finding> {
    let setup = |error: &crate::io::github::GithubError| Trouble::Unsure { reason: with_causes(error) };
    let found = asked(async {
        if let Credential::App(id, key) = credential {
            let app = App::new(id, key, api).map_err(|error| setup(&error))?;
            return Ok(vec![("the app".to_owned(), Some(Vec::from_iter(hooks::of_app(&app).await?)))]);
        }
        let connection = Connection::new(credential, api).map_err(|error| setup(&error))?;
        let mut found = Vec::new();
        for slug in slugs.iter().take(REPOSITORIES_MAX) {
            let client = connection.client(slug).map_err(|error| setup(&error))?;
            found.push((slug.to_string(), hooks::of_repository(&client, slug).await?));
        }
        Ok(found)
    });
    match found {
        Ok(found) => found.into_iter().flat_map(|(owner, hooks)| judge(&owner, hooks.as_deref())).collect(),
        Err(trouble) => {
            vec![Finding::warn("webhook", trouble.to_string(), "what GitHub has of the webhook cannot be looked at")]
        }
    }
}

/// Says what is wrong with the webhook of a repository, or of the app.
fn judge(owner: &str, hooks: Option<&[Hook]>) -> Vec<Finding> {
    let Some(hooks) = hooks else {
        let message = format!("the token may not list the webhooks of {owner}, which only this look needs");
        return vec![Finding::ok("webhook", message)];
    };
    let Some(hook) = hooks.iter().find(|hook| hook.url.trim_end_matches('/').ends_with(WEBHOOK_PATH)) else {
        return vec![Finding::warn(
            "webhook",
            format!("{owner} has no webhook whose address ends with {WEBHOOK_PATH}"),
            "add one on GitHub; until then only polls find what has changed",
        )];
    };
    let mut findings = Vec::new();
    if !hook.is_active {
        findings.push(Finding::warn("webhook", format!("the webhook of {owner} is switched off"), "switch it on"));
    }
    if hook.content_type != "json" {
        let message = format!("the webhook of {owner} sends `{}`, which is refused", hook.content_type);
        findings.push(Finding::fail("webhook", message, "set its content type to application/json"));
    }
    if !hook.is_signed {
        let message = format!("the webhook of {owner} has no secret, so every delivery is refused");
        findings.push(Finding::fail("webhook", message, "give it the secret that the supervisor has"));
    }
    let has = |event: &str| hook.events.iter().any(|named| named == "*" || named == event);
    let missing: Vec<&str> = WEBHOOK_EVENTS.into_iter().filter(|event| !has(event)).collect();
    if !missing.is_empty() {
        let message = format!("the webhook of {owner} does not tell of: {}", missing.join(", "));
        findings.push(Finding::warn("webhook", message, "choose these events too; until then only polls find them"));
    }
    match &hook.last {
        Some((status, said)) if !(200..300).contains(status) => {
            let message = format!("the last delivery of {owner} was answered with {status} {said}");
            let hint = match status {
                401 | 403 => "GitHub and the supervisor have different secrets",
                _ => "look at the proxy or tunnel in front of the port, and at the deliveries on GitHub's page",
            };
            findings.push(Finding::warn("webhook", message.trim_end().to_owned(), hint));
        }
        Some(_) | None => {}
    }
    if findings.is_empty() {
        let last = hook.last.as_ref().map_or("nothing was delivered yet", |_| "the last delivery arrived");
        findings.push(Finding::ok("webhook", format!("the webhook of {owner} is as it must be; {last}")));
    }
    findings
}
