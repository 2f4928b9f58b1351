//! The schemas and the documentation say what the parsers do.
//!
//! Both are written anew by `MIYABI_BLESS=1 cargo nextest run config::documentation`.

use miyabi::config::keys::agents::AGENTS;
use miyabi::config::keys::dag::DAG;
use miyabi::config::keys::{Absent, Key, Part, Shape, parts};
use miyabi::config::schema;
use serde_json::Value;

use super::{project, project_file};

/// Compares a committed file with what it should be, or writes it when asked to.
fn assert_committed(path: &str, expected: &str) {
    #[expect(clippy::disallowed_methods, reason = "the one who runs the test says so, not a user of the program")]
    let is_blessed = std::env::var_os("MIYABI_BLESS").is_some();
    if is_blessed {
        std::fs::write(project().join(path), expected).unwrap();
    }
    let advice = "run `MIYABI_BLESS=1 cargo nextest run config::documentation` and commit the result";
    assert!(project_file(path) == expected, "{path} does not say what the parsers know; {advice}");
}

#[test]
fn the_committed_schemas_are_those_of_the_parsers() {
    for (path, schema) in [("schemas/agents.schema.json", schema::agents()), ("schemas/dag.schema.json", schema::dag())]
    {
        assert_committed(path, &format!("{}\n", serde_json::to_string_pretty(&schema).unwrap()));
    }
}

#[test]
fn the_files_that_come_with_the_program_name_their_schemas_and_fit_them() {
    let agents = project_file("agents.toml");
    assert!(agents.starts_with("#:schema ./schemas/agents.schema.json\n"));
    fits(&schema::agents(), &toml::from_str(&agents).unwrap(), "agents.toml").unwrap();

    let dag = project_file("dag/example.yaml");
    assert!(dag.starts_with("# yaml-language-server: $schema=../schemas/dag.schema.json\n"));
    fits(&schema::dag(), &serde_saphyr::from_str(&dag).unwrap(), "dag").unwrap();
}

#[test]
fn the_schemas_refuse_what_the_parsers_refuse() {
    for bad in [
        "agent = [{ id = \"a\", drivr = \"echo\" }]",
        "agent = [{ id = \"A\" }]",
        "agent = [{ role = \"r\" }]",
        "agent = [{ id = \"a\", heartbeat = \"5 s\" }]",
        "agent = [{ id = \"a\", restart = { intensity = -1 } }]",
        "[session]",
    ] {
        assert!(fits(&schema::agents(), &toml::from_str(bad).unwrap(), "").is_err(), "{bad} fits");
    }
    for bad in [
        "{}",
        "tasks: {a: {}}",
        "tasks: {a: {run: x, prompt: y}}",
        "tasks: {a: {run: x, agent: b, role: c}}",
        "tasks: {a: {run: x, priority: 6}}",
        "tasks: {a: {run: x, retry: {backoff: 0.5}}}",
        "tasks: {a: {run: x, needs: {b: c}}}",
        "issues: {12: {prompt: x}}",
        "issues: {'#012': {}}",
        "issues: {app: {}}",
        "issues: {12: {external: sometimes}}",
    ] {
        assert!(fits(&schema::dag(), &serde_saphyr::from_str(bad).unwrap(), "").is_err(), "{bad} fits");
    }
    for good in [
        "tasks: {a: {run: true, depends_on: 12}}",
        "tasks: {a: {prompt: x, check: [true, 1]}}",
        "issues: {'12': {agent: kaede, needs: [13]}, '#13': {}, 'o/r#7': {external: true}, 'app#8': {sla: 4h}}",
    ] {
        fits(&schema::dag(), &serde_saphyr::from_str(good).unwrap(), "").unwrap();
    }
}

/// Checks a value against the keywords that our schemas use.
fn fits(schema: &Value, value: &Value, at: &str) -> Result<(), String> {
    for (keyword, rule) in schema.as_object().unwrap() {
        let holds = match keyword.as_str() {
            "$schema" | "title" | "description" | "default" | "additionalProperties" => true,
            "type" => match rule.as_array() {
                Some(types) => types.iter().any(|kind| has_type(value, kind)),
                None => has_type(value, rule),
            },
            "enum" => rule.as_array().unwrap().contains(value),
            "minimum" => value.as_f64().is_none_or(|number| number >= rule.as_f64().unwrap()),
            "maximum" => value.as_f64().is_none_or(|number| number <= rule.as_f64().unwrap()),
            "pattern" => value.as_str().is_none_or(|text| has_pattern(text, rule.as_str().unwrap())),
            "required" => rule.as_array().unwrap().iter().all(|key| value.get(key.as_str().unwrap()).is_some()),
            "anyOf" => rule.as_array().unwrap().iter().any(|schema| fits(schema, value, at).is_ok()),
            "oneOf" => rule.as_array().unwrap().iter().filter(|schema| fits(schema, value, at).is_ok()).count() == 1,
            "not" => fits(rule, value, at).is_err(),
            "propertyNames" => {
                for key in value.as_object().into_iter().flatten().map(|(key, _)| key) {
                    fits(rule, &Value::from(key.as_str()), &format!("{at}.{key}"))?;
                }
                true
            }
            "items" => {
                for (index, item) in value.as_array().into_iter().flatten().enumerate() {
                    fits(rule, item, &format!("{at}[{index}]"))?;
                }
                true
            }
            "properties" => {
                let other = &schema["additionalProperties"];
                for (key, inner) in value.as_object().into_iter().flatten() {
                    match rule.get(key) {
                        Some(known) => fits(known, inner, &format!("{at}.{key}"))?,
                        None if other == &Value::Bool(false) => return Err(format!("{at}.{key} is unknown")),
                        None => {}
                    }
                }
                true
            }
            unknown => panic!("the test does not know the keyword `{unknown}`"),
        };
        if !holds {
            return Err(format!("{at}: {value} does not fit {keyword} {rule}"));
        }
    }
    if let (None, Some(inner), Some(map)) =
        (schema.get("properties"), schema.get("additionalProperties"), value.as_object())
    {
        for (key, value) in map {
            fits(inner, value, &format!("{at}.{key}"))?;
        }
    }
    Ok(())
}

