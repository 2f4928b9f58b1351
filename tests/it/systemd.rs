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

/// `daemon::chaos` as it is, on a machine whose clock may be set: leases, beats and time limits end early, or begin in the
/// future. That machine is a tenth as quick as this one.
#[test]
fn chaos_with_a_clock_that_leaps_costs_no_work_either() {
    let tests = std::env::current_exe().expect("the tests know their program");
    let chaos = "daemon::chaos::whatever_is_killed_and_whenever_every_task_is_done_once_and_nothing_is_left";
    let story = format!(
        "MIYABI_CHAOS_CLOCK=1 MIYABI_CHAOS_SECONDS=40 MIYABI_CHAOS_TASKS=24 '{}' --exact {chaos} --nocapture \\
         && echo '== all is well'",
        tests.display()
    );
    let told = tell_on("scripts/with-vm", &story);
    assert!(told.is_empty() || told.contains("1 passed") && told.contains("\"clock set\""), "{told}");
}

/// Returns what was told: nothing where this machine cannot boot another.
fn tell_on(machine: &str, story: &str) -> String {
    let program = Path::new(env!("CARGO_BIN_EXE_miyabi"));
    let folder = program.parent().expect("a program lies in a folder").display();
    let output = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join(machine))
        // At its own place too, where the tests look for it.
        .args(["--bind", &format!("{folder}:/opt/under-test"), "--bind", &format!("{folder}:{folder}")])
        .args(["bash", "-c", story])
        .output()
        .expect("the script can be run");
    let told = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if output.status.code() == Some(NOT_POSSIBLE) && !is_ci() {
        return String::new();
    }
    assert!(output.status.success() && told.contains("== all is well"), "{told}");
    told
}

/// In CI a test that cannot be performed has failed.
#[expect(clippy::disallowed_methods, reason = "only the tests' surroundings are read, never the program's")]
fn is_ci() -> bool {
    std::env::var("CI").is_ok_and(|value| !value.is_empty())
}
