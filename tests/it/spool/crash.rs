//! What a crash leaves after every step, made by hand, and real senders and holders that are killed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use miyabi::io::spool::deliver::Delivered;
use miyabi::io::spool::file;
use miyabi::io::spool::holder::Holder;
use miyabi::io::spool::name::Folder;
use miyabi::io::spool::settle::Acked;
use miyabi::model::envelope::Envelope;

use super::{MINUTE, World, kaede, mailbox, names};

const AGE: Duration = Duration::from_hours(2);

fn room(world: &World) -> PathBuf {
    world.path().join("kaede")
}

fn draft(world: &World, envelope: &Envelope) -> PathBuf {
    room(world).join(format!("tmp/{}.4711.0", envelope.id))
}

/// Leaves what a sender leaves that dies after it has written some bytes of its draft.
fn die_while_writing(world: &World, envelope: &Envelope, bytes: usize) {
    world.spool.ensure(&envelope.to).unwrap();
    fs::write(draft(world, envelope), &file::encode(envelope).unwrap()[..bytes]).unwrap();
}

/// Leaves what a sender leaves that dies after it has linked the id.
fn die_after_the_link(world: &World, envelope: &Envelope) {
    die_while_writing(world, envelope, file::encode(envelope).unwrap().len());
    fs::hard_link(draft(world, envelope), room(world).join(format!("ids/{}", envelope.id))).unwrap();
}

fn assert_delivered(world: &World, envelope: &Envelope) {
    world.assert_once(envelope);
    assert_eq!(world.lease("kaede", &kaede(1)).unwrap().envelope, *envelope);
    assert!(world.lease("kaede", &kaede(2)).is_none(), "it was delivered twice");
}

#[test]
fn a_sender_that_died_while_writing_may_try_again_and_its_draft_is_swept_away() {
    let mut world = World::new();
    let envelope = world.message("kaede");
    die_while_writing(&world, &envelope, 100);
    assert!(world.lease("kaede", &kaede(1)).is_none(), "a draft was leased");
    assert_eq!(world.spool.deliver(&envelope, None, world.now).unwrap(), Delivered::New);
    assert_delivered(&world, &envelope);
    assert_eq!(world.spool.sweep_retention(world.now).unwrap().drafts, 0, "a young draft was swept away");
    world.now = world.now + AGE;
    assert_eq!(world.spool.sweep_retention(world.now).unwrap().drafts, 1);
    assert_eq!(world.spool.deliver(&envelope, None, world.now).unwrap(), Delivered::Already { first: envelope.id });
}

#[test]
fn a_sender_that_died_after_the_link_may_try_again() {
    let world = World::new();
    let envelope = world.message("kaede");
    die_after_the_link(&world, &envelope);
    assert!(world.lease("kaede", &kaede(1)).is_none());
    assert_eq!(world.spool.deliver(&envelope, None, world.now).unwrap(), Delivered::New);
    assert_eq!(world.spool.deliver(&envelope, None, world.now).unwrap(), Delivered::Already { first: envelope.id });
    assert_delivered(&world, &envelope);
    assert_eq!(names(&room(&world).join("tmp")), [""; 0]);
}

#[test]
fn an_id_whose_sender_died_before_delivery_is_free_again_after_the_sweep() {
    let mut world = World::new();
    let envelope = world.message("kaede");
    die_after_the_link(&world, &envelope);
    world.now = world.now + AGE;
    assert_eq!(world.spool.sweep_retention(world.now).unwrap().drafts, 1);
    assert_eq!(world.spool.deliver(&envelope, None, world.now).unwrap(), Delivered::New);
    assert_delivered(&world, &envelope);
}

#[test]
fn a_sender_that_died_after_the_rename_has_delivered() {
    let world = World::new();
    let envelope = world.message("kaede");
    die_after_the_link(&world, &envelope);
    fs::rename(draft(&world, &envelope), room(&world).join(format!("new/3-{}-a1", envelope.id))).unwrap();
    assert_eq!(world.spool.deliver(&envelope, None, world.now).unwrap(), Delivered::Already { first: envelope.id });
    assert_delivered(&world, &envelope);
}

