//! Questions and answers between agents and people, and how far a message got: the real program, no supervisor.

use std::io::Read;
use std::process::{Child, Stdio};

use serde_json::{Value, json};

use super::support::{Root, code, text};

fn as_agent(root: &Root, agent: &str, incarnation: &str, arguments: &[&str]) -> std::process::Output {
    root.command(arguments).env("MIYABI_AGENT", agent).env("MIYABI_INCARNATION", incarnation).output().unwrap()
}

fn value(output: &std::process::Output) -> Value {
    assert!(output.status.success(), "{}", text(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Asks in a process of its own, which waits for the answer.
fn ask(root: &Root, to: &str, what: &str, more: &[&str]) -> Child {
    std::process::Command::new(super::support::program())
        .args(["-C", root.path().to_str().unwrap(), "send", to, what, "--wait-reply", "--timeout", "20s"])
        .args(more)
        .env_clear()
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

fn told(child: Child) -> (i32, String) {
    let output = child.wait_with_output().unwrap();
    (code(&output), text(&output.stdout) + &text(&output.stderr))
}

/// Leases as an agent until something is there.
fn lease(root: &Root, agent: &str) -> Value {
    for _ in 0..2_000 {
        let leased = value(&as_agent(root, agent, "1", &["lease", agent, "--json"]));
        if !leased.is_null() {
            return leased;
        }
    }
    panic!("no question came");
}

#[test]
fn whoever_asks_gets_the_answer_and_it_is_acknowledged() {
    let root = Root::new();
    let asking = ask(&root, "sakura", "may I merge?", &[]);
    let question = lease(&root, "sakura");
    assert_eq!((&question["from"], &question["seq"]), (&json!("operator"), &json!(1)));
    let answer = as_agent(&root, "sakura", "1", &["reply", question["receipt"].as_str().unwrap(), "はい", "--json"]);
    let answer = value(&answer);
    assert_eq!(answer["reply_to"], question["id"]);
    assert_eq!(told(asking), (0, "はい\n".to_owned()));
    // Both are dealt with: nothing waits or is leased any more.
    assert_eq!(root.json(&["inbox", "operator"]), json!([]));
    assert_eq!(root.json(&["inbox", "sakura"]), json!([]));
    let progress = root.json(&["sent", question["id"].as_str().unwrap()]);
    assert_eq!(progress["reached"], json!(["written", "leased", "answered", "acknowledged"]));
    assert_eq!(progress["reply"], answer["id"]);
}

#[test]
fn many_who_wait_in_one_mailbox_never_take_each_others_answers() {
    let root = Root::new();
    let asking: Vec<(String, Child)> = (0..5)
        .map(|number| (number.to_string(), ask(&root, "sakura", &number.to_string(), &["--unordered"])))
        .collect();
    let mut questions: Vec<Value> = asking.iter().map(|_| lease(&root, "sakura")).collect();
    // Answered in another order than asked, with something else in between.
    questions.reverse();
    root.run(&["send", "operator", "nobody asked for this"]);
    for question in questions {
        let body = format!("answer to {}", question["body"].as_str().unwrap());
        assert_eq!(code(&as_agent(&root, "sakura", "1", &["reply", question["receipt"].as_str().unwrap(), &body])), 0);
    }
    for (number, asking) in asking {
        assert_eq!(told(asking), (0, format!("answer to {number}\n")));
    }
    assert_eq!(root.json(&["inbox", "operator"]).as_array().unwrap().len(), 1);
}

#[test]
fn without_an_answer_in_time_the_exit_code_is_7_and_says_how_far_it_got() {
    let root = Root::new();
    let output = root.run(&["send", "sakura", "anybody?", "--wait-reply", "--timeout", "50ms"]);
    assert_eq!(code(&output), 7);
    assert!(text(&output.stderr).contains("it is written"), "{}", text(&output.stderr));
    assert_eq!(code(&root.run(&["send", "sakura", "x", "--timeout", "1s"])), 2, "a time without waiting means nothing");
}

#[test]
fn a_repeated_reply_sends_nothing_and_an_old_receipt_sends_nothing_either() {
    let root = Root::new();
    root.run(&["send", "sakura", "question"]);
    let receipt = value(&as_agent(&root, "sakura", "1", &["lease", "sakura", "--json"]))["receipt"].clone();
    let receipt = receipt.as_str().unwrap();
    let reply = || value(&as_agent(&root, "sakura", "1", &["reply", receipt, "answer", "--json"]));
    let (first, second) = (reply(), reply());
    assert_eq!((&first["new"], &second["new"]), (&json!(true), &json!(false)));
    assert_eq!(first["id"], second["id"]);
    assert_eq!(root.json(&["inbox", "operator"]).as_array().unwrap().len(), 1);

    root.run(&["send", "sakura", "another question"]);
    let old = value(&as_agent(&root, "sakura", "1", &["lease", "sakura", "--json"]))["receipt"].clone();
    let old = old.as_str().unwrap();
    assert_eq!(code(&as_agent(&root, "sakura", "1", &["nack", old, "--reason", "later"])), 0);
    assert_eq!(code(&as_agent(&root, "sakura", "1", &["reply", old, "too late"])), 5);
    assert_eq!(code(&root.run(&["reply", receipt, "not mine"])), 5);
    assert_eq!(root.json(&["inbox", "operator"]).as_array().unwrap().len(), 1);
}

#[test]
fn a_sender_without_a_mailbox_cannot_be_answered() {
    let root = Root::new();
    root.run(&["send", "sakura", "x", "--from", "cron job"]);
    let receipt = value(&as_agent(&root, "sakura", "1", &["lease", "sakura", "--json"]))["receipt"].clone();
    let output = as_agent(&root, "sakura", "1", &["reply", receipt.as_str().unwrap(), "who are you?"]);
    assert_eq!(code(&output), 4);
    assert!(text(&output.stderr).contains("has no mailbox"), "{}", text(&output.stderr));
}

#[test]
fn a_conversation_is_inherited_from_the_run_and_by_the_answer() {
    let root = Root::new();
    let run = "01JD8Y0Q6V4W3N5X7Z9B2C4D6F";
    let mut send = root.command(&["send", "sakura", "during the run"]);
    send.env("MIYABI_AGENT", "kaede").env("MIYABI_INCARNATION", "7").env("MIYABI_RUN", run);
    assert!(send.output().unwrap().status.success());
    root.run(&["send", "sakura", "something else"]);
    let listed = root.json(&["inbox", "sakura", "--thread", run]);
    assert_eq!(listed.as_array().unwrap().len(), 1);
    assert_eq!((&listed[0]["thread"], &listed[0]["from"]), (&json!(run), &json!("kaede")));
    let receipt = value(&as_agent(&root, "sakura", "1", &["lease", "sakura", "--json"]))["receipt"].clone();
    assert_eq!(code(&as_agent(&root, "sakura", "1", &["reply", receipt.as_str().unwrap(), "seen"])), 0);
    assert_eq!(root.json(&["inbox", "kaede", "--thread", run])[0]["body"], "seen");
    assert_eq!(root.json(&["sent", "--from", "kaede", "--thread", run])[0]["state"], "acknowledged");
}

#[test]
fn the_sender_sees_every_step_without_a_supervisor() {
    let root = Root::new();
    let id = root.json(&["send", "kaede", "x"])["id"].as_str().unwrap().to_owned();
    let state = || root.json(&["sent", &id])["state"].as_str().unwrap().to_owned();
    assert_eq!(state(), "written");
    let leased = value(&as_agent(&root, "kaede", "2", &["lease", "kaede", "--json"]));
    let progress = root.json(&["sent", &id]);
    assert_eq!((&progress["state"], &progress["holder"]), (&json!("leased"), &json!("kaede.2")));
    assert!(progress["since"].is_string() && progress["until"] == leased["until"]);
    assert_eq!(code(&as_agent(&root, "kaede", "2", &["ack", leased["receipt"].as_str().unwrap()])), 0);
    assert_eq!(state(), "acknowledged");
    // It cannot be answered with something that never comes: the wait ends when the message has.
    assert_eq!(code(&root.run(&["sent", &id, "--wait", "dead"])), 1);
    assert_eq!(code(&root.run(&["sent", &id, "--wait", "acknowledged"])), 0);
    assert_eq!(code(&root.run(&["sent", &id, "--wait", "somewhere"])), 2);
    // After retention nobody knows.
    let done = root.path().join("data/spool/kaede/done");
    for entry in std::fs::read_dir(done).unwrap() {
        std::fs::remove_file(entry.unwrap().path()).unwrap();
    }
    assert_eq!(state(), "unknown");
    assert!(text(&root.run(&["sent", &id]).stdout).contains("not known any more"));
}

#[test]
fn a_wait_for_a_state_ends_when_it_is_reached() {
    let root = Root::new();
    let id = root.json(&["send", "kaede", "x"])["id"].as_str().unwrap().to_owned();
    let mut waiting = std::process::Command::new(super::support::program())
        .args(["-C", root.path().to_str().unwrap(), "sent", &id, "--wait", "acknowledged", "--timeout", "20s"])
        .env_clear()
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let leased = root.json(&["lease", "kaede"]);
    assert_eq!(code(&root.run(&["ack", leased["receipt"].as_str().unwrap()])), 0);
    let mut shown = String::new();
    waiting.stdout.take().unwrap().read_to_string(&mut shown).unwrap();
    assert!(waiting.wait().unwrap().success());
    assert!(shown.contains("acknowledged"), "{shown}");
    let id = root.json(&["send", "kaede", "y"])["id"].as_str().unwrap().to_owned();
    assert_eq!(code(&root.run(&["sent", &id, "--wait", "leased", "--timeout", "50ms"])), 7);
}

#[test]
fn a_message_that_nobody_takes_in_time_is_seen_to_expire() {
    let root = Root::new();
    let id = root.json(&["send", "kaede", "quick", "--ttl", "300ms"])["id"].as_str().unwrap().to_owned();
    root.run(&["send", "kaede", "slow"]);
    assert_eq!(code(&root.run(&["sent", &id, "--wait", "expired", "--timeout", "20s"])), 0);
    let listed = root.json(&["inbox", "kaede"]);
    assert_eq!(listed.as_array().unwrap().len(), 1, "{listed}");
    let progress = root.json(&["sent", &id]);
    assert_eq!((&progress["state"], &progress["reason"]), (&json!("expired"), &json!("expired")));
    assert_eq!(root.json(&["lease", "kaede"])["body"], "slow");
    assert_eq!(code(&root.run(&["send", "kaede", "x", "--ttl", "1m", "--delay", "2m"])), 4);
}

#[test]
fn attached_files_are_named_and_verified_on_demand() {
    let root = Root::new();
    let file = root.write("図.txt", "abc\n");
    root.run(&["send", "kaede", "see the file", "--attach", "図.txt"]);
    let seen = |more: &[&str]| root.json(&[&["inbox", "kaede"], more].concat())[0]["attachments"][0].clone();
    assert_eq!(
        seen(&[]),
        json!({
            "path": file.to_str().unwrap(), "bytes": 4,
            "sha256": "edeaaff3f1774ad2888673770c6d64097e391bc362d7d6fb34982ddf0efd18cb"
        })
    );
    assert_eq!(seen(&["--verify"])["verdict"], "same");
    std::fs::write(&file, "abd\n").unwrap();
    assert_eq!(seen(&["--verify"])["verdict"], "changed");
    std::fs::remove_file(&file).unwrap();
    let leased = root.json(&["lease", "kaede", "--verify"]);
    assert_eq!(leased["attachments"][0]["verdict"], "missing");
    for bad in ["gone.txt", "dag"] {
        let output = root.run(&["send", "kaede", "x", "--attach", bad]);
        assert_eq!(code(&output), 4, "{}", text(&output.stderr));
    }
}
