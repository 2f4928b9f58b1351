//! Several dependency files together.

use std::collections::BTreeSet;

use miyabi::config::dag::parse;
use miyabi::core::dag::{check, check_beside};
use miyabi::model::fault::Fault;
use miyabi::model::id::TaskId;
use miyabi::model::task::TaskFile;

use super::{render, team, told};

fn files(texts: &[(&str, &str)]) -> Vec<TaskFile> {
    texts.iter().map(|(path, text)| parse(path, text, &team()).unwrap()).collect()
}

fn faults(texts: &[(&str, &str)]) -> Vec<Fault> {
    check(&files(texts), &BTreeSet::new())
}

/// Writes a file whose tasks need what is said: `a: b c, b: c, c:`.
fn plan(needs: &str) -> String {
    let mut text = String::from("tasks:\n");
    for task in needs.split(", ") {
        let (name, needs) = task.split_once(':').unwrap();
        let needs: Vec<&str> = needs.split_whitespace().collect();
        text.push_str(&format!("  {name}: {{run: x, needs: [{}]}}\n", needs.join(", ")));
    }
    text
}

#[test]
fn a_good_graph_has_no_faults() {
    assert_eq!(faults(&[("dag/a.yaml", &plan("x: y z, y: z, z: b/w")), ("dag/b.yaml", &plan("w:"))]), []);
}

#[test]
fn a_cycle_is_told_as_one_whole_path_with_a_place_for_every_need() {
    let text = plan("before: a, a: b, b: c, c: a b, d:");
    let told = faults(&[("dag/p.yaml", &text)]);
    insta::assert_snapshot!(render(&told, &[("dag/p.yaml", &text)]));
}

#[test]
fn a_cycle_across_files_names_them_all() {
    let one = plan("build: 配布/ship");
    let two = plan("ship: test, test: one/build");
    let told = faults(&[("dag/one.yaml", &one), ("dag/配布.yaml", &two)]);
    insta::assert_snapshot!(render(&told, &[("dag/one.yaml", &one), ("dag/配布.yaml", &two)]));
}

#[test]
fn the_shortest_cycle_of_each_group_is_told_and_tasks_behind_it_are_not() {
    let text = plan("a: b, b: c, c: d, d: a c, x: y, y: x, behind: a x, further: behind");
    let messages: Vec<String> = faults(&[("dag/p.yaml", &text)]).into_iter().map(|fault| fault.message).collect();
    assert_eq!(messages, ["tasks wait for one another: `c -> d -> c`", "tasks wait for one another: `x -> y -> x`"]);
}

#[test]
fn an_unknown_task_is_told_with_what_was_meant_and_makes_no_cycle() {
    let one = plan("a: grteing, b: a missing/x, greeting: a");
    let two = plan("c: greeting, d: one/greting, e: done/gone");
    let known = BTreeSet::from([TaskId::new("done/gone").unwrap()]);
    let files = files(&[("dag/one.yaml", &one), ("dag/two.yaml", &two)]);
    assert_eq!(
        told(&check(&files, &known)),
        [
            "2:23 unknown task `grteing` (did you mean `greeting`?)",
            "3:26 unknown task `missing/x`",
            "2:23 unknown task `greeting` (did you mean `one/greeting`?)",
            "3:23 unknown task `one/greting` (did you mean `one/greeting`?)",
        ]
    );
}

#[test]
fn needs_that_lead_into_a_file_that_could_not_be_read_are_not_told() {
    let files = files(&[("dag/a.yaml", &plan("x: broken/y, z: broken/w nowhere"))]);
    let unread = BTreeSet::from(["broken".to_owned()]);
    assert_eq!(told(&check_beside(&files, &BTreeSet::new(), &unread)), ["3:33 unknown task `nowhere`"]);
}

#[test]
fn two_files_with_one_stem_are_told_once_and_nothing_is_concluded_from_it() {
    let told = faults(&[("dag/a.yml", &plan("x: y, y: x")), ("dag/a.yaml", &plan("x: z, z:"))]);
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(told[0].place.to_string(), "dag/a.yml:1:1");
    assert_eq!(told[0].related[0].0.file, "dag/a.yaml");
}

#[test]
fn the_order_in_which_files_are_given_changes_nothing() {
    let texts = [("dag/a.yaml", plan("x: b/y")), ("dag/b.yaml", plan("y: c/z q")), ("dag/c.yaml", plan("z: a/x"))];
    let mut texts: Vec<(&str, &str)> = texts.iter().map(|(path, text)| (*path, text.as_str())).collect();
    let forwards = faults(&texts);
    texts.reverse();
    assert_eq!(faults(&texts), forwards);
    assert_eq!(forwards.len(), 2);
}

#[test]
fn ten_thousand_tasks_are_checked_even_when_they_are_one_great_cycle() {
    let tangle = |last: usize, wrap: bool| {
        let tasks: Vec<String> = (0..=last)
            .map(|n| match (n < last, wrap) {
                (true, _) => format!("t{n}: t{} t{}", n + 1, (n + 2).min(last)),
                (false, true) => format!("t{n}: t0"),
                (false, false) => format!("t{n}:"),
            })
            .collect();
        plan(&tasks.join(", ").replace(&format!("t{last} t{last}"), &format!("t{last}")))
    };
    for (wrap, count) in [(false, 0), (true, 1)] {
        let files = files(&[("dag/p.yaml", &tangle(9_999, wrap))]);
        let told = check(&files, &BTreeSet::new());
        assert_eq!(told.len(), count);
        assert!(told.iter().all(|fault| fault.message.len() < 1_000), "a long cycle is told in short");
    }
}

#[test]
fn pools_are_one_for_all_files() {
    let a = ("dag/a.yaml", "pools: {llm: 2}\ntasks: {x: {run: x, pools: db}}\n");
    let b = ("dag/b.yaml", "pools: {db: 1}\ntasks: {y: {run: x, pools: [llm, dbx]}}\n");
    assert_eq!(told(&faults(&[a, b])), ["2:34 unknown pool `dbx` (did you mean `db`?)"]);
    assert_eq!(told(&faults(&[a])), ["2:28 unknown pool `db` (declare it at the top of a file: `pools: {db: 1}`)"]);
    let other = ("dag/c.yaml", "pools: {llm: 3, db: 1}\ntasks: {}\n");
    let found = faults(&[a, other]);
    assert_eq!(
        told(&found),
        ["1:9 the pool `llm` has 3 slots here and 2 in another file \
          (a pool is one for all files: write the same number, or declare it in one file only)"]
    );
    assert_eq!(found[0].related[0].0.file, "dag/a.yaml");
}

#[test]
fn a_pool_that_an_unreadable_file_may_declare_is_not_called_unknown() {
    let files = files(&[("dag/a.yaml", "tasks: {x: {run: x, pools: llm}}\n")]);
    let unread = BTreeSet::from(["b".to_owned()]);
    assert_eq!(check_beside(&files, &BTreeSet::new(), &unread), []);
}
