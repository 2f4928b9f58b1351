//! What systemd is doing with the supervisor's unit. Stop and restart run the same commands and send the same signals;
//! only the job tells them apart.

use std::process::{Command, Stdio};

use super::super::context::Context;

/// What systemd is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Job {
    /// The unit is stopped, by somebody or with the machine.
    Stop,
    /// The unit is stopped to be started again.
    Restart,
    /// Nothing; the supervisor ended by itself.
    None,
    /// It could not be found out, for this reason.
    Unknown(String),
}

/// Asks the manager that runs this process for the unit's job.
pub(super) fn job_of(context: &Context, unit: &str) -> Job {
    let mut command = Command::new("systemctl");
    // Set by a person's own manager for everything that it starts, and by no other.
    if context.environment.all.contains_key("MANAGERPID") {
        command.arg("--user");
    }
    command.args(["list-jobs", "--plain", "--no-legend", "--no-pager", "--full"]).stdin(Stdio::null());
    match command.output() {
        Ok(output) if output.status.success() => job_in(&String::from_utf8_lossy(&output.stdout), unit),
        Ok(output) => Job::Unknown(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
        Err(error) => Job::Unknown(format!("cannot run systemctl: {error}")),
    }
}

/// Reads the list of jobs: number, unit, type, state.
fn job_in(list: &str, unit: &str) -> Job {
    let job = list.lines().find_map(|line| {
        let mut fields = line.split_ascii_whitespace().skip(1);
        (fields.next() == Some(unit)).then(|| fields.next().unwrap_or_default().to_owned())
    });
    match job.as_deref() {
        None => Job::None,
        Some("stop") => Job::Stop,
        // A start that waits behind the stop is what became of a restart.
        Some("restart" | "try-restart" | "start" | "reload-or-start") => Job::Restart,
        Some(other) => Job::Unknown(format!("its job is `{other}`")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNIT: &str = "miyabi-orchestra.service";

    #[test]
    fn the_units_own_job_decides() {
        let list = "146 miyabi-orchestra-tmux.service stop waiting\n147 miyabi-orchestra.service restart running\n";
        assert_eq!(job_in(list, UNIT), Job::Restart);
        assert_eq!(job_in("9 miyabi-orchestra.service stop running\n", UNIT), Job::Stop);
    }

    #[test]
    fn a_reboot_is_a_stop() {
        let list =
            "1 reboot.target start waiting\n2 miyabi-orchestra.service stop running\n3 umount.target start waiting\n";
        assert_eq!(job_in(list, UNIT), Job::Stop);
    }

    #[test]
    fn no_job_or_a_strange_one_never_reads_as_a_stop() {
        assert_eq!(job_in("", UNIT), Job::None);
        assert_eq!(job_in("1 other.service stop running", UNIT), Job::None);
        assert_eq!(
            job_in("1 miyabi-orchestra.service verify-active waiting", UNIT),
            Job::Unknown("its job is `verify-active`".to_owned())
        );
    }
}
