//! What runs: systemd, the supervisor, GitHub.

use std::path::Path;
use std::time::Duration;

use super::super::context::{Context, read_plan};
use super::super::failure::Failure;
use super::super::when;
use super::Finding;
use crate::control::protocol::{Call, Status, SupervisorState};
use crate::io::clock;
use crate::io::github::{self, GithubError};
use crate::model::github::API_URL;

/// How long GitHub may take to answer.
const GITHUB_TIME_MAX: Duration = Duration::from_secs(10);

/// Looks at what runs.
pub(super) fn look(context: &Context) -> Vec<Finding> {
    let mut findings = vec![systemd(), supervisor(context)];
    // A team that has GitHub in agents.toml is told of a missing token; for others a token is only looked at if it is there.
    let plan = context.layout().and_then(|layout| read_plan(&layout)).ok().and_then(|(_, plan)| plan.ok());
    let spec = plan.as_ref().map(|plan| plan.github.clone()).unwrap_or_default();
    let api = context.environment.github_api.clone().or_else(|| (spec.api_url != API_URL).then_some(spec.api_url));
    match context.environment.github_token(&spec.token_env) {
        Some(token) => findings.push(github(token.expose(), api.as_deref())),
        None if plan.is_some_and(|plan| plan.uses_github()) => findings.push(Finding::fail(
            "github",
            format!("agents.toml names repositories on GitHub, and {} is not set", spec.token_env),
            "give the supervisor a token that may read issues and write contents, pull requests and issues",
        )),
        None => {}
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

fn github(token: &str, api: Option<&str>) -> Finding {
    let hint = "check GITHUB_TOKEN and the network; work without GitHub is not affected";
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return Finding::warn("github", format!("cannot be asked: {error}"), hint),
    };
    let asked = runtime.block_on(async { tokio::time::timeout(GITHUB_TIME_MAX, github::rate_limit(token, api)).await });
    match asked {
        Ok(Ok(limit)) => {
            Finding::ok("github", format!("the token works: {} of {} calls left", limit.remaining, limit.limit))
        }
        Ok(Err(error @ GithubError::Token)) => {
            Finding::fail("github", error.to_string(), "make a new token and set GITHUB_TOKEN, or unset it")
        }
        Ok(Err(error @ (GithubError::Address { .. } | GithubError::Setup(_) | GithubError::Call(_)))) => {
            Finding::warn("github", Failure::new(super::super::failure::Kind::Failed, error).message(), hint)
        }
        Err(_) => Finding::warn("github", "GitHub did not answer in time", hint),
    }
}
