//! Senders, holders and the supervisor that are killed with `kill -9` over and over while thousands of messages are worked
//! off. Each message is answered, none is lost, and what was done twice is told apart by its key.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use miyabi::io::clock;
use miyabi::io::spool::Spool;
use miyabi::io::spool::holder::Holder;
use miyabi::model::envelope::Envelope;
use miyabi::model::id::{EnvelopeId, Incarnation};
use serde_json::json;

use super::own_disk::soak;
use super::{MINUTE, mailbox};
use crate::daemon::root::Root;
use crate::rng::Rng;

/// Tells a copy of this program what it is, and from where it goes on.
const CHILD: &str = "SPOOL_KILLS_CHILD";
/// Tells it whose child it is, so that it ends with the test.
const PARENT: &str = "SPOOL_KILLS_PARENT";
const TEST: &str =
    "spool::kills::every_message_is_answered_however_often_senders_holders_and_the_supervisor_are_killed";

const MESSAGES: u64 = 1_000;
const SENDERS: u64 = 2;
const HOLDERS: u64 = 3;
const ACTORS: u64 = SENDERS + HOLDERS;
/// So many lines of all actors at most between two kills.
const LINES_MAX: usize = 60;
/// How long nobody may say anything before it is looked whether all is done, and how often in a row.
const SILENCE: Duration = Duration::from_millis(500);
const SILENCES_MAX: usize = 60;
/// Short, so that what a killed holder had comes again soon.
const LEASE: Duration = Duration::from_millis(150);

/// What an actor is that says nothing, and looks after the same spool.
const SUPERVISOR: &str = "supervisor";

/// An actor that lives until it is killed, and its next life.
struct Actor {
    role: &'static str,
    number: u64,
    lives: u64,
    child: Child,
}

