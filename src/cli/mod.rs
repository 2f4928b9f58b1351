//! The command line: arguments, one file per verb, output, and exit codes.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser;

pub mod agent;
pub mod args;
pub mod attach;
pub mod attached;
pub mod board;
pub mod completions;
pub mod config;
pub mod context;
pub mod dag;
pub mod dead;
pub mod doctor;
pub mod down;
pub mod env;
pub mod events;
pub mod failure;
pub mod freeze;
pub mod github;
pub mod inbox;
pub mod init;
pub mod install;
pub mod journal;
pub mod lease;
pub mod logs;
pub mod mail;
pub mod output;
pub mod receipt;
pub mod reload;
pub mod reply;
pub mod report;
pub mod route;
pub mod runner;
pub mod send;
pub mod sent;
pub mod status;
pub mod submit;
pub mod table;
pub mod task;
pub mod task_messages;
pub mod task_wait;
pub mod top;
pub mod up;
pub mod watch;
pub mod when;

use args::{Args, Verb};
use context::Context;
use env::Environment;
use failure::{Kind, exit_code};
use output::{Form, Output};

/// Runs the program with the arguments, the first of which is its own name.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let environment = Environment::read();
    let args = match Args::try_parse_from(arguments) {
        Ok(args) => args,
        // Help and version are asked for; everything else that clap says is a usage error.
        Err(error) => {
            let code = if error.use_stderr() { Kind::Usage.code() } else { 0 };
            drop(error.print());
            return ExitCode::from(code);
        }
    };
    let form = if args.json { Form::Json } else { Form::Text };
    let out = Output::new(form, &environment);
    let context = Context { environment, out, root: args.root };
    match perform(&context, args.verb) {
        Ok(ended) => exit_code(ended),
        Err(failure) => {
            out.failure(&failure);
            ExitCode::from(failure.kind.code())
        }
    }
}

fn perform(context: &Context, verb: Verb) -> failure::Result {
    match verb {
        Verb::Init(args) => init::run(context, &args),
        Verb::Up => up::run(context),
        Verb::Down(args) => down::run(context, &args),
        Verb::Reload(args) => reload::run(context, &args),
        Verb::Freeze(_) => freeze::freeze(context),
        Verb::Thaw(_) => freeze::thaw(context),
        Verb::Top(_) => top::run(context),
        Verb::Status(args) => status::run(context, &args),
        Verb::Attach(args) => attach::run(context, &args),
        Verb::Submit(args) => submit::run(context, args),
        Verb::Report(args) => report::run(context, &args),
        Verb::Task(verb) => task::run(context, verb),
        Verb::Dag(verb) => dag::run(context, &verb),
        Verb::Github(verb) => github::run(context, &verb),
        Verb::Route(args) => route::run(context, &args),
        Verb::Send(args) => send::run(context, &args),
        Verb::Inbox(args) => inbox::run(context, &args),
        Verb::Lease(args) => lease::run(context, &args),
        Verb::Sent(args) => sent::run(context, &args),
        Verb::Reply(args) => reply::run(context, &args),
        Verb::Ack(args) => receipt::ack(context, &args),
        Verb::Nack(args) => receipt::nack(context, &args),
        Verb::Extend(args) => receipt::extend(context, &args),
        Verb::Dead(verb) => dead::run(context, &verb),
        Verb::Agent(verb) => agent::run(context, verb),
        Verb::Logs(args) => logs::run(context, &args),
        Verb::Events(args) => events::run(context, &args),
        Verb::Config(verb) => config::run(context, &verb),
        Verb::Journal(verb) => journal::run(context, &verb),
        Verb::Doctor(args) => doctor::run(context, &args),
        Verb::Install(args) => install::run(context, &args),
        Verb::Completions(args) => completions::run(context, &args),
        Verb::Runner(args) => runner::run(context, &args),
    }
}
