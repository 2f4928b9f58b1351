//! A disk that fails or waits where it is told to, and works otherwise: what it does not give is never called bad, what it did
//! not keep is never called accepted, and whoever shares a turn gets what its own turn would have given.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex};

use miyabi::io::clock;
use miyabi::io::spool::Spool;
use miyabi::io::spool::deliver::Delivered;
use miyabi::io::spool::disk::{Content, Disk, RealDisk, Stat, Wait};
use miyabi::io::spool::holder::Holder;
use miyabi::io::spool::name::{Folder, LeasedName, Stem};
use rustix::io::Errno;

use super::order::sent_by;
use super::{MINUTE, World, envelope, ids, kaede, mailbox, names};

const THREADS: usize = 16;
const ROUNDS: usize = 8;

/// Where the disk fails, with EIO.
#[derive(Debug, Default)]
struct Faulty {
    real: RealDisk,
    /// Reads of files whose names contain this.
    unread: Mutex<Option<String>>,
    files: AtomicBool,
    file_system: AtomicBool,
    folders: AtomicBool,
    /// What somebody moves while we list: before which listing, from where, and to where.
    meanwhile: Mutex<Option<(usize, PathBuf, PathBuf)>>,
    /// How often a mailbox was locked.
    locks: AtomicUsize,
    /// Threads of which all but one must sleep before a mailbox is locked for the first time, once they are so many.
    crowd: Mutex<BTreeSet<PathBuf>>,
    crowd_size: AtomicUsize,
}

impl Faulty {
    fn spool(self: &Arc<Self>, world: &World) -> Spool {
        let disk: Arc<dyn Disk> = Arc::<Self>::clone(self);
        Spool::with_disk(world.path().to_owned(), world.spool.limits().clone(), disk)
    }

    fn is_unread(&self, path: &Path) -> bool {
        self.unread.lock().unwrap().as_ref().is_some_and(|unread| path.to_string_lossy().contains(unread))
    }

    /// Called before each listing.
    fn let_others_move(&self, folder: &Path) {
        let mut meanwhile = self.meanwhile.lock().unwrap();
        if let Some((listing, from, to)) = meanwhile.as_mut()
            && ["new", "leased", "later"].iter().any(|state| folder.ends_with(state))
        {
            *listing = listing.wrapping_sub(1);
            if *listing == 0 {
                // Too late when we were quicker.
                std::fs::rename(from, to).ok();
            }
        }
    }

    /// Called by each thread of the crowd before it does anything.
    fn enter_crowd(&self) {
        self.crowd.lock().unwrap().insert(std::fs::read_link("/proc/thread-self").unwrap());
    }

    /// Waits until the whole crowd is there, and everybody in it but who asks waits for something.
    fn wait_for_crowd(&self) {
        let me = std::fs::read_link("/proc/thread-self").unwrap();
        let sleeps = |thread: &PathBuf| {
            let stat = std::fs::read_to_string(Path::new("/proc").join(thread).join("stat")).unwrap();
            stat.rsplit_once(')').unwrap().1.trim_start().starts_with('S')
        };
        loop {
            let crowd = self.crowd.lock().unwrap().clone();
            if crowd.len() >= self.crowd_size.load(Ordering::Relaxed)
                && crowd.iter().all(|thread| *thread == me || sleeps(thread))
            {
                return;
            }
            std::thread::yield_now();
        }
    }

    fn fail(&self, kinds: usize) {
        for (bit, kind) in [&self.files, &self.file_system, &self.folders].into_iter().enumerate() {
            kind.store(kinds & (1 << bit) != 0, Ordering::Relaxed);
        }
    }
}

fn unless(is_broken: &AtomicBool) -> io::Result<()> {
    if is_broken.load(Ordering::Relaxed) { Err(Errno::IO.into()) } else { Ok(()) }
}

