//! `miyabi submit`.

use std::collections::BTreeSet;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::context::{Context, read_text};
use super::failure::{Ended, Failure, Kind, Result, accepted};
use super::output::Form;
use super::task_wait;
use crate::control::protocol::Call;
use crate::model::id::{AgentId, NameFault, RepositoryName, Role, SubmissionKey, TaskId};
use crate::model::request::{Answer, Request, Submission};
use crate::model::span;
use crate::model::task::{NoChange, Priority, PriorityFault};

/// The longest prompt, in bytes; longer ones belong into a file of the repository.
const TEXT_BYTES_MAX: usize = 512 * 1024;

/// The arguments of `submit`.
#[derive(Debug, clap::Args)]
#[command(after_help = "TEXT is handed to the agent's CLI; `-` reads it from standard input.\n\n\
    Examples:\n  miyabi submit \"add a --version flag\" --check 'cargo test'\n  \
    miyabi submit --run 'cargo fmt' --wait\n  miyabi submit --role review --needs example/hello \"review the change\"\n  \
    miyabi submit --run 'date' --repo none --wait\n  miyabi submit --key nightly-2026-11-28 \"update the dependencies\"\n  miyabi submit --file order.json")]
pub struct Args {
    /// What the agent is asked
    #[arg(value_name = "TEXT", required_unless_present_any = ["file", "run"], conflicts_with_all = ["file", "run"])]
    pub text: Option<String>,
    /// A file that says everything, in the form of a submission
    #[arg(long, value_name = "ORDER.json", conflicts_with_all = [
        "run", "agent", "role", "repo", "checks", "needs", "priority", "timeout", "no_change", "key", "cache",
    ])]
    pub file: Option<PathBuf>,
    /// A shell command that the agent's runner executes itself
    #[arg(long, value_name = "CMD")]
    pub run: Option<String>,
    /// The agent that must do it
    #[arg(long, value_name = "ID", conflicts_with = "role")]
    pub agent: Option<String>,
    /// The role that must do it
    #[arg(long, value_name = "R")]
    pub role: Option<String>,
    /// The repository, or `none` for a scratch folder
    #[arg(long, value_name = "NAME")]
    pub repo: Option<String>,
    /// A command that must succeed at the result; may be repeated
    #[arg(long = "check", value_name = "CMD")]
    pub checks: Vec<String>,
    /// A task that must be done first; may be repeated
    #[arg(long, value_name = "ID")]
    pub needs: Vec<String>,
    /// 1 (highest) to 5
    #[arg(long, value_name = "N")]
    pub priority: Option<u8>,
    /// The time limit of one attempt, e.g. 30m
    #[arg(long, value_name = "TIME", value_parser = span::parse)]
    pub timeout: Option<Duration>,
    /// No commit is expected
    #[arg(long)]
    pub no_change: bool,
    /// Makes it an order that is never accepted twice: the same key gives the same task
    #[arg(long, value_name = "KEY")]
    pub key: Option<String>,
    /// Takes the result of an earlier order of the same kind on the same commit, if there is one
    #[arg(long, conflicts_with = "no_cache")]
    pub cache: bool,
    /// Does the work although an earlier result is known
    #[arg(long)]
    pub no_cache: bool,
    /// Waits for the end: exit code 0 when it is done, 1 when not
    #[arg(long)]
    pub wait: bool,
}

/// Hands an order to the supervisor.
///
/// # Errors
/// Exit code 4 for an order that makes no sense, 3 without a supervisor.
pub fn run(context: &Context, args: Args) -> Result {
    let wait = args.wait;
    let no_cache = args.no_cache;
    let mut submission = match &args.file {
        Some(file) => from_file(&context.environment.folder.join(file))?,
        None => from_arguments(args)?,
    };
    if no_cache {
        submission.cache = None;
    }
    let client = context.client()?;
    let answer = accepted(client.ask(Call::Request(Request::Submit(Box::new(submission))))?)?;
    let Answer::Submitted { task, run, repeated } = answer else {
        return Err(Failure::say(Kind::Failed, "the supervisor accepted the order without an id"));
    };
    match context.out.form {
        Form::Json => context.out.json(&serde_json::json!({ "id": task, "run": run, "repeated": repeated }))?,
        Form::Text => context.out.line(task.as_str())?,
    }
    if repeated {
        context.out.note(&format!("{task} was submitted before with this key; nothing new is begun"));
    }
    if wait { task_wait::wait(context, &client, &BTreeSet::from([task])) } else { Ok(Ended::Well) }
}

fn from_file(path: &Path) -> Result<Submission> {
    let text = read_text(path)?;
    serde_json::from_str(&text).map_err(|error| {
        Failure::new(Kind::Invalid, anyhow::Error::new(error).context(format!("{} is no order", path.display())))
            .hint("an order looks like {\"prompt\": \"...\", \"role\": \"codegen\", \"checks\": [\"make test\"]}")
    })
}

fn from_arguments(args: Args) -> Result<Submission> {
    let prompt = args.text.map(read_if_dash).transpose()?;
    for text in prompt.iter().chain(&args.run) {
        if text.trim().is_empty() {
            return Err(Failure::say(Kind::Invalid, "the order is empty"));
        }
        if text.len() > TEXT_BYTES_MAX {
            return Err(Failure::say(Kind::Invalid, format!("the order is longer than {TEXT_BYTES_MAX} bytes"))
                .hint("put the text into a file of the repository and name it in the order"));
        }
    }
    Ok(Submission {
        agent: args.agent.map(AgentId::new).transpose()?,
        role: args.role.map(Role::new).transpose()?,
        prompt,
        run: args.run,
        checks: args.checks,
        repo: args.repo.map(RepositoryName::new).transpose()?,
        no_change: args.no_change.then_some(NoChange::Ok),
        needs: args.needs.into_iter().map(TaskId::new).collect::<std::result::Result<_, _>>()?,
        timeout_ms: args.timeout.map(|timeout| u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX)),
        priority: args.priority.map(Priority::try_from).transpose()?.unwrap_or_default(),
        key: args.key.map(SubmissionKey::new).transpose()?,
        cache: args.cache.then_some(true),
        retry: None,
    })
}

/// Reads standard input in the place of `-`.
pub fn read_if_dash(text: String) -> Result<String> {
    read_up_to(TEXT_BYTES_MAX, text)
}

/// Takes a text, or reads standard input for `-`: at most one byte more than allowed, which whoever checks will refuse.
///
/// # Errors
/// Fails if standard input cannot be read or is no UTF-8.
pub fn read_up_to(bytes_max: usize, text: String) -> Result<String> {
    if text != "-" {
        return Ok(text);
    }
    let mut read = Vec::new();
    let limit = u64::try_from(bytes_max).unwrap_or(u64::MAX).saturating_add(1);
    std::io::stdin().lock().take(limit).read_to_end(&mut read)?;
    if read.len() > bytes_max {
        // The bound may have cut a character in two.
        return Ok(String::from_utf8_lossy(&read).into_owned());
    }
    String::from_utf8(read).map_err(|fault| {
        Failure::new(Kind::Invalid, fault)
            .hint("the text must be UTF-8; attach other files, or convert it with `iconv`")
    })
}

impl From<NameFault> for Failure {
    fn from(fault: NameFault) -> Self {
        Self::new(Kind::Invalid, fault)
    }
}

impl From<PriorityFault> for Failure {
    fn from(fault: PriorityFault) -> Self {
        Self::new(Kind::Invalid, fault)
    }
}
