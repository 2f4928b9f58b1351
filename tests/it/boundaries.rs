//! Reads the sources and fails where a module reaches for what does not belong to it.
//!
//! One crate cannot enforce its inner borders. The table [`IMPORTS`] is that of ARCHITECTURE.md; the other rules keep time,
//! environment, tasks and `async` at their one door. Unit tests inside the sources are free of these rules.

mod paths;
mod text;

use std::path::Path;
use std::{fs, io};

/// The longest source file, in lines.
const FILE_LINES_MAX: usize = 800;

/// The fewest files that must be found; fewer means that the walk looked in the wrong place.
const FILES_MIN: usize = 40;

/// Which parts of this crate each module may import, beside its own. The first entry that fits a file counts.
const IMPORTS: [(&str, &[&str]); 15] = [
    ("model", &[]),
    ("config", &["model"]),
    ("core", &["model"]),
    ("io", &["model", "tasks"]),
    ("drivers", &["model"]),
    ("tasks", &[]),
    ("telemetry", &[]),
    ("control", &["model", "core::snapshot", "tasks"]),
    ("http", &["model", "control", "core::snapshot", "tasks"]),
    // The runner's decisions: the machine, and the values that it is made of.
    ("runner::machine", &["model", "runner::attempt", "runner::event"]),
    ("runner::attempt", &["model"]),
    ("runner::event", &["model", "runner::attempt"]),
    ("runner", &["model", "io", "drivers", "tasks", "telemetry"]),
    ("daemon", &["model", "config", "core", "io", "drivers", "control", "http", "tasks", "telemetry"]),
    (
        "cli",
        &[
            "config",
            "control",
            "model",
            "core::dag",
            "core::snapshot",
            "io::spool",
            // The door through which time enters, for `2 minutes ago` and for deadlines of waiting.
            "io::clock",
            // `send --attach` measures files, `lease --verify` measures them again.
            "io::attachment",
            // `freeze` and `thaw` work without a supervisor.
            "io::freeze",
            // `doctor` asks whether the token works.
            "io::github",
            // and what the worktrees take.
            "io::stock",
            "daemon::start",
            // `journal check` and `repair` look at it as a start would.
            "daemon::repair",
            "runner::start",
            "telemetry",
        ],
    ),
];

/// Modules that only compute: no `async`, no files, processes, sockets or threads.
const PURE: [&str; 7] = ["model", "config", "core", "drivers", "runner::machine", "runner::attempt", "runner::event"];

/// What a pure module must not name.
const IMPURE: [&str; 6] = ["std::fs", "std::net", "std::process", "std::thread", "tokio", "rustix"];

/// What has one door of its own inside of `io`: the module, its door, and the paths and methods that only the door names.
const DISK: (&str, &str) = ("io::spool", "io::spool::disk");

/// What touches the file system, and is the disk's alone.
const DISK_PATHS: [&str; 3] = ["std::fs", "std::os", "rustix"];

/// Methods of paths and files that touch the file system without naming it.
const DISK_METHODS: [&str; 9] = [
    "symlink_metadata",
    "metadata",
    "exists",
    "try_exists",
    "is_dir",
    "is_file",
    "read_dir",
    "canonicalize",
    "sync_all",
];

