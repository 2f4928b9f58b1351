//! Lessees that stay: told of what comes, never blind for long, and never ahead of anybody's order.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use miyabi::io::clock;
use miyabi::io::spool::Spool;
use miyabi::io::spool::lessee::{BLIND_SWEEP, Lessee, SWEEP};
use miyabi::model::envelope::Envelope;
use miyabi::model::time::Timestamp;
use miyabi::model::watching::WatchFaults;

use super::own_disk::enter;
use super::{MINUTE, World, ids, kaede, mailbox};

fn lessee(world: &World) -> Lessee {
    Lessee::new(world.stranger(), mailbox("kaede")).unwrap()
}

fn take(lessee: &mut Lessee, count: usize, now: Timestamp) -> Vec<Envelope> {
    let leased = lessee.lease(&kaede(1), count, MINUTE, now).unwrap();
    leased.into_iter().map(|leased| leased.envelope).collect()
}

#[test]
fn what_others_send_is_leased_without_a_new_list_the_urgent_first() {
    let world = World::new();
    let mut lessee = lessee(&world);
    assert_eq!(take(&mut lessee, 1, world.now), []);
    let sent = [world.sent("kaede"), world.sent("kaede")];
    let mut urgent = world.message("kaede");
    urgent.priority = 1.try_into().unwrap();
    world.spool.deliver(&urgent, None, world.now).unwrap();
    assert_eq!(take(&mut lessee, 1, world.now), [urgent]);
    assert_eq!(ids(&take(&mut lessee, 5, world.now)), ids(&sent));
    assert_eq!(lessee.faults(), WatchFaults::default());
}

#[test]
fn a_waiting_lessee_is_woken_by_a_message_by_the_end_of_a_lease_and_by_an_ack_that_frees_a_group() {
    let world = World::new();
    let mut lessee = lessee(&world);
    std::thread::scope(|scope| {
        let sent = scope.spawn(|| world.sent("kaede"));
        let leased = lessee.next(&kaede(1), Duration::from_millis(200), MINUTE).unwrap().unwrap();
        assert_eq!(leased.envelope, sent.join().unwrap());
        let again = lessee.next(&kaede(2), MINUTE, MINUTE).unwrap().unwrap();
        assert_eq!((again.envelope.id, again.attempt), (leased.envelope.id, 2));
    });
    let [first, second] = [(); 2].map(|()| {
        let envelope = Envelope { group: None, ..world.message("kaede") };
        world.spool.deliver(&envelope, None, world.now).unwrap();
        envelope
    });
    let other = world.stranger();
    let held = other.lease(&mailbox("kaede"), &kaede(3), MINUTE, clock::now()).unwrap().unwrap();
    assert_eq!(held.envelope, first);
    assert!(lessee.next(&kaede(1), MINUTE, Duration::from_millis(1)).unwrap().is_none());
    std::thread::scope(|scope| {
        scope.spawn(|| other.ack(&held.receipt, None, clock::now()).unwrap());
        assert_eq!(lessee.next(&kaede(1), MINUTE, MINUTE).unwrap().unwrap().envelope, second);
    });
    assert_eq!(lessee.faults(), WatchFaults::default());
}

#[test]
fn a_wait_for_nothing_ends_at_its_time() {
    let world = World::new();
    assert!(lessee(&world).next(&kaede(1), MINUTE, Duration::from_millis(20)).unwrap().is_none());
}

#[test]
fn a_folder_that_is_replaced_is_followed_again_and_nothing_in_it_is_missed() {
    let mut world = World::new();
    let mut lessee = lessee(&world);
    assert_eq!(take(&mut lessee, 1, world.now), []);
    let new = world.path().join("kaede/new");
    std::fs::rename(&new, world.path().join("kaede/old")).unwrap();
    std::fs::create_dir(&new).unwrap();
    let sent = world.sent("kaede");
    assert_eq!(take(&mut lessee, 1, world.now), [sent]);
    assert_eq!(lessee.faults().lost, 1);
    let next = world.sent("kaede");
    assert_eq!(take(&mut lessee, 1, world.now), [next]);
    std::fs::remove_dir_all(world.path().join("kaede")).unwrap();
    world.wait(SWEEP);
    assert_eq!(take(&mut lessee, 1, world.now), []);
    let late = world.stranger();
    let envelope = world.message("kaede");
    late.deliver(&envelope, None, world.now).unwrap();
    world.wait(BLIND_SWEEP);
    assert_eq!(take(&mut lessee, 1, world.now), [envelope]);
}

#[test]
fn more_changes_than_the_queue_holds_are_noticed_and_none_is_missed() {
    let world = World::new();
    let mut lessee = lessee(&world);
    assert_eq!(take(&mut lessee, 1, world.now), []);
    let size: usize =
        std::fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap().trim().parse().unwrap();
    // One file that comes and goes fills the queue.
    let [there, away] = ["new/.x", "tmp/x"].map(|name| world.path().join("kaede").join(name));
    std::fs::write(&there, "").unwrap();
    for _ in 0..=size / 2 {
        std::fs::rename(&there, &away).unwrap();
        std::fs::rename(&away, &there).unwrap();
    }
    let sent = world.sent("kaede");
    assert_eq!(take(&mut lessee, 1, world.now), [sent]);
    assert_eq!(lessee.faults(), WatchFaults { lost: 1, ..WatchFaults::default() });
}

