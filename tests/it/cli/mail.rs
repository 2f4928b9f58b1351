//! Messages: the verbs that work on the spool itself, without a supervisor.

use super::support::{Root, code, text};

fn receipt(root: &Root, mailbox: &str) -> String {
    root.json(&["lease", mailbox])["receipt"].as_str().unwrap().to_owned()
}

#[test]
fn a_message_is_sent_leased_and_acknowledged_without_a_supervisor() {
    let root = Root::new();
    let sent = root.run(&["send", "kaede", "こんにちは"]);
    assert_eq!(code(&sent), 0);
    let id = text(&sent.stdout).trim().to_owned();

    let listed = root.json(&["inbox", "kaede"]);
    assert_eq!((&listed[0]["id"], &listed[0]["state"]), (&id.as_str().into(), &"new".into()));

    let leased = root.json(&["lease", "kaede"]);
    assert_eq!(leased["id"], id);
    assert_eq!(leased["from"], "operator");
    assert_eq!(leased["attempt"], 1);
    assert_eq!(leased["body"], "こんにちは");
    let receipt = leased["receipt"].as_str().unwrap();

    // A repeated ack is harmless.
    for _ in 0..2 {
        assert_eq!(code(&root.run(&["ack", receipt])), 0);
    }
    assert_eq!(root.json(&["inbox", "kaede"]), serde_json::json!([]));
    assert_eq!(root.json(&["lease", "kaede"]), serde_json::Value::Null);
}

#[test]
fn an_old_holders_receipt_is_refused() {
    let root = Root::new();
    root.run(&["send", "kaede", "once"]);
    let old = receipt(&root, "kaede");
    assert_eq!(code(&root.run(&["nack", &old, "--reason", "not now"])), 0);
    for verb in [&["ack", &old][..], &["nack", &old, "--reason", "again"], &["extend", &old]] {
        let output = root.run(verb);
        assert_eq!(code(&output), 5, "{verb:?}: {}", text(&output.stderr));
    }
}

#[test]
fn extending_a_lease_gives_a_new_receipt_that_counts() {
    let root = Root::new();
    root.run(&["send", "role.review", "look"]);
    let old = receipt(&root, "role.review");
    let renewed = root.json(&["extend", &old, "--for", "10m"])["receipt"].as_str().unwrap().to_owned();
    assert_ne!(old, renewed);
    assert_eq!(code(&root.run(&["ack", &renewed])), 0);
}

#[test]
fn in_a_pane_the_agent_is_sender_and_holder() {
    let root = Root::new();
    let as_agent = |arguments: &[&str], agent: &str, incarnation: &str| {
        root.command(arguments).env("MIYABI_AGENT", agent).env("MIYABI_INCARNATION", incarnation).output().unwrap()
    };
    assert_eq!(code(&as_agent(&["send", "sakura", "please review"], "kaede", "7")), 0);
    let leased = as_agent(&["lease", "sakura", "--json"], "sakura", "3");
    let leased: serde_json::Value = serde_json::from_slice(&leased.stdout).unwrap();
    assert_eq!(leased["from"], "kaede");
    let receipt = leased["receipt"].as_str().unwrap();
    assert!(receipt.contains("sakura.3"), "{receipt}");

    // Neither the human nor the agent's next start may use it.
    let refused = root.run(&["ack", receipt]);
    assert_eq!(code(&refused), 5);
    insta::assert_snapshot!(text(&refused.stderr).replace(receipt, "RECEIPT"));
    for verb in [&["ack", receipt][..], &["nack", receipt, "--reason", "mine"], &["extend", receipt]] {
        assert_eq!(code(&as_agent(verb, "sakura", "4")), 5, "{verb:?}");
    }
    assert_eq!(code(&as_agent(&["ack", receipt], "sakura", "3")), 0);
}

#[test]
fn unknown_and_reserved_mailboxes_are_refused_differently() {
    let root = Root::new();
    for (to, expected, said) in [
        ("kaeda", 4, "did you mean `kaede`?"),
        ("review", 4, "`role.review`"),
        ("no good name", 4, "is not valid"),
        ("supervisor", 5, "the supervisor's own"),
        ("kaede.work", 5, "miyabi submit"),
    ] {
        for verb in [&["send", to, "x"][..], &["lease", to]] {
            let output = root.run(verb);
            assert_eq!(code(&output), expected, "{verb:?}");
            assert!(text(&output.stderr).contains(said), "{verb:?}: {}", text(&output.stderr));
        }
    }
    assert!(!root.path().join("data/spool/kaeda").exists());
}

#[test]
fn the_same_key_is_accepted_once() {
    let root = Root::new();
    let first = root.json(&["send", "kaede", "x", "--key", "build-7"]);
    let second = root.json(&["send", "kaede", "x", "--key", "build-7"]);
    assert_eq!((&first["new"], &second["new"]), (&true.into(), &false.into()));
    assert_eq!(first["id"], second["id"]);
}

