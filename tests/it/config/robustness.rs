//! Whatever is in a file: no panic, and faults that lie inside of it and can be rendered.

use std::collections::BTreeMap;

use miyabi::config;
use miyabi::config::render::Color;
use miyabi::model::fault::Fault;
use proptest::prelude::*;

use super::{parse_agents, project_file, render, team};

/// Checks what every fault promises about its places.
fn assert_inside(faults: &[Fault], file: &str, text: &str) {
    for fault in faults {
        for place in std::iter::once(&fault.place).chain(fault.related.iter().map(|(place, _)| place)) {
            assert_eq!(place.file, file);
            assert!(text.get(place.start..place.end).is_some(), "{place:?} lies outside of {text:?}");
            let before = &text[..place.start];
            let before = before.strip_prefix('\u{feff}').unwrap_or(before);
            let line = before.matches('\n').count() + 1;
            let line_text = before.rsplit('\n').next().unwrap();
            assert_eq!(
                (place.line as usize, place.column as usize),
                (line, line_text.chars().count() + 1),
                "{fault:?}"
            );
        }
    }
    let rendered = render(faults, &[(file, text)]);
    for fault in faults {
        assert!(rendered.contains(&format!("{file}:{}:", fault.place.line)), "{rendered}");
    }
}

fn agents(text: &str) {
    if let Err(faults) = parse_agents(text) {
        assert!(!faults.is_empty());
        assert_inside(&faults, "agents.toml", text);
    }
}

fn dag(text: &str) {
    if let Err(faults) = config::dag::parse("dag/p.yaml", text, &team()) {
        assert!(!faults.is_empty());
        assert_inside(&faults, "dag/p.yaml", text);
    }
}

/// A good file in which some stretches are replaced.
fn damaged(good: String) -> impl Strategy<Value = String> {
    let scraps = prop_oneof![
        Just(String::new()),
        "\\PC{0,6}",
        "[\\[\\]{}:,#&*!|>'\"=~\t\r\n -]{1,4}",
        Just("カエデ".to_owned()),
        Just("\u{feff}".to_owned()),
        Just("9999999999999999999".to_owned()),
    ];
    let edits = proptest::collection::vec((any::<prop::sample::Index>(), 0_usize..12, scraps), 1..4);
    edits.prop_map(move |edits| {
        let mut chars: Vec<char> = good.chars().collect();
        for (at, length, scrap) in edits {
            let start = at.index(chars.len() + 1);
            let end = (start + length).min(chars.len());
            chars.splice(start..end, scrap.chars());
        }
        chars.into_iter().collect()
    })
}

proptest! {
    #[test]
    fn any_text_is_read_as_agents_toml_without_panic(text in any::<String>()) {
        agents(&text);
    }

    #[test]
    fn any_text_is_read_as_dependency_file_without_panic(text in any::<String>()) {
        dag(&text);
    }

    #[test]
    fn a_damaged_agents_toml_gives_faults_inside_of_it(text in damaged(project_file("agents.toml"))) {
        agents(&text);
    }

    #[test]
    fn a_damaged_dependency_file_gives_faults_inside_of_it(text in damaged(project_file("dag/example.yaml"))) {
        dag(&text);
    }

    #[test]
    fn markup_without_sense_is_survived(text in "([a-z]{0,3}|[\\[\\]{}:,#&*!|>'\"=?%@`\t\r\n -]|tasks:|run: |あ){0,40}") {
        agents(&text);
        dag(&text);
    }
}

#[test]
fn line_ends_of_windows_a_byte_order_mark_tabs_and_wide_characters_are_shown_right() {
    let dag = "\u{feff}version: 1\r\ntasks:\r\n  カエデ:\t{run: x,\tnedes: y}\r\n";
    let faults = config::dag::parse("dag/p.yaml", dag, &team()).unwrap_err();
    assert_inside(&faults, "dag/p.yaml", dag);
    let first = "\u{feff}vershun: 1\r\ntasks: {a: {run: x}}";
    let first_faults = config::dag::parse("dag/p.yaml", first, &team()).unwrap_err();
    assert_inside(&first_faults, "dag/p.yaml", first);
    let toml = "\u{feff}[[agent]]\r\nid = \"a\"\r\n\trole = \"ロール\"\r\ndriver = \"echo\"\r\n";
    let toml_faults = parse_agents(toml).unwrap_err();
    assert_inside(&toml_faults, "agents.toml", toml);
    let all = [
        render(&faults, &[("dag/p.yaml", dag)]),
        render(&first_faults, &[("dag/p.yaml", first)]),
        render(&toml_faults, &[("agents.toml", toml)]),
    ];
    insta::assert_snapshot!(all.join("\n"));
}

#[test]
fn text_that_would_drive_a_terminal_is_made_harmless() {
    let text = "tasks:\n  a: {run: x}\n  \"\\e[31mb\": {run: y}\n# \u{1b}]0;title\u{7}\n  c: {\"rnu\\e[2J\": x}\n";
    let mut faults = config::dag::parse("dag/p.yaml", text, &team()).unwrap_err();
    // Faults also come from elsewhere, e.g. over the control socket.
    let fault = &mut faults[0];
    fault.message.push_str("\u{1b}[1m");
    fault.help = Some("\u{1b}[2m".to_owned());
    fault.related = vec![(fault.place.clone(), "\u{1b}[3m".to_owned())];
    for sources in [vec![("dag/p.yaml", text)], vec![]] {
        let rendered = render(&faults, &sources);
        assert!(!rendered.contains('\u{1b}'), "{rendered:?}");
    }
}

#[test]
fn without_the_text_the_place_is_still_named() {
    let faults = parse_agents("[[agent]]\nid = 1\n").unwrap_err();
    let rendered = render(&faults, &[]);
    assert!(rendered.contains("agents.toml:2:6"), "{rendered}");
}

#[test]
fn colours_are_only_for_terminals() {
    let text = "[[agent]]\nid = 1\n";
    let faults = parse_agents(text).unwrap_err();
    let sources = BTreeMap::from([("agents.toml".to_owned(), text.to_owned())]);
    assert!(config::render::render(&faults, &sources, Color::Ansi).contains("\u{1b}["));
    assert!(!config::render::render(&faults, &sources, Color::Plain).contains('\u{1b}'));
}