/// A call that has one door: the words, the only modules that may use them, and why.
const DOORS: [(&[&str], &[&str], &str); 18] = [
    (&["SystemTime", "::", "now"], &["io::clock"], "time enters only through io::clock"),
    (&["Instant", "::", "now"], &["io::clock", "daemon::turn"], "time enters only through io::clock"),
    (&["Utc", "::", "now"], &["io::clock"], "time enters only through io::clock"),
    (&["Local", "::", "now"], &["io::clock"], "time enters only through io::clock"),
    (&["Ulid", "::", "generate"], &["io::clock"], "new ids come from io::clock"),
    (&["env", "::", "var"], &["cli::env"], "the environment is read once, in cli::env"),
    (&["env", "::", "var_os"], &["cli::env"], "the environment is read once, in cli::env"),
    (&["env", "::", "vars"], &["cli::env"], "the environment is read once, in cli::env"),
    (&["env", "::", "vars_os"], &["cli::env"], "the environment is read once, in cli::env"),
    (&["env", "::", "current_dir"], &["cli::env"], "the environment is read once, in cli::env"),
    (&["env", "::", "current_exe"], &["cli::env"], "the environment is read once, in cli::env"),
    (&["env", "::", "temp_dir"], &["cli::env"], "the environment is read once, in cli::env"),
    (&["tokio", "::", "spawn"], &["tasks"], "only tasks starts background work"),
    (&["task", "::", "spawn"], &["tasks"], "only tasks starts background work"),
    (&["spawn_blocking"], &["tasks"], "only tasks starts background work"),
    (&["JoinSet"], &["tasks"], "only tasks starts background work"),
    (&["thread", "::", "spawn"], &["tasks"], "only tasks starts background work"),
    (&["process", "::", "exit"], &[], "return an ExitCode"),
];

/// Lists what one source file does that its module must not do.
fn faults(path: &str, source: &str) -> Vec<String> {
    let module = module_of(path);
    let code = text::without_comments_strings_and_tests(source);
    let words = text::words(&code);
    let mut faults = Vec::new();

    let lines = source.lines().count();
    if lines > FILE_LINES_MAX {
        faults.push(format!("{path}: {lines} lines; {FILE_LINES_MAX} is the most, split it by concept"));
    }
    for (line, import) in paths::imports(&words, &module) {
        let parts = paths::below(&words, &import);
        let is_door = !parts.is_empty() && parts.iter().all(|part| may_import(&module, part));
        if !may_import(&module, &import) && !is_door {
            faults.push(format!("{path}:{line}: {module} must not import {import}"));
        }
    }
    for (calls, doors, why) in DOORS {
        if !doors.iter().any(|door| is_within(&module, door)) {
            let found = text::find(&words, calls).map(|line| format!("{path}:{line}: `{}`: {why}", calls.concat()));
            faults.extend(found);
        }
    }
    if is_within(&module, DISK.0) && !is_within(&module, DISK.1) {
        for (line, outside) in paths::outside(&words) {
            // The type may be named: who locks a file keeps it.
            if DISK_PATHS.iter().any(|path| is_within(&outside, path)) && outside != "std::fs::File" {
                faults.push(format!("{path}:{line}: {outside}: only {} touches the file system", DISK.1));
            }
        }
        for method in DISK_METHODS {
            faults.extend(
                text::find(&words, &[".", method])
                    .map(|line| format!("{path}:{line}: `.{method}`: only {} touches the file system", DISK.1)),
            );
        }
    }
    if PURE.iter().any(|pure| is_within(&module, pure)) {
        for word in ["async", "await"] {
            faults.extend(
                text::find(&words, &[word]).map(|line| format!("{path}:{line}: {module} is pure, without `{word}`")),
            );
        }
        for (line, outside) in paths::outside(&words) {
            if IMPURE.iter().any(|impure| is_within(&outside, impure)) {
                faults.push(format!("{path}:{line}: {module} is pure, without {outside}"));
            }
        }
    }
    faults
}

/// Names the module of a file: `src/io/spool/mod.rs` is `io::spool`; `main` and `lib` are the roots.
fn module_of(path: &str) -> String {
    let path = path.strip_prefix("src/").unwrap_or(path).trim_end_matches(".rs");
    path.strip_suffix("/mod").unwrap_or(path).replace('/', "::")
}