#[test]
fn a_draft_of_a_rival_that_is_not_accepted_is_never_mistaken_for_the_envelope() {
    let world = World::new();
    let envelope = world.sent("kaede");
    let leased = world.lease("kaede", &kaede(1)).unwrap();
    die_while_writing(&world, &envelope, 50);
    assert_eq!(world.spool.deliver(&envelope, None, world.now).unwrap(), Delivered::Already { first: envelope.id });
    world.assert_once(&envelope);
    assert_eq!(world.spool.ack(&leased.receipt, None, world.now).unwrap(), Acked::Now);
}

/// Runs the beginning of a keyed delivery by a sender that dies at some step, then a retry under another id.
fn retry_after(die: impl FnOnce(&World, &Envelope, &Path)) -> (World, Envelope, Envelope, Delivered) {
    let world = World::new();
    let keyed = || Envelope { idempotency_key: Some("once".to_owned()), ..world.message("kaede") };
    // A delivery to another spool shows under which name the key's record lies.
    let twin = World::new();
    let (first, second) = (keyed(), keyed());
    twin.spool.deliver(&first, None, world.now).unwrap();
    let record = names(&room(&twin).join("keys")).remove(0);
    world.spool.ensure(&first.to).unwrap();
    let path = room(&world).join("keys").join(&record);
    fs::copy(room(&twin).join("keys").join(&record), &path).unwrap();
    die(&world, &first, &path);
    let delivered = world.spool.deliver(&second, None, world.now).unwrap();
    (world, first, second, delivered)
}

#[test]
fn a_key_whose_sender_died_before_delivery_does_not_swallow_the_retry() {
    let (world, _, second, delivered) = retry_after(|_, _, _| {});
    assert_eq!(delivered, Delivered::New, "the retry was taken for a duplicate of nothing");
    assert_delivered(&world, &second);

    let (world, _, second, delivered) = retry_after(|_, _, record| fs::write(record, "01JD2V5").unwrap());
    assert_eq!(delivered, Delivered::New, "a torn record was believed");
    assert_delivered(&world, &second);

    let (world, _, second, delivered) = retry_after(|world, first, _| die_after_the_link(world, first));
    assert_eq!(delivered, Delivered::New);
    assert_delivered(&world, &second);
}

#[test]
fn a_key_whose_sender_died_after_delivery_answers_with_the_first() {
    let (world, first, _, delivered) = retry_after(|world, first, _| {
        die_after_the_link(world, first);
        fs::rename(draft(world, first), room(world).join(format!("new/3-{}-a1", first.id))).unwrap();
    });
    assert_eq!(delivered, Delivered::Already { first: first.id });
    assert_delivered(&world, &first);
}

#[test]
fn an_undertaker_that_died_after_the_reason_leaves_the_envelope_to_the_next() {
    let mut world = World::new();
    let mut envelope = world.message("kaede");
    envelope.attempts_max = 1;
    world.spool.deliver(&envelope, None, world.now).unwrap();
    world.lease("kaede", &kaede(1)).unwrap();
    let orphan = room(&world).join(format!("dead/3-{}-a1~kaede.1~{}.reason.json", envelope.id, world.now.as_millis()));
    fs::write(&orphan, "{").unwrap();
    assert!(world.spool.dead(None).unwrap().is_empty(), "a reason was taken for a letter");
    world.wait(MINUTE);
    assert!(world.lease("kaede", &kaede(2)).is_none());
    assert_eq!(world.folder_of(&envelope), Some(Folder::Dead));
    assert!(world.spool.dead(None).unwrap()[0].reason.is_some());
    world.now = world.now + AGE;
    world.spool.sweep_retention(world.now).unwrap();
    assert!(!orphan.exists(), "the orphan was not swept away");
    assert_eq!(names(&room(&world).join("dead")).len(), 2);
}

