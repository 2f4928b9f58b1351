//! No room: a full mailbox, a small disk, a sender that floods. The real program, and the limits of agents.toml.

use std::process::Command;

use miyabi::io::clock;
use miyabi::io::spool::Spool;
use miyabi::io::spool::limits::Limits;
use miyabi::model::envelope::{Envelope, EnvelopeKind};

use super::support::{Root, code, program, text};

const TEAM: &str = "[[agent]]\nid = \"kaede\"\nrole = \"codegen\"\ndriver = \"echo\"\n";

fn with_limits(limits: &str) -> Root {
    let root = Root::new();
    root.write("agents.toml", &format!("{TEAM}[spool]\n{limits}\n"));
    root
}

#[test]
fn a_full_mailbox_is_exit_code_6_until_something_is_dealt_with() {
    let root = with_limits("mailbox_envelopes_max = 2");
    for _ in 0..2 {
        assert_eq!(code(&root.run(&["send", "kaede", "x"])), 0);
    }
    let refused = root.run(&["send", "kaede", "x", "--json"]);
    assert_eq!(code(&refused), 6);
    let told: serde_json::Value = serde_json::from_slice(&refused.stderr).unwrap();
    assert_eq!(told["error"]["kind"], "no-room");
    assert!(told["error"]["message"].as_str().unwrap().contains("2 envelopes wait, at most 2 may"), "{told}");
    let receipt = root.json(&["lease", "kaede"])["receipt"].as_str().unwrap().to_owned();
    assert_eq!(code(&root.run(&["send", "kaede", "x"])), 6);
    assert_eq!(code(&root.run(&["ack", &receipt])), 0);
    assert_eq!(code(&root.run(&["send", "kaede", "x"])), 0);
}

#[test]
fn a_message_larger_than_allowed_says_what_to_do_and_a_broken_agents_toml_loses_none() {
    let root = with_limits("envelope_bytes_max = \"4MiB\"");
    let large = "x".repeat(2 << 20);
    root.command(&["send", "kaede", "-"]).write_stdin(large.clone()).assert().success();
    let refused = root.command(&["send", "kaede", "-"]).write_stdin("x".repeat(5 << 20)).output().unwrap();
    assert_eq!(code(&refused), 4);
    assert!(text(&refused.stderr).contains("--attach"), "{}", text(&refused.stderr));
    root.write("agents.toml", "[[agent\n");
    let leased = root.json(&["lease", "kaede"]);
    assert_eq!(leased["body"].as_str().map(str::len), Some(large.len()), "a large message is not a bad one");
}

#[test]
fn whoever_floods_is_told_that_it_is_slowed() {
    let root = with_limits("mailbox_envelopes_max = 210");
    // A hundred processes would take longer than a flood lasts on a busy machine.
    let limits = Limits { mailbox_envelopes_max: 210, ..Limits::default() };
    let spool = Spool::with_limits(root.path().join("data/spool"), limits);
    for _ in 0..120 {
        let (id, to) = (clock::fresh_envelope_id(), "kaede".parse().unwrap());
        let mut envelope = Envelope::new(id, EnvelopeKind::Message, "operator", to, clock::now(), "x".into());
        spool.deliver_numbered(&mut envelope, None, clock::now()).unwrap();
    }
    let slowed = root.run(&["send", "kaede", "x", "--json"]);
    let told: serde_json::Value = serde_json::from_slice(&slowed.stdout).unwrap();
    assert!((10..=1_000).contains(&told["slowed_ms"].as_u64().unwrap()), "{told}");
    assert!(text(&slowed.stderr).contains("slowed by"), "{}", text(&slowed.stderr));
    assert_eq!(spool.counts(&"kaede".parse().unwrap()).unwrap().slowed, 1, "the metric of `status`");
    let other = root.command(&["send", "kaede", "x", "--json"]).env("MIYABI_AGENT", "kaede").output().unwrap();
    assert!(text(&other.stdout).contains("\"slowed_ms\":0"), "{}", text(&other.stdout));
}

/// Runs a shell script in a mount namespace of its own, with a spool on a disk of 4 MiB.
fn on_a_small_disk(root: &Root, script: &str) {
    let spool = root.path().join("data/spool");
    std::fs::create_dir_all(&spool).unwrap();
    let script = format!(
        "set -eu; mount -t tmpfs -o size=4m tmpfs '{}'; miyabi() {{ '{}' \"$@\"; }}\n{script}",
        spool.display(),
        program().display()
    );
    let output = Command::new("unshare")
        .args(["--map-root-user", "--mount", "sh", "-c", &script])
        .current_dir(root.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
}

#[test]
fn a_disk_that_runs_low_refuses_messages_before_it_is_full_and_takes_them_again() {
    on_a_small_disk(
        &with_limits("disk_reserve = \"1GiB\""),
        "miyabi send kaede before
        head -c 4050000 /dev/zero > data/spool/filler
        code=0; miyabi send kaede x 2> said || code=$?
        test $code = 6
        grep -q 'are kept free of messages' said && grep -q 'disk_reserve' said
        rm data/spool/filler
        miyabi send kaede after",
    );
}

#[test]
fn a_full_disk_refuses_with_exit_code_6_and_leaves_nothing_half_written() {
    on_a_small_disk(
        &with_limits("disk_reserve = \"0B\""),
        "miyabi send kaede before
        head -c 8000000 /dev/zero > data/spool/filler 2> /dev/null || true
        code=0; miyabi send kaede x 2> said || code=$?
        test $code = 6
        grep -q 'no space left' said
        test -z \"$(ls data/spool/kaede/tmp)\"
        rm data/spool/filler
        miyabi send kaede after
        test \"$(ls data/spool/kaede/new | wc -l)\" = 2",
    );
}
