//! Programs in other languages that take part with plain renames, as the documentation says.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use miyabi::io::spool::holder::Holder;
use miyabi::io::spool::look::Counts;
use miyabi::io::spool::name::Folder;
use miyabi::io::spool::replies::{Answer, Question};
use miyabi::io::spool::track::Stage;
use miyabi::model::envelope::Envelope;

use super::{World, kaede, mailbox, names};

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Takes the shell agent out of docs/spool.md.
fn shell_agent(world: &World) -> PathBuf {
    let page = fs::read_to_string(repository().join("docs/spool.md")).unwrap();
    let (_, rest) = page.split_once("```sh\n").unwrap();
    let (script, _) = rest.split_once("```").unwrap();
    let path = world.folder.path().join("agent.sh");
    fs::write(&path, script).unwrap();
    path
}

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_shell_agent_of_the_documentation_works_off_a_mailbox() {
    let world = World::new();
    let sent = [world.sent("kaede"), world.sent("kaede")];
    let mailbox_folder = world.path().join("kaede");
    let output = run(Command::new("sh").arg(shell_agent(&world)).arg(&mailbox_folder).arg("momo").arg("cat"));
    let read: Vec<serde_json::Value> = output.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(read, [serde_json::to_value(&sent[0]).unwrap(), serde_json::to_value(&sent[1]).unwrap()]);
    assert_eq!(world.spool.counts(&mailbox("kaede")).unwrap(), Counts { done: 2, ..Counts::default() });
    let listed = world.spool.list(&mailbox("kaede")).unwrap();
    assert_eq!(
        listed.iter().map(|listed| listed.holder.clone().unwrap().to_string()).collect::<Vec<_>>(),
        ["momo.0"; 2]
    );
}

#[test]
fn what_the_shell_agent_fails_to_do_comes_again() {
    let mut world = World::new();
    let sent = world.sent("kaede");
    let mailbox_folder = world.path().join("kaede");
    run(Command::new("sh").arg(shell_agent(&world)).arg(&mailbox_folder).arg("momo").arg("false"));
    assert!(world.lease("kaede", &kaede(1)).is_none());
    world.wait(std::time::Duration::from_secs(301));
    let again = world.lease("kaede", &kaede(1)).unwrap();
    assert_eq!((again.envelope, again.attempt), (sent, 2));
}

#[test]
fn the_python_agent_sends_what_we_lease_and_serves_what_we_send() {
    let world = World::new();
    world.spool.ensure(&mailbox("kaede")).unwrap();
    let python = |verb: &str, rest: &[&str]| {
        let agent = repository().join("examples/agent.py");
        run(Command::new("python3").arg(agent).arg(verb).arg(world.path().join("kaede")).arg("momo").args(rest))
    };
    let id = python("send", &["お願いします"]);
    let leased = world.lease("kaede", &Holder::operator()).unwrap();
    assert_eq!(leased.envelope.id.to_string(), id.trim());
    assert_eq!(leased.envelope.body, serde_json::json!({"text": "お願いします"}));
    world.spool.ack(&leased.receipt, None, world.now).unwrap();

    let sent = world.sent("kaede");
    let served: serde_json::Value = serde_json::from_str(&python("serve", &["cat"])).unwrap();
    assert_eq!(served, serde_json::to_value(&sent).unwrap());
    assert_eq!(names(&world.path().join("kaede/done")).len(), 2);
}

/// Takes the shell sender out of docs/spool.md.
fn shell_sender(world: &World) -> PathBuf {
    let page = fs::read_to_string(repository().join("docs/spool.md")).unwrap();
    let script = page.split("```sh\n").nth(2).unwrap().split("```").next().unwrap();
    assert!(script.contains("usage: send.sh"));
    let path = world.folder.path().join("send.sh");
    fs::write(&path, script).unwrap();
    path
}

#[test]
fn what_the_shell_sender_of_the_documentation_sends_is_leased_and_tracked() {
    let world = World::new();
    world.spool.ensure(&mailbox("kaede")).unwrap();
    let said = "say \"お願い\" \\ now";
    let mut send = Command::new("sh");
    let id = run(send.arg(shell_sender(&world)).arg(world.path().join("kaede")).arg("momo").arg(said));
    let id = id.trim().parse().unwrap();
    assert_eq!(world.spool.track(id).unwrap().state, Stage::Written);
    let leased = world.lease("kaede", &kaede(1)).unwrap();
    assert_eq!((leased.envelope.id, leased.envelope.from.as_str()), (id, "momo"));
    assert_eq!(leased.envelope.body, said);
    world.spool.ack(&leased.receipt, None, world.now).unwrap();
    assert_eq!(world.spool.track(id).unwrap().state, Stage::Acknowledged);
}

#[test]
fn the_python_agent_answers_in_the_mailbox_and_the_conversation_of_the_sender() {
    let world = World::new();
    world.spool.ensure(&mailbox("sakura")).unwrap();
    let question = Envelope { thread: Some("run 7".to_owned()), ..world.message("kaede") };
    world.spool.deliver(&question, None, world.now).unwrap();
    let expired = Envelope { expires_at: Some(world.now - super::MINUTE), ..world.message("kaede") };
    world.spool.deliver(&expired, None, world.now - 2 * super::MINUTE).unwrap();
    let agent = repository().join("examples/agent.py");
    run(Command::new("python3")
        .arg(agent)
        .arg("answer")
        .arg(world.path().join("kaede"))
        .args(["kaede", "echo", "はい"]));
    let mut waiting = Question::new(mailbox("sakura"), question.id);
    let sakura = Holder::new("sakura", question.from_incarnation).unwrap();
    let now = miyabi::io::clock::now();
    let Some(Answer::Leased(answer)) = world.spool.lease_answer(&mut waiting, &sakura, super::MINUTE, now).unwrap()
    else {
        panic!("there is no answer")
    };
    assert_eq!((answer.envelope.body, answer.envelope.thread), (serde_json::json!("はい\n"), question.thread.clone()));
    assert_eq!(world.folder_of(&question), Some(Folder::Done));
    assert_ne!(world.folder_of(&expired), Some(Folder::Done), "what has expired is not worked on");
}
