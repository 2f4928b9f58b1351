//! The keys of `[workflow]`.

use super::{Absent, Part, Shape, key};
use crate::model::plan::ROUNDS_MOST;

/// `[workflow]`.
pub static WORKFLOW: Part = Part {
    heading: "[workflow]",
    keys: &[
        key(
            "stages",
            Shape::Choices(&["code", "review", "pull-request", "deploy"]),
            Absent::Otherwise("`code`, and each other stage whose role somebody has"),
            "The stages of every run, in this order; all but `code` can be left out. `code` is done by the role `codegen`, each other one by the role of its name.",
            "stages = [\"code\", \"review\"]",
        ),
        key(
            "rounds_max",
            Shape::Count(1, ROUNDS_MOST),
            Absent::Value("3"),
            "How many reviews by agents a run may have: when the last of them asks for changes, the task has failed. People may ask for changes of a pull request as often again.",
            "rounds_max = 5",
        ),
        key(
            "code",
            Shape::Text,
            Absent::Otherwise("nothing"),
            "What agents are told at the stage `code`, beside the task's prompt.",
            "code = \"Keep to CONTRIBUTING.md.\"",
        ),
        key(
            "review",
            Shape::Text,
            Absent::Otherwise("nothing"),
            "What agents are told at the stage `review`, beside what they are always told.",
            "review = \"Look at error handling first.\"",
        ),
        key(
            "pull_request",
            Shape::Text,
            Absent::Otherwise("nothing"),
            "What agents are told at the stage `pull-request`, beside what they are always told.",
            "pull_request = \"Write in Japanese.\"",
        ),
        key(
            "deploy",
            Shape::Text,
            Absent::Otherwise("nothing"),
            "What agents are told at the stage `deploy`, beside what they are always told; not together with `deploy_run`.",
            "deploy = \"docs/deploy.md says how.\"",
        ),
        key(
            "deploy_run",
            Shape::Text,
            Absent::Otherwise("the agent's program deploys"),
            "The shell command that deploys: the runner of an agent of the role `deploy` executes it at the merged commit.",
            "deploy_run = \"make deploy\"",
        ),
        key(
            "healer",
            Shape::Slug,
            Absent::Otherwise("nobody is asked"),
            "The role that is asked to find out why when a task has failed for good; it gets the reasons of all attempts, and the last one's checks, output and changes.",
            "healer = \"review\"",
        ),
    ],
};
