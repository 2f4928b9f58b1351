//! The service under a real systemd, on a throw-away machine (`scripts/with-systemd`, `scripts/with-vm`).

use std::path::Path;
use std::process::Command;

/// What the scripts end with where they cannot work: without root, or without their tools.
const NOT_POSSIBLE: i32 = 77;

#[test]
fn the_service_survives_crashes_and_hangs_of_the_supervisor_with_its_agents() {
    tell_on("scripts/with-systemd", concat!(include_str!("systemd/machine.sh"), include_str!("systemd/story.sh")));
}

/// On a machine with a kernel of its own, whose memory and processor are all that an agent without bounds can take.
#[test]
fn limits_hold_for_one_agent_alone_and_a_reboot_costs_no_work() {
    tell_on("scripts/with-vm", concat!(include_str!("systemd/machine.sh"), include_str!("systemd/vm.sh")));
}

fn tell_on(machine: &str, story: &str) {
    let program = Path::new(env!("CARGO_BIN_EXE_miyabi"));
    let folder = program.parent().expect("a program lies in a folder");
    let output = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join(machine))
        .arg("--bind")
        .arg(format!("{}:/opt/under-test", folder.display()))
        .args(["bash", "-c", story])
        .output()
        .expect("the script can be run");
    let told = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if output.status.code() == Some(NOT_POSSIBLE) && !is_ci() {
        return;
    }
    assert!(output.status.success() && told.contains("== all is well"), "{told}");
}

/// In CI a test that cannot be performed has failed.
#[expect(clippy::disallowed_methods, reason = "only the tests' surroundings are read, never the program's")]
fn is_ci() -> bool {
    std::env::var("CI").is_ok_and(|value| !value.is_empty())
}
