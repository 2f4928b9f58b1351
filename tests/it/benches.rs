//! The bench scripts measure another program beside ours where it is installed, and say so where it is not.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

/// Stands in for dagu: ends well only if it is given a file with just these steps.
const STUB: &str = r#"#!/bin/sh
test "$1" = start && test -d "$DAGU_HOME" || exit 3
test "$(grep -c 'command: "true"' "$2")" = 3 || exit 4
test "$(grep 'depends:' "$2" | tr -d ' \n')" = "$STEPS" || exit 5
"#;

/// Runs a script with three tasks and returns what it prints.
fn bench(script: &str, dagu: Option<(&Path, &str)>) -> String {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts").join(script));
    command.arg("3").env("MIYABI", env!("CARGO_BIN_EXE_miyabi")).env("BENCH_DIR", folder.path());
    command.env("PYTHONDONTWRITEBYTECODE", "1").env_remove("DAGU");
    if let Some((program, steps)) = dagu {
        command.env("DAGU", program).env("STEPS", steps);
    }
    let output = command.output().unwrap();
    let (printed, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{script}: {printed}{errors}");
    printed.into_owned()
}

fn row<'p>(printed: &'p str, name: &str) -> &'p str {
    printed.lines().find(|line| line.contains(name)).unwrap_or_else(|| panic!("no row {name}:\n{printed}"))
}

#[test]
fn dagu_is_measured_beside_ours_with_the_same_graph() {
    let folder = tempfile::tempdir().unwrap();
    let stub = folder.path().join("dagu");
    fs::write(&stub, STUB).unwrap();
    fs::set_permissions(&stub, fs::Permissions::from_mode(0o755)).unwrap();
    for (script, steps) in
        [("bench-tasks", "depends:[]depends:[]depends:[]"), ("bench-chain", "depends:[]depends:[t1]depends:[t2]")]
    {
        let printed = bench(script, Some((&stub, steps)));
        assert!(row(&printed, "dagu,").contains(" s "), "{printed}");
        assert!(!printed.contains("not installed"), "{printed}");
    }
}

#[test]
fn where_there_is_no_dagu_the_table_says_so() {
    // Somebody who has it on PATH measures it.
    let is_there = Command::new("sh").args(["-c", "command -v dagu"]).output().unwrap().status.success();
    let printed = bench("bench-chain", None);
    assert_eq!(row(&printed, "dagu,").contains("dagu: not installed"), !is_there, "{printed}");
    assert!(row(&printed, "a chain of 3 no-op tasks").contains("ms a task"), "{printed}");
}
