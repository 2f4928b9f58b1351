//! Draws the graph of tasks for people and for other programs.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use unicode_width::UnicodeWidthStr;

use crate::model::id::TaskId;

/// How a graph is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// For a terminal: the tasks in steps, each below what it needs.
    Text,
    /// A Mermaid flowchart.
    Mermaid,
    /// A Graphviz graph.
    Dot,
}

/// One task of a drawing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DrawNode {
    /// Its id.
    pub id: TaskId,
    /// What it needs.
    pub needs: Vec<TaskId>,
    /// Its state in a word, if there is one.
    pub state: Option<String>,
    /// What is said of single needs, such as where they are written.
    pub labels: BTreeMap<TaskId, String>,
}

/// How many needs of one task the text form names.
const NEEDS_SHOWN_MAX: usize = 8;

/// Draws tasks. Needs that lead to no task given are drawn as names; tasks in a cycle come last.
#[must_use]
pub fn draw(nodes: &[DrawNode], format: Format) -> String {
    match format {
        Format::Text => text(nodes),
        Format::Mermaid => mermaid(nodes),
        Format::Dot => dot(nodes),
    }
}

/// A task can have several needs, so a tree would repeat it, and a long chain would leave the screen to the right.
/// Steps show each task once, at a place that says when it can begin at the earliest.
fn text(nodes: &[DrawNode]) -> String {
    let steps = steps(nodes);
    let width_of = |width: fn(&DrawNode) -> usize| nodes.iter().map(width).max().unwrap_or(0);
    let id_width = width_of(|node| node.id.as_str().width());
    let state_width = width_of(|node| node.state.as_deref().map_or(0, UnicodeWidthStr::width));
    let label_width = format!("step {}", steps.len()).len();
    let mut out = String::new();
    for (number, step) in steps.iter().enumerate() {
        let label = match step.kind {
            StepKind::Ordered => format!("step {}", number + 1),
            StepKind::Cycle => "cycle".to_owned(),
        };
        for (position, node) in step.nodes.iter().enumerate() {
            let label = if position == 0 { label.as_str() } else { "" };
            let branch = match (position, position + 1 == step.nodes.len()) {
                (0, true) => "──",
                (0, false) => "─┬",
                (_, false) => " ├",
                (_, true) => " └",
            };
            let state = node.state.as_deref().unwrap_or_default();
            let line = format!(
                "{} {branch} {}  {}  {}",
                pad(label, label_width),
                pad(node.id.as_str(), id_width),
                pad(state, state_width),
                needs_text(node)
            );
            out.push_str(line.trim_end());
            out.push('\n');
        }
    }
    out
}

fn needs_text(node: &DrawNode) -> String {
    if node.needs.is_empty() {
        return String::new();
    }
    let named = |need: &TaskId| match node.labels.get(need) {
        Some(label) => format!("{need} ({label})"),
        None => need.to_string(),
    };
    let shown: Vec<String> = node.needs.iter().take(NEEDS_SHOWN_MAX).map(named).collect();
    let more = match node.needs.len().saturating_sub(NEEDS_SHOWN_MAX) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!("needs {}{more}", shown.join(", "))
}

/// Fills up with blanks to a width in columns: a Japanese character takes two.
fn pad(text: &str, width: usize) -> String {
    let missing = width.saturating_sub(text.width());
    format!("{text}{}", " ".repeat(missing))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum StepKind {
    Ordered,
    Cycle,
}

struct Step<'n> {
    kind: StepKind,
    nodes: Vec<&'n DrawNode>,
}

