//! `miyabi init`: makes a folder a root that works at once.

mod git;
mod hub;
mod team;

use std::fs::Permissions;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::context::Context;
use super::failure::{Ended, Failure, Kind, Result};
use super::output::{Form, Tone};
use crate::model::layout::Layout;

use team::Place;

/// Keeps a folder's content out of git without a change to a file that git tracks: a changed file would make the
/// checkout dirty, and then nothing could be merged into it.
const IGNORE_ALL: &str = "# Written while the orchestra runs; nothing in here belongs into git.\n*\n";

/// The entries of a `.gitignore` beside agents.toml.
const IGNORE_ENTRIES: [&str; 2] = ["/data/", "/logs/"];

/// The arguments of `init`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Files that exist are never changed.\n\n\
    Examples:\n  miyabi init\n  miyabi -C ~/project init --dry-run\n  miyabi init --github octo-org/app")]
pub struct Args {
    /// Takes the issues of this repository: OWNER/REPO, or its https address; clones it if there is no checkout here
    #[arg(long, value_name = "OWNER/REPO")]
    pub github: Option<hub::OnGithub>,

    /// Shows what would be written and changes nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// One thing to be made.
#[derive(Debug)]
enum Step {
    /// A file that does not exist yet.
    Write { path: PathBuf, text: String },
    /// Lines at the end of a file.
    Append { path: PathBuf, text: String },
    /// A folder that only its user may look into.
    PrivateFolder { path: PathBuf },
    /// A file that exists and stays as it is.
    Keep { path: PathBuf },
}

/// Makes what is missing of a root.
///
/// # Errors
/// Names what cannot be written.
pub fn run(context: &Context, args: &Args) -> Result {
    let root = folder(context, args)?;
    let layout = Layout::new(root);
    let surroundings = git::look(layout.root());
    let hub = match &args.github {
        Some(hub) => Some((hub, hub::find_checkout(hub, layout.root(), surroundings.as_ref())?)),
        None => None,
    };
    let place = match (&hub, &surroundings) {
        (Some((hub, checkout)), _) => Place::OnGithub(hub, &checkout.path),
        (None, Some(git)) => Place::Checkout(git),
        (None, None) => Place::Nowhere,
    };
    let steps = plan(context, &layout, surroundings.as_ref(), &place)?;
    let to_clone = hub.as_ref().and_then(|(hub, checkout)| Some((hub, checkout.clone_into.as_deref()?)));
    if !args.dry_run {
        // First what can fail.
        if let Some((hub, into)) = to_clone {
            hub::clone(hub, into)?;
        }
        for step in &steps {
            perform(step)?;
        }
    }
    show(context, args, &layout, &steps, to_clone.map(|(_, into)| into))?;
    if context.out.form == Form::Text && !args.dry_run {
        match &place {
            Place::OnGithub(hub, _) => next_steps_on_github(context, &layout, hub, &steps)?,
            Place::Checkout(_) | Place::Nowhere => next_steps(context, &layout, surroundings.as_ref())?,
        }
    }
    Ok(Ended::Well)
}

/// Returns the folder that becomes a root; it need not exist yet.
fn folder(context: &Context, args: &Args) -> Result<PathBuf> {
    let named = context.root.as_deref().or(context.environment.root.as_deref()).unwrap_or(Path::new(""));
    let path = context.environment.folder.join(named);
    if !path.exists() {
        if args.dry_run {
            return Ok(path);
        }
        std::fs::create_dir_all(&path).map_err(|error| not_made(&path, error))?;
    }
    context.folder()
}

/// Decides what is to be made.
fn plan(context: &Context, layout: &Layout, git: Option<&git::Surroundings>, place: &Place<'_>) -> Result<Vec<Step>> {
    let mut steps = Vec::new();
    let mut want = |path: PathBuf, text: String| {
        steps.push(if path.exists() { Step::Keep { path } } else { Step::Write { path, text } });
    };
    let team = team::agents_toml(&context.environment, place);
    want(layout.config(), team);
    want(layout.dag().join("hello.yaml"), team::STARTER_FILE.to_owned());
    for folder in [layout.data(), layout.logs()] {
        want(folder.join(".gitignore"), IGNORE_ALL.to_owned());
    }
    for path in [layout.logs(), layout.data()] {
        if !path.exists() {
            steps.insert(0, Step::PrivateFolder { path });
        }
    }
    if git.is_some() {
        steps.extend(ignore_entries(layout)?);
    }
    Ok(steps)
}

/// Adds entries to the root's own `.gitignore`, unless git tracks it.
fn ignore_entries(layout: &Layout) -> Result<Option<Step>> {
    let path = layout.root().join(".gitignore");
    let found = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Ok(Some(Step::Write { path, text: IGNORE_ENTRIES.map(|entry| format!("{entry}\n")).concat() }));
        }
        Err(error) => return Err(not_made(&path, error)),
    };
    let missing: Vec<&str> =
        IGNORE_ENTRIES.into_iter().filter(|entry| !found.lines().any(|line| line.trim() == *entry)).collect();
    if missing.is_empty() || git::is_tracked(layout.root(), ".gitignore") {
        return Ok(Some(Step::Keep { path }));
    }
    let gap = if found.is_empty() || found.ends_with('\n') { "" } else { "\n" };
    Ok(Some(Step::Append { path, text: format!("{gap}{}\n", missing.join("\n")) }))
}

