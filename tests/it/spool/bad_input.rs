//! Whatever lies in a mailbox, the next good envelope is leased, and what is bad is found in `dead/` with its reason.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::Path;

use miyabi::io::spool::file;
use miyabi::io::spool::limits::Limits;
use miyabi::io::spool::name::Folder;
use miyabi::model::envelope::Envelope;

use super::{World, envelope, kaede, mailbox};

/// Puts something bad into `new/` in front of a good envelope, and returns the reason under which it is found.
fn reason_for(spoil: impl FnOnce(&Path, &Envelope)) -> String {
    let world = World::with_limits(Limits { envelope_bytes_max: 10_000, ..Limits::default() });
    let bad = world.message("kaede");
    let good = world.sent("kaede");
    spoil(&world.path().join("kaede/new"), &bad);
    let leased = world.lease("kaede", &kaede(1)).expect("the good envelope is stuck behind the bad one");
    assert_eq!(leased.envelope, good);
    assert!(world.lease("kaede", &kaede(1)).is_none());
    let mut letters = world.spool.dead(None).unwrap();
    assert_eq!(letters.len(), 1, "{letters:?}");
    let letter = letters.remove(0);
    assert!(letter.died_at.is_some());
    world.spool.purge(&letter, world.now).unwrap();
    assert!(world.spool.dead(None).unwrap().is_empty());
    letter.reason.expect("there is no reason beside it").reason
}

fn name(envelope: &Envelope) -> String {
    format!("{}-{}-a1", envelope.priority.get(), envelope.id)
}

#[test]
fn a_torn_empty_or_changed_file_is_never_believed() {
    let torn = "the file is not one line of JSON and one line `sha256:...`";
    let content = |bad: &Envelope| file::encode(bad).unwrap();
    assert_eq!(reason_for(|new, bad| fs::write(new.join(name(bad)), "").unwrap()), torn);
    assert_eq!(reason_for(|new, bad| fs::write(new.join(name(bad)), &content(bad)[..100]).unwrap()), torn);
    assert_eq!(reason_for(|new, bad| fs::write(new.join(name(bad)), [0; 300]).unwrap()), torn);
    let changed = |new: &Path, bad: &Envelope| {
        let text = String::from_utf8(content(bad)).unwrap().replace("review", "delete");
        fs::write(new.join(name(bad)), text).unwrap();
    };
    assert_eq!(reason_for(changed), "the checksum does not fit the content");
}

#[test]
fn a_file_with_a_right_checksum_and_a_wrong_content_is_set_aside() {
    let signed = |json: &str| {
        // The way in which the documentation tells a shell to compute it.
        let sum = std::process::Command::new("sh")
            .args(["-c", "printf '%s\\n' \"$1\" | sha256sum | cut -c 1-64", "sh", json])
            .output()
            .unwrap();
        format!("{json}\nsha256:{}", String::from_utf8(sum.stdout).unwrap())
    };
    let reason = reason_for(|new, bad| fs::write(new.join(name(bad)), signed("[]")).unwrap());
    assert!(reason.starts_with("the content is not an envelope: "), "{reason}");
    let deep = format!("{{\"body\":{}", "[".repeat(4_000));
    let reason = reason_for(|new, bad| fs::write(new.join(name(bad)), signed(&deep)).unwrap());
    assert!(reason.contains("recursion limit"), "{reason}");
}

#[test]
fn an_envelope_under_anothers_name_or_in_anothers_mailbox_is_set_aside() {
    let other = envelope("kaede", miyabi::io::clock::now());
    let reason = reason_for(|new, bad| fs::write(new.join(name(bad)), file::encode(&other).unwrap()).unwrap());
    assert_eq!(reason, format!("its content is envelope {}, not the one of its name", other.id));
    let elsewhere = |new: &Path, bad: &Envelope| {
        let moved = Envelope { to: mailbox("sakura"), ..bad.clone() };
        fs::write(new.join(name(bad)), file::encode(&moved).unwrap()).unwrap();
    };
    assert_eq!(reason_for(elsewhere), "it was sent to mailbox `sakura`");
}