/// Sorts tasks into steps: a task's step is one behind the last step of what it needs.
fn steps(nodes: &[DrawNode]) -> Vec<Step<'_>> {
    let ids: BTreeSet<&TaskId> = nodes.iter().map(|node| &node.id).collect();
    let mut waiting: BTreeMap<&TaskId, Vec<&DrawNode>> = BTreeMap::new();
    let mut open: BTreeMap<&TaskId, usize> = BTreeMap::new();
    for node in nodes {
        let needs: BTreeSet<&TaskId> = node.needs.iter().filter(|need| ids.contains(need)).collect();
        open.insert(&node.id, needs.len());
        for need in needs {
            waiting.entry(need).or_default().push(node);
        }
    }
    let mut steps = Vec::new();
    let mut current: Vec<&DrawNode> = nodes.iter().filter(|node| open.get(&node.id) == Some(&0)).collect();
    while !current.is_empty() {
        let mut next = Vec::new();
        for node in &current {
            open.remove(&node.id);
            for follower in waiting.remove(&node.id).unwrap_or_default() {
                if let Some(count) = open.get_mut(&follower.id) {
                    *count -= 1;
                    if *count == 0 {
                        next.push(follower);
                    }
                }
            }
        }
        steps.push(Step { kind: StepKind::Ordered, nodes: current });
        current = next;
    }
    let left: Vec<&DrawNode> = nodes.iter().filter(|node| open.contains_key(&node.id)).collect();
    if !left.is_empty() {
        steps.push(Step { kind: StepKind::Cycle, nodes: left });
    }
    steps
}

/// Numbers the tasks and the needs that are no task given.
fn numbers(nodes: &[DrawNode]) -> BTreeMap<&TaskId, usize> {
    let mut numbers = BTreeMap::new();
    for id in nodes.iter().map(|node| &node.id).chain(nodes.iter().flat_map(|node| &node.needs)) {
        let next = numbers.len();
        numbers.entry(id).or_insert(next);
    }
    numbers
}

fn mermaid(nodes: &[DrawNode]) -> String {
    let numbers = numbers(nodes);
    let states: BTreeMap<&TaskId, &str> =
        nodes.iter().filter_map(|node| Some((&node.id, node.state.as_deref()?))).collect();
    let mut lines = vec!["flowchart LR".to_owned()];
    let mut by_number: Vec<_> = numbers.iter().collect();
    by_number.sort_by_key(|(_, number)| **number);
    for (id, number) in by_number {
        let state = states.get(id).map(|state| format!("<br/>{}", escape_mermaid(state))).unwrap_or_default();
        lines.push(format!("    t{number}[\"{}{state}\"]", escape_mermaid(id.as_str())));
    }
    for node in nodes {
        for need in &node.needs {
            let label = node.labels.get(need).map(|label| format!("|\"{}\"|", escape_mermaid(label)));
            lines.push(format!("    t{} -->{} t{}", numbers[need], label.unwrap_or_default(), numbers[&node.id]));
        }
    }
    lines.push(String::new());
    lines.join("\n")
}

fn escape_mermaid(text: &str) -> String {
    text.replace('#', "#35;").replace('"', "#quot;").replace('<', "#lt;").replace('>', "#gt;")
}

fn dot(nodes: &[DrawNode]) -> String {
    let mut out = String::from("digraph tasks {\n    rankdir=LR;\n    node [shape=box];\n");
    for node in nodes {
        let id = escape_dot(node.id.as_str());
        let state = node.state.as_deref().map(|state| format!("\\n{}", escape_dot(state))).unwrap_or_default();
        writeln!(out, "    \"{id}\" [label=\"{id}{state}\"];").expect("writing to a string cannot fail");
    }
    for node in nodes {
        for need in &node.needs {
            let label = node.labels.get(need).map(|label| format!(" [label=\"{}\"]", escape_dot(label)));
            let (need, id) = (escape_dot(need.as_str()), escape_dot(node.id.as_str()));
            writeln!(out, "    \"{need}\" -> \"{id}\"{};", label.unwrap_or_default())
                .expect("writing to a string cannot fail");
        }
    }
    out.push_str("}\n");
    out
}

