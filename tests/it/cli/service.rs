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

/// What `systemd-analyze security` may say at most, in tenths: the supervisor runs no foreign code; coding agents need more.
const EXPOSURE_MAX: [(&str, u32); 2] = [("miyabi-orchestra.service", 20), ("miyabi-orchestra-tmux.service", 35)];

#[test]
fn the_units_are_held_as_tight_as_they_can_be() {
    let root = Root::new();
    let folder = units(&root);
    for (unit, most) in EXPOSURE_MAX {
        let path = folder.join(unit);
        // Root would be judged for being root; the judgement is of the rest.
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, text.replace("\nUser=root\n", "\nUser=daemon\n")).unwrap();
        let output = Command::new("systemd-analyze")
            .args(["security", "--offline=true", "--no-pager", &format!("--threshold={most}")])
            .arg(&path)
            .output()
            .unwrap();
        assert!(output.status.success(), "{unit}: {}", text_of(&output));
    }
}

fn text_of(output: &std::process::Output) -> String {
    format!("{}{}", text(&output.stdout), text(&output.stderr))
}

#[test]
fn ones_own_systemd_gets_units_without_an_account_and_without_what_needs_root() {
    let root = Root::new();
    let output =
        root.command(&["install", "--user", "--root", ".", "--dry-run"]).env("HOME", "/home/x").output().unwrap();
    let shown = text(&output.stdout);
    assert!(shown.contains("/home/x/.config/systemd/user/miyabi-orchestra.service"), "{shown}");
    assert!(shown.contains("/home/x/.local/bin/miyabi"), "{shown}");
    assert!(shown.contains("\nWantedBy=default.target\n"), "{shown}");
    for absent in ["\nUser=", "\nPrivateTmp=", "\nCapabilityBoundingSet=", "network-online.target"] {
        assert!(!shown.contains(absent), "{absent:?} in {shown}");
    }
    assert!(code(&root.run(&["install", "--user"])) == 2);
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
