//! agents.toml.

use std::path::{Path, PathBuf};
use std::time::Duration;

use miyabi::model::agent::{DriverKind, RestartKind};
use miyabi::model::github::ClaimKind;
use miyabi::model::plan::MergeMode;

use super::{ROOT, TEAM, parse_agents, project_file, render, told};

/// Returns the faults of a text that must have some.
fn faults(text: &str) -> Vec<String> {
    told(&parse_agents(text).expect_err("the text was accepted"))
}

/// Returns the faults of the smallest team with an agent that has these lines.
fn agent_faults(lines: &str) -> Vec<String> {
    faults(&format!("[[agent]]\nid = \"a\"\nrole = \"r\"\ndriver = \"echo\"\n{lines}\n"))
}

#[test]
fn the_team_that_comes_with_the_program_is_the_one_that_is_described() {
    let plan = parse_agents(&project_file("agents.toml")).unwrap();
    let team: Vec<(&str, &str, &str, DriverKind)> = plan
        .agents
        .iter()
        .map(|agent| (agent.id.as_str(), agent.name.as_str(), agent.role.as_str(), agent.driver))
        .collect();
    assert_eq!(
        team,
        [
            ("conductor", "Conductor", "conductor", DriverKind::Dashboard),
            ("kaede", "カエデ", "codegen", DriverKind::Echo),
            ("sakura", "サクラ", "review", DriverKind::Echo),
            ("tsubaki", "ツバキ", "pull-request", DriverKind::Echo),
            ("botan", "ボタン", "deploy", DriverKind::Echo),
        ]
    );
    assert_eq!(plan.repositories[0].path, Path::new(ROOT).join("data/example"));
    assert_eq!(plan.repositories[0].merge, MergeMode::Local);
}

#[test]
fn defaults_come_from_the_program_then_from_defaults_then_from_the_agent_key_by_key() {
    let plan = parse_agents(
        r#"
        [defaults]
        timeout = "1h30m"
        restart = { backoff = "2s", intensity = 3 }

        [[agent]]
        id = "a"
        role = "r"
        driver = "echo"
        heartbeat = "500ms"

        [agent.restart]
        intensity = 7
        policy = "transient"
        "#,
    )
    .unwrap();
    let agent = &plan.agents[0];
    assert_eq!(agent.name, "a");
    assert_eq!(agent.heartbeat, Duration::from_millis(500));
    assert_eq!(agent.heartbeat_timeout, Duration::from_secs(30));
    assert_eq!(agent.timeout, Duration::from_secs(5_400));
    assert_eq!(agent.restart.policy, RestartKind::Transient);
    assert_eq!(agent.restart.intensity, 7);
    assert_eq!(agent.restart.backoff, Duration::from_secs(2));
    assert_eq!(agent.restart.backoff_max, Duration::from_secs(300));
    assert_eq!(plan.session.name, "miyabi");
    assert_eq!(plan.workflow.stages[0].role.as_str(), "codegen");
}

#[test]
fn a_command_is_a_list_or_a_string_with_the_quotes_of_a_shell() {
    for command in [r#"["my agent", "--say", "a b", ""]"#, r#""'my agent' --say \"a b\" ''""#] {
        let text = format!("[[agent]]\nid = \"a\"\nrole = \"r\"\ncommand = {command}\n");
        assert_eq!(parse_agents(&text).unwrap().agents[0].command, ["my agent", "--say", "a b", ""], "{command}");
    }
}

#[test]
fn paths_of_repositories_begin_at_the_root_and_give_the_name() {
    let repository = |lines: &str| {
        let plan = parse_agents(&format!("{TEAM}\n[[repository]]\n{lines}\n")).unwrap();
        (plan.repositories[1].name.to_string(), plan.repositories[1].path.clone())
    };
    assert_eq!(repository("path = \"./work//tool/\""), ("tool".to_owned(), PathBuf::from("/srv/team/work/tool")));
    assert_eq!(repository("path = \"../lib\""), ("lib".to_owned(), PathBuf::from("/srv/team/../lib")));
    assert_eq!(repository("path = \"/opt/x\""), ("x".to_owned(), PathBuf::from("/opt/x")));
    assert_eq!(repository("path = \".\""), ("team".to_owned(), PathBuf::from("/srv/team")));
    assert_eq!(repository("path = \"/opt/x\"\nname = \"y\"").0, "y");
}

