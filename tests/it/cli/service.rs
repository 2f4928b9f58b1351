//! The systemd units, as `miyabi install` writes them.

use std::process::Command;

use super::support::{Root, code, program, text};

/// Lets the units be written below a folder of the test's own.
fn units(root: &Root) -> std::path::PathBuf {
    let output = root.json(&["install", "--user", "root", "--root", ".", "--prefix", "prefix", "--dry-run"]);
    let folder = root.path().join("units");
    std::fs::create_dir_all(&folder).unwrap();
    for unit in output["units"].as_array().unwrap() {
        let name = std::path::Path::new(unit["path"].as_str().unwrap()).file_name().unwrap().to_owned();
        std::fs::write(folder.join(name), unit["text"].as_str().unwrap()).unwrap();
    }
    folder
}

#[test]
fn systemd_finds_nothing_wrong_with_the_units() {
    let root = Root::new();
    let folder = units(&root);
    // The verifier looks whether the programs exist.
    std::fs::create_dir_all(root.path().join("prefix/bin")).unwrap();
    std::fs::copy(program(), root.path().join("prefix/bin/miyabi")).unwrap();
    let output = Command::new("systemd-analyze")
        .args(["verify", "--man=no"])
        .args(["miyabi-orchestra.service", "miyabi-orchestra-tmux.service"].map(|name| folder.join(name)))
        .output()
        .unwrap();
    let complaints: Vec<String> =
        text(&output.stderr).lines().filter(|line| line.contains("miyabi-orchestra")).map(str::to_owned).collect();
    assert!(complaints.is_empty(), "{complaints:#?}");
}

#[test]
fn only_root_installs_and_nothing_is_written_in_a_rehearsal() {
    let root = Root::new();
    let shown = text(&root.run(&["install", "--user", "root", "--root", ".", "--dry-run"]).stdout);
    assert!(shown.contains("/etc/systemd/system/miyabi-orchestra.service"), "{shown}");
    assert!(shown.contains(&format!("WorkingDirectory={}", root.path().display())), "{shown}");
    for arguments in [
        &["install", "--user", "no-such-user-here", "--root", ".", "--dry-run"][..],
        &["install", "--user", "root", "--root", "nowhere", "--dry-run"],
    ] {
        assert_eq!(code(&root.run(arguments)), 4, "{arguments:?}");
    }
    assert_eq!(code(&root.run(&["install"])), 2);
    if !rustix::process::geteuid().is_root() {
        assert_eq!(code(&root.run(&["install", "--user", "root", "--root", "."])), 5);
    }
}
