//! Looking at mailboxes, and what people may do to them by hand.

use miyabi::io::spool::look::Counts;
use miyabi::io::spool::name::Folder;
use miyabi::io::spool::settle::Acked;

use super::{World, kaede, mailbox};

#[test]
fn a_mailbox_that_does_not_exist_is_empty_and_is_not_made_by_looking() {
    let world = World::new();
    assert!(world.lease("kaede", &kaede(1)).is_none());
    assert_eq!(world.spool.list(&mailbox("kaede")).unwrap(), []);
    assert_eq!(world.spool.mailboxes().unwrap(), []);
    assert!(!world.path().exists());
}

#[test]
fn a_folder_that_somebody_removed_is_made_again() {
    let world = World::new();
    world.sent("kaede");
    std::fs::remove_dir(world.path().join("kaede/leased")).unwrap();
    std::fs::remove_dir(world.path().join("kaede/done")).unwrap();
    let leased = world.lease("kaede", &kaede(1)).unwrap();
    assert_eq!(world.spool.ack(&leased.receipt, None, world.now).unwrap(), Acked::Now);
}

#[test]
fn a_mailbox_is_listed_and_counted_by_names() {
    let world = World::new();
    let sent = [world.sent("kaede"), world.sent("kaede"), world.sent("kaede")];
    let leased = world.lease("kaede", &kaede(7)).unwrap();
    world.spool.ack(&leased.receipt, None, world.now).unwrap();
    let leased = world.lease("kaede", &kaede(7)).unwrap();
    let listed = world.spool.list(&mailbox("kaede")).unwrap();
    let seen: Vec<_> = listed.iter().map(|listed| (listed.folder, listed.id, listed.holder.clone())).collect();
    assert_eq!(
        seen,
        [
            (Folder::New, sent[2].id, None),
            (Folder::Leased, sent[1].id, Some(kaede(7))),
            (Folder::Done, sent[0].id, Some(kaede(7))),
        ]
    );
    assert_eq!(listed[1].receipt(&mailbox("kaede")), Some(leased.receipt));
    let counts = Counts { new: 1, leased: 1, later: 0, done: 1, dead: 0, slowed: 0 };
    assert_eq!(world.spool.counts(&mailbox("kaede")).unwrap(), counts);
}

#[test]
fn a_person_may_rename_a_waiting_envelope_to_make_it_more_urgent() {
    let world = World::new();
    world.sent("kaede");
    let sent = world.sent("kaede");
    let new = world.path().join("kaede/new");
    std::fs::rename(new.join(format!("3-{}-a1", sent.id)), new.join(format!("1-{}-a1", sent.id))).unwrap();
    assert_eq!(world.lease("kaede", &kaede(1)).unwrap().envelope, sent);
}