#[test]
fn every_fault_of_a_bad_file_is_told_at_once_with_its_place() {
    let text = BAD;
    let faults = parse_agents(text).unwrap_err();
    insta::assert_snapshot!(render(&faults, &[("agents.toml", text)]));
}

const BAD: &str = r#"[sesion]
name = "team"

[session]
name = "my.team"
socket = 7

[defaults]
heartbeat = "60s"          # longer than the default heartbeat_timeout
start_timeout = 30
stop_timeout = "10 s"
timeout = "9999d"
restart = { policy = "transeint", backoff = "10m", intensity = -1 }

[[agent]]
id = "kaede"
name = "カエデ"
role = "codegen"
drivr = "echo"
env = ["OPENAI_API_KEY", "TOKEN=abc", "OPENAI_API_KEY"]

[[agent]]
id = "kaede"
role = "Review"
driver = "ader"

[[agent]]
name = "名前だけ"
driver = "echo"
command = "echo 'open"

[[agent]]
id = "supervisor"
role = "x"
driver = "dashboard"
command = ["watch"]

[[repository]]
path = "~/app"
merge = "queue"

[[repository]]
path = "app"

[[repository]]
path = "other/app"
merge = "locl"

[[repository]]
path = "./app"
name = "none"

[workflow]
stages = ["code", "review"]
"#;

#[test]
fn a_syntax_error_is_told_once_and_nothing_is_concluded_from_it() {
    for (text, place) in [
        ("[[agent]]\nid = \nrole = 3\n", "2:6"),
        ("[[agent]\nid = 1", "1:9"),
        ("a = \"open\n[b]\nc = 1\n", "1:10"),
        ("x = 1\ny", "2:2"),
    ] {
        let told = faults(text);
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].starts_with(&format!("{place} not valid TOML: ")), "{told:?}");
    }
}

#[test]
fn a_key_given_twice_is_told_beside_the_other_faults() {
    let told = agent_faults("role = \"s\"\nheartbeat = \"0s\"");
    assert_eq!(told, ["5:1 `role` is given twice", "6:13 `heartbeat` must not be zero"]);
}

#[test]
fn contradictions_of_times_are_told_where_they_arise_and_nowhere_else() {
    let two_agents = "[defaults]\nheartbeat = \"30s\"\n\
        [[agent]]\nid = \"a\"\nrole = \"r\"\ndriver = \"echo\"\n\
        [[agent]]\nid = \"b\"\nrole = \"r\"\ndriver = \"echo\"\nheartbeat_timeout = \"40s\"\n";
    let told = faults(two_agents);
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].starts_with("2:13 `heartbeat_timeout` (30s) must be longer than `heartbeat` (30s)"), "{told:?}");

    let told = agent_faults("heartbeat = \"abc\"\nheartbeat_timeout = \"1s\"");
    assert_eq!(told.len(), 1, "a broken heartbeat says nothing of the timeout: {told:?}");

    let told = agent_faults("restart = { backoff_max = \"500ms\" }");
    assert!(told[0].contains("`backoff_max` (500ms) must be at least as long as `backoff` (1s)"), "{told:?}");
}

#[test]
fn a_team_without_agents_and_a_single_bracket_are_explained() {
    assert_eq!(faults(""), ["1:1 the team has no agent (add `[[agent]]` with `id`, `role` and `driver`)"]);
    assert_eq!(
        faults("[agent]\nid = \"a\"\n"),
        ["1:2 `agent` is a list of tables (write `[[agent]]` with two brackets)"]
    );
    let told = faults("[[agents]]\nid = \"a\"\n");
    assert_eq!(told, ["1:3 unknown key `agents` (did you mean `agent`?)"], "that there is no agent follows from it");
    let told = faults("[[agent]]\nid = \"a\"\nrolle = \"r\"\ndrivr = \"echo\"\n");
    assert_eq!(told.len(), 2, "that `role` and `command` are missing follows from it: {told:?}");
}

