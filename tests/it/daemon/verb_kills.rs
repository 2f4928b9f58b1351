//! Verbs that are killed with `kill -9` at any moment of their short lives, beside a supervisor that is killed over and over:
//! `send`, `lease`, `reply` and `ack` as a shell script would call them.

use std::collections::BTreeMap;
use std::process::{Output, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use miyabi::io::spool::Spool;
use miyabi::model::id::Mailbox;
use serde_json::Value;

use super::root::Root;
use crate::rng::Rng;
use crate::spool::own_disk::soak;

const MESSAGES: usize = 100;
const SENDERS: [&str; 2] = ["sakura", "tsubaki"];
const HOLDERS: u64 = 2;
/// Tasks of the supervisor, whose orders and reports go the same way.
const TASKS: usize = 8;
/// One verb of so many is killed.
const KILLED_OF: usize = 3;
/// The latest moment of a verb's life at which it is killed, in microseconds; most are over by then.
const LIFE_MAX: usize = 20_000;

/// How long a supervisor lives at most, in milliseconds.
const SUPERVISOR_LIFE_MAX: usize = 700;

/// Ends the work of all threads when one of them ends, also in a panic: else the others would hide it by going on.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

struct Verbs<'a> {
    root: &'a Root,
    lots: Rng,
    kills: &'a AtomicUsize,
    is_over: &'a AtomicBool,
}

impl Verbs<'_> {
    fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }

    /// Runs a verb, or kills it on the way. Returns what it said if it came to its end.
    fn run(&mut self, arguments: &[&str]) -> Option<Output> {
        let mut command = self.root.command(arguments);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        if self.lots.below(KILLED_OF) == 0 {
            // The moment is what is drawn: nothing is waited for.
            std::thread::sleep(Duration::from_micros(self.lots.below(LIFE_MAX) as u64));
            child.kill().unwrap();
        }
        let output = child.wait_with_output().unwrap();
        if output.status.code().is_none() {
            self.kills.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        Some(output)
    }

    fn send(&mut self, from: &str, number: usize) {
        let text = format!("{from} {number}");
        while !self.is_over() {
            let said = self.run(&["send", "operator", &text, "--from", from, "--key", &text, "--unordered"]);
            match said {
                Some(output) if output.status.success() => return,
                Some(output) => panic!("send: {}", String::from_utf8_lossy(&output.stderr)),
                None => {}
            }
        }
    }

    /// Leases one message and answers it, by a reply or, for every third, by a keyed message and an ack.
    fn answer(&mut self) {
        let Some(leased) = self.run(&["lease", "operator", "--for", "5s", "--json"]) else { return };
        assert!(leased.status.success(), "lease: {}", String::from_utf8_lossy(&leased.stderr));
        let leased: Value = serde_json::from_slice(&leased.stdout).unwrap();
        let Some(receipt) = leased["receipt"].as_str() else { return };
        let said = |value: &Value| value.as_str().unwrap_or_else(|| panic!("{leased}")).to_owned();
        let [from, text, id] = [&leased["from"], &leased["body"], &leased["id"]].map(said);
        let has_replied = !text.ends_with(['3', '6', '9']);
        let key = format!("answer to {id}");
        let steps: &[&[&str]] = if has_replied {
            &[&["reply", receipt, &text]]
        } else {
            &[&["send", &from, &text, "--reply-to", &id, "--key", &key], &["ack", receipt]]
        };
        for step in steps {
            // Until it comes to its end. A lease that is over is refused; whoever has it now gives the same answer.
            while self.run(step).is_none() {}
        }
    }
}

/// Every message of a sender has one answer, in that sender's mailbox.
fn assert_each_has_one_answer(spool: &Spool, messages: usize) {
    for from in SENDERS {
        let mailbox: Mailbox = from.parse().unwrap();
        let mut answers = BTreeMap::new();
        for listed in spool.list(&mailbox).unwrap() {
            let answer = spool.read(&mailbox, listed.id).unwrap().unwrap();
            let text = answer.body.as_str().unwrap().to_owned();
            assert_eq!(answers.insert(text.clone(), answer.reply_to), None, "`{text}` has two answers");
        }
        let expected: Vec<String> = (0..messages).map(|number| format!("{from} {number}")).collect();
        assert_eq!(answers.len(), expected.len());
        assert!(expected.iter().all(|text| answers.contains_key(text)));
    }
}

/// A supervisor that is killed and started again until all is over.
fn rise_and_fall(root: &Root, is_over: &AtomicBool) -> usize {
    let mut lots = Rng::new(1_000);
    let mut kills = 0;
    while !is_over.load(Ordering::Relaxed) {
        let log = std::fs::File::options().create(true).append(true).open(root.path("up.log")).unwrap();
        let mut up = root.command(&["up"]);
        let mut child = up.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(50 + lots.below(SUPERVISOR_LIFE_MAX) as u64));
        assert!(child.try_wait().unwrap().is_none(), "the supervisor has ended by itself\n{}", root.log());
        child.kill().unwrap();
        child.wait().unwrap();
        kills += 1;
    }
    kills
}

#[test]
fn verbs_and_a_supervisor_that_are_killed_at_any_moment_leave_every_message_with_one_answer() {
    let agent = |id, role| (id, role, "driver = \"echo\"");
    let mut root = Root::new(&[agent("kaede", "codegen"), agent("sakura", "review"), agent("tsubaki", "prs")]);
    let tasks: String = (0..TASKS).map(|number| format!("  t{number}: {{run: 'true', repo: none}}\n")).collect();
    root.drop_file("k.yaml", &format!("tasks:\n{tasks}"));
    let spool = Spool::new(root.path("data/spool"));
    let messages = MESSAGES * soak();
    let (kills, is_over) = (AtomicUsize::new(0), AtomicBool::new(false));
    let falls = std::thread::scope(|scope| {
        let (root, kills, is_over) = (&root, &kills, &is_over);
        let verbs = |seed| Verbs { root, lots: Rng::new(seed), kills, is_over };
        let supervisor = scope.spawn(|| {
            let _ends = Ends(is_over);
            rise_and_fall(root, is_over)
        });
        for (seed, from) in (1..).zip(SENDERS) {
            let mut verbs = verbs(seed);
            scope.spawn(move || (0..messages).for_each(|number| verbs.send(from, number)));
        }
        for seed in 0..HOLDERS {
            let mut verbs = verbs(100 + seed);
            scope.spawn(move || {
                let _ends = Ends(verbs.is_over);
                while !verbs.is_over() {
                    verbs.answer();
                }
            });
        }
        // The test's own time limit ends this if a message is lost.
        let operator: Mailbox = "operator".parse().unwrap();
        let is_done = || {
            let counts = spool.counts(&operator).unwrap_or_default();
            assert_eq!(counts.dead, 0, "{:?}", spool.dead(None));
            counts.done == SENDERS.len() * messages
        };
        let _ends = Ends(is_over);
        while !is_over.load(Ordering::Relaxed) && !is_done() {
            std::thread::sleep(Duration::from_millis(20));
        }
        is_over.store(true, Ordering::Relaxed);
        supervisor.join().unwrap()
    });

    assert_each_has_one_answer(&spool, messages);
    root.up();
    for number in 0..TASKS {
        root.ok(&["task", "wait", &format!("k/t{number}")]);
    }
    let kills = kills.into_inner();
    crate::spool::tell(&format!(
        "{kills} verbs and {falls} supervisors were killed over {} messages: each has one answer",
        SENDERS.len() * messages
    ));
    assert!(kills > 20 && falls > 3, "only {kills} verbs and {falls} supervisors were killed");
}
