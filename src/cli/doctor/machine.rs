//! The machine: programs, locale, kernel limits.

use std::process::Command;

use super::super::context::Context;
use super::super::env::Environment;
use super::Finding;

/// The oldest tmux that works: older ones lack `-N` and pane options.
const TMUX_VERSION_MIN: (u32, u32) = (3, 2);

/// The oldest git that works: older ones lack `merge-tree --write-tree`.
const GIT_VERSION_MIN: (u32, u32) = (2, 38);

/// How many folders and files one user should be able to watch.
const INOTIFY_WATCHES_MIN: u64 = 8_192;

/// How many programs of one user should be able to watch something.
const INOTIFY_INSTANCES_MIN: u64 = 128;

/// Looks at the machine.
pub(super) fn look(context: &Context) -> Vec<Finding> {
    let environment = &context.environment;
    vec![
        version(environment, "tmux", "-V", TMUX_VERSION_MIN),
        version(environment, "git", "--version", GIT_VERSION_MIN),
        locale(environment),
        cgroups(std::fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").ok().as_deref()),
        inotify("/proc/sys/fs/inotify/max_user_watches", "/proc/sys/fs/inotify/max_user_instances"),
    ]
}

fn version(environment: &Environment, name: &str, argument: &str, least: (u32, u32)) -> Finding {
    let install = format!("install {name} {}.{} or newer with your system's package manager", least.0, least.1);
    let Some(path) = environment.find_program(name) else {
        return Finding::fail(name, format!("there is no {name} on PATH"), install);
    };
    let said = match Command::new(&path).arg(argument).output() {
        Ok(output) => String::from_utf8_lossy(&output.stdout).trim().to_owned(),
        Err(error) => return Finding::fail(name, format!("cannot run {}: {error}", path.display()), install),
    };
    match read_version(&said) {
        Some(version) if version >= least => Finding::ok(name, format!("{said} ({})", path.display())),
        Some(_) => Finding::fail(name, format!("{said} is too old"), install),
        None => Finding::warn(name, format!("`{said}` names no version"), install),
    }
}

/// Finds the first two numbers of a version in a text: `tmux 3.3a`, `git version 2.47.3`, `tmux next-3.6`.
fn read_version(text: &str) -> Option<(u32, u32)> {
    let start = text.find(|c: char| c.is_ascii_digit())?;
    let mut numbers = text[start..].split('.');
    let number = |part: &str| part.chars().take_while(char::is_ascii_digit).collect::<String>().parse().ok();
    Some((number(numbers.next()?)?, number(numbers.next()?)?))
}

/// Says whether the kernel can hold single agents to their limits.
fn cgroups(controllers: Option<&str>) -> Finding {
    let missing: Vec<&str> = ["cpu", "memory", "pids"]
        .into_iter()
        .filter(|name| !controllers.unwrap_or_default().split_ascii_whitespace().any(|found| found == *name))
        .collect();
    match (controllers, missing.as_slice()) {
        (Some(_), []) => Finding::ok("cgroups", "cgroup v2: the `limits` of agents hold under systemd"),
        (Some(_), [..]) => Finding::warn(
            "cgroups",
            format!("cgroup v2 without {}", missing.join(", ")),
            "the `limits` of agents do not hold; boot without `cgroup_disable`",
        ),
        (None, _) => Finding::warn(
            "cgroups",
            "no cgroup v2",
            "the `limits` of agents do not hold; boot with `systemd.unified_cgroup_hierarchy=1`",
        ),
    }
}

fn locale(environment: &Environment) -> Finding {
    let found = environment.locale.as_deref().unwrap_or("not set");
    let lower = found.to_ascii_lowercase();
    if lower.contains("utf-8") || lower.contains("utf8") {
        Finding::ok("locale", found)
    } else {
        Finding::warn(
            "locale",
            format!("the locale is {found}, so other programs may not show Japanese names"),
            "set LANG=C.UTF-8, or your own language's UTF-8 locale",
        )
    }
}

fn inotify(watches: &str, instances: &str) -> Finding {
    let read = |path: &str| std::fs::read_to_string(path).ok().and_then(|text| text.trim().parse::<u64>().ok());
    match (read(watches), read(instances)) {
        (Some(watches), Some(instances)) if watches >= INOTIFY_WATCHES_MIN && instances >= INOTIFY_INSTANCES_MIN => {
            Finding::ok("inotify", format!("{watches} watches, {instances} instances"))
        }
        (Some(watches), Some(instances)) => Finding::warn(
            "inotify",
            format!("only {watches} watches and {instances} instances for each user"),
            "raise fs.inotify.max_user_watches and max_user_instances with sysctl; until then files are looked at less often",
        ),
        (None, _) | (_, None) => {
            Finding::warn("inotify", "the limits cannot be read", "without inotify, files are looked at less often")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::doctor::Verdict;

    #[test]
    fn versions_are_read_from_what_programs_say() {
        for (text, version) in [
            ("tmux 3.3a", Some((3, 3))),
            ("git version 2.47.3", Some((2, 47))),
            ("tmux next-3.6", Some((3, 6))),
            ("tmux master", None),
        ] {
            assert_eq!(read_version(text), version, "{text}");
        }
    }

    #[test]
    fn limits_need_all_three_controllers() {
        assert_eq!(cgroups(Some("cpuset cpu io memory pids\n")).verdict, Verdict::Ok);
        for bad in [None, Some("cpuset io memory pids"), Some("")] {
            assert_eq!(cgroups(bad).verdict, Verdict::Warn, "{bad:?}");
        }
    }

    #[test]
    fn unreadable_limits_are_a_warning() {
        assert_eq!(inotify("/nonexistent", "/nonexistent").verdict, Verdict::Warn);
    }
}
