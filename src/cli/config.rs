//! `miyabi config check | schema`.

use std::collections::BTreeMap;

use super::context::{CONFIG_NAME, Context, read_plan};
use super::dag::{ExplainArgs, explain};
use super::failure::{Ended, Failure, Kind, Result};
use super::output::{Form, count};
use crate::config;
use crate::model::fault_code::Family;
use crate::model::plan::Plan;

/// What to do with the configuration.
#[derive(Debug, clap::Subcommand)]
pub enum Verb {
    /// Checks agents.toml and shows every fault with its place; needs no supervisor
    #[command(after_help = "Examples:\n  miyabi config check\n  miyabi config check --json | jq '.faults[].place'")]
    Check,
    /// Explains the code of a fault, with an example; without a code it lists all
    #[command(after_help = "Examples:\n  miyabi config explain CFG011\n  miyabi config explain")]
    Explain(ExplainArgs),
    /// Prints the JSON schema of agents.toml, or of dependency files
    #[command(after_help = "Editors complete and check with it.\n\nExamples:\n  \
        miyabi config schema > agents.schema.json\n  miyabi config schema --dag > dag.schema.json")]
    Schema(SchemaArgs),
}

/// The arguments of `config schema`.
#[derive(Debug, clap::Args)]
pub struct SchemaArgs {
    /// The schema of the YAML files in dag/
    #[arg(long)]
    pub dag: bool,
}

/// Performs a verb on the configuration.
///
/// # Errors
/// Exit code 4 with every fault.
pub fn run(context: &Context, verb: &Verb) -> Result {
    match verb {
        Verb::Check => check(context),
        Verb::Explain(args) => explain(context, args, Family::Config),
        Verb::Schema(args) => {
            let schema = if args.dag { config::schema::dag() } else { config::schema::agents() };
            let text = serde_json::to_string_pretty(&schema).map_err(|error| Failure::new(Kind::Failed, error))?;
            context.out.line(&text)?;
            Ok(Ended::Well)
        }
    }
}

fn check(context: &Context) -> Result {
    let (text, parsed) = read_plan(&context.layout()?)?;
    if let Ok(plan) = &parsed {
        check_key(context, plan)?;
    }
    match (parsed, context.out.form) {
        (Ok(plan), Form::Text) => {
            let agents = count(plan.agents.len(), "agent", "agents");
            let repositories = count(plan.repositories.len(), "repository", "repositories");
            context.out.line(&format!("{CONFIG_NAME} is valid: {agents}, {repositories}"))?;
        }
        (Ok(plan), Form::Json) => {
            let agents: Vec<_> = plan.agents.iter().map(|agent| &agent.id).collect();
            context.out.json(&serde_json::json!({ "valid": true, "agents": agents, "faults": [] }))?;
        }
        (Err(faults), Form::Text) => {
            return Err(context.faulty(&faults, &BTreeMap::from([(CONFIG_NAME.to_owned(), text)])));
        }
        (Err(faults), Form::Json) => {
            context.out.json(&serde_json::json!({ "valid": false, "faults": faults }))?;
            return Err(context.faulty(&faults, &BTreeMap::new()));
        }
    }
    Ok(Ended::Well)
}

/// Looks at the file with the app's key. Only the service manager may be able to read it, which then hands it over.
fn check_key(context: &Context, plan: &Plan) -> Result<()> {
    match context.environment.github(&plan.github) {
        Err(error) if !error.is_kept() => Err(error.into()),
        Ok(_) | Err(_) => Ok(()),
    }
}