impl Disk for Faulty {
    fn create(&self, path: &Path, bytes: &[u8]) -> io::Result<File> {
        self.real.create(path, bytes)
    }
    fn sync_file(&self, path: &Path, file: &File) -> io::Result<()> {
        unless(&self.files)?;
        self.real.sync_file(path, file)
    }
    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.real.rename_new(from, to)
    }
    fn rename_over(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.real.rename_over(from, to)
    }
    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.real.link(from, to)
    }
    fn unlink(&self, path: &Path) -> io::Result<()> {
        self.real.unlink(path)
    }
    fn remove_tree(&self, folder: &Path) -> io::Result<()> {
        self.real.remove_tree(folder)
    }
    fn names(&self, folder: &Path) -> io::Result<Vec<OsString>> {
        self.let_others_move(folder);
        self.real.names(folder)
    }
    fn read(&self, path: &Path, bytes_max: usize) -> io::Result<Content> {
        if self.is_unread(path) { Err(Errno::IO.into()) } else { self.real.read(path, bytes_max) }
    }
    fn stat(&self, path: &Path) -> io::Result<Stat> {
        self.real.stat(path)
    }
    fn make_folder(&self, folder: &Path) -> io::Result<()> {
        self.real.make_folder(folder)
    }
    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        unless(&self.folders)?;
        self.real.sync_folder(folder)
    }
    fn sync_file_system(&self, path: &Path, file: &File) -> io::Result<()> {
        unless(&self.file_system)?;
        self.real.sync_file_system(path, file)
    }
    fn append(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        self.real.append(path, bytes)
    }
    fn lock(&self, path: &Path, wait: Wait) -> io::Result<Option<File>> {
        if self.locks.fetch_add(1, Ordering::Relaxed) == 0 {
            self.wait_for_crowd();
        }
        self.real.lock(path, wait)
    }
    fn overwrite(&self, path: &Path, file: &File, bytes: &[u8]) -> io::Result<()> {
        self.real.overwrite(path, file, bytes)
    }
}

#[test]
fn an_envelope_that_the_disk_does_not_give_stays_where_it_is_and_holds_nobody_up() {
    let mut world = World::new();
    let (sick, well) = (world.sent("kaede"), world.sent("kaede"));
    let disk = Arc::new(Faulty::default());
    let spool = disk.spool(&world);
    *disk.unread.lock().unwrap() = Some(sick.id.to_string());
    let lease = |now| spool.lease(&mailbox("kaede"), &Holder::operator(), MINUTE, now).unwrap();

    assert_eq!(lease(world.now).unwrap().envelope, well);
    assert_eq!(lease(world.now), None);
    assert_eq!(world.folder_of(&sick), Some(Folder::New), "it was called bad");
    assert!(spool.read(&mailbox("kaede"), sick.id).is_err(), "nobody is told");

    *disk.unread.lock().unwrap() = None;
    world.wait(MINUTE / 2);
    let leased = lease(world.now).expect("it is given once the disk gives it");
    assert_eq!(leased.envelope, sick);
    // The same for one whose lease is over: it is neither dead nor lost.
    *disk.unread.lock().unwrap() = Some(sick.id.to_string());
    world.wait(2 * MINUTE);
    let others = lease(world.now).map(|leased| leased.envelope);
    assert_eq!(others, Some(well));
    assert_eq!(world.folder_of(&sick), Some(Folder::Leased));
    assert!(spool.nack(&leased.receipt, "not now", world.now).is_err());
    *disk.unread.lock().unwrap() = None;
    assert_eq!(lease(world.now).map(|leased| leased.envelope), Some(sick));
    assert_eq!(names(&world.path().join("kaede/dead")), [""; 0]);
}

#[test]
fn a_claim_by_a_plain_mv_between_two_listings_lets_nobody_overtake() {
    let mut claimed = 0;
    for listing in 1..=6 {
        let world = World::new();
        let [first, _second] = [sent_by(&world, "sakura"), sent_by(&world, "sakura")];
        let base = world.path().join("kaede");
        let name = names(&base.join("new")).into_iter().find(|name| name.contains(&first.id.to_string())).unwrap();
        let leased = LeasedName { stem: Stem::parse(&name).unwrap(), holder: kaede(9), until: world.now + MINUTE };
        let (from, to) = (base.join("new").join(&name), base.join("leased").join(leased.to_string()));
        let disk = Arc::new(Faulty::default());
        let spool = disk.spool(&world);
        *disk.meanwhile.lock().unwrap() = Some((listing, from, to.clone()));
        let ours = spool.lease(&mailbox("kaede"), &kaede(1), MINUTE, world.now).unwrap().map(|leased| leased.envelope);
        if to.exists() {
            claimed += 1;
            assert_eq!(ours, None, "the second overtook the first, which was claimed before listing {listing}");
        } else {
            assert_eq!(ours, Some(first));
        }
    }
    assert!(claimed >= 2, "nobody was ever quicker: {claimed}");
}

