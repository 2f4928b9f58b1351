//! `miyabi dag check | show`: dependency files, read without a supervisor.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::context::{Context, read_text};
use super::failure::{Ended, Failure, Kind, Result};
use super::output::{Form, count};
use crate::config;
use crate::control::protocol::Call;
use crate::core::dag as graph;
use crate::core::snapshot::{TaskState, TaskView};
use crate::model::fault::Fault;
use crate::model::fault_code::{Code, Family};
use crate::model::id::TaskId;
use crate::model::layout::Layout;
use crate::model::plan::Plan;
use crate::model::task::TaskFile;

/// How many dependency files are read at most.
const FILES_MAX: usize = 10_000;

/// What to do with dependency files.
#[derive(Debug, clap::Subcommand)]
pub enum Verb {
    /// Checks dependency files and shows every fault with its place; needs no supervisor
    #[command(after_help = "Examples:\n  miyabi dag check\n  miyabi dag check dag/release.yaml")]
    Check(CheckArgs),
    /// Explains the code of a fault, with an example; without a code it lists all
    #[command(after_help = "Examples:\n  miyabi dag explain DAG031\n  miyabi dag explain")]
    Explain(ExplainArgs),
    /// Draws the graph of all tasks, with their states when a supervisor runs
    #[command(after_help = "Examples:\n  miyabi dag show\n  miyabi dag show --format dot | dot -Tsvg > graph.svg")]
    Show(ShowArgs),
}

/// The arguments of `dag check`.
#[derive(Debug, clap::Args)]
pub struct CheckArgs {
    /// The files [default: all files in dag/]
    #[arg(value_name = "FILE")]
    pub files: Vec<PathBuf>,
}

/// The arguments of `dag explain` and `config explain`.
#[derive(Debug, clap::Args)]
pub struct ExplainArgs {
    /// The code that stands beside the fault, e.g. DAG031
    #[arg(value_name = "CODE")]
    pub code: Option<Code>,
}

/// The arguments of `dag show`.
#[derive(Debug, clap::Args)]
pub struct ShowArgs {
    /// The form of the drawing
    #[arg(long, value_enum, default_value_t = DrawFormat::Text)]
    pub format: DrawFormat,
}

/// The form of a drawing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum DrawFormat {
    /// For the terminal
    Text,
    /// For Markdown pages
    Mermaid,
    /// For Graphviz
    Dot,
}

/// Performs a verb on dependency files.
///
/// # Errors
/// Exit code 4 with every fault.
pub fn run(context: &Context, verb: &Verb) -> Result {
    match verb {
        Verb::Check(args) => check(context, args),
        Verb::Explain(args) => explain(context, args, Family::Dag),
        Verb::Show(args) => show(context, args.format),
    }
}

/// What was read of a set of dependency files.
#[derive(Debug, Default)]
pub struct Read {
    /// The files, as far as they could be read: what a faulty task does is made up.
    pub files: Vec<TaskFile>,
    /// The faults of all files, also those between files.
    pub faults: Vec<Fault>,
    /// The texts by the name that is shown.
    pub texts: BTreeMap<String, String>,
}

/// Reads the files of dag/ and `others`, and checks them together.
///
/// # Errors
/// Only when a file cannot be read.
pub fn read(layout: &Layout, plan: &Plan, others: &[PathBuf]) -> Result<Read> {
    let mut paths: BTreeSet<PathBuf> = dependency_files(&layout.dag())?.into_iter().collect();
    paths.extend(others.iter().cloned());
    let mut read = Read::default();
    let mut unread = BTreeSet::new();
    for path in paths {
        let name = shown_name(layout, &path);
        let text = read_text(&path)?;
        let outline = config::dag::outline(&name, &text, plan);
        if outline.has_gaps {
            // Whoever needs a task of this file would else be blamed for its faults.
            unread.extend(path.file_stem().map(|stem| stem.to_string_lossy().into_owned()));
        }
        read.files.extend(outline.file);
        read.faults.extend(outline.faults);
        read.texts.insert(name, text);
    }
    read.faults.extend(graph::check_beside(&read.files, &BTreeSet::new(), &unread));
    Ok(read)
}

fn dependency_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let unreadable = |error: std::io::Error| {
        Failure::new(Kind::Failed, anyhow::Error::new(error).context(format!("cannot read {}", folder.display())))
    };
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(unreadable(error)),
    };
    let mut files = Vec::new();
    for entry in entries {
        let entry = entry.map_err(unreadable)?;
        if entry.file_name().to_str().is_some_and(config::dag::is_dependency_file) && entry.path().is_file() {
            files.push(entry.path());
        }
        if files.len() > FILES_MAX {
            return Err(Failure::say(Kind::Invalid, format!("{} holds more than {FILES_MAX} files", folder.display())));
        }
    }
    Ok(files)
}

