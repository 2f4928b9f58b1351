//! Dependency files, one at a time.

use std::time::Duration;

use miyabi::config::dag::{is_dependency_file, parse, text_of};
use miyabi::model::task::{Assignee, NoChange, OnFailure, RepositoryChoice, Work};

use super::{parse_agents, parse_dag, project_file, render, team, team_with_repositories, told};

/// Returns the faults of a text that must have some.
fn faults(text: &str) -> Vec<String> {
    told(&parse_dag(text).expect_err("the text was accepted"))
}

#[test]
fn the_example_that_comes_with_the_program_is_good() {
    let plan = parse_agents(&project_file("agents.toml")).unwrap();
    let file = parse("dag/example.yaml", &project_file("dag/example.yaml"), &plan).unwrap();
    let graph: Vec<(String, Vec<String>)> = file
        .nodes
        .iter()
        .map(|node| (node.id.to_string(), node.spec.needs.iter().map(ToString::to_string).collect()))
        .collect();
    let expect = |id: &str, needs: &[&str]| {
        (format!("example/{id}"), needs.iter().map(|need| format!("example/{need}")).collect::<Vec<_>>())
    };
    assert_eq!(
        graph,
        [
            expect("greeting", &[]),
            expect("polish", &["greeting"]),
            expect("translate", &["greeting"]),
            expect("join", &["polish", "translate"]),
            expect("announce", &["join"]),
        ]
    );
    assert!(file.nodes.iter().all(|node| matches!(node.spec.work, Work::Run(_))), "it must work without any agent CLI");
    assert_eq!(file.nodes[4].spec.repository, RepositoryChoice::None);
}

#[test]
fn every_key_of_a_task_has_its_meaning() {
    let file = parse_dag(
        "version: 1\n\
         repo: app\n\
         defaults: {priority: 2, timeout: 10m, retry: {limit: 4, backoff: 3}, role: review, check: make lint}\n\
         tasks:\n\
         \x20 挨拶:\n\
         \x20   agent: kaede\n\
         \x20   prompt: |\n\
         \x20     Say hello.\n\
         \x20     こんにちは\n\
         \x20   check: [make test, true]\n\
         \x20   no_change: ok\n\
         \x20   retry: {interval: 0s, max_interval: 1m}\n\
         \x20 12:\n\
         \x20   needs: [挨拶, other/thing]\n\
         \x20   run: true\n\
         \x20   repo: none\n",
    )
    .unwrap();
    let hello = &file.nodes[0].spec;
    assert_eq!(file.nodes[0].id.as_str(), "plan/挨拶");
    assert_eq!(hello.assignee, Assignee::Agent("kaede".parse().unwrap()));
    assert_eq!(hello.work, Work::Prompt("Say hello.\nこんにちは\n".to_owned()));
    assert_eq!(hello.checks, ["make test", "true"]);
    assert_eq!(hello.no_change, NoChange::Ok);
    assert_eq!(hello.timeout, Some(Duration::from_secs(600)));
    assert_eq!((hello.retry.limit, hello.retry.interval), (4, Duration::ZERO));
    assert!((hello.retry.backoff - 3.0).abs() < f64::EPSILON);
    assert_eq!(hello.retry.max_interval, Duration::from_secs(60));
    assert_eq!(hello.priority.get(), 2);
    assert_eq!(hello.repository, RepositoryChoice::Named("app".parse().unwrap()));

    let other = &file.nodes[1].spec;
    assert_eq!(file.nodes[1].id.as_str(), "plan/12");
    assert_eq!(other.needs.iter().map(ToString::to_string).collect::<Vec<_>>(), ["plan/挨拶", "other/thing"]);
    let columns: Vec<(u32, u32)> = file.nodes[1].needs_places.iter().map(|place| (place.line, place.column)).collect();
    assert_eq!(columns, [(14, 13), (14, 17)]);
    assert_eq!(other.assignee, Assignee::Role("review".parse().unwrap()));
    assert_eq!(other.work, Work::Run("true".to_owned()), "`run: true` is a command and not a boolean");
    assert_eq!(other.checks, ["make lint"]);
    assert_eq!(other.no_change, NoChange::Ok, "without git there is nothing to commit");
}

#[test]
fn needs_can_be_written_as_other_tools_do() {
    for line in ["needs: b", "needs: [b]", "depends_on: b", "depends: [b]", "blocked_by:\n      - b", "needs: plan/b"] {
        let file = parse_dag(&format!("tasks:\n  a:\n    run: x\n    {line}\n  b: {{run: y}}\n")).unwrap();
        assert_eq!(file.nodes[0].spec.needs, [file.nodes[1].id.clone()], "{line}");
    }
}

