//! `miyabi up`.

use super::context::Context;
use super::env::Environment;
use super::failure::{Ended, Failure, Kind, Result};
use super::output::{Color, Tone, count};
use crate::daemon::start::{self, Options, StartError};
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
    let _guard = telemetry::start(&logging(&layout, &context.environment)?)?;
    greet(context, &layout, plan.agents.len());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let options = Options {
        root: layout.root().to_owned(),
        environment: context.environment.all.clone(),
        program: context.environment.program.clone(),
    };
    let ended = runtime.block_on(start::run(options));
    // Blocking work that does not end, such as a hung file system, must not keep the process alive.
    runtime.shutdown_background();
    ended?;
    Ok(Ended::Well)
}

fn greet(context: &Context, layout: &Layout, agents: usize) {
    if !context.environment.stderr_is_terminal {
        return;
    }
    let paint = |tone, text: &str| context.out.note_color.paint(tone, text);
    let root = layout.root().display();
    context.out.note(&paint(Tone::Heading, &format!("miyabi {} in {root}", env!("CARGO_PKG_VERSION"))));
    context
        .out
        .note(&format!("{}; look over their shoulders from another terminal:", count(agents, "agent", "agents")));
    context.out.note(&format!("  {}", paint(Tone::Active, &format!("miyabi -C {root} attach"))));
    context.out.note("Ctrl-C lets running work end and stops.");
}

/// Decides how the supervisor logs in this environment.
fn logging(layout: &Layout, environment: &Environment) -> Result<Logging> {
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
    Ok(Logging { folder: layout.logs(), filter: environment.log.clone(), format, standard_error })
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

impl From<StartError> for Failure {
    fn from(error: StartError) -> Self {
        match &error {
            StartError::AlreadyRunning { .. } => {
                Self::new(Kind::Refused, error).hint("see `miyabi status`; stop it with `miyabi down`")
            }
            StartError::NoConfig { .. } | StartError::Config { .. } => {
                Self::new(Kind::Invalid, error).hint("see `miyabi config check`")
            }
            StartError::Journal(_) | StartError::Fact { .. } | StartError::Illegal { .. } => {
                Self::new(Kind::Failed, error).hint("docs/operations.md says how a damaged journal is repaired")
            }
            StartError::Tmux(_) => Self::new(Kind::Failed, error).hint("`miyabi doctor` says what tmux lacks"),
            StartError::Folder { .. }
            | StartError::Lock(_)
            | StartError::Broken(_)
            | StartError::Socket(_)
            | StartError::System { .. } => Self::new(Kind::Failed, error),
        }
    }
}
