//! What no sender of ours writes, in every folder of a mailbox: nothing of it stops the queue, and nothing is lost silently.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use miyabi::io::spool::name::Folder;
use miyabi::model::envelope::Envelope;
use miyabi::model::id::EnvelopeId;
use ulid::Ulid;

use super::{World, kaede, mailbox};

const DAY: Duration = Duration::from_hours(24);

/// Names that other programs, other locales and accidents leave.
fn odd_names() -> Vec<OsString> {
    let mut names = vec![
        b"\x82\xb1\x82\xf1\x82\xc9\x82\xbf\x82\xcd.txt".to_vec(), // こんにちは in Shift-JIS
        b"\xa4\xb3\xa4\xf3\xa4\xcb\xa4\xc1\xa4\xcf".to_vec(),     // the same in EUC-JP
        b"\x1b$B$3$s\x1b(B".to_vec(),                             // and in ISO-2022-JP, with escape sequences
        b"\xff\xfe\x80".to_vec(),
        b"two\nlines\r".to_vec(),
        b"3-01JD2V5XQK6M8W0R1T4Y7Z9ABC-a1\n".to_vec(),
        b"3-01JD2V5XQK6M8W0R1T4Y7Z9ABC-a1~kaede.1~99999999999999999999".to_vec(),
        b"3-01JD2V5XQK6M8W0R1T4Y7Z9ABC-a1~\xff.1~1795162841123".to_vec(),
        b"9999999999999999999999~3-01JD2V5XQK6M8W0R1T4Y7Z9ABC-a1".to_vec(),
        "か\u{3099}.json".as_bytes().to_vec(),
        b"~~~".to_vec(),
        b" ".to_vec(),
    ];
    names.push(vec![b'x'; 255]);
    names.push("挨".as_bytes().repeat(85));
    names.into_iter().map(OsString::from_vec).collect()
}

#[test]
fn odd_names_in_every_folder_stop_neither_lease_nor_listing_nor_sweep() {
    let mut world = World::new();
    world.spool.ensure(&mailbox("kaede")).unwrap();
    let folders = ["tmp", "new", "later", "leased", "done", "dead", "ids", "keys", "history", "seq", "ttl"];
    for folder in folders {
        let folder = world.path().join("kaede").join(folder);
        fs::create_dir_all(&folder).unwrap();
        for name in odd_names() {
            fs::write(folder.join(name), "x").unwrap();
        }
    }
    for name in odd_names() {
        fs::create_dir(world.path().join(name)).unwrap();
    }
    let good = world.sent("kaede");
    assert_eq!(world.spool.mailboxes().unwrap(), [mailbox("kaede")]);
    assert_eq!(world.spool.list(&mailbox("kaede")).unwrap().len(), 1);
    assert_eq!(world.lease("kaede", &kaede(1)).unwrap().envelope, good);
    // Whatever lay where an envelope could lie is in `dead/` now, each with its reason.
    let letters = world.spool.dead(None).unwrap();
    let told = letters.iter().filter_map(|letter| letter.reason.as_ref());
    let mut by_folder = [Folder::New, Folder::Later, Folder::Leased].map(|folder| (folder, 0));
    for reason in told {
        assert_eq!(reason.reason, format!("the name is not one that belongs into {}/", reason.was_in));
        by_folder.iter_mut().filter(|(folder, _)| *folder == reason.was_in).for_each(|(_, count)| *count += 1);
    }
    assert!(by_folder.iter().all(|(_, count)| *count == odd_names().len()), "{by_folder:?}");
    world.wait(31 * DAY);
    world.spool.expire(&mailbox("kaede"), world.now).unwrap();
    world.spool.sweep_retention(world.now).unwrap();
    assert_eq!(fs::read_dir(world.path().join("kaede/tmp")).unwrap().count(), 0);
}

#[test]
fn links_folders_and_pipes_in_later_and_leased_are_set_aside_when_their_time_comes() {
    let mut world = World::new();
    world.spool.ensure(&mailbox("kaede")).unwrap();
    let at = world.path().join("kaede");
    let id = |number| EnvelopeId(Ulid::from_parts(1_795_000_000_000, number));
    let due = world.now.as_millis() - 1;
    fs::create_dir_all(at.join(format!("later/{due:013}~3-{}-a1/inner", id(1)))).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", at.join(format!("later/{due:013}~3-{}-a1", id(2)))).unwrap();
    fs::create_dir(at.join(format!("leased/3-{}-a1~kaede.1~{due:013}", id(3)))).unwrap();
    std::os::unix::fs::symlink("nowhere", at.join(format!("leased/3-{}-a1~kaede.1~{due:013}", id(4)))).unwrap();
    let pipe = at.join(format!("leased/3-{}-a1~kaede.1~{due:013}", id(5)));
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let good = world.sent("kaede");
    assert_eq!(world.lease("kaede", &kaede(1)).unwrap().envelope, good);
    world.wait(super::MINUTE);
    let reasons: Vec<_> =
        world.spool.dead(None).unwrap().into_iter().map(|letter| letter.reason.unwrap().reason).collect();
    assert_eq!(reasons, ["it is not a regular file"; 5]);
}

