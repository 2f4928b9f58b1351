//! What usually proves a project of some type, for repositories that name no check of their own. Pure.

use std::collections::BTreeMap;

/// The files of a project's top folder whose text tells something; of the others the name is enough.
pub(super) const READ: [&str; 8] =
    ["GNUmakefile", "makefile", "Makefile", "package.json", "pyproject.toml", "setup.cfg", "tox.ini", "deno.json"];

/// Returns the command that usually proves a project with these files in its top folder; `None`: nobody can know.
///
/// What the project says of itself comes first (a `test` or `check` target of its Makefile), then the tools of its language.
/// The command must do in a worktree that holds nothing but the commit, so it also installs what it needs.
pub(super) fn usual_check(files: &BTreeMap<String, String>) -> Option<&'static str> {
    let has = |name: &str| files.contains_key(name);
    let text = |name: &str| files.get(name).map_or("", String::as_str);
    // The order in which make looks for them.
    let makefile = ["GNUmakefile", "makefile", "Makefile"].into_iter().find(|name| has(name)).map_or("", text);
    if has_target(makefile, "test") {
        return Some("make test");
    }
    if has_target(makefile, "check") {
        return Some("make check");
    }
    if has("Cargo.toml") {
        return Some("cargo test");
    }
    if has_test_script(text("package.json")) {
        return Some(match () {
            () if has("pnpm-lock.yaml") => "pnpm install --frozen-lockfile && pnpm test",
            () if has("yarn.lock") => "yarn install --frozen-lockfile && yarn test",
            () if has("bun.lock") || has("bun.lockb") => "bun install --frozen-lockfile && bun run test",
            () if has("package-lock.json") => "npm ci && npm test",
            () => "npm install && npm test",
        });
    }
    let pytest = has("pytest.ini")
        || has("conftest.py")
        || text("pyproject.toml").contains("[tool.pytest")
        || text("setup.cfg").contains("[tool:pytest]")
        || text("tox.ini").contains("[pytest]");
    let known = [
        (has("go.mod"), "go test ./..."),
        (pytest, "python3 -m pytest"),
        (has("gradlew"), "./gradlew test"),
        (has("mvnw"), "./mvnw --batch-mode test"),
        (has("pom.xml"), "mvn --batch-mode test"),
        (has("mix.exs"), "mix deps.get && mix test"),
        (has("Package.swift"), "swift test"),
        (text("deno.json").contains("\"test\""), "deno task test"),
    ];
    known.into_iter().find(|(found, _)| *found).map(|(_, command)| command)
}

/// Says whether a Makefile has a rule for a target of this name.
fn has_target(makefile: &str, target: &str) -> bool {
    makefile.lines().filter(|line| !line.starts_with(['\t', '#', ' ', '.'])).any(|line| {
        line.split_once(':').is_some_and(|(targets, rest)| {
            !rest.starts_with('=') && !targets.contains('=') && targets.split_whitespace().any(|name| name == target)
        })
    })
}

/// Says whether a package.json has a script `test` other than the one that npm writes into a new one.
fn has_test_script(package: &str) -> bool {
    serde_json::from_str::<serde_json::Value>(package)
        .ok()
        .and_then(|package| {
            package.get("scripts")?.get("test")?.as_str().map(|script| !script.contains("no test specified"))
        })
        .unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(files: &[(&str, &str)]) -> Option<&'static str> {
        usual_check(&files.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect())
    }

    #[test]
    fn what_the_project_says_of_itself_comes_first() {
        let cargo = ("Cargo.toml", "");
        assert_eq!(check(&[cargo, ("Makefile", "all: x\n\ntest: all\n\tcargo test\n")]), Some("make test"));
        assert_eq!(check(&[cargo, ("makefile", "test check:\n")]), Some("make test"));
        assert_eq!(check(&[cargo, ("Makefile", "check: all\n")]), Some("make check"));
        assert_eq!(
            check(&[cargo, ("Makefile", "test := 1\n#test: x\n\ttest: y\ntests: x\n.PHONY: test\n")]),
            Some("cargo test")
        );
        assert_eq!(check(&[("GNUmakefile", "all:\n"), ("Makefile", "test:\n")]), None, "make does not read the second");
    }

    #[test]
    fn a_script_counts_only_when_somebody_wrote_it() {
        let package = |script: &str| format!("{{\"scripts\": {{\"test\": \"{script}\"}}}}");
        let (fresh, written) = (package("echo \\\"Error: no test specified\\\" && exit 1"), package("vitest"));
        assert_eq!(check(&[("package.json", &fresh)]), None);
        assert_eq!(check(&[("package.json", "{ broken")]), None);
        assert_eq!(check(&[("package.json", "{\"scripts\": {}}")]), None);
        assert_eq!(check(&[("package.json", &written)]), Some("npm install && npm test"));
        assert_eq!(check(&[("package.json", &written), ("package-lock.json", "")]), Some("npm ci && npm test"));
        let pnpm = check(&[("package.json", &written), ("pnpm-lock.yaml", "")]);
        assert_eq!(pnpm, Some("pnpm install --frozen-lockfile && pnpm test"));
    }

    #[test]
    fn every_known_type_has_its_command_and_the_unknown_none() {
        assert_eq!(check(&[("go.mod", "")]), Some("go test ./..."));
        assert_eq!(check(&[("pyproject.toml", "[project]\n")]), None, "nothing says that it has tests");
        assert_eq!(check(&[("pyproject.toml", "[tool.pytest.ini_options]\n")]), Some("python3 -m pytest"));
        assert_eq!(check(&[("conftest.py", "")]), Some("python3 -m pytest"));
        assert_eq!(check(&[("pom.xml", "")]), Some("mvn --batch-mode test"));
        assert_eq!(check(&[("mvnw", ""), ("pom.xml", "")]), Some("./mvnw --batch-mode test"));
        assert_eq!(check(&[("README.md", "")]), None);
    }
}