#[test]
fn threads_that_ask_at_one_moment_share_a_turn_and_each_gets_what_its_own_would_have_given() {
    const LANES: usize = THREADS / 2;
    let world = World::new();
    let senders: Vec<String> = (0..LANES).map(|lane| format!("sender{lane}")).collect();
    let firsts: Vec<_> = senders.iter().map(|sender| sent_by(&world, sender).id).collect();
    let seconds: Vec<_> = senders.iter().map(|sender| sent_by(&world, sender).id).collect();
    let disk = Arc::new(Faulty::default());
    disk.crowd_size.store(THREADS, Ordering::Relaxed);
    let spool = disk.spool(&world);

    let ask = |holder: u64| {
        disk.enter_crowd();
        let leased = spool.lease(&mailbox("kaede"), &kaede(holder), MINUTE, world.now).unwrap();
        leased.inspect(|leased| assert_eq!(leased.receipt.name.holder, kaede(holder)))
    };
    let told: Vec<_> = std::thread::scope(|scope| {
        let ask = &ask;
        let threads: Vec<_> = (0..THREADS as u64).map(|holder| scope.spawn(move || ask(holder))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });

    let mut given: Vec<_> = told.iter().flatten().map(|leased| leased.envelope.id).collect();
    given.sort_unstable();
    assert_eq!(given, firsts, "of each sender the first goes, and nobody gets the second meanwhile");
    // One leads alone, the others share the next turn; one that was busy for a moment may need a third.
    let locks = disk.locks.load(Ordering::Relaxed);
    assert!(locks <= 3, "{THREADS} threads took {locks} turns");
    for leased in told.iter().flatten() {
        spool.ack(&leased.receipt, None, world.now).unwrap();
    }
    let rest = spool.lease_batch(&mailbox("kaede"), &kaede(1), THREADS, MINUTE, world.now).unwrap();
    assert_eq!(rest.iter().map(|leased| leased.envelope.id).collect::<Vec<_>>(), seconds);
}

#[test]
fn a_wait_for_the_disk_that_fails_is_told_to_all_who_shared_it_and_all_may_try_again() {
    // Which waits fail: bit by bit that of a file, of the file system, and of a folder.
    for kinds in 1..8 {
        let world = World::new();
        let disk = Arc::new(Faulty::default());
        let spool = disk.spool(&world);
        spool.ensure(&mailbox("kaede")).unwrap();
        let start = Barrier::new(THREADS);
        let told: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..THREADS)
                .map(|thread| {
                    let (spool, disk, start, now) = (spool.clone(), &disk, &start, world.now);
                    scope.spawn(move || {
                        let one = |round: usize| {
                            start.wait();
                            // Every second round is broken; somebody switches while others are at it.
                            if thread == 0 {
                                disk.fail(if round.is_multiple_of(2) { kinds } else { 0 });
                            }
                            let envelope = envelope("kaede", now);
                            let told = spool.deliver(&envelope, None, clock::now());
                            (envelope, told.is_ok())
                        };
                        (0..ROUNDS).map(one).collect::<Vec<_>>()
                    })
                })
                .collect();
            threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
        });
        disk.fail(0);
        let refused = told.iter().filter(|(_, was_accepted)| !was_accepted).count();
        // A file system that cannot be waited for costs only that each file is waited for by itself.
        assert_eq!(refused == 0, kinds == 2, "{kinds}: {refused} of {} refused", told.len());
        let drafts = names(&world.path().join("kaede/tmp"));
        assert_eq!(drafts, [""; 0], "{kinds}");
        for (envelope, was_accepted) in &told {
            let again = world.stranger().deliver(envelope, None, world.now).unwrap();
            assert!(
                !was_accepted || again == Delivered::Already { first: envelope.id },
                "{kinds}: an accepted one is gone"
            );
            world.assert_once(envelope);
        }
        let envelopes: Vec<_> = told.into_iter().map(|(envelope, _)| envelope).collect();
        assert_eq!(ids(&envelopes).len(), THREADS * ROUNDS);
    }
}
