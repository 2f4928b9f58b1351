//! Issues in dependency files.

use std::collections::BTreeSet;
use std::time::Duration;

use miyabi::config::dag::parse;
use miyabi::core::dag::{check, check_beside};
use miyabi::model::fault::Fault;
use miyabi::model::task::{Assignee, OnFailure, ResolvedWhen, TaskFile};

use super::{parse_agents, parse_dag, render, team, team_with_repositories, told};

fn faults(text: &str) -> Vec<String> {
    told(&parse_dag(text).expect_err("the text was accepted"))
}

fn together(texts: &[(&str, &str)]) -> Vec<Fault> {
    let files: Vec<TaskFile> = texts.iter().map(|(path, text)| parse(path, text, &team()).unwrap()).collect();
    check(&files, &BTreeSet::new())
}

#[test]
fn every_key_of_an_issue_has_its_meaning() {
    let file = parse_dag(
        "repo: app\n\
         pools: {llm: 2}\n\
         defaults: {timeout: 10m, retry: {limit: 4}}\n\
         issues:\n\
         \x20 12: {agent: kaede, sla: 4h, pools: llm, touches: [src/api], check: make test, stages: [code, review]}\n\
         \x20 '#13': {needs: [12, app#14, Octo-Org/App#15, other/lib#7, build], priority: 1, on_failure: continue, resolved_when: closed}\n\
         \x20 other/lib#7: {external: true, resolved_when: 'label:released'}\n\
         tasks:\n\
         \x20 build: {run: make, needs: ['#12', octo-org/app#14]}\n",
    )
    .unwrap();
    let ids: Vec<&str> = file.issues.iter().map(|node| node.id.as_str()).collect();
    assert_eq!(ids, ["app/issue-12", "app/issue-13", "other.lib/issue-7"]);
    let [first, second, third] = file.issues.as_slice() else { panic!("three issues") };
    assert_eq!((first.issue.to_string().as_str(), first.place.line, first.place.column), ("octo-org/app#12", 5, 3));
    assert_eq!(first.spec.assignee, Some(Assignee::Agent("kaede".parse().unwrap())));
    assert_eq!(
        (first.spec.sla, first.spec.timeout),
        (Some(Duration::from_secs(14_400)), Some(Duration::from_secs(600)))
    );
    assert_eq!((first.spec.pools.len(), first.spec.touches.len(), first.spec.retry.limit), (1, 1, 4));
    assert_eq!(
        (first.spec.checks.as_slice(), first.spec.stages.as_ref().map(Vec::len)),
        (["make test".to_owned()].as_slice(), Some(2))
    );
    assert_eq!((first.spec.priority, &first.spec.resolved_when, first.spec.external), (None, &None, false));
    let needs: Vec<&str> = second.spec.needs.iter().map(|need| need.as_str()).collect();
    assert_eq!(needs, ["app/issue-12", "app/issue-14", "app/issue-15", "other.lib/issue-7", "plan/build"]);
    let columns: Vec<u32> = second.needs_places.iter().map(|place| place.column).collect();
    assert_eq!(columns, [19, 23, 31, 48, 61]);
    assert_eq!((second.spec.priority.map(|it| it.get()), second.spec.on_failure), (Some(1), OnFailure::Continue));
    assert_eq!(second.spec.assignee, None, "what nobody says is left to the labels");
    assert_eq!(second.spec.resolved_when, Some(ResolvedWhen::Closed));
    assert_eq!(third.spec.resolved_when, Some(ResolvedWhen::Label("released".to_owned())));
    assert!(third.spec.external);
    let task: Vec<&str> = file.nodes[0].spec.needs.iter().map(|need| need.as_str()).collect();
    assert_eq!(task, ["app/issue-12", "app/issue-14"]);
    assert!(!file.refs[&third.id].ours && file.refs[&first.id].ours);
    assert_eq!(check(&[file], &BTreeSet::new()), []);
}

#[test]
fn what_names_no_issue_is_told() {
    assert_eq!(
        faults("issues:\n  012: {}\n  0: {}\n  app: {}\n  app#: {}\n  a b#1: {}\n  'a/b/c#1': {}\n  12x: {}\n"),
        [
            "2:3 `012` names no issue: its number begins with 0 (write `12`; what `012` is, programs that read YAML do not agree on)",
            "3:3 `0` names no issue (write `12`, `owner/name#12` or `NAME#12`)",
            "4:3 `app` names no issue (write `12`, `owner/name#12` or `NAME#12`)",
            "5:3 `app#` names no issue (write `12`, `owner/name#12` or `NAME#12`)",
            "6:3 unknown repository `a b` (write the name of a `[[repository]]`, or `owner/name` as on GitHub)",
            "7:3 `a/b/c#1` names no issue (write `12`, `owner/name#12` or `NAME#12`)",
            "8:3 `12x` names no issue (write `12`, `owner/name#12` or `NAME#12`)",
        ]
    );
    assert_eq!(
        faults("tasks:\n  a: {run: x, needs: [012, ap#3]}\n"),
        [
            "2:23 `012` names no issue: its number begins with 0 (write `12`; what `012` is, programs that read YAML do not agree on)",
            "2:28 unknown repository `ap` (did you mean `app`?)",
        ]
    );
    assert_eq!(
        faults("issues:\n  #12: {agent: kaede}\n  13: {}\n"),
        [
            "2:3 `#12:` is a comment for YAML, so this task does not exist (write `12:` without the `#`, or `# 12:` if a comment is meant)"
        ]
    );
    assert_eq!(
        faults("issues: [12]\n"),
        [
            "1:1 `issues` must be issues by number, found a list (write `12:` instead of `- 12`, and its keys below, indented)"
        ]
    );
}

