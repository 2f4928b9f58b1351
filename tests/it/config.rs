//! agents.toml and dependency files: what is accepted, what is refused, and how it is told.
#![expect(clippy::unwrap_used, reason = "what a test needs and does not get ends the test")]

mod agents;
mod dag;
mod documentation;
mod every_key;
mod faults;
mod graph;
mod issues;
mod robustness;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use miyabi::config;
use miyabi::config::render::Color;
use miyabi::model::fault::Fault;
use miyabi::model::plan::Plan;
use miyabi::model::task::TaskFile;

/// The folder that tests take as the root.
const ROOT: &str = "/srv/team";

/// A team with two repositories' worth of questions left out: one repository, every driver that needs no program.
const TEAM: &str = r#"
[[agent]]
id = "conductor"
driver = "dashboard"

[[agent]]
id = "kaede"
name = "カエデ"
role = "codegen"
driver = "echo"

[[agent]]
id = "sakura"
name = "サクラ"
role = "review"
driver = "echo"

[[repository]]
path = "app"
github = "octo-org/app"
"#;

fn project() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn project_file(path: &str) -> String {
    let path = project().join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("cannot read {}: {error}", path.display()))
}

fn parse_agents(text: &str) -> Result<Plan, Vec<Fault>> {
    config::agents::parse("agents.toml", text, Path::new(ROOT))
}

fn team() -> Plan {
    parse_agents(TEAM).unwrap()
}

/// The same team with no or several repositories.
fn team_with_repositories(names: &[&str]) -> Plan {
    let mut plan = team();
    let template = plan.repositories.remove(0);
    for name in names {
        let mut repository = template.clone();
        repository.name = name.parse().unwrap();
        repository.path = PathBuf::from(ROOT).join(name);
        plan.repositories.push(repository);
    }
    plan
}

fn parse_dag(text: &str) -> Result<TaskFile, Vec<Fault>> {
    config::dag::parse("dag/plan.yaml", text, &team())
}

fn render(faults: &[Fault], files: &[(&str, &str)]) -> String {
    let sources: BTreeMap<String, String> =
        files.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect();
    config::render::render(faults, &sources, Color::Plain)
}

/// Shows faults as `line:column message (help)`, for tests of one rule.
fn told(faults: &[Fault]) -> Vec<String> {
    faults
        .iter()
        .map(|fault| {
            let help = fault.help.as_deref().map(|help| format!(" ({help})")).unwrap_or_default();
            format!("{}:{} {}{help}", fault.place.line, fault.place.column, fault.message)
        })
        .collect()
}