#[test]
fn only_drivers_that_run_a_program_want_one() {
    let told = faults("[[agent]]\nid = \"a\"\nrole = \"r\"\n");
    assert!(told[0].starts_with("1:1 the agent with the driver `command` has no `command`"), "{told:?}");
    let told = agent_faults("command = \"x\"");
    assert!(told[0].starts_with("5:11 the driver `echo` runs no program"), "{told:?}");
    for empty in ["\"\"", "\"  \"", "\"# only a comment\"", "[]", "[\"\"]", "\"''\""] {
        let told = faults(&format!("[[agent]]\nid = \"a\"\nrole = \"r\"\ncommand = {empty}\n"));
        assert_eq!(told.len(), 1, "{empty}: {told:?}");
    }
    let aider = "[[agent]]\nid = \"a\"\nrole = \"r\"\ndriver = \"aider\"\n";
    assert_eq!(parse_agents(aider).unwrap().agents[0].command, Vec::<String>::new());
}

#[test]
fn names_that_tmux_or_the_spool_would_change_are_refused() {
    for name in ["a.b", "a:b", "a/b", "a\\u0007b", "", "-x"] {
        let told = faults(&format!("{TEAM}\n[session]\nname = \"{name}\"\n"));
        assert_eq!(told.len(), 1, "{name}: {told:?}");
    }
    for id in ["role", "operator", "supervisor", "Kaede", "カエデ", "a.work", "", "1a"] {
        let told = faults(&format!("[[agent]]\nid = \"{id}\"\nrole = \"r\"\ndriver = \"echo\"\n"));
        assert_eq!(told.len(), 1, "{id}: {told:?}");
    }
}

#[test]
fn a_repository_has_its_checks_no_checks_or_the_usual_one_and_may_protect_paths() {
    let repository = |lines: &str| {
        let plan = parse_agents(&format!("{TEAM}\n[[repository]]\npath = \"../other\"\n{lines}\n")).unwrap();
        plan.repositories.into_iter().last().unwrap()
    };
    assert_eq!(repository("").checks, None);
    assert_eq!(repository("check = []").checks, Some(vec![]));
    assert_eq!(repository("check = \"make test\"").checks, Some(vec!["make test".to_owned()]));
    assert_eq!(repository("").protected, Vec::<String>::new());
    assert_eq!(repository("protected = [\".github/\", \"**/*.lock\"]").protected, [".github/", "**/*.lock"]);
    for pattern in ["/etc", "./a", "a/../b", ".."] {
        let told = faults(&format!("{TEAM}\n[[repository]]\npath = \"../other\"\nprotected = [\"{pattern}\"]\n"));
        assert_eq!(told.len(), 1, "{pattern}: {told:?}");
        assert!(told[0].contains("matches no path of the repository"), "{told:?}");
    }
}

#[test]
fn a_file_too_large_and_a_team_too_large_are_refused() {
    let told = faults(&"#".repeat(1024 * 1024 + 1));
    assert_eq!(told, ["1:1 the file has 1048577 bytes; at most 1048576 are read"]);
    let agents: String =
        (0..201).map(|n| format!("[[agent]]\nid = \"a{n}\"\nrole = \"r\"\ndriver = \"echo\"\n")).collect();
    let told = faults(&agents);
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].contains("201 times `[[agent]]`; at most 200 are possible"), "{told:?}");
}

#[test]
fn a_repository_on_github_is_read_with_its_defaults() {
    let plan = parse_agents(&format!(
        "{ONE}[github]\ntrigger_label = \"work\"\nroute = [{{ label = \"docs\", agent = \"a\", priority = 1 }}]\n\
         [[repository]]\npath = \"p\"\ngithub = \"octo-org/app\"\nmerge = \"pull-request\"\n"
    ))
    .unwrap();
    assert!(plan.uses_github());
    let on_github = plan.repositories[0].github.as_ref().unwrap();
    assert_eq!((on_github.slug.as_str(), on_github.labels.as_slice()), ("octo-org/app", &["work".to_owned()][..]));
    assert_eq!(plan.github.api_url, "https://api.github.com");
    assert_eq!((plan.github.pace.per_minute, plan.github.pace.per_hour), (80, 500));
    assert_eq!(plan.github.routes[0].priority.map(|priority| priority.get()), Some(1));
}

#[test]
fn an_app_takes_the_place_of_the_token() {
    let text = format!("{ONE}[github]\napp_id = 4711\nprivate_key_file = \"keys/app.pem\"\n")
        .replace("SECRET", "GITHUB_TOKEN");
    let app = parse_agents(&text).expect("with an app the variable is free for agents").github.app.unwrap();
    assert_eq!(app.id.to_string(), "4711");
    assert!(app.private_key_file.is_absolute() && app.private_key_file.ends_with("keys/app.pem"), "{app:?}");
}

