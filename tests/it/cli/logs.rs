//! Logs: files, read without a supervisor.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use super::support::{Root, code, program, text};

#[test]
fn logs_follow_an_agent_from_one_attempt_to_the_next() {
    let root = Root::new();
    assert_eq!(code(&root.run(&["logs", "kaede"])), 1);
    assert_eq!(code(&root.run(&["logs", "kaeda"])), 4);
    root.write("logs/kaede/1.log", "one\ntwo \x1b[31mred\x1b[0m\n");
    assert_eq!(text(&root.run(&["logs", "kaede", "--lines", "1"]).stdout), "two red\n");

    let mut child = Command::new(program())
        .args(["logs", "kaede", "--follow"])
        .current_dir(root.path())
        .env_clear()
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert_eq!(lines.next().unwrap(), "one");
    root.write("logs/kaede/1.log", "one\ntwo \x1b[31mred\x1b[0m\nthree\n");
    assert!(lines.any(|line| line == "three"));
    root.write("logs/kaede/2.log", "next attempt\n");
    assert!(lines.any(|line| line == "next attempt"));
    child.kill().unwrap();
    child.wait().unwrap();
}
