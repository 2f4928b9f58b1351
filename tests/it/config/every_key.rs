//! Every key that is known is read: a key that nobody reads would be accepted whatever stands behind it.

use miyabi::config::keys::agents::AGENTS;
use miyabi::config::keys::dag::DAG;
use miyabi::config::keys::{Key, Part, Shape, parts};

use super::{parse_agents, parse_dag, told};

/// Writes an agents.toml that has one line in one part, and whatever else that part needs.
fn agents_with(part: &Part, key: &Key, line: &str) -> String {
    let agent = |without: &str| {
        [("id", "\"a\""), ("role", "\"r\""), ("driver", "\"echo\"")]
            .iter()
            .filter(|(name, _)| *name != without && !(without == "command" && *name == "driver"))
            .fold("[[agent]]\n".to_owned(), |text, (name, value)| text + &format!("{name} = {value}\n"))
    };
    match part.heading {
        "agents.toml" if key.name == "agent" => format!("{line}\n"),
        "agents.toml" => format!("{line}\n{}", agent("")),
        "[[agent]]" => format!("{}{line}\n", agent(key.name)),
        "limits" => format!("{}[agent.limits]\n{line}\n", agent("")),
        "restart" => format!("{}[defaults.restart]\n{line}\n", agent("")),
        "[[repository]]" if key.name == "path" => format!("{}[[repository]]\n{line}\n", agent("")),
        "[[repository]]" => format!("{}[[repository]]\npath = \"p\"\n{line}\n", agent("")),
        // Neither is anything without the other.
        "[github]" if key.name == "app_id" => format!("{}[github]\n{line}\nprivate_key_file = \"k\"\n", agent("")),
        "[github]" if key.name == "private_key_file" => format!("{}[github]\n{line}\napp_id = 1\n", agent("")),
        heading @ ("[scheduler]" | "[workflow]") => {
            // Both name the role of another agent.
            let reviewer = agent("").replace("\"a\"", "\"b\"").replace("\"r\"", "\"review\"");
            format!("{}{reviewer}{heading}\n{line}\n", agent(""))
        }
        heading => format!("{}{heading}\n{line}\n", agent("")),
    }
}

/// Writes a dependency file that has one line in one part, and whatever else that part needs.
fn dag_with(part: &Part, key: &Key, line: &str) -> String {
    let run = if matches!(key.name, "run" | "prompt") { "" } else { "    run: x\n" };
    match part.heading {
        "The file" if matches!(key.name, "tasks" | "issues") => format!("{line}\n"),
        "The file" => format!("{line}\ntasks: {{a: {{run: x}}}}\n"),
        "defaults" => format!("defaults:\n  {line}\ntasks: {{a: {{run: x}}}}\n"),
        "A task" => format!("tasks:\n  other: {{run: x}}\n  t:\n    {line}\n{run}"),
        "An issue" => format!("issues:\n  12:\n    {line}\ntasks: {{other: {{run: x}}}}\n"),
        "every" => {
            let cron = if key.name == "cron" { "" } else { "      cron: 0 3 * * *\n" };
            format!("tasks:\n  t:\n    run: x\n    every:\n      {line}\n{cron}")
        }
        "retry" => format!("tasks:\n  t:\n    run: x\n    retry:\n      {line}\n"),
        other => panic!("the test does not know the part `{other}`"),
    }
}

/// A value that no key of this shape takes.
const fn nonsense(shape: Shape) -> &'static str {
    match shape {
        Shape::Text
        | Shape::Slug
        | Shape::Texts
        | Shape::Duration
        | Shape::Size
        | Shape::Count(..)
        | Shape::Factor(..)
        | Shape::Flag
        | Shape::Choice(_)
        | Shape::Choices(_)
        | Shape::Table(_)
        | Shape::Named(_)
        | Shape::ByIssue(_)
        | Shape::Counts(..) => "[[]]",
        Shape::Tables(_) => "1",
    }
}

#[test]
fn every_key_of_agents_toml_takes_its_example_and_refuses_nonsense() {
    for part in parts(&AGENTS) {
        for key in part.keys {
            let good = agents_with(part, key, key.example);
            assert_eq!(parse_agents(&good).map_err(|faults| told(&faults)).err(), None, "{good}");
            let line = format!("{} = {}", key.name, nonsense(key.shape));
            let bad = agents_with(part, key, &line);
            let faults = parse_agents(&bad).expect_err(&bad);
            assert!(
                faults.iter().any(|fault| fault.message.contains(&format!("`{}` must be", key.name))
                    || fault.message.contains(&format!("`{}` is a list", key.name))),
                "{bad}: {:?}",
                told(&faults)
            );
        }
    }
}

#[test]
fn every_key_of_a_dependency_file_takes_its_example_and_refuses_nonsense() {
    for part in parts(&DAG) {
        for key in part.keys {
            for name in std::iter::once(key.name).chain(key.aliases.iter().copied()) {
                let example = key.example.replacen(key.name, name, 1);
                let good = dag_with(part, key, &example);
                assert_eq!(parse_dag(&good).map_err(|faults| told(&faults)).err(), None, "{good}");
                let bad = dag_with(part, key, &format!("{name}: {}", nonsense(key.shape)));
                let faults = parse_dag(&bad).expect_err(&bad);
                let expected = format!("`{name}` must be");
                assert!(faults.iter().any(|fault| fault.message.contains(&expected)), "{bad}: {:?}", told(&faults));
            }
        }
    }
}

#[test]
fn a_key_of_another_part_is_unknown_and_a_similar_one_is_proposed() {
    for part in parts(&AGENTS) {
        let key = part.keys.first().unwrap();
        let longer = format!("{}x", key.name);
        let text = format!("{}\n", agents_with(part, key, &format!("{longer} = 1")));
        let faults = parse_agents(&text).expect_err(&text);
        let expected = format!("unknown key `{longer}` (did you mean `{}`?)", key.name);
        assert!(told(&faults).iter().any(|fault| fault.contains(&expected)), "{text}: {:?}", told(&faults));
    }
}