#[test]
fn a_lessee_in_a_large_mailbox_keeps_the_order_of_groups() {
    let world = World::new();
    let of = |from: &str| Envelope { from: from.to_owned(), group: None, ..world.message("kaede") };
    let batch: Vec<_> = (0..300).map(|number| of(["sakura", "botan"][number % 2])).collect();
    world.spool.deliver_batch(&batch, world.now).unwrap();
    let mut lessee = lessee(&world);
    let first = lessee.lease(&kaede(1), 1, MINUTE, world.now).unwrap().remove(0);
    assert_eq!(first.envelope, batch[0]);
    let second = lessee.lease(&kaede(1), 1, MINUTE, world.now).unwrap().remove(0);
    assert_eq!(second.envelope, batch[1]);
    assert_eq!(take(&mut lessee, 1, world.now), []);
    world.spool.nack(&first.receipt, "no", world.now).unwrap();
    assert_eq!(take(&mut lessee, 1, world.now), [], "one that is to be tried again was overtaken");
    world.spool.ack(&second.receipt, None, world.now).unwrap();
    assert_eq!(take(&mut lessee, 1, world.now), [batch[3].clone()]);
    let again = world.now + world.spool.limits().backoff(1);
    assert_eq!(take(&mut lessee, 1, again), [batch[0].clone()]);
}

#[test]
fn a_mount_that_tells_nothing_is_noticed_by_a_sweep_and_then_gone_by_lists() {
    let test = "spool::lessee::a_mount_that_tells_nothing_is_noticed_by_a_sweep_and_then_gone_by_lists";
    let Some(below) = enter(test) else { return };
    // What changes in the lower layer of an overlay is seen by who lists it, and told to nobody.
    let [lower, upper, work, merged] = ["lower", "upper", "work", "merged"].map(|name| below.join(name));
    for folder in [&lower, &upper, &work, &merged] {
        std::fs::create_dir(folder).unwrap();
    }
    let elsewhere = Spool::new(lower.join("spool"));
    elsewhere.ensure(&mailbox("kaede")).unwrap();
    let [lowerdir, upperdir, workdir] = [&lower, &upper, &work].map(|path| path.display());
    let layers = format!("lowerdir={lowerdir},upperdir={upperdir},workdir={workdir}");
    let mounted =
        Command::new("mount").args(["-t", "overlay", "overlay", "-o", &layers]).arg(&merged).status().unwrap();
    assert!(mounted.success(), "an overlay can be mounted");
    let mut now = clock::now();
    let mut lessee = Lessee::new(Spool::new(merged.join("spool")), mailbox("kaede")).unwrap();
    assert_eq!(take(&mut lessee, 1, now), []);
    let [first, second] = [(); 2].map(|()| super::envelope("kaede", now));
    elsewhere.deliver(&first, None, now).unwrap();
    assert_eq!(take(&mut lessee, 1, now), [], "the mount tells what changes, so this test shows nothing");
    now = now + SWEEP;
    assert_eq!(take(&mut lessee, 1, now), [first]);
    assert_eq!(lessee.faults(), WatchFaults { missed: 1, ..WatchFaults::default() });
    elsewhere.deliver(&second, None, now).unwrap();
    now = now + BLIND_SWEEP;
    assert_eq!(take(&mut lessee, 1, now), [second], "from now on it is listed every {BLIND_SWEEP:?}");
}

/// Names the folder of the spool for a copy of this program that may have no watches.
const CHILD: &str = "SPOOL_LESSEE_TEST_CHILD";

#[test]
fn without_inotify_a_lessee_goes_by_lists() {
    #[expect(clippy::disallowed_methods, reason = "this program starts itself and tells itself so")]
    if let Ok(root) = std::env::var(CHILD) {
        let mut now = clock::now();
        let spool = Spool::new(Path::new(&root).to_owned());
        let mut lessee = Lessee::new(spool.clone(), mailbox("kaede")).unwrap();
        assert_eq!(take(&mut lessee, 1, now), []);
        assert!(lessee.faults().blind > 0, "the limit did not hold");
        let envelope = super::envelope("kaede", now);
        spool.deliver(&envelope, None, now).unwrap();
        now = now + BLIND_SWEEP;
        assert_eq!(take(&mut lessee, 1, now), [envelope]);
        return;
    }
    // A user namespace has a limit of its own, so nobody else on this machine is deprived of watches.
    let world = World::new();
    let output = Command::new("unshare")
        .args(["--user", "--map-root-user", "sh", "-c"])
        .arg("echo 0 > /proc/sys/user/max_inotify_instances; exec \"$@\"")
        .arg("sh")
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "spool::lessee::without_inotify_a_lessee_goes_by_lists", "--nocapture"])
        .env(CHILD, world.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
