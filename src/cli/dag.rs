//! `miyabi dag check | show`: dependency files, read without a supervisor.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::context::{Context, read_bytes};
use super::failure::{Ended, Failure, Kind, Result};
use super::output::{Form, count};
use crate::config;
use crate::control::protocol::Call;
use crate::core::dag as graph;
use crate::core::snapshot::TaskView;
use crate::model::fault::{Fault, Place};
use crate::model::fault_code::{Code, Family};
use crate::model::id::TaskId;
use crate::model::layout::Layout;
use crate::model::plan::Plan;
use crate::model::task::{EdgeSource, TaskFile};

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
    /// Draws the graph of all tasks and issues, with their states, and what GitHub says, when a supervisor runs
    #[command(
        after_help = "Examples:\n  miyabi dag show\n  miyabi dag show --origins\n  miyabi dag show --format dot | dot -Tsvg > graph.svg"
    )]
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
    /// Name also the place in a file where each need is written
    #[arg(long)]
    pub origins: bool,
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
        Verb::Show(args) => show(context, args),
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
        let text = match config::dag::text_of(&name, read_bytes(&path)?) {
            Ok(text) => text,
            Err(fault) => {
                unread.extend(path.file_stem().map(|stem| stem.to_string_lossy().into_owned()));
                read.faults.push(fault);
                continue;
            }
        };
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
    let faulty: BTreeSet<&str> = faults.iter().map(|fault| fault.place.file.as_str()).collect();
    let counts: BTreeMap<&str, (usize, usize)> = read
        .files
        .iter()
        .filter(|file| asked(&file.path) && !faulty.contains(file.path.as_str()))
        .map(|file| (file.path.as_str(), (file.nodes.len(), file.issues.len())))
        .collect();
    if context.out.form == Form::Json {
        let files: Vec<_> = counts
            .iter()
            .map(|(path, (tasks, issues))| serde_json::json!({"path": path, "tasks": tasks, "issues": issues}))
            .collect();
        context.out.json(&serde_json::json!({ "valid": faults.is_empty(), "files": files, "faults": faults }))?;
    }
    if !faults.is_empty() {
        return Err(context.faulty(&faults, &read.texts).hint("the last good version of a file stays in force"));
    }
    if context.out.form == Form::Text {
        for (path, (tasks, issues)) in counts {
            let issues = match issues {
                0 => String::new(),
                issues => format!(", {}", count(issues, "issue", "issues")),
            };
            context.out.line(&format!("{path} is valid: {}{issues}", count(tasks, "task", "tasks")))?;
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

fn show(context: &Context, args: &ShowArgs) -> Result {
    let layout = context.layout()?;
    let read = read(&layout, &context.plan()?, &[])?;
    if !read.faults.is_empty() {
        return Err(context.faulty(&read.faults, &read.texts));
    }
    // Without a supervisor the graph is drawn without states; that is worth no message.
    let tasks: Vec<TaskView> = context.client()?.ask(Call::Tasks).unwrap_or_default();
    let edges = edges(&read.files, &tasks);
    if context.out.form == Form::Json {
        let list: Vec<_> = edges
            .iter()
            .map(|node| {
                let needs: Vec<&TaskId> = node.needs.iter().map(|need| &need.id).collect();
                let from: BTreeMap<&TaskId, Vec<String>> =
                    node.needs.iter().map(|need| (&need.id, need.origins(true))).collect();
                serde_json::json!({ "id": node.id, "needs": needs, "from": from, "state": node.state })
            })
            .collect();
        context.out.json(&list)?;
        return Ok(Ended::Well);
    }
    let nodes: Vec<graph::DrawNode> = edges.into_iter().map(|node| node.drawn(args.origins)).collect();
    let format = match args.format {
        DrawFormat::Text => graph::Format::Text,
        DrawFormat::Mermaid => graph::Format::Mermaid,
        DrawFormat::Dot => graph::Format::Dot,
    };
    context.out.text(&graph::draw(&nodes, format))?;
    Ok(Ended::Well)
}

/// A task or an issue, with everything that is known of what it needs.
struct Node {
    id: TaskId,
    needs: Vec<Need>,
    state: Option<String>,
}

/// A need, and who says so.
struct Need {
    id: TaskId,
    place: Option<Place>,
    said: BTreeSet<EdgeSource>,
}

impl Need {
    fn origins(&self, places: bool) -> Vec<String> {
        let place = self.place.as_ref().filter(|_| places).map(ToString::to_string);
        place.into_iter().chain(self.said.iter().map(|source| source.text().to_owned())).collect()
    }
}

impl Node {
    fn drawn(self, places: bool) -> graph::DrawNode {
        let label =
            |need: &Need| Some((need.id.clone(), need.origins(places).join("; "))).filter(|(_, it)| !it.is_empty());
        let labels = self.needs.iter().filter_map(label).collect();
        let needs = self.needs.into_iter().map(|need| need.id).collect();
        graph::DrawNode { id: self.id, needs, state: self.state, labels }
    }
}

/// Puts together what the files and the supervisor say.
fn edges(files: &[TaskFile], tasks: &[TaskView]) -> Vec<Node> {
    let views: BTreeMap<&TaskId, &TaskView> = tasks.iter().map(|task| (&task.id, task)).collect();
    let node = |id: &TaskId, needs: &[TaskId], places: &[Place], kind: Option<&str>| {
        let view = views.get(id);
        let mut all: Vec<Need> = needs
            .iter()
            .zip(places)
            .map(|(need, place)| Need { id: need.clone(), place: Some(place.clone()), said: BTreeSet::new() })
            .collect();
        for (need, said) in view.iter().flat_map(|view| &view.said) {
            match all.iter_mut().find(|known| known.id == *need) {
                Some(known) => known.said.clone_from(said),
                None => all.push(Need { id: need.clone(), place: None, said: said.clone() }),
            }
        }
        let state = view.map(|view| view.state.as_str()).or(kind).map(str::to_owned);
        Node { id: id.clone(), needs: all, state }
    };
    let mut nodes = Vec::new();
    for file in files {
        nodes.extend(file.nodes.iter().map(|it| node(&it.id, &it.spec.needs, &it.needs_places, None)));
        nodes.extend(file.issues.iter().map(|it| {
            let kind = it.spec.external.then_some("external");
            node(&it.id, &it.spec.needs, &it.needs_places, kind)
        }));
    }
    let listed: BTreeSet<TaskId> = nodes.iter().map(|node| node.id.clone()).collect();
    let others = tasks.iter().filter(|task| task.issue.is_some() && !listed.contains(&task.id));
    nodes.extend(others.map(|task| node(&task.id, &[], &[], None)));
    nodes
}