/// Names the folder of the spool for a copy of this program that is to be killed, and what it is to do.
const CHILD: &str = "SPOOL_CRASH_TEST_CHILD";

/// Starts this very test program again, as a sender or a holder that goes on until it is killed.
fn start_child(world: &World, role: &str) -> std::process::Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "spool::crash::senders_and_holders_that_are_killed_lose_nothing", "--nocapture"])
        .env(CHILD, format!("{role} {}", world.path().display()))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// What such a program does.
fn be_child(role: &str, root: &Path) {
    use std::io::Write;
    let spool = miyabi::io::spool::Spool::new(root.to_owned());
    let mut out = std::io::stdout().lock();
    loop {
        let now = miyabi::io::clock::now();
        if role == "sender" {
            let envelope = super::envelope("kaede", now);
            spool.deliver(&envelope, None, now).unwrap();
            writeln!(out, "accepted {}", envelope.id).unwrap();
        } else {
            let lease = Duration::from_millis(30);
            let Some(leased) = spool.lease(&mailbox("kaede"), &kaede(1), lease, now).unwrap() else { continue };
            if spool.ack(&leased.receipt, None, miyabi::io::clock::now()).is_ok() {
                writeln!(out, "acked {}", leased.envelope.id).unwrap();
            }
        }
    }
}

#[test]
fn senders_and_holders_that_are_killed_lose_nothing() {
    const ROUNDS: u64 = 12;
    #[expect(clippy::disallowed_methods, reason = "this program starts itself and tells itself so")]
    if let Ok(order) = std::env::var(CHILD) {
        let (role, root) = order.split_once(' ').unwrap();
        be_child(role, Path::new(root));
    }
    let world = World::new();
    let mut said = Vec::new();
    for round in 0..ROUNDS {
        let mut children = ["sender", "sender", "holder"].map(|role| start_child(&world, role));
        // Each round lets them get to a different number of lines, so that the kill hits different steps.
        let lines_min = usize::try_from(round * 7 + 1).unwrap();
        for (number, child) in children.iter_mut().enumerate() {
            let reader = std::io::BufReader::new(child.stdout.take().unwrap());
            let mut lines = std::io::BufRead::lines(reader);
            let wanted = if number == 0 { lines_min } else { 0 };
            let mut seen = 0;
            while seen < wanted {
                let line = lines.next().unwrap().unwrap();
                seen += usize::from(line.contains("accepted"));
                said.push(line);
            }
            child.kill().unwrap();
            // A line that the kill cut off was never said.
            said.extend(lines.map_while(Result::ok));
            child.wait().unwrap();
        }
    }
    let told = |what: &str| -> Vec<String> {
        said.iter().filter_map(|line| line.split_once(what)).map(|(_, id)| id.trim().to_owned()).collect()
    };
    let accepted: Vec<_> = told("accepted ").into_iter().filter(|id| id.len() == 26).collect();
    assert!(accepted.len() as u64 > ROUNDS * 7, "only {} were accepted", accepted.len());
    for id in &accepted {
        let places: usize = Folder::ALL
            .iter()
            .map(|folder| {
                names(&room(&world).join(folder.as_str())).iter().filter(|name| name.contains(id.as_str())).count()
            })
            .sum();
        assert_eq!(places, 1, "{id} is in {places} places");
    }
    for id in told("acked ").into_iter().filter(|id| id.len() == 26) {
        let found = world.spool.locate(&mailbox("kaede"), id.parse().unwrap()).unwrap().unwrap();
        assert_eq!(found.folder, Folder::Done);
    }
    finish(world);
}

/// Works off what is left, and finds every envelope done.
fn finish(mut world: World) {
    world.now = miyabi::io::clock::now() + MINUTE;
    while let Some(leased) = world.lease("kaede", &Holder::operator()) {
        world.spool.ack(&leased.receipt, None, world.now).unwrap();
    }
    let counts = world.spool.counts(&mailbox("kaede")).unwrap();
    assert_eq!((counts.new, counts.leased, counts.later), (0, 0, 0));
}