#[test]
fn a_delayed_message_waits_and_an_urgent_one_comes_first() {
    let root = Root::new();
    root.run(&["send", "kaede", "tomorrow", "--delay", "1d"]);
    root.run(&["send", "kaede", "normal"]);
    root.run(&["send", "kaede", "urgent", "--priority", "1"]);
    assert_eq!(root.json(&["lease", "kaede"])["body"], "urgent");
    assert_eq!(root.json(&["lease", "kaede"])["body"], "normal");
    assert_eq!(root.json(&["lease", "kaede"]), serde_json::Value::Null);
}

#[test]
fn messages_of_one_group_are_handed_out_one_after_the_other() {
    let root = Root::new();
    root.run(&["send", "kaede", "first"]);
    root.run(&["send", "kaede", "second"]);
    root.run(&["send", "kaede", "third", "--group", "release"]);
    root.run(&["send", "kaede", "fourth", "--unordered"]);
    let bodies: Vec<_> = (0..4).map(|_| root.json(&["lease", "kaede"])["body"].clone()).collect();
    assert_eq!(bodies, ["first".into(), "third".into(), "fourth".into(), serde_json::Value::Null]);
    assert_eq!(code(&root.run(&["send", "kaede", "x", "--group", "a", "--unordered"])), 2);
}

#[test]
fn a_lease_may_wait_for_a_message() {
    let root = Root::new();
    assert_eq!(root.json(&["lease", "kaede", "--wait", "10ms"]), serde_json::Value::Null);
    std::thread::scope(|scope| {
        let leased = scope.spawn(|| root.json(&["lease", "kaede", "--wait", "1m"]));
        root.run(&["send", "kaede", "there you are"]);
        assert_eq!(leased.join().unwrap()["body"], "there you are");
    });
}

#[test]
fn dead_messages_can_be_shown_revived_and_removed() {
    let root = Root::new();
    let id = root.json(&["send", "kaede", "poison"])["id"].as_str().unwrap().to_owned();
    // A message is given up after its last attempt; waiting for every back-off would take minutes.
    let folder = root.path().join("data/spool/kaede");
    let name = format!("3-{id}-a1");
    std::fs::rename(folder.join("new").join(&name), folder.join("dead").join(format!("{name}~-~1795162841123")))
        .unwrap();

    let listed = root.json(&["dead", "list"]);
    assert_eq!(listed[0]["id"], id);
    assert_eq!(root.json(&["dead", "show", &id])["envelope"]["body"], "poison");
    assert_eq!(code(&root.run(&["dead", "requeue", &id])), 0);
    assert_eq!(root.json(&["lease", "kaede"])["body"], "poison");
    assert_eq!(code(&root.run(&["dead", "show", &id])), 4);
    assert_eq!(root.json(&["dead", "purge", "--all"])["purged"], 0);
    assert_eq!(code(&root.run(&["dead", "purge"])), 2, "what is removed must be said");
}

#[test]
fn agents_go_on_talking_while_somebody_edits_agents_toml() {
    let root = Root::new();
    root.run(&["send", "kaede", "before"]);
    root.write("agents.toml", "[[agent\n");
    assert_eq!(code(&root.run(&["send", "kaede", "after"])), 0);
    assert_eq!(code(&root.run(&["send", "sakura", "nobody has written to her yet"])), 4);
}

#[test]
fn a_message_can_be_read_from_standard_input() {
    let root = Root::new();
    root.command(&["send", "kaede", "-"]).write_stdin("line 1\nline 2\n").assert().success();
    assert_eq!(root.json(&["lease", "kaede"])["body"], "line 1\nline 2\n");
}

#[test]
fn every_verb_on_messages_works_without_a_supervisor_and_while_agents_toml_is_broken() {
    let root = Root::new();
    root.run(&["send", "kaede", "makes the mailbox"]);
    let first = receipt(&root, "kaede");
    root.write("agents.toml", "[spool]\nbytes_max = 7\n[[agent\n");
    let fine = |arguments: &[&str]| {
        let output = root.run(arguments);
        assert_eq!(code(&output), 0, "{arguments:?}: {}", text(&output.stderr));
        text(&output.stdout).trim().to_owned()
    };
    let first = fine(&["extend", &first]);
    fine(&["reply", &first, "answer"]);
    assert_eq!(root.json(&["lease", "operator"])["body"], "answer");
    let id = fine(&["send", "kaede", "x", "--ttl", "1h", "--attach", "agents.toml", "--thread", "t"]);
    fine(&["inbox", "kaede", "--thread", "t", "--verify"]);
    fine(&["sent"]);
    fine(&["sent", &id, "--wait", "written"]);
    let second = receipt(&root, "kaede");
    fine(&["nack", &second, "--reason", "later"]);
    fine(&["dead", "list"]);
    fine(&["dead", "purge", "--all"]);
    fine(&["ack", &first]);
}

#[test]
fn completions_know_the_verbs_on_messages_and_their_options() {
    let root = Root::new();
    for shell in ["bash", "zsh", "fish"] {
        let script = text(&root.run(&["completions", shell]).stdout);
        for word in ["sent", "reply", "wait-reply", "attach", "ttl", "verify"] {
            assert!(script.contains(word), "{shell} does not complete `{word}`");
        }
    }
}
