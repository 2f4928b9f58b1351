//! `miyabi up`.

use std::collections::BTreeMap;

use super::context::{CONFIG_NAME, Context};
use super::env::Environment;
use super::failure::{Ended, Failure, Kind, Result};
use super::output::{Color, Tone, count};
use crate::daemon::start::{self, Options, StartError};
use crate::io::github::installation::KeyError;
use crate::model::layout::Layout;
use crate::telemetry::{self, Format, Logging, StandardError, TelemetryError};

/// Runs the supervisor until it is told to stop.
///
/// # Errors
/// Exit code 4 for a wrong configuration, 5 when another supervisor runs in this root.
pub fn run(context: &Context) -> Result {
    let layout = context.layout()?;
    // Read once more by the supervisor; here only so that a person sees every fault at once, before anything starts.
    let plan = context.plan()?;
    // With an app no variable holds a token of ours; one may be meant for an agent.
    let variable = plan.github.app.is_none().then_some(plan.github.token_env.as_str());
    let hook = plan.github.webhook.as_ref().map(|webhook| webhook.secret_env.as_str());
    let open: Vec<&str> =
        variable.into_iter().chain(hook).filter(|name| context.environment.all.contains_key(*name)).collect();
    if !open.is_empty() {
        return Err(Failure::new(Kind::Failed, context.environment.begin_without(&open))
            .hint("secrets must not stay in the supervisor's environment; give them as credentials instead"));
    }
    let github = context.environment.github(&plan.github)?;
    let webhook_secret = hook.and_then(|name| context.environment.webhook_secret(name));
    if let Some(name) = hook.filter(|_| webhook_secret.is_none()) {
        return Err(Failure::say(Kind::Invalid, format!("[github.webhook] needs its secret in {name}"))
            .hint("set it to the secret that GitHub's page for webhooks was given, or take the table out"));
    }
    if github.is_some() || webhook_secret.is_some() {
        // Nobody of the same user may look into this process any more; without that the rest is worth less.
        let quiet = rustix::process::DumpableBehavior::NotDumpable;
        rustix::process::set_dumpable_behavior(quiet).map_err(std::io::Error::from)?;
    }
    let _guard = telemetry::start(&logging(&layout, &context.environment, plan.log_days)?)?;
    greet(context, &layout, plan.agents.len());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let options = Options {
        root: layout.root().to_owned(),
        environment: context.environment.all.clone(),
        program: context.environment.program.clone(),
        github: github.filter(|_| plan.uses_github()),
        webhook_secret: webhook_secret.filter(|_| plan.uses_github()),
    };
    let ended = runtime.block_on(start::run(options));
    // Blocking work that does not end, such as a hung file system, must not keep the process alive.
    runtime.shutdown_background();
    match ended {
        Ok(()) => Ok(Ended::Well),
        Err(error) => Err(not_started(context, error)),
    }
}

fn greet(context: &Context, layout: &Layout, agents: usize) {
    // The system's journal has its own beginning, and nobody attaches from there.
    if context.environment.journal_stream.is_some() && !context.environment.stderr_is_terminal {
        return;
    }
    let paint = |tone, text: &str| context.out.note_color.paint(tone, text);
    let root = layout.root().display();
    context.out.note(&paint(Tone::Heading, &format!("miyabi {} in {root}", env!("CARGO_PKG_VERSION"))));
    context
        .out
        .note(&format!("{}; look over their shoulders from another terminal:", count(agents, "agent", "agents")));
    context.out.note(&format!("  {}", paint(Tone::Active, &format!("miyabi -C {root} attach"))));
    context.out.note("Ctrl-C lets running work end and stops; a second one leaves the agents at their work.");
}

/// Decides how the supervisor logs in this environment.
fn logging(layout: &Layout, environment: &Environment, days: u32) -> Result<Logging> {
    let format = match environment.log_format.as_deref() {
        None | Some("compact") => Format::Compact,
        Some("json") => Format::Json,
        Some(other) => {
            return Err(Failure::say(Kind::Invalid, format!("MIYABI_LOG_FORMAT is `{other}`"))
                .hint("set it to `compact` or `json`"));
        }
    };
    let standard_error = if environment.journal_stream.is_some() && !environment.stderr_is_terminal {
        StandardError::Journal
    } else if environment.stderr_is_terminal {
        match Color::decide(environment, true) {
            Color::Ansi => StandardError::ColoredTerminal,
            Color::Plain => StandardError::Terminal,
        }
    } else {
        StandardError::Silent
    };
    let days_kept = usize::try_from(days).unwrap_or(usize::MAX);
    let (folder, prefix, filter) = (layout.logs(), telemetry::FILE_PREFIX, environment.log.clone());
    Ok(Logging { folder, prefix, filter, format, days_kept, standard_error })
}

impl From<TelemetryError> for Failure {
    fn from(error: TelemetryError) -> Self {
        match &error {
            TelemetryError::Filter { .. } => Self::new(Kind::Invalid, error)
                .hint("set MIYABI_LOG to `info`, `debug`, or a filter such as `info,miyabi::daemon=debug`"),
            TelemetryError::Folder { .. } => {
                Self::new(Kind::Failed, error).hint("the logs/ folder of the root must be writable")
            }
            TelemetryError::Twice(_) => Self::new(Kind::Failed, error),
        }
    }
}

impl From<KeyError> for Failure {
    fn from(error: KeyError) -> Self {
        let hint = match &error {
            KeyError::Read { .. } => {
                "name the file that GitHub gave you in `private_key_file` of [github]; a service is given it as the credential github_app_key"
                    .to_owned()
            }
            KeyError::Open { path, .. } => format!("whoever reads it is the app; `chmod 600 {}`", path.display()),
            KeyError::NoKey { .. } => {
                "the app's page on GitHub makes a new one under \"Private keys\"; keep the file as it comes".to_owned()
            }
        };
        Self::new(Kind::Invalid, error).hint(hint)
    }
}

/// Says what to do about a supervisor that could not start or had to end.
fn not_started(context: &Context, error: StartError) -> Failure {
    match &error {
        StartError::AlreadyRunning { .. } => Failure::new(Kind::Refused, error)
            .hint("see `miyabi status`; one root has one supervisor, and `miyabi down` ends it"),
        StartError::Config { text, faults, .. } => {
            context.faulty(faults, &BTreeMap::from([(CONFIG_NAME.to_owned(), text.clone())]))
        }
        StartError::NoConfig { .. } => Failure::new(Kind::Invalid, error).hint("agents.toml must be readable"),
        StartError::Folder { .. } | StartError::Lock(_) | StartError::Socket(_) => Failure::new(Kind::Failed, error)
            .hint("the root must be a folder that you can write; `miyabi doctor` looks"),
        StartError::Tmux(_) => Failure::new(Kind::Failed, error).hint("`miyabi doctor` says what is missing"),
        StartError::Newer { .. } => Failure::new(Kind::Failed, error).hint("nothing was changed"),
        StartError::Journal(_)
        | StartError::Fact { .. }
        | StartError::Missing { .. }
        | StartError::NothingLeft { .. }
        | StartError::Repair { .. }
        | StartError::Illegal { .. } => Failure::new(Kind::Failed, error)
            .hint("nothing was changed; `miyabi journal check` looks closer, `miyabi journal repair` keeps all that can be kept"),
        StartError::Broken(_) | StartError::System { .. } => {
            Failure::new(Kind::Failed, error).hint("start it again: what was recorded is not lost; the log is in logs/")
        }
    }
}
