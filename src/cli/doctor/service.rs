//! What runs: systemd, the supervisor, GitHub.

use std::path::Path;
use std::time::Duration;

use super::super::context::{Context, read_plan};
use super::super::failure::{Failure, Kind};
use super::super::when;
use super::{Finding, webhook};
use crate::control::protocol::{Call, Status, SupervisorState};
use crate::io::clock;
use crate::io::github::client::Client;
use crate::io::github::connection::Credential;
use crate::io::github::installation::{App, Key};
use crate::io::github::rights::{self, Lack};
use crate::model::fault::with_causes;
use crate::model::github::{API_URL, AppId, Trouble};
use crate::model::id::RepositorySlug;
use crate::model::plan::Plan;
use crate::model::secret::Secret;

/// How long GitHub may take to answer.
const GITHUB_TIME_MAX: Duration = Duration::from_secs(30);

/// What a fine-grained token needs.
const PERMISSIONS: &str = "issues, pull requests, contents and commit statuses, read and write";

/// Looks at what runs.
pub(super) fn look(context: &Context) -> Vec<Finding> {
    let mut findings = vec![systemd(), supervisor(context)];
    // A team that has GitHub in agents.toml is told of a missing token; for others a token is only looked at if it is there.
    let plan = context.layout().and_then(|layout| read_plan(&layout)).ok().and_then(|(_, plan)| plan.ok());
    let spec = plan.as_ref().map(|plan| plan.github.clone()).unwrap_or_default();
    let api =
        context.environment.github_api.clone().or_else(|| (spec.api_url != API_URL).then(|| spec.api_url.clone()));
    let uses_github = plan.as_ref().is_some_and(Plan::uses_github);
    let api = api.as_deref().unwrap_or(API_URL);
    let repositories = plan.iter().flat_map(|plan| &plan.repositories).filter_map(|spec| spec.github.as_ref());
    let slugs: Vec<RepositorySlug> = repositories.map(|spec| spec.slug.clone()).collect();
    let shown = context.environment.github(&spec);
    let credential = shown.as_ref().ok().cloned().flatten();
    match shown {
        Ok(Some(Credential::Token(token))) => findings.extend(github(token, api, &slugs, &spec.token_env)),
        Ok(Some(Credential::App(id, key))) => findings.extend(app(id, key, api, &slugs)),
        Ok(None) if uses_github => findings.push(Finding::fail(
            "github",
            format!("agents.toml names repositories on GitHub, and {} is not set", spec.token_env),
            format!("give the supervisor a token with the permissions {PERMISSIONS}"),
        )),
        Ok(None) => {}
        Err(error) if error.is_kept() => findings.push(Finding::warn(
            "github",
            format!("{error}, so the app cannot be looked at"),
            "fine if the service manager hands it over as the credential github_app_key; run this as somebody who can read it",
        )),
        Err(error) => {
            let failure = Failure::from(error);
            findings.push(Finding::fail("github", failure.message(), failure.hints.join("; ")));
        }
    }
    if let Some(webhook) = spec.webhook.as_ref().filter(|_| uses_github) {
        findings.extend(webhook::look(context, webhook, credential, api, &slugs));
    }
    findings
}

fn systemd() -> Finding {
    if !Path::new("/run/systemd/system").exists() {
        return Finding::warn(
            "systemd",
            "systemd does not run here, so the orchestra does not start with the machine",
            "start it yourself with `miyabi up`",
        );
    }
    if Path::new("/etc/systemd/system/miyabi-orchestra.service").exists() {
        Finding::ok("systemd", "miyabi-orchestra.service is installed")
    } else {
        Finding::ok("systemd", "it runs; `sudo miyabi install` lets the orchestra start with the machine")
    }
}

fn supervisor(context: &Context) -> Finding {
    let asked = context.client().and_then(|client| client.ask::<Status>(Call::Status).map_err(Failure::from));
    match asked {
        Ok(status) => {
            let since = when::short(clock::now().since(status.supervisor.since));
            let pid = status.supervisor.pid;
            match status.supervisor.state {
                SupervisorState::Running => Finding::ok("supervisor", format!("up {since}, pid {pid}")),
                SupervisorState::Draining => {
                    Finding::warn("supervisor", format!("draining, pid {pid}"), "wait for its end, then `miyabi up`")
                }
            }
        }
        Err(failure) => Finding::warn("supervisor", failure.message(), failure.hints.join("; ")),
    }
}