#[test]
fn a_task_that_names_nobody_goes_to_the_role_of_the_first_stage_and_to_the_only_repository() {
    let file = parse_dag("tasks: {a: {run: x}}").unwrap();
    assert_eq!(file.nodes[0].spec.assignee, Assignee::Role("codegen".parse().unwrap()));
    assert_eq!(file.nodes[0].spec.repository, RepositoryChoice::Named("app".parse().unwrap()));
    assert_eq!(file.nodes[0].spec.no_change, NoChange::Refused);
}

#[test]
fn several_repositories_or_none_ask_once_for_a_choice() {
    let text = "tasks:\n  a: {run: x}\n  b: {run: y}\n  c: {run: z, repo: none}\n";
    let faults = |plan| told(&parse("dag/p.yaml", text, &plan).unwrap_err());
    assert_eq!(
        faults(team_with_repositories(&["one", "two"])),
        [
            "2:3 the task `a` does not say in which of 2 repositories it works (write `repo:` here or at the top of the file; known: one, two, none)"
        ]
    );
    assert_eq!(
        faults(team_with_repositories(&[])),
        [
            "2:3 the task `a` needs a repository, and agents.toml has none (add a `[[repository]]` there, or write `repo: none`)"
        ]
    );
    let all = format!("repo: none\n{text}");
    assert!(parse("dag/p.yaml", &all, &team_with_repositories(&[])).is_ok());
}

#[test]
fn every_fault_of_a_bad_file_is_told_at_once_with_its_place() {
    let faults = parse_dag(BAD).unwrap_err();
    insta::assert_snapshot!(render(&faults, &[("dag/plan.yaml", BAD)]));
}

const BAD: &str = "version: 2
repo: ap
retries: 3
defaults:
  priority: 9
  timeout: 45
tasks:
  挨拶:   {agent: keade, prompt: \"こんにちは\"}
  both:   {agent: kaede, role: review, run: x, prompt: y}
  show:   {agent: conductor, run: x}
  named:  {agent: カエデ, run: x}
  nobody: {role: reveiw, run: x}
  idle:   {}
  self:   {run: x, needs: [self, idle, idle]}
  \"a b\":  {run: x}
  many:   {run: x, needs: idle, depends_on: idle}
  later:  {run: x, cache: often}
  retry:
    run: x
    retry: {limit: 1000, interval: 1h, backoff: 0.5, max_intervall: 2h}
    no_change: yes
  #12: {run: x}
  idle:   {run: again}
  list:   [run, x]
  alias:  *missing
  empty:
    run:
";

#[test]
fn a_syntax_error_is_told_once_and_nothing_is_concluded_from_it() {
    for (text, place) in [
        ("tasks:\n  a: {run: x\n  b: 1\n", "3:"),
        ("tasks:\n\ta: {run: x}\n", "2:"),
        ("tasks:\n  a:\n    run: say: hello\n", "3:"),
        ("tasks: \"open\n", ""),
        ("a: [1, 2", ""),
        ("tasks:\n  a: {run: x}\n dangling: 1\n", "3:"),
    ] {
        let told = faults(text);
        assert_eq!(told.len(), 1, "{text:?}: {told:?}");
        assert!(told[0].starts_with(place) && told[0].contains("not valid YAML"), "{text:?}: {told:?}");
    }
    assert!(faults("tasks:\n\ta: {run: x}\n")[0].contains("spaces, not tabs"));
    assert!(faults("tasks:\n  a:\n    run: say: hello\n")[0].contains("quotes"));
}

#[test]
fn a_task_that_yaml_takes_for_a_comment_is_found_and_real_comments_are_left_alone() {
    let told = faults("tasks:\n  a: {run: x}\n  #12: {needs: [a]}\n  #13:\n  #  run: x\n");
    assert_eq!(
        told,
        [
            "3:3 `#12:` is a comment for YAML, so this task does not exist (write `12:` without the `#`, or `# 12:` if a comment is meant)",
            "4:3 `#13:` is a comment for YAML, so this task does not exist (write `13:` without the `#`, or `# 13:` if a comment is meant)",
        ]
    );
    let fine = "# 12: {}\n#12: is about this\ntasks:\n  a:\n    run: |\n      #12: {}\n      x\n  # see 4: there\n";
    assert!(parse_dag(fine).is_ok(), "{:?}", parse_dag(fine));
}

#[test]
fn files_that_are_empty_or_no_task_files_say_so() {
    assert_eq!(faults(""), ["1:1 the file is empty (write `tasks:` and at least a name below)"]);
    assert_eq!(faults("# only a comment\n").len(), 1);
    assert_eq!(
        faults("version: 1\n"),
        ["1:1 the file has neither `tasks` nor `issues` (write `tasks:` and the tasks by name below)"]
    );
    assert_eq!(
        faults("tasks:\n  - name: a\n    run: x\n"),
        [
            "1:1 `tasks` must be tasks by name, found a list (write `a:` instead of `- name: a`, and its keys below, indented)"
        ]
    );
    assert!(faults("hello")[0].contains("must be a table of keys and values, found a string"));
    assert_eq!(faults("tasks: {}\n---\ntasks: {}\n").len(), 1);
    assert!(parse_dag("tasks:\n  # a: {run: x}\n").unwrap().nodes.is_empty(), "all tasks may be commented out");
    let told = told(&parse("dag/my plan.yaml", "tasks: {a: {run: x}}", &team()).unwrap_err());
    assert!(told[0].contains("the file name `my plan` cannot begin the ids of tasks"), "{told:?}");
}

#[test]
fn aliases_work_and_bombs_of_them_do_not() {
    let file = parse_dag("tasks:\n  a: &same {run: x, check: [y]}\n  b: *same\n").unwrap();
    assert_eq!(file.nodes[0].spec, file.nodes[1].spec);

    let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x]\n");
    for n in 1..10 {
        let before = format!("*a{}, ", n - 1).repeat(9);
        bomb.push_str(&format!("a{n}: &a{n} [{before}x]\n"));
    }
    bomb.push_str("tasks: {a: {run: x, needs: *a9}}\n");
    let told = faults(&bomb);
    assert!(told[0].contains("more than 500000 values once its aliases are written out"), "{told:?}");
    assert_eq!(faults("tasks: &all {a: *all}").len(), 1);
    let deep = format!("tasks: {}{}", "[".repeat(5_000), "]".repeat(5_000));
    assert_eq!(faults(&deep).len(), 1);
}