fn perform(step: &Step) -> Result<()> {
    let done = match step {
        Step::Keep { .. } => Ok(()),
        Step::PrivateFolder { path } => {
            std::fs::create_dir_all(path).and_then(|()| std::fs::set_permissions(path, Permissions::from_mode(0o700)))
        }
        Step::Write { path, text } => write(path, text, std::fs::OpenOptions::new().write(true).create_new(true)),
        Step::Append { path, text } => write(path, text, std::fs::OpenOptions::new().append(true)),
    };
    match step {
        Step::Keep { path } | Step::PrivateFolder { path } | Step::Write { path, .. } | Step::Append { path, .. } => {
            done.map_err(|error| not_made(path, error))
        }
    }
}

fn write(path: &Path, text: &str, options: &std::fs::OpenOptions) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    io::Write::write_all(&mut options.open(path)?, text.as_bytes())
}

fn not_made(path: &Path, error: io::Error) -> Failure {
    Failure::new(Kind::Failed, anyhow::Error::new(error).context(format!("cannot make {}", path.display())))
}

fn show(context: &Context, args: &Args, layout: &Layout, steps: &[Step], cloned: Option<&Path>) -> Result<()> {
    let steps = steps.iter().filter_map(|step| match step {
        Step::Write { path, .. } => Some(("made", path.as_path())),
        Step::Append { path, .. } => Some(("extended", path.as_path())),
        Step::Keep { path } => Some(("kept", path.as_path())),
        Step::PrivateFolder { .. } => None,
    });
    let lines: Vec<(&str, &Path)> = cloned
        .map(|path| ("cloned", path))
        .into_iter()
        .chain(steps)
        .map(|(word, path)| (word, path.strip_prefix(layout.root()).unwrap_or(path)))
        .collect();
    if context.out.form == Form::Json {
        let of = |wanted: &str| -> Vec<&Path> {
            lines.iter().filter(|(word, _)| *word == wanted).map(|(_, path)| *path).collect()
        };
        return context.out.json(&serde_json::json!({
            "root": layout.root(), "dry_run": args.dry_run,
            "cloned": of("cloned"), "made": of("made"), "extended": of("extended"), "kept": of("kept"),
        }));
    }
    let would = if args.dry_run { "would be " } else { "" };
    for (word, path) in lines {
        let tone = if word == "kept" { Tone::Faint } else { Tone::Good };
        context.out.line(&format!(
            "{} {}",
            context.out.color.paint(tone, &format!("{would}{word}")),
            path.display()
        ))?;
    }
    Ok(())
}

/// Returns how the root is named on the command line from here: not at all inside of it.
fn at_root(context: &Context, layout: &Layout) -> String {
    let is_here = layout.root() == context.environment.folder;
    if is_here { String::new() } else { format!(" -C {}", layout.root().display()) }
}

fn next_steps_on_github(context: &Context, layout: &Layout, hub: &hub::OnGithub, steps: &[Step]) -> Result<()> {
    let at = at_root(context, layout);
    let kept = steps.iter().any(|step| matches!(step, Step::Keep { path } if *path == layout.config()));
    let mut lines = vec![String::new()];
    if kept {
        lines.push(format!(
            "agents.toml was there and says what it said: add github = \"{}\" to its [[repository]].",
            hub.slug()
        ));
    }
    lines.extend([
        "Next:".to_owned(),
        format!(
            "  GITHUB_TOKEN=... miyabi{at} doctor   says whether the token may do what it must, and what is missing"
        ),
        format!("  GITHUB_TOKEN=... miyabi{at} up       starts the team"),
        format!("  then put the label auto-code on an issue of {}: its comment says how far it is", hub.slug()),
        format!("  miyabi{at} github status            says what was found, and what waits and why"),
    ]);
    for line in lines {
        context.out.line(&line)?;
    }
    Ok(())
}

fn next_steps(context: &Context, layout: &Layout, git: Option<&git::Surroundings>) -> Result<()> {
    let at = at_root(context, layout);
    let mut lines = vec![
        String::new(),
        "Next:".to_owned(),
        format!("  miyabi{at} up                       starts the team; then, in another terminal:"),
        format!("  miyabi{at} attach                   looks over their shoulders"),
        format!("  miyabi{at} submit --run 'date' --repo none --wait"),
        format!("  miyabi{at} doctor                   says what is missing on this machine"),
    ];
    match git {
        None => lines.push(
            "There is no git repository here, so tasks need `repo: none`; see [[repository]] in agents.toml."
                .to_owned(),
        ),
        Some(git) if !git.has_commit => lines
            .push("The git repository has no commit yet; make one first: tasks begin on the newest commit.".to_owned()),
        Some(_) => {}
    }
    for line in lines {
        context.out.line(&line)?;
    }
    Ok(())
}