fn github(token: Secret, api: &str, slugs: &[RepositorySlug], variable: &str) -> Vec<Finding> {
    let hint = format!("check {variable} and the network; work without GitHub is not affected");
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return vec![Finding::warn("github", format!("cannot be asked: {error}"), hint)],
    };
    let client = match runtime.block_on(async { Client::new(token, api) }) {
        Ok(client) => client,
        Err(error) => return vec![Finding::warn("github", Failure::new(Kind::Failed, error).message(), hint)],
    };
    let asked = runtime.block_on(async {
        tokio::time::timeout(GITHUB_TIME_MAX, async {
            let holder = rights::holder(&client).await?;
            let lacks = rights::lacks(&client, &holder, slugs).await?;
            Ok::<_, Trouble>((holder, lacks))
        })
        .await
    });
    match asked {
        Ok(Ok((holder, lacks))) => {
            let left = client.quota().map(|quota| format!(", {} of {} calls left", quota.remaining, quota.limit));
            let message = format!("the token is that of {}{}", holder.login, left.unwrap_or_default());
            std::iter::once(Finding::ok("github", message))
                .chain(lacks.into_iter().flat_map(|lacks| of_repository("the token", lacks)))
                .collect()
        }
        Ok(Err(Trouble::Refused { status: 401, .. })) => vec![Finding::fail(
            "github",
            "GitHub does not accept the token",
            format!("make a new token with the permissions {PERMISSIONS} and set {variable}, or unset it"),
        )],
        Ok(Err(trouble)) => vec![Finding::warn("github", trouble.to_string(), hint)],
        Err(_) => vec![Finding::warn("github", "GitHub did not answer in time", hint)],
    }
}

/// Asks GitHub something, in some time.
pub(super) fn asked<T>(asking: impl Future<Output = Result<T, Trouble>>) -> Result<T, Trouble> {
    let unsure = |reason: String| Trouble::Unsure { reason };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| unsure(error.to_string()))?;
    runtime.block_on(async {
        tokio::time::timeout(GITHUB_TIME_MAX, asking)
            .await
            .unwrap_or_else(|_| Err(unsure("no answer in time".to_owned())))
    })
}

/// Looks whether an app is who it says, and what it may do where.
fn app(id: AppId, key: Key, api: &str, slugs: &[RepositorySlug]) -> Vec<Finding> {
    let hint = "check the network; work without GitHub is not affected";
    let found = asked(async {
        let app = App::new(id, key, api).map_err(|error| Trouble::Unsure { reason: with_causes(&error) })?;
        let name = app.name().await?;
        Ok((name, rights::lacks_of(&app, slugs).await?))
    });
    match found {
        Ok((name, lacks)) => std::iter::once(Finding::ok("github", format!("the app is {name}")))
            .chain(lacks.into_iter().flat_map(|lacks| of_repository("the app", lacks)))
            .collect(),
        Err(Trouble::Refused { status: 401 | 404, .. }) => vec![Finding::fail(
            "github",
            format!("GitHub does not accept the key as that of app {id}"),
            "compare `app_id` with the app's page on GitHub, make a new key there, and set this machine's clock",
        )],
        Err(trouble) => vec![Finding::warn("github", trouble.to_string(), hint)],
    }
}

/// Tells what a token may not do in a repository, one finding for each permission.
fn of_repository(who: &str, (slug, lacks): (RepositorySlug, Vec<Lack>)) -> Vec<Finding> {
    if lacks.is_empty() {
        return vec![Finding::ok("github", format!("{who} may do in {slug} what it must"))];
    }
    lacks
        .into_iter()
        .map(|lack| {
            Finding::fail(
                "github",
                format!("missing for {slug}: {}", lack.permission),
                format!("it is needed {}; change {who}, or what it was given, on GitHub", lack.purpose),
            )
        })
        .collect()
}