#[test]
fn ten_thousand_tasks_are_read_however_they_are_laid_out() {
    let block: String = (0..10_000).map(|n| format!("  t{n}: {{run: x, needs: [t{}, t{}]}}\n", n + 1, n + 2)).collect();
    let block = format!("tasks:\n{block}");
    let flow: String = (0..10_000).map(|n| format!("t{n}: {{run: あ, needs: [t{}, t{}]}}, ", n + 1, n + 2)).collect();
    let flow = format!("tasks: {{{flow}}}");
    for text in [block, flow] {
        assert_eq!(parse_dag(&text).unwrap().nodes.len(), 10_000);
    }
    let many: String = (0..20_001).map(|n| format!("  t{n}: {{run: x}}\n")).collect();
    let told = faults(&format!("tasks:\n{many}"));
    assert!(told[0].contains("the file has 20001 tasks; at most 20000 are possible"), "{told:?}");
}

#[test]
fn a_flood_of_faults_is_cut_off_and_counted() {
    let many: String = (0..500).map(|n| format!("  t{n}: {{rnu: x}}\n")).collect();
    let told = faults(&format!("tasks:\n{many}"));
    assert_eq!(told.len(), 100);
    assert!(told.iter().any(|fault| fault.contains("(and 400 more faults)")), "{:?}", told.last());
}

#[test]
fn only_saved_yaml_files_are_dependency_files() {
    for name in ["a.yaml", "a.yml", "計画.yaml", "a.b.yaml"] {
        assert!(is_dependency_file(name), "{name}");
    }
    for name in [".a.yaml", "a.yaml~", ".a.yaml.swp", "a.yaml.swp", "#a.yaml#", "a.json", "yaml", ".yaml", "a.YAML.bak"]
    {
        assert!(!is_dependency_file(name), "{name}");
    }
}