/// Names a file as people see it from the root.
fn shown_name(layout: &Layout, path: &Path) -> String {
    path.strip_prefix(layout.root()).unwrap_or(path).display().to_string()
}

fn check(context: &Context, args: &CheckArgs) -> Result {
    let layout = context.layout()?;
    let plan = context.plan()?;
    let named = args.files.iter().map(|file| named_file(context, file)).collect::<Result<Vec<_>>>()?;
    let read = read(&layout, &plan, &named)?;
    let shown: BTreeSet<String> = named.iter().map(|path| shown_name(&layout, path)).collect();
    let asked = |file: &str| shown.is_empty() || shown.contains(file);
    let faults: Vec<Fault> = read.faults.iter().filter(|fault| concerns(fault, &asked)).cloned().collect();
    let faulty: BTreeSet<&String> = faults.iter().map(|fault| &fault.place.file).collect();
    let counts: BTreeMap<&str, usize> = read
        .files
        .iter()
        .filter(|file| asked(&file.path) && !faulty.contains(&file.path))
        .map(|file| (file.path.as_str(), file.nodes.len()))
        .collect();
    if context.out.form == Form::Json {
        let files: Vec<_> =
            counts.iter().map(|(path, tasks)| serde_json::json!({"path": path, "tasks": tasks})).collect();
        context.out.json(&serde_json::json!({ "valid": faults.is_empty(), "files": files, "faults": faults }))?;
    }
    if !faults.is_empty() {
        return Err(context.faulty(&faults, &read.texts).hint("the last good version of a file stays in force"));
    }
    if context.out.form == Form::Text {
        for (path, tasks) in counts {
            context.out.line(&format!("{path} is valid: {}", count(tasks, "task", "tasks")))?;
        }
        if read.files.is_empty() {
            context.out.note(&format!("there are no dependency files in {}", layout.dag().display()));
        }
    }
    Ok(Ended::Well)
}

/// A file named on the command line is found from the current folder, as everywhere.
fn named_file(context: &Context, file: &Path) -> Result<PathBuf> {
    let path = context.environment.folder.join(file);
    path.canonicalize().map_err(|error| {
        Failure::new(Kind::Invalid, anyhow::Error::new(error).context(format!("no file {}", path.display())))
    })
}

fn concerns(fault: &Fault, asked: &impl Fn(&str) -> bool) -> bool {
    asked(&fault.place.file) || fault.related.iter().any(|(place, _)| asked(&place.file))
}

/// Explains a code, or lists all of a kind of file.
///
/// # Errors
/// Only when nothing can be printed.
pub fn explain(context: &Context, args: &ExplainArgs, family: Family) -> Result {
    let codes = args.code.map_or_else(|| config::faults::list(family), |code| vec![code]);
    if context.out.form == Form::Json {
        let list: Vec<_> = codes
            .iter()
            .map(|code| serde_json::json!({ "code": code, "title": code.mistake.title(), "text": config::faults::explain(*code) }))
            .collect();
        context.out.json(&list)?;
        return Ok(Ended::Well);
    }
    match args.code {
        Some(code) => context.out.text(&config::faults::explain(code))?,
        None => {
            for code in codes {
                context.out.line(&format!("{code}  {}", code.mistake.title()))?;
            }
        }
    }
    Ok(Ended::Well)
}

fn show(context: &Context, format: DrawFormat) -> Result {
    let layout = context.layout()?;
    let read = read(&layout, &context.plan()?, &[])?;
    if !read.faults.is_empty() {
        return Err(context.faulty(&read.faults, &read.texts));
    }
    // Without a supervisor the graph is drawn without states; that is worth no message.
    let tasks: Vec<TaskView> = context.client()?.ask(Call::Tasks).unwrap_or_default();
    let states: BTreeMap<TaskId, TaskState> = tasks.into_iter().map(|task| (task.id, task.state)).collect();
    let nodes: Vec<graph::DrawNode> = read
        .files
        .iter()
        .flat_map(|file| &file.nodes)
        .map(|node| graph::DrawNode {
            id: node.id.clone(),
            needs: node.spec.needs.clone(),
            state: states.get(&node.id).map(|state| state.as_str().to_owned()),
        })
        .collect();
    if context.out.form == Form::Json {
        let list: Vec<_> = nodes
            .iter()
            .map(|node| serde_json::json!({ "id": node.id, "needs": node.needs, "state": node.state }))
            .collect();
        context.out.json(&list)?;
        return Ok(Ended::Well);
    }
    let format = match format {
        DrawFormat::Text => graph::Format::Text,
        DrawFormat::Mermaid => graph::Format::Mermaid,
        DrawFormat::Dot => graph::Format::Dot,
    };
    context.out.text(&graph::draw(&nodes, format))?;
    Ok(Ended::Well)
}
