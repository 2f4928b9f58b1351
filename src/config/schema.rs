//! JSON schemas for editors, made from the [`keys`](super::keys) that the parsers know.
//!
//! They are written for draft 7, which the language servers for TOML and YAML both understand. A schema only describes
//! shapes; names, contradictions and cycles are the parsers' to tell.

use serde_json::{Map, Value, json};

use super::keys::agents::AGENTS;
use super::keys::dag::{DAG, ISSUE, TASK};
use super::keys::{Absent, Key, Part, Shape};

/// The dialect of the schemas.
const DIALECT: &str = "http://json-schema.org/draft-07/schema#";

/// Returns the schema of agents.toml.
#[must_use]
pub fn agents() -> Value {
    root("agents.toml of miyabi-orchestra", &AGENTS, Format::Toml)
}

/// Returns the schema of dependency files.
#[must_use]
pub fn dag() -> Value {
    root("Dependency file of miyabi-orchestra (dag/*.yaml)", &DAG, Format::Yaml)
}

/// What a scalar may look like depends on the format: `run: true` is a command in YAML.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Toml,
    Yaml,
}

fn root(title: &str, part: &'static Part, format: Format) -> Value {
    let mut schema = Map::new();
    schema.insert("$schema".to_owned(), json!(DIALECT));
    schema.insert("title".to_owned(), json!(title));
    schema.extend(object(part, format));
    Value::Object(schema)
}

fn object(part: &'static Part, format: Format) -> Map<String, Value> {
    let mut properties = Map::new();
    for key in part.keys {
        for name in std::iter::once(&key.name).chain(key.aliases) {
            properties.insert((*name).to_owned(), property(key, format));
        }
    }
    let required: Vec<&str> =
        part.keys.iter().filter(|key| key.absent == Absent::Required).map(|key| key.name).collect();
    let mut schema = Map::new();
    schema.insert("type".to_owned(), json!("object"));
    schema.insert("additionalProperties".to_owned(), json!(false));
    schema.insert("properties".to_owned(), Value::Object(properties));
    if !required.is_empty() {
        schema.insert("required".to_owned(), json!(required));
    }
    if part.heading == DAG.heading {
        schema.insert("anyOf".to_owned(), json!([{"required": ["tasks"]}, {"required": ["issues"]}]));
    }
    if part.heading == ISSUE.heading {
        schema.insert("not".to_owned(), json!({"required": ["agent", "role"]}));
    }
    if part.heading == TASK.heading {
        schema.insert("oneOf".to_owned(), json!([{"required": ["prompt"]}, {"required": ["run"]}]));
        schema.insert("not".to_owned(), json!({"required": ["agent", "role"]}));
    }
    schema
}

fn property(key: &Key, format: Format) -> Value {
    let mut schema = Map::new();
    schema.insert("description".to_owned(), json!(key.about));
    match key.absent {
        Absent::Value(text) => {
            schema.insert("default".to_owned(), default(text, key.shape));
        }
        Absent::Required | Absent::Otherwise(_) => {}
    }
    schema.extend(shape(key.shape, format));
    Value::Object(schema)
}

/// Reads the default as it is written: a number or list for shapes that are one, else a string.
fn default(text: &str, shape: Shape) -> Value {
    let written = || serde_json::from_str(text).unwrap_or_else(|_| json!(text));
    match shape {
        Shape::Count(..) | Shape::Factor(..) | Shape::Texts | Shape::Choices(_) | Shape::Flag => written(),
        Shape::Text
        | Shape::Slug
        | Shape::Duration
        | Shape::Size
        | Shape::Choice(_)
        | Shape::Table(_)
        | Shape::Tables(_)
        | Shape::Named(_)
        | Shape::ByIssue(_)
        | Shape::Counts(..) => json!(text),
    }
}

fn shape(shape: Shape, format: Format) -> Map<String, Value> {
    let schema = match shape {
        Shape::Text => text(format),
        Shape::Slug => json!({"type": "string", "pattern": "^[a-z][a-z0-9-]{0,31}$"}),
        Shape::Texts => json!({"anyOf": [text(format), {"type": "array", "items": text(format)}]}),
        Shape::Duration => json!({"type": "string", "pattern": "^([0-9]+(ms|s|m|h|d))+$"}),
        Shape::Size => json!({"type": "string", "pattern": "^[0-9]+(B|KiB|MiB|GiB|TiB)$"}),
        Shape::Count(min, max) => json!({"type": "integer", "minimum": min, "maximum": max}),
        Shape::Factor(min, max) => json!({"type": "number", "minimum": min, "maximum": max}),
        Shape::Flag => json!({"type": "boolean"}),
        Shape::Choice(words) => json!({"enum": words}),
        Shape::Choices(words) => json!({"type": "array", "items": {"enum": words}}),
        Shape::Table(part) => Value::Object(object(part, format)),
        Shape::Tables(part) => json!({"type": "array", "items": object(part, format)}),
        Shape::Named(part) => json!({"type": "object", "additionalProperties": object(part, format)}),
        Shape::ByIssue(part) => json!({
            "type": "object",
            "propertyNames": {"pattern": "^(#?[1-9][0-9]*|[^#]+#[1-9][0-9]*)$"},
            "additionalProperties": object(part, format)
        }),
        Shape::Counts(min, max) => {
            json!({"type": "object", "additionalProperties": {"type": "integer", "minimum": min, "maximum": max}})
        }
    };
    match schema {
        Value::Object(schema) => schema,
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => Map::new(),
    }
}

fn text(format: Format) -> Value {
    match format {
        Format::Toml => json!({"type": "string"}),
        Format::Yaml => json!({"type": ["string", "number", "boolean"]}),
    }
}
