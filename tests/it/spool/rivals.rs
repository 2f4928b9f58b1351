//! Many lessees and senders at once, in threads, in processes, and in other languages.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Barrier, Mutex};

use miyabi::io::spool::deliver::Delivered;
use miyabi::io::spool::fault::SpoolError;
use miyabi::io::spool::holder::Holder;
use miyabi::io::spool::look::Counts;
use miyabi::io::spool::settle::Acked;
use miyabi::model::envelope::Envelope;
use miyabi::model::id::Incarnation;

use super::{MINUTE, World, kaede, mailbox};

const THREADS: u64 = 8;

#[test]
fn every_envelope_goes_to_exactly_one_of_many_lessees() {
    let world = World::new();
    let batch: Vec<_> = (0..400).map(|_| world.message("kaede")).collect();
    world.spool.deliver_batch(&batch, world.now).unwrap();
    let taken = Mutex::new(BTreeMap::new());
    let start = Barrier::new(usize::try_from(THREADS).unwrap());
    std::thread::scope(|scope| {
        for number in 0..THREADS {
            let (world, taken, start) = (&world, &taken, &start);
            scope.spawn(move || {
                // Half of them share what they remember, the others are strangers to each other like processes.
                let spool = if number % 2 == 0 { world.spool.clone() } else { world.stranger() };
                let holder = Holder::new(format!("agent{number}"), Incarnation(number)).unwrap();
                start.wait();
                while let Some(leased) = spool.lease(&mailbox("kaede"), &holder, MINUTE, world.now).unwrap() {
                    *taken.lock().unwrap().entry(leased.envelope.id).or_insert(0) += 1;
                    assert_eq!(spool.ack(&leased.receipt, Some(&holder), world.now).unwrap(), Acked::Now);
                }
            });
        }
    });
    let taken = taken.into_inner().unwrap();
    assert_eq!(taken.len(), batch.len());
    assert!(taken.values().all(|times| *times == 1), "{taken:?}");
}

#[test]
fn programs_in_three_languages_share_a_mailbox_without_loss_or_double() {
    let world = World::new();
    let batch: Vec<_> = (0..120).map(|_| world.message("kaede")).collect();
    world.spool.deliver_batch(&batch, world.now).unwrap();
    let agent = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/agent.py");
    let children: Vec<_> = (0..3)
        .map(|number| {
            Command::new("python3")
                .arg(&agent)
                .arg("serve")
                .arg(world.path().join("kaede"))
                .args([format!("python{number}").as_str(), "cat"])
                .stdout(Stdio::piped())
                .spawn()
                .unwrap()
        })
        .collect();
    let mut seen = Vec::new();
    let page = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/spool.md")).unwrap();
    let script = page.split_once("```sh\n").unwrap().1.split_once("```").unwrap().0.to_owned();
    let shell = Command::new("sh")
        .args(["-c", &script, "agent.sh"])
        .arg(world.path().join("kaede"))
        .args(["shell", "cat"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    while let Some(leased) = world.lease("kaede", &kaede(1)) {
        seen.push(leased.envelope);
        world.spool.ack(&leased.receipt, None, world.now).unwrap();
    }
    for child in children.into_iter().chain([shell]) {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success());
        let text = String::from_utf8(output.stdout).unwrap();
        seen.extend(text.lines().map(|line| serde_json::from_str::<Envelope>(line).unwrap()));
    }
    seen.sort_by_key(|envelope| envelope.id);
    assert_eq!(super::ids(&seen), super::ids(&batch));
    assert_eq!(world.spool.counts(&mailbox("kaede")).unwrap(), Counts { done: 120, ..Counts::default() });
}

#[test]
fn of_many_senders_of_the_same_envelope_or_key_one_is_the_first() {
    let world = World::new();
    for round in 0..20 {
        let mut same = world.message("kaede");
        let keyed = |number: u64| Envelope {
            idempotency_key: Some(format!("round {round}")),
            thread: Some(number.to_string()),
            ..super::envelope("kaede", world.now)
        };
        if round % 2 == 0 {
            same.idempotency_key = Some(format!("same {round}"));
        }
        let start = Barrier::new(usize::try_from(THREADS).unwrap());
        let outcomes: Vec<[Delivered; 2]> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..THREADS)
                .map(|number| {
                    let (world, same, start, keyed) = (&world, &same, &start, &keyed);
                    scope.spawn(move || {
                        let spool = world.stranger();
                        start.wait();
                        [same.clone(), keyed(number)].map(|envelope| spool.deliver(&envelope, None, world.now).unwrap())
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let news = outcomes.iter().filter(|[_, keyed]| *keyed == Delivered::New).count();
        assert_eq!(news, 1, "{outcomes:?}");
        world.assert_once(&same);
    }
    // Each round gives one envelope that all sent and one under the key.
    assert_eq!(world.spool.counts(&mailbox("kaede")).unwrap().new, 40);
}

#[test]
fn of_a_holder_and_those_who_take_back_its_lease_one_wins() {
    for _ in 0..40 {
        let world = World::new();
        let sent = world.sent("kaede");
        let old = world.lease("kaede", &kaede(1)).unwrap();
        let late = world.now + MINUTE;
        let start = Barrier::new(3);
        let (acked, leased) = std::thread::scope(|scope| {
            let ack = scope.spawn(|| {
                start.wait();
                world.stranger().ack(&old.receipt, None, late)
            });
            let lessees = [2, 3].map(|number| {
                let (world, start) = (&world, &start);
                scope.spawn(move || {
                    start.wait();
                    world.stranger().lease(&mailbox("kaede"), &kaede(number), MINUTE, late).unwrap()
                })
            });
            let leased = lessees.map(|lessee| lessee.join().unwrap()).into_iter().flatten().count();
            (ack.join().unwrap(), leased)
        });
        match acked {
            Ok(acked) => assert_eq!((acked, leased), (Acked::Now, 0), "acknowledged and leased again"),
            Err(SpoolError::NotYours { .. }) => assert_eq!(leased, 1, "neither acknowledged nor leased again"),
            Err(other) => panic!("{other}"),
        }
        world.assert_once(&sent);
    }
}

#[test]
fn a_lessee_among_thousands_goes_by_its_last_look_for_a_moment_and_then_looks_again() {
    const WAITING: usize = 3_000;
    let mut world = World::new();
    world.spool.ensure(&mailbox("kaede")).unwrap();
    let put = |priority: u8, envelope: &Envelope| {
        let content = miyabi::io::spool::file::encode(envelope).unwrap();
        let name = format!("new/{priority}-{}-a1", envelope.id);
        std::fs::write(world.path().join("kaede").join(name), content).unwrap();
        envelope.id
    };
    let waiting: Vec<_> = (0..WAITING).map(|_| put(3, &world.message("kaede"))).collect();
    assert_eq!(world.lease("kaede", &kaede(1)).unwrap().envelope.id, waiting[0]);
    let urgent = put(1, &world.message("kaede"));
    // Without a look of its own a lease costs no listing: it cannot know of the urgent one yet.
    for id in &waiting[1..500] {
        assert_eq!(world.lease("kaede", &kaede(1)).unwrap().envelope.id, *id);
    }
    // One time, and once more for every 2,000.
    world.wait(world.spool.limits().listing_age_max * 2);
    assert_eq!(world.lease("kaede", &kaede(1)).unwrap().envelope.id, urgent);
}