#[test]
fn an_issue_stands_once_also_under_two_names() {
    assert_eq!(
        faults("issues:\n  12: {}\n  octo-org/app#12: {priority: 1}\n"),
        ["3:3 the issue `octo-org/app#12` is listed twice (write all that is said of it in one place)"]
    );
    let found = together(&[("dag/a.yaml", "issues: {12: {}}"), ("dag/b.yaml", "issues: {app#12: {}, 13: {}}")]);
    assert_eq!(
        told(&found),
        [
            "1:10 the issue `octo-org/app#12` is listed in two files (write all that is said of it in one place; other files can need it all the same)"
        ]
    );
    assert_eq!(found[0].related[0].0.file, "dag/a.yaml");
    let taken = together(&[("dag/a.yaml", "issues: {12: {}}"), ("dag/app.yaml", "tasks: {issue-12: {run: x}}")]);
    assert_eq!(
        told(&taken),
        [
            "1:9 the task `app/issue-12` would have the same id as the issue `octo-org/app#12` (rename the task or its file)"
        ]
    );
}

#[test]
fn issues_of_other_repositories_are_only_watched() {
    assert_eq!(
        faults("issues:\n  other/lib#7: {agent: kaede}\n  other/lib#8: {external: true, agent: kaede, needs: 3}\n"),
        [
            "2:3 `other/lib#7` is in no `[[repository]]` with this `github`, so nobody can work on it (write `external: true` to only watch it, or add the repository to agents.toml)",
            "3:33 `other/lib#8` is only watched (`external: true`), so `agent` means nothing for it (leave one of them out)",
            "3:47 `other/lib#8` is only watched (`external: true`), so `needs` means nothing for it (leave one of them out)",
        ]
    );
    let needs = ("dag/a.yaml", "tasks: {a: {run: x, needs: other/lib#7}}");
    assert_eq!(
        told(&together(&[needs])),
        [
            "1:28 `other/lib#7` is in no `[[repository]]` with this `github`, and no file lists it (list it to watch it: `issues: {\"other/lib#7\": {external: true}}`)"
        ]
    );
    assert_eq!(together(&[needs, ("dag/b.yaml", "issues: {other/lib#7: {external: true}}")]), []);
    let file = parse("dag/a.yaml", needs.1, &team()).unwrap();
    assert_eq!(check_beside(&[file], &BTreeSet::new(), &BTreeSet::from(["b".to_owned()])), [], "b may list it");
}

#[test]
fn a_bare_number_needs_a_repository_on_github_and_that_is_told_once() {
    let text = "tasks:\n  a: {run: x, repo: none, needs: [12, 13]}\n";
    let with = |text: &str, plan| told(&parse("dag/p.yaml", text, &plan).unwrap_err());
    let both = team_with_repositories(&["one", "two"]);
    assert_eq!(
        with(text, both),
        [
            "2:35 `12` is an issue of which repository? (write `repo:` at the top of the file, or `owner/name#12` as on GitHub)"
        ]
    );
    let local =
        parse_agents("[[agent]]\nid = \"a\"\nrole = \"codegen\"\ndriver = \"echo\"\n[[repository]]\npath = \"app\"\n")
            .unwrap();
    let not = "2:35 `12` is an issue, and the repository `app` is not on GitHub (write `github = \"owner/name\"` below its `[[repository]]` in agents.toml)";
    assert_eq!(with(text, local.clone()), [not]);
    assert_eq!(with(&text.replace("[12, 13]", "app#12"), local), [not.replace("35", "34").replace("`12`", "`app#12`")]);
}

#[test]
fn a_task_whose_name_is_a_number_is_meant_by_it() {
    let file = parse_dag("tasks: {12: {run: x}, b: {run: y, needs: [12, '#12']}}").unwrap();
    let needs: Vec<&str> = file.nodes[1].spec.needs.iter().map(|need| need.as_str()).collect();
    assert_eq!(needs, ["plan/12", "app/issue-12"]);
}

#[test]
fn a_cycle_through_issues_and_files_is_one_path() {
    let one = "issues:\n  12: {needs: 配布/ship}\n";
    let two = "tasks:\n  ship: {run: x, needs: 13}\nissues:\n  13: {needs: [12]}\n";
    let found = together(&[("dag/one.yaml", one), ("dag/配布.yaml", two)]);
    insta::assert_snapshot!(render(&found, &[("dag/one.yaml", one), ("dag/配布.yaml", two)]));
}

#[test]
fn pools_of_issues_are_declared_somewhere() {
    let found = together(&[("dag/a.yaml", "pools: {llm: 1}\nissues: {12: {pools: lm}}")]);
    assert_eq!(told(&found), ["2:22 unknown pool `lm` (did you mean `llm`?)"]);
}