fn has_type(value: &Value, kind: &Value) -> bool {
    match kind.as_str().unwrap() {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        other => panic!("the test does not know the type `{other}`"),
    }
}

/// The patterns of our schemas, by the rules of the model that they stand for.
fn has_pattern(text: &str, pattern: &str) -> bool {
    if pattern.contains("[1-9]") {
        let (place, number) = text.rsplit_once('#').unwrap_or(("", text));
        !place.contains('#') && !number.starts_with('0') && number.parse::<u64>().is_ok()
    } else if pattern.contains("ms|s|m|h|d") {
        miyabi::model::span::parse(text).is_ok()
    } else if pattern.contains("KiB|MiB") {
        miyabi::model::size::parse(text).is_ok()
    } else {
        text.parse::<miyabi::model::id::AgentId>().is_ok()
    }
}

#[test]
fn the_documentation_has_the_keys_of_the_parsers_and_no_others() {
    for (path, root) in [("docs/configuration.md", &AGENTS), ("docs/dependency-files.md", &DAG)] {
        let mut text = project_file(path);
        for part in parts(root) {
            let begin = format!("<!-- keys: {} -->\n", part.heading);
            let end = "<!-- end of keys -->";
            let start = text.find(&begin).unwrap_or_else(|| panic!("{path} has no {begin}")) + begin.len();
            let length = text[start..].find(end).unwrap_or_else(|| panic!("{path}: {begin} has no end"));
            text.replace_range(start..start + length, &table(part));
        }
        assert_eq!(text.matches("<!-- keys: ").count(), parts(root).len(), "{path} has a table of an unknown part");
        assert_committed(path, &text);
    }
}

fn table(part: &Part) -> String {
    let mut table = String::from("| Key | Value | Default | Meaning | Example |\n| --- | --- | --- | --- | --- |\n");
    for key in part.keys {
        let names: Vec<String> =
            std::iter::once(&key.name).chain(key.aliases).map(|name| format!("`{name}`")).collect();
        let default = match key.absent {
            Absent::Required => "required".to_owned(),
            Absent::Value(value) => format!("`{value}`"),
            Absent::Otherwise(words) => words.to_owned(),
        };
        let names = names.join(", ");
        // A line of a table is one line.
        let example = key.example.replace('\n', "`<br>`");
        table.push_str(&format!("| {names} | {} | {default} | {} | `{example}` |\n", value(key), key.about));
    }
    table
}

fn value(key: &Key) -> String {
    match key.shape {
        Shape::Text => "string".to_owned(),
        Shape::Slug => "name of a-z, 0-9 and `-`".to_owned(),
        Shape::Texts => "string or list of strings".to_owned(),
        Shape::Duration => "duration".to_owned(),
        Shape::Size => "amount".to_owned(),
        Shape::Count(min, max) => format!("whole number, {min} to {max}"),
        Shape::Factor(min, max) => format!("number, {min} to {max}"),
        Shape::Flag => "`true`, `false`".to_owned(),
        Shape::Choice(words) => words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", "),
        Shape::Choices(words) => {
            format!("list of {}", words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", "))
        }
        Shape::Table(part) => format!("table, see `{}`", part.heading),
        Shape::Tables(part) => format!("tables, see `{}`", part.heading),
        Shape::Counts(min, max) => format!("whole numbers by name, {min} to {max}"),
        Shape::ByIssue(part) => format!("tables by issue, see `{}`", part.heading),
        Shape::Named(part) => format!("tables by name, see `{}`", part.heading),
    }
}

#[test]
fn the_documentation_has_the_table_of_an_agents_life() {
    let path = "docs/operations.md";
    let mut text = project_file(path);
    let begin = "<!-- liveness -->\n";
    let start = text.find(begin).expect("the page has a place for the table") + begin.len();
    let length = text[start..].find("<!-- end of liveness -->").expect("the place has an end");
    text.replace_range(start..start + length, &miyabi::core::liveness::table::markdown());
    assert_committed(path, &text);
}