#[test]
fn what_a_task_takes_is_read_from_the_task_and_from_defaults() {
    let text = "pools: {anthropic: 3, staging: 1}
defaults: {pools: anthropic, sla: 4h, on_failure: continue}
tasks:
  a: {run: x, touches: [src/api/**, docs/]}
  b: {run: x, pools: [staging, anthropic], sla: 30m, on_failure: pause}
";
    let file = parse_dag(text).unwrap();
    let slots: Vec<(&str, u32)> = file.pools.iter().map(|(pool, spec)| (pool.as_str(), spec.slots)).collect();
    assert_eq!(slots, [("anthropic", 3), ("staging", 1)]);
    let [a, b] = file.nodes.as_slice() else { panic!("two tasks") };
    assert_eq!(a.spec.touches.iter().map(|touch| touch.as_str()).collect::<Vec<_>>(), ["src/api/**", "docs"]);
    assert_eq!(a.spec.pools.iter().map(|pool| pool.as_str()).collect::<Vec<_>>(), ["anthropic"]);
    assert_eq!((a.spec.sla, a.spec.on_failure), (Some(Duration::from_hours(4)), OnFailure::Continue));
    assert_eq!(b.spec.pools.iter().map(|pool| pool.as_str()).collect::<Vec<_>>(), ["staging", "anthropic"]);
    assert_eq!((b.spec.sla, b.spec.on_failure), (Some(Duration::from_mins(30)), OnFailure::Pause));
}

#[test]
fn pools_and_touches_that_cannot_be_are_told() {
    let text = "pools: {Bad: 1, none: 0}
tasks:
  a: {run: x, touches: [\"/src\", \"src/[ab].rs\", \"a**\"]}
  b: {run: x, repo: none, touches: src}
  c: {run: x, pools: [llm, llm], on_failure: stop}
";
    let expected = [
        "1:9 pool name `Bad` is not valid: use a-z, 0-9 and `-`, begin with a letter, at most 32 characters",
        "1:23 `none` must be a whole number from 1 to 10000, found 0",
        "3:25 `touches`: `/src` must be relative to the root of the repository (write paths such as `src/api/**` or `docs/*.md`)",
        "3:33 `touches`: `src/[ab].rs` has a `[` in it; only `*`, `?` and `**` are known (write paths such as `src/api/**` or `docs/*.md`)",
        "3:48 `touches`: `a**` has `**` beside other characters; it must stand alone between two `/` (write paths such as `src/api/**` or `docs/*.md`)",
        "4:36 `touches` says which files of a repository, and `repo` is `none` (leave `touches` out; every attempt has an empty folder of its own)",
        "5:28 `llm` stands twice in `pools`",
        "5:46 `on_failure` cannot be `stop`; known: skip_downstream, continue, pause",
    ];
    assert_eq!(told(&parse_dag(text).unwrap_err()), expected);
}

/// What people write by hand, and by what each message tells them what to do.
const BY_HAND: &[(&str, &str)] = &[
    ("tasks：\n  a: {run: x}\n", "write `:` and a space"),
    ("tasks:\n  a：\n    run： x\n", "write `:` and a space"),
    ("tasks:\n  a:\n    run：make\n", "write `:` and a space"),
    ("tasks:\n  a:\n    run:\u{3000}x\n", "U+3000 is another character than the one of YAML: write a space"),
    ("tasks:\n\u{3000}a:\n\u{3000}\u{3000}run: x\n", "U+3000 is another"),
    ("tasks:\n\u{a0}\u{a0}a:\n    run: x\n", "U+00A0 is another"),
    ("tasks:\n  a: {run: x, needs: [b、c]}\n", "write `,`"),
    ("tasks:\n  a: {run: x, needs: ［b］}\n", "write `[`"),
    ("tasks:\n  a: {run: x, priority: ３}\n", "write `3`"),
    ("tasks:\n  a: {run: x, needs: 'b, c'}\n", "`[one, another]`"),
    ("tasks:\n  a:\n    run:make\n", "write a space behind the colon: `run: ...`"),
    ("repo:none\ntasks:\n  a: {run: x}\n", "write a space behind the colon: `repo: ...`"),
    ("tasks:\n  a:\n    run: `date`\n", "begins with ``` must be put into quotes"),
    ("tasks:\n  a: {run: x, every: * * * * *}\n", "begins with `*` must be put into quotes"),
    ("tasks:\n  a:\n    run: %x\n", "begins with `%` must be put into quotes"),
    ("tasks:\n  a: {run: \"x}\n  b: {run: y}\n", "is never closed"),
    ("tasks:\n  a: {run: x\n  b: {run: y}\n", "is not closed"),
    ("tasks:\n  a:\n    run: x\n\tcheck: y\n", "spaces, not tabs"),
    ("tasks:\n  a:\n    run: x\n   needs: b\n", "begin in the same column"),
    ("tasks:\n  a:\n    needs:\n    - a\n    -b\n", "a space behind the `-`"),
    (
        "tasks:\n  a: [[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]\n",
        "32 deep at most",
    ),
];

#[test]
fn whoever_writes_by_hand_is_told_what_to_write_instead() {
    for (text, what) in BY_HAND {
        let told = faults(text);
        assert!(told.iter().any(|told| told.contains(what)), "{text:?} should tell `{what}`: {told:#?}");
    }
}

#[test]
fn bytes_that_are_no_text_are_told_with_their_place() {
    let fault = |bytes: &[u8]| {
        let fault = text_of("dag/f.yaml", bytes.to_vec()).unwrap_err();
        (fault.place.line, fault.place.column, fault.message, fault.help.unwrap())
    };
    let help = || "save the file as UTF-8".to_owned();
    let latin = b"tasks:\n  \xe3\x81\x82: {run: caf\xe9}\n";
    assert_eq!(fault(latin), (2, 15, "what stands here is no UTF-8".to_owned(), help()));
    assert_eq!(fault(b"\xff\xfet\0a\0"), (1, 1, "the file is UTF-16".to_owned(), help()));
    assert_eq!(text_of("dag/f.yaml", "あ".as_bytes().to_vec()).unwrap(), "あ");
}