fn may_import(module: &str, import: &str) -> bool {
    let Some((room, allowed)) = IMPORTS.iter().find(|(room, _)| is_within(module, room)) else {
        // The two roots: lib.rs imports nothing, main.rs only reaches for the command line.
        return module == "main" && is_within(import, "cli");
    };
    let own = room.split("::").next().unwrap_or(room);
    // runner::machine is fenced off inside of its own room.
    let is_own = if room.contains("::") { is_within(import, room) } else { is_within(import, own) };
    is_own || allowed.iter().any(|allowed| is_within(import, allowed))
}

/// Says whether a path is a module or lies inside of it.
fn is_within(path: &str, module: &str) -> bool {
    path.strip_prefix(module).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

/// Collects every source file below a folder, with its path below the root; `tests.rs` holds unit tests.
fn walk(folder: &Path, root: &Path, sources: &mut Vec<(String, String)>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            walk(&path, root, sources)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") && !path.ends_with("tests.rs") {
            let name = path.strip_prefix(root).unwrap_or(&path).display().to_string();
            sources.push((name, fs::read_to_string(&path)?));
        }
    }
    Ok(())
}

#[test]
fn every_module_keeps_within_its_borders() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut sources = Vec::new();
    walk(&root.join("src"), root, &mut sources).unwrap();
    sources.sort();

    assert!(sources.len() >= FILES_MIN, "only {} sources were found", sources.len());
    let found: Vec<String> = sources.iter().flat_map(|(path, source)| faults(path, source)).collect();
    assert!(found.is_empty(), "{} borders are crossed:\n{}", found.len(), found.join("\n"));
}

#[test]
fn every_room_of_the_house_has_a_rule() {
    let lib = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs")).unwrap();
    let rooms: Vec<&str> = lib.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';')).collect();
    assert!(!rooms.is_empty());
    for room in rooms {
        assert!(IMPORTS.iter().any(|(ruled, _)| *ruled == room), "no rule says what `{room}` may import");
    }
}

/// Plants one violation into a file that is fine without it, and asks for exactly one complaint.
fn caught(path: &str, violation: &str) -> String {
    let fine =
        "//! A module.\nuse std::collections::BTreeMap;\n\nfn fine() -> BTreeMap<u8, u8> {\n    BTreeMap::new()\n}\n";
    assert_eq!(faults(path, fine), Vec::<String>::new(), "the file must be fine without the violation");
    let mut found = faults(path, &format!("{fine}\n{violation}\n"));
    assert_eq!(found.len(), 1, "`{violation}` in {path}: {found:?}");
    found.remove(0)
}

#[test]
fn a_forbidden_import_is_caught_however_it_is_written() {
    for (path, violation, import) in [
        ("src/core/work.rs", "use crate::io::clock;", "io::clock"),
        ("src/core/mod.rs", "use crate::{io::clock, model::id::AgentId};", "io::clock"),
        ("src/core/dag/cycle.rs", "use super::super::super::io::spool as letters;", "io::spool"),
        ("src/core/work.rs", "fn f() { let _now = crate::io::clock::now(); }", "io::clock::now"),
        ("src/core/work.rs", "pub(in crate::daemon) fn f() {}", "daemon"),
        ("src/model/id.rs", "use crate::core::{snapshot::*};", "core::snapshot"),
        ("src/io/git.rs", "use crate::{\n    core::{\n        fact::Fact,\n    },\n};", "core::fact::Fact"),
        ("src/control/client.rs", "use crate::core::work::Work;", "core::work::Work"),
        ("src/cli/status.rs", "use crate::io::journal::Journal;", "io::journal::Journal"),
        ("src/cli/status.rs", "use crate::daemon::effects;", "daemon::effects"),
        ("src/cli/up.rs", "use crate::daemon;\nfn f() { daemon::start::run(); daemon::effects::run(); }", "daemon"),
        ("src/runner/machine.rs", "use crate::io::spool::Spool;", "io::spool::Spool"),
        ("src/runner/machine.rs", "use super::pane::Pane;", "runner::pane::Pane"),
        ("src/runner/lease.rs", "use crate::core::fact::Fact;", "core::fact::Fact"),
        ("src/daemon/start.rs", "use crate::cli::env;", "cli::env"),
        ("src/main.rs", "use miyabi::daemon::start;", "daemon::start"),
    ] {
        let fault = caught(path, violation);
        assert!(fault.ends_with(&format!("must not import {import}")), "{fault}");
    }
}

