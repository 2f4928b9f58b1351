//! The documentation says what the program does: every `miyabi` command in a page, in a code block or within a sentence, is
//! one that it accepts.

use std::path::Path;
use std::process::Command;
use std::{fs, io};

/// The fewest commands that must be found; fewer means that the pages are not read as they are written.
const COMMANDS_MIN: usize = 20;

/// A command of a page, and where it stands.
#[derive(Debug, PartialEq, Eq)]
struct Example {
    place: String,
    words: Vec<String>,
}

/// Lists the `miyabi` commands in the shell blocks and sentences of a page.
fn examples(page: &str, text: &str) -> Vec<Example> {
    let mut found = Vec::new();
    let mut is_shell = false;
    let mut is_block = false;
    for (number, line) in text.lines().enumerate() {
        if let Some(language) = line.trim_start().strip_prefix("```") {
            is_block = !is_block;
            is_shell = is_block && matches!(language.trim(), "sh" | "bash" | "shell" | "console");
            continue;
        }
        let calls = match (is_block, is_shell) {
            (true, true) => commands(line),
            (true, false) => Vec::new(),
            (false, _) => {
                line.split('`').skip(1).step_by(2).filter(|code| !is_pattern(code)).flat_map(commands).collect()
            }
        };
        found.extend(calls.into_iter().map(|words| Example { place: format!("{page}:{}", number + 1), words }));
    }
    found
}

/// Says whether code in a sentence stands for many commands: `miyabi help VERB`.
fn is_pattern(code: &str) -> bool {
    code.contains("VERB") || code.contains(['[', '…'])
}

/// Returns the arguments of every `miyabi` in a line, cut as a shell cuts them.
fn commands(line: &str) -> Vec<Vec<String>> {
    let line = line.trim_start().trim_start_matches("$ ");
    let pieces = split(line);
    let calls = pieces.split(|word| matches!(word.as_str(), "|" | ";" | "&&" | "||" | "&" | ">" | ">>" | "<"));
    calls.filter_map(arguments).collect()
}

fn arguments(call: &[String]) -> Option<Vec<String>> {
    let call = if call.first().is_some_and(|word| word == "sudo") { &call[1..] } else { call };
    let (program, arguments) = call.split_first()?;
    // What is commented on GitHub is for the supervisor, not for a shell.
    if program == "/miyabi" {
        return None;
    }
    let name = program.rsplit('/').next().unwrap_or(program);
    (name == "miyabi").then(|| arguments.to_vec())
}

/// Cuts a line into words; quotes hold words together, `#` begins a comment, operators are words of their own.
fn split(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    for letter in line.chars() {
        match (quote, letter) {
            (Some(open), _) if open == letter => quote = None,
            (Some(_), _) => word.get_or_insert_default().push(letter),
            (None, '"' | '\'') => {
                quote = Some(letter);
                word.get_or_insert_default();
            }
            (None, '#') if word.is_none() => break,
            (None, ' ' | '\t') => words.extend(word.take()),
            (None, '|' | ';' | '&' | '>' | '<') => {
                words.extend(word.take());
                match words.last_mut() {
                    Some(last) if letter != ';' && *last == letter.to_string() => last.push(letter),
                    Some(_) | None => words.push(letter.to_string()),
                }
            }
            (None, _) => word.get_or_insert_default().push(letter),
        }
    }
    words.extend(word);
    words
}

/// Lists the pages that people read: those of the root and of docs/.
fn pages() -> io::Result<Vec<(String, String)>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut pages = Vec::new();
    for folder in [root.to_owned(), root.join("docs")] {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "md") {
                let name = path.strip_prefix(root).unwrap_or(&path).display().to_string();
                pages.push((name, fs::read_to_string(&path)?));
            }
        }
    }
    pages.sort();
    Ok(pages)
}

/// Asks the program itself. Behind the arguments `--help` shows help instead of acting, but only when they can be read.
fn complaint(arguments: &[String]) -> io::Result<Option<String>> {
    let output = Command::new(env!("CARGO_BIN_EXE_miyabi")).args(arguments).arg("--help").output()?;
    let is_help = output.status.success() && String::from_utf8_lossy(&output.stdout).contains("Usage:");
    Ok((!is_help).then(|| String::from_utf8_lossy(&output.stderr).into_owned()))
}

#[test]
fn every_command_of_the_documentation_is_one_that_the_program_accepts() {
    let examples: Vec<Example> = pages().unwrap().iter().flat_map(|(page, text)| examples(page, text)).collect();
    assert!(examples.len() >= COMMANDS_MIN, "only {} commands were found", examples.len());

    let mut wrong = Vec::new();
    for example in &examples {
        if let Some(complaint) = complaint(&example.words).unwrap() {
            wrong.push(format!("{}: miyabi {}\n{complaint}", example.place, example.words.join(" ")));
        }
    }
    assert!(wrong.is_empty(), "{} commands are not accepted:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn a_command_that_the_program_does_not_know_is_caught() {
    for words in [vec!["statsu"], vec!["task", "listen"], vec!["status", "--colour"]] {
        let words: Vec<String> = words.into_iter().map(str::to_owned).collect();
        assert!(complaint(&words).unwrap().is_some(), "{words:?} was accepted");
    }
}

#[test]
fn the_readme_begins_with_the_two_commands_in_both_languages() {
    for page in ["README.md", "README.ja.md"] {
        let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(page)).unwrap();
        let first_screen: Vec<&str> = text.lines().take(25).collect();
        for command in ["make run", "make test"] {
            assert!(first_screen.iter().any(|line| line.starts_with(command)), "{page} hides `{command}`");
        }
    }
}

#[test]
fn both_readmes_show_the_same_commands() {
    let of = |page: &str| {
        let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(page)).unwrap();
        // The words of a prompt are translated; verbs, options and everything else are not.
        let ascii = |words: Vec<String>| words.into_iter().filter(|word| !word.contains(' ')).collect::<Vec<_>>();
        examples(page, &text).into_iter().map(|example| ascii(example.words)).collect::<Vec<_>>()
    };
    assert_eq!(of("README.md"), of("README.ja.md"));
}

#[test]
fn commands_are_read_as_a_shell_reads_them() {
    let line =
        r#"$ sudo target/release/miyabi submit --run 'date > now.txt' "a | b"|jq .x && miyabi down>log # miyabi up"#;
    assert_eq!(commands(line), [vec!["submit", "--run", "date > now.txt", "a | b"], vec!["down"]]);
    assert_eq!(commands("cd ~/project; echo miyabi up"), Vec::<Vec<String>>::new());
    let page = "```yaml\nmiyabi a\n```\nmiyabi b, `miyabi c` and `miyabi help VERB`\n```sh\nmiyabi d\n```\n";
    let places: Vec<String> = examples("p.md", page).into_iter().map(|example| example.place).collect();
    assert_eq!(places, ["p.md:4", "p.md:6"]);
}