#[test]
fn issues_are_claimed_for_half_an_hour_unless_the_file_says_otherwise() {
    let github = parse_agents(ONE).unwrap().github;
    assert_eq!((github.claim, github.claim_lease), (ClaimKind::Comment, Duration::from_secs(1_800)));
    let github = parse_agents(&format!("{ONE}[github]\nclaim = \"none\"\nclaim_lease = \"2m\"\n")).unwrap().github;
    assert_eq!((github.claim, github.claim_lease), (ClaimKind::None, Duration::from_secs(120)));
}

#[test]
fn no_label_shows_that_an_issue_is_worked_on_unless_the_file_names_one() {
    assert_eq!(parse_agents(ONE).unwrap().github.claim_label, None);
    let github = parse_agents(&format!("{ONE}[github]\nclaim_label = \"in-progress\"\n")).unwrap().github;
    assert_eq!(github.claim_label.as_deref(), Some("in-progress"));
}

#[test]
fn what_contradicts_itself_about_github_is_told() {
    for (text, expected) in [
        ("[github]\ntoken_env = \"SECRET\"\n", "must not be in the `env` of a"),
        ("[[repository]]\npath = \"p\"\nmerge = \"pull-request\"\n", "needs a repository on GitHub"),
        ("[[repository]]\npath = \"p\"\nlabels = [\"x\"]\n", "means nothing without `github`"),
        ("[[repository]]\npath = \"p\"\ngithub = \"../app\"\n", "write it as owner/name"),
        ("[[repository]]\npath = \"p\"\ngithub = \"a/b/c\"\n", "write it as owner/name"),
        ("[github]\napi_url = \"ftp://x\"\n", "must be an address"),
        ("[github]\napp_id = 1\nprivate_key_file = \"k\"\ntoken_env = \"T\"\n", "a token or an app, not both"),
        ("[github]\nprivate_key_file = \"k\"\ntoken_env = \"T\"\n", "a token or an app, not both"),
        ("[github]\napp_id = 1\n", "has no `private_key_file`"),
        ("[github]\nprivate_key_file = \"k\"\n", "has no `app_id`"),
        ("[github]\napp_id = 0\nprivate_key_file = \"k\"\n", "`app_id`"),
        ("[github]\npoll = \"10m\"\nreconcile = \"1m\"\n", "must not be shorter than `poll`"),
        ("[github]\nroute = [{ label = \"x\", role = \"r\", agent = \"a\" }]\n", "not both"),
        ("[github]\ntrust = [\"EVERYBODY\"]\n", "cannot name `EVERYBODY`"),
        ("[github]\nclaim = \"label\"\n", "`claim` cannot be `label`; known: comment, none"),
        ("[github]\nclaim_label = \"a,b\"\n", "no comma"),
        ("[github]\nclaim_label = \"\"\n", "label"),
        ("[github]\nclaim_label = \" auto-code\"\n", "begins or ends with a space"),
        ("[github]\nclaim_label = \"..\"\n", "is no name that can be taken away again"),
        ("[github]\nclaim_label = \"Auto-Code\"\n", "the `claim_label` `Auto-Code` makes issues work"),
        ("[github]\nclaim_label = \"x\"\ntrigger_label = \"X\"\n", "the `claim_label` `x` makes issues work"),
        (
            "[github]\nclaim_label = \"x\"\n[[repository]]\npath = \"p\"\ngithub = \"a/b\"\nlabels = [\"y\", \"x\"]\n",
            "the `claim_label` `x` makes issues work",
        ),
        ("[github]\nclaim_label = \"x\"\nroute = [{ label = \"X\", priority = 1 }]\n", "belongs to a [[github.route]]"),
        ("[github]\nclaim_label = \"priority:1\"\n", "says how urgent an issue is"),
        ("[github]\nclaim_lease = \"1m\"\n", "`claim_lease`"),
        ("[github]\nclaim_lease = \"25h\"\n", "`claim_lease` must be at most 1d"),
    ] {
        let faults = parse_agents(&format!("{ONE}{text}")).expect_err(text);
        assert!(faults.iter().any(|fault| fault.message.contains(expected)), "{text}: {:?}", told(&faults));
    }
}

/// One agent that may see a variable.
const ONE: &str = "[[agent]]\nid = \"a\"\nrole = \"r\"\ndriver = \"echo\"\nenv = [\"SECRET\"]\n";