#[test]
fn leases_from_a_wrong_clock_end_and_ids_from_the_future_are_leased() {
    let world = World::new();
    let future =
        Envelope { id: EnvelopeId(Ulid::from_parts((1 << 48) - 1, u128::MAX >> 48)), ..world.message("kaede") };
    world.spool.deliver(&future, None, world.now).unwrap();
    // Another sender's: one that is leased holds up the younger ones of its own only.
    let past = Envelope { id: EnvelopeId(Ulid::from_parts(1, 1)), from: "momo".to_owned(), ..world.message("kaede") };
    world.spool.deliver(&past, None, world.now).unwrap();
    let leased = world.path().join("kaede/leased");
    for (envelope, until) in [(&future, "9223372036854775807"), (&past, "0000000000000")] {
        let name = format!("3-{}-a1", envelope.id);
        fs::rename(world.path().join("kaede/new").join(&name), leased.join(format!("{name}~kaede.1~{until}"))).unwrap();
    }
    let lessee = world.stranger();
    let next = || lessee.lease(&mailbox("kaede"), &kaede(2), super::MINUTE, world.now).unwrap().unwrap();
    assert_eq!([next().envelope.id, next().envelope.id], [past.id, future.id]);
}

#[test]
fn a_delay_that_only_a_wrong_clock_can_mean_is_set_aside() {
    let world = World::new();
    let sent = world.sent("kaede");
    let name = format!("3-{}-a1", sent.id);
    let far = (world.now + 3_651 * DAY).as_millis();
    let from = world.path().join("kaede/new").join(&name);
    fs::rename(from, world.path().join(format!("kaede/later/{far:013}~{name}"))).unwrap();
    let near = Envelope { ..world.message("kaede") };
    world.spool.deliver(&near, Some(world.now + 365 * DAY), world.now).unwrap();
    assert!(world.stranger().lease(&mailbox("kaede"), &kaede(1), super::MINUTE, world.now).unwrap().is_none());
    assert_eq!([world.folder_of(&sent), world.folder_of(&near)], [Some(Folder::Dead), Some(Folder::Later)]);
    let letter = world.spool.dead(None).unwrap().remove(0);
    assert!(letter.reason.as_ref().unwrap().reason.contains("wrong clock"), "{letter:?}");
    // It is a good envelope: whoever looks may send it on.
    world.spool.requeue(&letter, world.now).unwrap();
    assert_eq!(world.lease("kaede", &kaede(1)).unwrap().envelope, sent);
}

/// Runs the real program as a user who may not read everything; the super-user could.
fn as_somebody(world: &World, arguments: &[&str]) -> String {
    let program = world.folder.path().join("miyabi");
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(program);
    command.arg("-C").arg(world.folder.path()).args(arguments).arg("--json").env_clear().env("PATH", "/usr/bin:/bin");
    let output = command.output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn files_that_may_not_be_read_and_files_of_others_are_set_aside() {
    let am_root = Command::new("id").arg("-u").output().unwrap().stdout == b"0\n";
    assert!(am_root, "this test must become another user; CI runs it as root");
    let world = World::new();
    let root = world.folder.path();
    fs::copy(env!("CARGO_BIN_EXE_miyabi"), root.join("miyabi")).unwrap();
    fs::write(root.join("agents.toml"), "[[agent]]\nid = \"kaede\"\nrole = \"codegen\"\ndriver = \"echo\"\n").unwrap();
    let [unreadable, foreign, good] = [world.sent("kaede"), world.sent("kaede"), world.sent("kaede")];
    let chown = |owner: &str, path: &Path| {
        assert!(Command::new("chown").args(["-R", owner]).arg(path).status().unwrap().success());
    };
    chown("65534:65534", root);
    let at = |envelope: &Envelope| world.path().join(format!("kaede/new/3-{}-a1", envelope.id));
    assert!(Command::new("chmod").arg("0000").arg(at(&unreadable)).status().unwrap().success());
    chown("0:0", &at(&foreign));

    let listed: serde_json::Value = serde_json::from_str(&as_somebody(&world, &["inbox", "kaede"])).unwrap();
    assert_eq!(listed.as_array().unwrap().len(), 3, "a listing shows them by their names: {listed}");
    let leased: serde_json::Value = serde_json::from_str(&as_somebody(&world, &["lease", "kaede"])).unwrap();
    assert_eq!(leased["id"], good.id.to_string());
    let letters = world.spool.dead(None).unwrap();
    assert_eq!(letters.len(), 2);
    for letter in letters {
        let reason = letter.reason.unwrap().reason;
        assert!(reason.starts_with("it cannot be read: "), "{reason}");
    }
}