#[test]
fn folders_links_pipes_and_giants_are_set_aside() {
    let not_a_file = "it is not a regular file";
    assert_eq!(reason_for(|new, bad| fs::create_dir(new.join(name(bad))).unwrap()), not_a_file);
    assert_eq!(reason_for(|new, bad| symlink("/etc/passwd", new.join(name(bad))).unwrap()), not_a_file);
    let pipe = |new: &Path, bad: &Envelope| {
        let made = std::process::Command::new("mkfifo").arg(new.join(name(bad))).status().unwrap();
        assert!(made.success());
    };
    assert_eq!(reason_for(pipe), not_a_file);
    let giant = |new: &Path, bad: &Envelope| fs::write(new.join(name(bad)), vec![b' '; 20_000]).unwrap();
    assert_eq!(reason_for(giant), "it has more than 10000 bytes");
}

#[test]
fn foreign_names_in_any_encoding_are_set_aside() {
    let foreign = "the name is not one that belongs into new/";
    for odd in [&b"README"[..], b"3-01JD-a1", b"\xff\xfe", "挨拶".as_bytes(), b"a b\nc", b"-rf"] {
        assert_eq!(reason_for(|new, _| fs::write(new.join(OsStr::from_bytes(odd)), "x").unwrap()), foreign);
    }
    assert_eq!(reason_for(|new, _| fs::create_dir_all(new.join("a/b/c")).unwrap()), foreign);
}

#[test]
fn foreign_files_in_leased_and_later_are_set_aside_too() {
    let world = World::new();
    world.spool.ensure(&mailbox("kaede")).unwrap();
    for folder in ["leased", "later"] {
        fs::write(world.path().join("kaede").join(folder).join("README"), "x").unwrap();
    }
    assert!(world.lease("kaede", &kaede(1)).is_none());
    let was_in: Vec<_> =
        world.spool.dead(None).unwrap().into_iter().map(|letter| letter.reason.unwrap().was_in).collect();
    assert_eq!(was_in.len(), 2);
    assert!(was_in.contains(&Folder::Leased) && was_in.contains(&Folder::Later));
}

#[test]
fn hidden_files_are_left_alone() {
    let world = World::new();
    world.spool.ensure(&mailbox("kaede")).unwrap();
    let hidden = world.path().join("kaede/new/.swap");
    fs::write(&hidden, "x").unwrap();
    assert!(world.lease("kaede", &kaede(1)).is_none());
    assert!(hidden.exists());
}

#[test]
fn a_good_envelope_under_a_foreign_name_can_be_requeued() {
    let world = World::new();
    let good = world.message("kaede");
    world.spool.ensure(&good.to).unwrap();
    fs::write(world.path().join("kaede/new/message.json"), file::encode(&good).unwrap()).unwrap();
    assert!(world.lease("kaede", &kaede(1)).is_none());
    let letter = world.spool.dead(None).unwrap().remove(0);
    world.spool.requeue(&letter, world.now).unwrap();
    assert_eq!(world.lease("kaede", &kaede(1)).unwrap().envelope, good);
}

#[test]
fn an_envelope_that_rots_while_it_is_leased_is_dead_and_not_redelivered() {
    let mut world = World::new();
    let sent = world.sent("kaede");
    let leased = world.lease("kaede", &kaede(1)).unwrap();
    fs::write(world.path().join("kaede/leased").join(leased.receipt.name.to_string()), "rotten").unwrap();
    world.wait(super::MINUTE);
    assert!(world.lease("kaede", &kaede(1)).is_none());
    assert_eq!(world.folder_of(&sent), Some(Folder::Dead));
    let letter = world.spool.dead(None).unwrap().remove(0);
    assert!(world.spool.requeue(&letter, world.now).is_err());
}