fn escape_dot(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(id: &str, needs: &[&str], state: &str) -> DrawNode {
        DrawNode {
            id: TaskId::new(id).unwrap(),
            needs: needs.iter().map(|id| TaskId::new(*id).unwrap()).collect(),
            state: (!state.is_empty()).then(|| state.to_owned()),
            labels: BTreeMap::new(),
        }
    }

    #[test]
    fn what_is_said_of_a_need_stands_beside_it() {
        let mut issue = node("app/issue-2", &["app/issue-1", "a/b"], "blocked");
        issue.labels.insert(TaskId::new("app/issue-1").unwrap(), "blocked by, \"sub-issue\"".to_owned());
        let nodes = [issue];
        assert_eq!(
            draw(&nodes, Format::Text),
            "step 1 ── app/issue-2  blocked  needs app/issue-1 (blocked by, \"sub-issue\"), a/b\n"
        );
        assert!(draw(&nodes, Format::Mermaid).contains("t1 -->|\"blocked by, #quot;sub-issue#quot;\"| t0\n"));
        assert!(
            draw(&nodes, Format::Dot)
                .contains("\"app/issue-1\" -> \"app/issue-2\" [label=\"blocked by, \\\"sub-issue\\\"\"];")
        );
    }

    fn diamond() -> Vec<DrawNode> {
        vec![
            node("a/挨拶", &[], "done"),
            node("a/polish", &["a/挨拶"], "leased"),
            node("a/翻訳する", &["a/挨拶"], "ready"),
            node("a/join", &["a/polish", "a/翻訳する", "b/elsewhere"], "blocked"),
        ]
    }

    #[test]
    fn the_text_form_shows_each_task_once_in_the_step_in_which_it_can_begin() {
        insta::assert_snapshot!(draw(&diamond(), Format::Text), @r#"
        step 1 ── a/挨拶      done
        step 2 ─┬ a/polish    leased   needs a/挨拶
                └ a/翻訳する  ready    needs a/挨拶
        step 3 ── a/join      blocked  needs a/polish, a/翻訳する, b/elsewhere
        "#);
    }

    #[test]
    fn the_other_forms_name_every_task_and_every_need() {
        insta::assert_snapshot!(draw(&diamond(), Format::Mermaid), @r#"
        flowchart LR
            t0["a/挨拶<br/>done"]
            t1["a/polish<br/>leased"]
            t2["a/翻訳する<br/>ready"]
            t3["a/join<br/>blocked"]
            t4["b/elsewhere"]
            t0 --> t1
            t0 --> t2
            t1 --> t3
            t2 --> t3
            t4 --> t3
        "#);
        insta::assert_snapshot!(draw(&diamond(), Format::Dot), @r#"
        digraph tasks {
            rankdir=LR;
            node [shape=box];
            "a/挨拶" [label="a/挨拶\ndone"];
            "a/polish" [label="a/polish\nleased"];
            "a/翻訳する" [label="a/翻訳する\nready"];
            "a/join" [label="a/join\nblocked"];
            "a/挨拶" -> "a/polish";
            "a/挨拶" -> "a/翻訳する";
            "a/polish" -> "a/join";
            "a/翻訳する" -> "a/join";
            "b/elsewhere" -> "a/join";
        }
        "#);
    }

    #[test]
    fn a_cycle_is_drawn_and_does_not_hang() {
        let nodes = [node("a/a", &["a/b"], ""), node("a/b", &["a/a"], ""), node("a/c", &[], "")];
        insta::assert_snapshot!(draw(&nodes, Format::Text), @r#"
        step 1 ── a/c
        cycle  ─┬ a/a    needs a/b
                └ a/b    needs a/a
        "#);
    }

    #[test]
    fn a_deep_chain_stays_on_the_screen() {
        let nodes: Vec<DrawNode> = (0..2_000)
            .map(|n| {
                let need = format!("a/t{}", n - 1);
                node(
                    &format!("a/t{n}"),
                    if n == 0 { &[] } else { std::slice::from_ref(&need) }
                        .iter()
                        .map(|s: &String| s.as_str())
                        .collect::<Vec<_>>()
                        .as_slice(),
                    "",
                )
            })
            .collect();
        let drawing = draw(&nodes, Format::Text);
        assert_eq!(drawing.lines().count(), 2_000);
        assert!(drawing.lines().all(|line| line.width() < 60));
    }
}
