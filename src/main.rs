//! The `miyabi` program: reads the arguments, runs the verb, turns its result into an exit code.

fn main() {}