impl Actor {
    fn start(
        role: &'static str,
        number: u64,
        lives: u64,
        (from, to): (u64, u64),
        root: &Root,
        said: &mpsc::Sender<(u64, String)>,
    ) -> Self {
        let mut command = if role == SUPERVISOR {
            root.command(&["up"])
        } else {
            let mut copy = Command::new(std::env::current_exe().unwrap());
            copy.args(["--exact", TEST, "--nocapture"])
                .env(CHILD, format!("{role} {number} {lives} {from} {to} {}", root.path("data/spool").display()))
                .env(PARENT, std::process::id().to_string());
            copy
        };
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let (lines, said) = (BufReader::new(child.stdout.take().unwrap()).lines(), said.clone());
        std::thread::spawn(move || {
            // What a kill cut off was never said.
            for line in lines.map_while(Result::ok).filter(|line| line.ends_with('.')) {
                if said.send((number, line)).is_err() {
                    return;
                }
            }
        });
        Self { role, number, lives, child }
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// Sends numbered messages under numbered keys. Whoever is started again goes on behind the last one that was said.
fn send(spool: &Spool, number: u64, from: u64, to: u64) {
    let mut out = std::io::stdout().lock();
    for message in from..to {
        let key = format!("{number} {message}");
        let now = clock::now();
        let envelope = Envelope {
            idempotency_key: Some(key.clone()),
            body: json!({"message": key}),
            attempts_max: 1_000,
            ..super::envelope("kaede", now)
        };
        let delivered = spool.deliver(&envelope, None, now).unwrap();
        writeln!(out, "sent {message} {}.", delivered == miyabi::io::spool::deliver::Delivered::New).unwrap();
    }
    while is_wanted() {
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Answers messages: first the answer, under a key made of the message's id, then the ack.
fn answer(spool: &Spool, number: u64, incarnation: u64) {
    let holder = Holder::new(format!("agent{number}"), Incarnation(incarnation)).unwrap();
    let mut out = std::io::stdout().lock();
    while is_wanted() {
        let Some(leased) = spool.lease(&mailbox("kaede"), &holder, LEASE, clock::now()).unwrap() else {
            std::thread::yield_now();
            continue;
        };
        let now = clock::now();
        let reply = Envelope {
            idempotency_key: Some(format!("answer to {}", leased.envelope.id)),
            reply_to: Some(leased.envelope.id),
            from: "kaede".to_owned(),
            body: leased.envelope.body,
            ..super::envelope("operator", now)
        };
        spool.deliver(&reply, None, now).unwrap();
        // Too late is no harm: whoever has it now gives the same answer.
        let acked = spool.ack(&leased.receipt, Some(&holder), clock::now()).is_ok();
        writeln!(out, "answered {} {} {acked}.", leased.envelope.id, leased.attempt).unwrap();
    }
}

/// Says whether the test that has started this process still runs.
fn is_wanted() -> bool {
    rustix::process::getppid()
        .is_some_and(|parent| parent.as_raw_pid().to_string() == order(PARENT).unwrap_or_default())
}

#[expect(clippy::disallowed_methods, reason = "this program starts itself and tells itself so")]
fn order(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Does what a child is told to do; returns at once in the test itself.
fn be_child() -> bool {
    let Some(order) = order(CHILD) else { return false };
    let mut words = order.splitn(6, ' ');
    let role = words.next().unwrap();
    let [number, lives, from, to] = std::array::from_fn(|_| words.next().unwrap().parse().unwrap());
    let spool = Spool::new(words.next().unwrap().into());
    if role == "sender" {
        send(&spool, number, from, to);
    } else {
        answer(&spool, number, lives);
    }
    true
}

#[test]
fn every_message_is_answered_however_often_senders_holders_and_the_supervisor_are_killed() {
    if be_child() {
        return;
    }
    // Its agent has nothing to do with these messages; its runner beats, and its supervisor sweeps and clears away.
    let root = Root::new(&[("botan", "deploy", "driver = \"echo\"")]);
    let messages = MESSAGES * soak() as u64;
    let mut lots = Rng::new(7);
    let (said, lines) = mpsc::channel();
    let role = |number| match number {
        0..SENDERS => "sender",
        SENDERS..ACTORS => "holder",
        _ => SUPERVISOR,
    };
    let mut actors: Vec<Actor> =
        (0..=ACTORS).map(|number| Actor::start(role(number), number, 1, (0, messages), &root, &said)).collect();
    let mut sent: BTreeMap<u64, u64> = (0..SENDERS).map(|number| (number, 0)).collect();
    let mut answered: BTreeSet<EnvelopeId> = BTreeSet::new();
    let (mut kills, mut falls, mut answered_again, mut recognised) = (0, 0, 0, 0);
    let (mut until_kill, mut silences) = (1, 0);
    let total = usize::try_from(SENDERS * messages).unwrap();
    let is_finished = || {
        let counts = Spool::new(root.path("data/spool")).counts(&mailbox("kaede")).unwrap();
        counts.done == total && counts.new + counts.leased + counts.later == 0
    };
    loop {
        let line = lines.recv_timeout(SILENCE);
        // Who was killed between an ack and the word of it has said nothing, so the end shows in the mailbox.
        if (line.is_err() || until_kill == 1) && is_finished() {
            break;
        }
        let Ok((number, line)) = line else {
            silences += 1;
            assert!(
                silences < SILENCES_MAX,
                "nobody goes on: {} answered, sent {sent:?}, {kills} kills",
                answered.len()
            );
            continue;
        };
        silences = 0;
        let words: Vec<&str> = line.trim_end_matches('.').rsplitn(4, ' ').collect();
        match words.as_slice() {
            [is_new, message, "sent", ..] => {
                recognised += u64::from(*is_new == "false");
                sent.insert(number, message.parse::<u64>().unwrap() + 1);
            }
            [_, _, id, ..] => answered_again += u64::from(!answered.insert(id.parse().unwrap())),
            other => panic!("{other:?}"),
        }
        until_kill -= 1;
        if until_kill == 0 {
            until_kill = 1 + lots.below(LINES_MAX);
            let at = lots.below(actors.len());
            let actor = &mut actors[at];
            actor.kill();
            kills += 1;
            falls += u64::from(actor.role == SUPERVISOR);
            let from = sent.get(&actor.number).copied().unwrap_or(0);
            *actor = Actor::start(role(actor.number), actor.number, actor.lives + 1, (from, messages), &root, &said);
        }
    }
    actors.iter_mut().for_each(Actor::kill);

    assert_each_has_one_answer(&Spool::new(root.path("data/spool")), messages);
    super::tell(&format!(
        "{kills} kills, {falls} of them of the supervisor, over {total} messages: each has one answer; {answered_again} were answered again and {recognised} sent \
         again, and recognised by their keys"
    ));
    assert!(kills > 20 && falls > 3, "only {kills} kills, {falls} of them of the supervisor");
}

/// Every message has been there once, and is done; every one has one answer.
fn assert_each_has_one_answer(spool: &Spool, messages: u64) {
    let late = clock::now() + MINUTE;
    while let Some(leased) = spool.lease(&mailbox("kaede"), &Holder::operator(), MINUTE, late).unwrap() {
        spool.ack(&leased.receipt, None, late).unwrap();
    }
    let total = usize::try_from(SENDERS * messages).unwrap();
    let counts = spool.counts(&mailbox("kaede")).unwrap();
    assert_eq!((counts.done, counts.new + counts.leased + counts.later + counts.dead), (total, 0), "{counts:?}");
    let mut answers = BTreeMap::new();
    for listed in spool.list(&mailbox("operator")).unwrap() {
        let reply = spool.read(&mailbox("operator"), listed.id).unwrap().unwrap();
        let before = answers.insert(reply.body["message"].as_str().unwrap().to_owned(), reply.reply_to);
        assert_eq!(before, None, "{} has two answers", reply.body);
    }
    let expected = (0..SENDERS).flat_map(|number| (0..messages).map(move |message| format!("{number} {message}")));
    assert_eq!(answers.keys().cloned().collect::<BTreeSet<_>>(), expected.collect());
}