#[test]
fn time_environment_and_background_work_have_one_door() {
    for (path, violation) in [
        ("src/daemon/mod.rs", "fn f() { let _ = std::time::SystemTime::now(); }"),
        ("src/runner/pane.rs", "fn f() { let _ = tokio::time::Instant :: now(); }"),
        ("src/io/spool/mod.rs", "fn f() { let _ = ulid::Ulid::generate(); }"),
        ("src/cli/when.rs", "fn f() { let _ = chrono::Local::now(); }"),
        ("src/io/tmux.rs", "fn f() { let _ = std::env::var(\"TMUX\"); }"),
        ("src/cli/attach.rs", "use std::env::var_os;"),
        ("src/runner/lease.rs", "fn f() { tokio::spawn(later()); }"),
        ("src/io/journal.rs", "fn f() { std::thread::spawn(later); }"),
        ("src/main.rs", "fn f() { std::process::exit(1); }"),
    ] {
        caught(path, violation);
    }
}

#[test]
fn a_pure_module_neither_waits_nor_touches_the_world() {
    for (path, violation) in [
        ("src/core/work.rs", "async fn f() {}"),
        ("src/runner/machine.rs", "fn f() { later.await; }"),
        ("src/config/agents.rs", "use std::fs::File;"),
        ("src/model/layout.rs", "use std::{fs, path::Path};"),
        ("src/core/mod.rs", "use tokio::sync::mpsc;"),
        ("src/drivers/aider.rs", "fn f() { std::process::Command::new(\"aider\"); }"),
    ] {
        caught(path, violation);
    }
}

#[test]
fn the_spool_touches_the_file_system_through_one_door() {
    for violation in [
        "use std::fs::OpenOptions;",
        "fn f() { std::fs::rename(a, b); }",
        "use rustix::fs::flock;",
        "use std::os::unix::fs::MetadataExt;",
        "fn f() { path.exists(); }",
        "fn f() { path\n.symlink_metadata(); }",
    ] {
        caught("src/io/spool/lease.rs", violation);
    }
    assert_eq!(faults("src/io/spool/disk.rs", "fn f() { std::fs::rename(a, b); }"), [""; 0]);
}

#[test]
fn a_file_that_has_grown_too_long_is_caught() {
    let fault = caught("src/daemon/mod.rs", &"//\n".repeat(FILE_LINES_MAX));
    assert!(fault.contains("split it by concept"), "{fault}");
}

#[test]
fn a_module_may_be_imported_whole_for_the_part_of_it_that_is_allowed() {
    let source = "use crate::daemon;\nfn f() { daemon::start::run(); }\n";
    assert_eq!(faults("src/cli/up.rs", source), Vec::<String>::new());
}

#[test]
fn comments_strings_and_unit_tests_are_free() {
    let source = r##"
//! Not [`crate::io::clock`]: `SystemTime::now` /* async */ is elsewhere.
/* use crate::io::clock; /* nested async */ tokio::spawn */
fn f<'a>(text: &'a str) -> char { let _ = ("crate::io async \" await", r#"tokio::spawn(")"#, b'\'', '"'); 'x' }
const FRAME: &str = concat!("env::var", 'a');

#[cfg(test)]
mod tests {
    use crate::io::clock;
    #[test]
    fn it_asks_the_time() { if true { std::time::Instant::now(); } }
}
fn g() {}
"##;
    assert_eq!(faults("src/core/work.rs", source), Vec::<String>::new());
    let after = format!("{source}\nuse crate::io;\n");
    assert_eq!(faults("src/core/work.rs", &after), ["src/core/work.rs:15: core::work must not import io"]);
}
