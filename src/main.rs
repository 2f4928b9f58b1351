//! The `miyabi` program: reads the arguments, runs the verb, turns its result into an exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    miyabi::cli::run(std::env::args_os())
}
