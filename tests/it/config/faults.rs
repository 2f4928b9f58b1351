//! docs/faults.md explains every code, and its examples have exactly the faults that it says.

use std::collections::{BTreeMap, BTreeSet};

use miyabi::config::dag::outline;
use miyabi::config::faults::{explain, sections};
use miyabi::core::dag::check_beside;
use miyabi::model::fault_code::{Code, Family, Mistake};
use miyabi::model::plan::Plan;

use super::{parse_agents, project_file};

/// Kinds whose example would be a huge or an unreadable file.
const WITHOUT_EXAMPLE: [Mistake; 2] = [Mistake::TooMuch, Mistake::Unreadable];

/// The codes that a set of files has.
fn codes(files: &BTreeMap<String, String>, plan: &Plan) -> BTreeSet<Code> {
    let outlines: Vec<_> = files.iter().map(|(path, text)| outline(path, text, plan)).collect();
    let mut found: BTreeSet<Code> =
        outlines.iter().flat_map(|outline| &outline.faults).map(|fault| fault.code).collect();
    let read: Vec<_> = outlines.into_iter().filter_map(|outline| outline.file).collect();
    found.extend(check_beside(&read, &BTreeSet::new(), &BTreeSet::new()).into_iter().map(|fault| fault.code));
    found
}

/// The code blocks of a text, each with its language and the last line of text before it.
fn blocks(text: &str) -> Vec<(String, String, String)> {
    let mut found = Vec::new();
    let mut said = String::new();
    let mut block: Option<(String, String)> = None;
    for line in text.lines() {
        match (&mut block, line.strip_prefix("```")) {
            (None, Some(language)) => block = Some((language.to_owned(), String::new())),
            (None, None) if !line.is_empty() => line.clone_into(&mut said),
            (None, None) => {}
            (Some(_), Some(_)) => found.extend(block.take().map(|(language, code)| (language, said.clone(), code))),
            (Some((_, code)), None) => {
                code.push_str(line);
                code.push('\n');
            }
        }
    }
    found
}

/// The files that stand below a line of text; each begins with a comment that names it, or is `dag/example.yaml`.
fn files(blocks: &[(String, String, String)], below: &str) -> BTreeMap<String, String> {
    let yaml = blocks.iter().filter(|(language, said, _)| language == "yaml" && said == below);
    yaml.map(|(_, _, code)| {
        let name = code.lines().next().and_then(|line| line.strip_prefix("# ")).unwrap_or("dag/example.yaml");
        (name.to_owned(), code.clone())
    })
    .collect()
}

#[test]
fn every_code_is_explained_by_an_example_that_has_it_and_one_that_is_good() {
    let page = project_file("docs/faults.md");
    let team = blocks(page.split("\n## ").next().unwrap()).remove(0).2;
    for mistake in Mistake::ALL {
        let code = Code { family: Family::Dag, mistake };
        let section = explain(code);
        let title = mistake.title();
        let (first, rest) = title.split_at(1);
        assert!(section.starts_with(&format!("{code}: {}{rest}\n", first.to_uppercase())), "{section}");
        let blocks = blocks(&section);
        let own = blocks.iter().find(|(language, ..)| language == "toml").map_or(&team, |(_, _, text)| text);
        let plan = parse_agents(own).unwrap();
        if WITHOUT_EXAMPLE.contains(&mistake) {
            assert_eq!(blocks, [], "{code} has an example after all");
            continue;
        }
        let wrong = files(&blocks, "Wrong:");
        assert_eq!(codes(&wrong, &plan), BTreeSet::from([code]), "the wrong example of {code}:\n{wrong:?}");
        let right = files(&blocks, "Right:");
        assert!(!right.is_empty(), "{code} has no good example");
        assert_eq!(codes(&right, &plan), BTreeSet::new(), "the good example of {code}:\n{right:?}");
    }
    assert_eq!(sections().len(), Mistake::ALL.len());
}

/// The codes of one file, as text, in the order of the numbers.
fn told(text: &str) -> Vec<String> {
    let files = BTreeMap::from([("dag/p.yaml".to_owned(), text.to_owned())]);
    codes(&files, &super::team()).iter().map(ToString::to_string).collect()
}

#[test]
fn what_is_wrong_between_tasks_is_told_beside_what_is_wrong_within_them() {
    assert_eq!(
        told("tasks: {a: {run: x, needs: b, priority: 9}, b: {run: x, needs: a}, c: {run: x, needs: d}}"),
        ["DAG015", "DAG030", "DAG031"]
    );
    assert_eq!(told("tasks: {a: {needs: b}, b: {run: x, needs: a}}"), ["DAG022", "DAG031"]);
}

#[test]
fn nothing_is_told_that_only_follows() {
    // The file cannot be known, a task's name cannot, or what a task needs cannot.
    for (text, only) in [
        ("tasks: {a: {run: x, needs: b}, 'b c': {run: x}}", "DAG019"),
        ("tasks: {a: {run: x, needs: b}, b: [run]}", "DAG014"),
        ("tasks: {a: {run: x, needs: b}, b: {run: x, needs: 'a b'}}", "DAG019"),
        ("tasks: {a: {run: x, needs: b}, b: &b {<<: *b}}", "DAG008"),
    ] {
        let read = outline("dag/p.yaml", text, &super::team());
        let found: BTreeSet<String> = read.faults.iter().map(|fault| fault.code.to_string()).collect();
        assert!(read.has_gaps, "{text}");
        assert!(found.contains(only) && found.len() <= 2, "{text}: {found:?}");
    }
}
