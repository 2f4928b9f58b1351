//! The files that a new root begins with.

use super::super::env::Environment;
use super::git::Surroundings;
use super::hub::OnGithub;
use crate::model::id::RepositoryName;

/// Where the team works.
#[derive(Debug)]
pub(super) enum Place<'a> {
    /// In a repository on GitHub, whose checkout has this path.
    OnGithub(&'a OnGithub, &'a str),
    /// In the checkout around the root.
    Checkout(&'a Surroundings),
    /// There is no repository.
    Nowhere,
}

/// The first dependency file: two tasks that need nothing, and what else can be said.
pub(super) const STARTER_FILE: &str = "\
# What is to be done, and in which order. Every .yaml file in this folder is in force as soon as it is saved.
# `miyabi dag check` finds mistakes, `miyabi dag show` draws the graph, `miyabi task list` shows how far it is.
version: 1

tasks:
  hello:
    run: echo \"the orchestra plays\"
    repo: none              # an empty folder; without this line: a worktree of the [[repository]] of agents.toml

  encore:
    needs: hello            # waits until hello is done
    run: echo \"and once more\"
    repo: none

# With an agent CLI, a task is a prompt, and a check proves it:
#
#   parser:
#     prompt: Write a parser for our configuration format, with tests.
#     check: make test
#
#   manual:
#     needs: parser
#     role: review          # or agent: sakura
#     prompt: Describe the configuration format in docs/format.md.
";

/// Keys that aider reads; those that are not set are simply absent.
const AIDER_ENV: &str = r#"["ANTHROPIC_API_KEY", "DEEPSEEK_API_KEY", "GEMINI_API_KEY", "OLLAMA_API_BASE", "OPENAI_API_KEY", "OPENROUTER_API_KEY"]"#;

/// The members of the default team: id, display name, role, and what they are for.
const TEAM: [(&str, &str, &str, &str); 4] = [
    ("kaede", "カエデ", "codegen", "writes code"),
    ("sakura", "サクラ", "review", "reviews"),
    ("tsubaki", "ツバキ", "pull-request", "looks after pull requests"),
    ("botan", "ボタン", "deploy", "deploys"),
];

/// Writes the configuration, with the drivers that this machine has programs for.
#[must_use]
pub(super) fn agents_toml(environment: &Environment, place: &Place<'_>) -> String {
    let has_aider = environment.find_program("aider").is_some();
    let mut text = String::from(
        "# The team. `miyabi config check` finds mistakes; `miyabi config schema` tells editors what can be written.\n\n\
         [session]\nname = \"miyabi\"     # the tmux session\nsocket = \"miyabi\"   # the tmux server, as in `tmux -L miyabi`; \
         every root that runs beside another needs its own\n\n\
         # Shows `miyabi status --watch` and takes no work.\n\
         [[agent]]\nid = \"conductor\"\nname = \"Conductor\"\nrole = \"conductor\"\ndriver = \"dashboard\"\n",
    );
    if !has_aider {
        text.push_str(
            "\n# No agent CLI was found on PATH, so the driver is `echo`: `run:` tasks work, prompts are only repeated.\n\
             # For aider write `driver = \"aider\"`; for any other program `driver = \"command\"` and `command = [...]`.\n",
        );
    }
    for (id, name, role, what) in TEAM {
        text.push_str(&format!("\n# {name} {what}.\n[[agent]]\nid = \"{id}\"\nname = \"{name}\"\nrole = \"{role}\"\n"));
        if has_aider {
            text.push_str(&format!(
                "driver = \"aider\"\nenv = {AIDER_ENV}   # names only; the values come from outside\n"
            ));
        } else {
            text.push_str("driver = \"echo\"\n");
        }
    }
    match place {
        Place::OnGithub(hub, path) => text.push_str(&on_github(hub, path)),
        Place::Checkout(git) => text.push_str(&format!(
            "\n# Every attempt works in a worktree of its own; what is proven is merged into the current branch.\n\
             [[repository]]\nname = \"{}\"\npath = \"{}\"\nmerge = \"local\"\n# check = \"make test\"   # must succeed at every commit; else the usual one of the project\n\
             # protected = [\".github/\"]   # what no attempt may change\n",
            repository_name(&git.name),
            git.way_up
        )),
        Place::Nowhere => text.push_str(
            "\n# There is no git repository here. To let tasks work in one:\n\
             # [[repository]]\n# path = \"../project\"\n# check = \"make test\"\n",
        ),
    }
    text
}

/// Writes what makes issues work and work pull requests.
fn on_github(hub: &OnGithub, path: &str) -> String {
    let api_url = hub.api_url().map(|url| format!("api_url = \"{url}\"\n")).unwrap_or_default();
    format!(
        "\n# Open issues with this label become tasks. The token is in GITHUB_TOKEN when the supervisor starts; agents never see it.\n\
         [github]\n{api_url}trigger_label = \"auto-code\"\npoll = \"1m\"\n\
         # One rule for each label; the first that an issue has decides. `miyabi route ISSUE` explains.\n\
         # route = [{{ label = \"docs\", role = \"review\" }}]\n\
         \n# Every attempt works in a worktree of its own; what is proven becomes a pull request.\n\
         [[repository]]\nname = \"{name}\"\npath = \"{path}\"\ngithub = \"{slug}\"\nremote = \"{remote}\"\nmerge = \"pull-request\"\n\
         pull_request = \"ready\"   # or \"draft\"\n\
         # check = \"make test\"   # must succeed at every commit; else the usual one of the project\n\
         # protected = [\".github/\"]   # what no attempt may change\n",
        name = repository_name(hub.name()),
        slug = hub.slug(),
        remote = hub.remote(),
    )
}

/// Makes the folder's name one that tasks can use.
fn repository_name(folder: &str) -> String {
    let name: String = folder.chars().map(|c| if c.is_alphanumeric() || "_-.".contains(c) { c } else { '-' }).collect();
    match RepositoryName::new(name.as_str()) {
        Ok(name) if name.as_str() != "none" => name.to_string(),
        Ok(_) | Err(_) => "main".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_of_any_name_gives_a_repository_a_name() {
        for (folder, name) in
            [("app", "app"), ("my project", "my-project"), ("名前", "名前"), ("..", "main"), ("none", "main")]
        {
            assert_eq!(repository_name(folder), name);
        }
    }
}
