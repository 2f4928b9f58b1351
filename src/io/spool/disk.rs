//! The only door between the spool and the file system: one method per step that a crash can fall behind.
//!
//! Nothing else in this module names `std::fs` or `rustix` (`tests/it/boundaries.rs` sees to it), so whoever passes
//! another [`Disk`] to [`super::Spool::with_disk`] sees every step, in order, and can refuse it, delay it, or lose it.

use std::cell::RefCell;
use std::ffi::{OsStr, OsString};
use std::fmt::Debug;
use std::fs::{DirBuilder, File, Metadata, OpenOptions};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rustix::fs::{CWD, FlockOperation, Mode, OFlags, RawDir, RenameFlags, SeekFrom, flock, renameat_with, statvfs};
use rustix::io::{Errno, retry_on_intr};

use crate::io::clock;
use crate::model::time::Timestamp;

/// How often a lock is taken again because its file was removed meanwhile.
const LOCKS_MAX: usize = 16;

/// How many folders stay open at most: those of a few mailboxes.
const KEPT_MAX: usize = 32;

/// How many names of a folder are remembered at most.
const NAMES_KEPT_MAX: usize = 100;

/// How long names are remembered.
const NAMES_AGE_MAX: Duration = Duration::from_secs(1);

/// How long the folder must not have changed before: longer than the kernel's clock stands still between two ticks.
const UNCHANGED_MIN: Duration = Duration::from_millis(100);

/// The same where times of changes may be kept in whole or even seconds.
const UNCHANGED_MIN_COARSE: Duration = Duration::from_secs(3);

/// How many bytes of names one system call lists: some 100 of the longest.
const LISTING_BYTES: usize = 32 * 1024;

thread_local! {
    /// Where names are listed to; made once, because every lease lists three folders.
    static LISTING: RefCell<Vec<u8>> = RefCell::new(Vec::with_capacity(LISTING_BYTES));
}

/// The pauses between two tries to lock a file: from the first to the longest.
const LOCK_PAUSE_MIN: Duration = Duration::from_micros(30);
const LOCK_PAUSE_MAX: Duration = Duration::from_millis(1);

/// What the spool asks of a file system. Each method is one step: it happens or it fails.
///
/// Errors are those of the system. [`io::ErrorKind::NotFound`] and [`io::ErrorKind::AlreadyExists`] have a meaning to the
/// spool ("somebody was quicker"), so a layer in between must keep them.
pub trait Disk: Debug + Send + Sync {
    /// Makes a private file that must not exist yet and writes it, without waiting for the disk. A file that could not
    /// be written whole is removed again.
    ///
    /// # Errors
    /// `AlreadyExists`, or what the system says.
    fn create(&self, path: &Path, bytes: &[u8]) -> io::Result<File>;

    /// Waits until the content of an open file is on the disk. `path` is where it was opened, and says which it is.
    ///
    /// # Errors
    /// What the system says; then nothing may be assumed of the content.
    fn sync_file(&self, path: &Path, file: &File) -> io::Result<()>;

    /// Moves a file to a name that must not exist yet, in one step that other processes see as a whole.
    ///
    /// # Errors
    /// `NotFound` if the source, or the target's folder, is not there; `AlreadyExists` if the target is.
    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Moves a file to a name, over what may be there.
    ///
    /// # Errors
    /// What the system says.
    fn rename_over(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Gives a file a second name that must not exist yet.
    ///
    /// # Errors
    /// `AlreadyExists`, or what the system says.
    fn link(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a name.
    ///
    /// # Errors
    /// `NotFound`, or what the system says.
    fn unlink(&self, path: &Path) -> io::Result<()>;

    /// Removes a folder with all that is in it. Only what never was an envelope is removed so.
    ///
    /// # Errors
    /// What the system says.
    fn remove_tree(&self, folder: &Path) -> io::Result<()>;

    /// Lists the names in a folder, in no order.
    ///
    /// # Errors
    /// `NotFound`, or what the system says.
    fn names(&self, folder: &Path) -> io::Result<Vec<OsString>>;

    /// Reads a regular file up to a number of bytes, without following a link and without waiting for a pipe.
    ///
    /// # Errors
    /// `NotFound`, or what the system says.
    fn read(&self, path: &Path, bytes_max: usize) -> io::Result<Content>;

    /// Says what lies at a path, without following a link.
    ///
    /// # Errors
    /// `NotFound`, or what the system says.
    fn stat(&self, path: &Path) -> io::Result<Stat>;

    /// Makes a private folder, and those above it, where it is missing.
    ///
    /// # Errors
    /// What the system says.
    fn make_folder(&self, folder: &Path) -> io::Result<()>;

    /// Says how much room the file system of a folder has.
    ///
    /// # Errors
    /// What the system says.
    fn space(&self, folder: &Path) -> io::Result<Space> {
        let facts = statvfs(folder)?;
        let bytes = |blocks: u64| blocks.saturating_mul(facts.f_frsize);
        Ok(Space { free: bytes(facts.f_bavail), total: bytes(facts.f_blocks) })
    }

    /// Waits until all names of a folder are on the disk.
    ///
    /// # Errors
    /// What the system says; then nothing may be assumed of the names.
    fn sync_folder(&self, folder: &Path) -> io::Result<()>;

    /// Waits until everything written to an open file's file system is on the disk; one wait for many files. `path` is
    /// where it was opened.
    ///
    /// # Errors
    /// What went wrong with any file of the file system since this one was opened; then nothing may be assumed of any.
    fn sync_file_system(&self, path: &Path, file: &File) -> io::Result<()>;

    /// Adds bytes to the end of a private file, which is made if it is missing. Does not wait for the disk.
    ///
    /// # Errors
    /// What the system says.
    fn append(&self, path: &Path, bytes: &[u8]) -> io::Result<()>;

    /// Opens a file and locks it against all others who do; closing it unlocks it. The file is at the path by then.
    ///
    /// # Errors
    /// `NotFound` for [`Wait::Never`], `ResourceBusy` if the file is removed at every try, or what the system says.
    fn lock(&self, path: &Path, wait: Wait) -> io::Result<Option<File>>;

    /// Gives a lock back. Closing the file does that, too; this may keep it open for the next one.
    fn unlock(&self, _path: &Path, file: File) {
        drop(file);
    }

    /// Reads a locked file up to a number of bytes.
    ///
    /// # Errors
    /// What the system says.
    fn read_locked(&self, path: &Path, _file: &File, bytes_max: usize) -> io::Result<Vec<u8>> {
        match self.read(path, bytes_max)? {
            Content::Whole(bytes) | Content::Cut(bytes) => Ok(bytes),
            Content::NotAFile => Ok(Vec::new()),
        }
    }

    /// Writes over the whole content of a locked file, without waiting for the disk.
    ///
    /// # Errors
    /// What the system says.
    fn overwrite(&self, path: &Path, file: &File, bytes: &[u8]) -> io::Result<()>;
}

/// How much room a file system has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// How many bytes this user may still write.
    pub free: u64,
    /// How many bytes it has in all.
    pub total: u64,
}

/// What a locker does about others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// Waits for its turn; makes the file if it is missing.
    Forever,
    /// Waits so long for its turn, and then goes without; makes the file if it is missing.
    AtMost(Duration),
    /// Goes without if somebody has the lock; never makes the file.
    Never,
}

/// What a bounded read of a path gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// The whole file.
    Whole(Vec<u8>),
    /// As much as was asked for; there is more.
    Cut(Vec<u8>),
    /// A folder, socket, pipe or device.
    NotAFile,
}

/// Whose fault it is that a file cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trouble {
    /// It is not there.
    Gone,
    /// The reader's: it lacks memory or open files.
    Ours,
    /// It is no file.
    NotAFile,
    /// The file's: it is there, and not for us to read.
    Its,
    /// The disk's: what is in the file is not known, and may be read at another time.
    Disks,
}

impl Trouble {
    pub(super) fn of(fault: &io::Error) -> Self {
        match Errno::from_io_error(fault) {
            Some(Errno::NOENT) => Self::Gone,
            Some(Errno::MFILE | Errno::NFILE | Errno::NOMEM | Errno::INTR) => Self::Ours,
            Some(Errno::LOOP | Errno::NXIO | Errno::ISDIR) => Self::NotAFile,
            Some(Errno::ACCESS | Errno::PERM) => Self::Its,
            _ if fault.kind() == io::ErrorKind::NotFound => Self::Gone,
            _ if fault.kind() == io::ErrorKind::PermissionDenied => Self::Its,
            _ => Self::Disks,
        }
    }
}

/// What kind of thing lies at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// A folder.
    Folder,
    /// A link, socket, pipe or device.
    Other,
}

/// What the system says of something at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    /// What it is.
    pub kind: Kind,
    /// Device and inode: two names with the same identity are one file.
    pub identity: (u64, u64),
    /// How many names it has.
    pub links: u64,
    /// How many bytes it has.
    pub bytes: u64,
    /// When it was last written, to the second.
    pub written_at: Timestamp,
    /// When it was last written, renamed or linked.
    pub changed_at: Timestamp,
}

/// The file system itself.
///
/// Folders and locks stay open between two uses: whoever leases locks one file, lists three folders and waits for two, and to look
/// whether something open is still what is at its path is half the price of opening and closing it. What was listed in a folder that
/// nobody has changed since is remembered. When the disk is in trouble everything is let go, so that it can be unmounted.
#[derive(Debug, Default)]
pub struct RealDisk {
    kept: Mutex<Vec<Opened>>,
}

/// An open folder or lock. As long as it is open nothing else can have its identity.
#[derive(Debug)]
struct Opened {
    path: PathBuf,
    identity: (u64, u64),
    file: File,
    listing: Option<Listing>,
}

/// What was in a folder.
#[derive(Debug)]
struct Listing {
    names: Vec<OsString>,
    /// When the folder had changed last.
    changed: [i64; 4],
    /// When it was listed, on the clock of [`clock::awake`].
    at: Duration,
}

impl Opened {
    fn new(path: &Path, file: File) -> io::Result<(Self, Metadata)> {
        let facts = file.metadata()?;
        Ok((Self { path: path.to_owned(), identity: identity(&facts), file, listing: None }, facts))
    }

    /// Returns the names that are remembered, if they are still those of the folder.
    fn remembered(&self, facts: &Metadata) -> Option<Vec<OsString>> {
        let listing = self.listing.as_ref()?;
        let is_new = clock::awake().saturating_sub(listing.at) < NAMES_AGE_MAX;
        (is_new && listing.changed == changed(facts)).then(|| listing.names.clone())
    }

    /// Remembers the names of a folder that was looked at before they were listed.
    fn remember(&mut self, names: &[OsString], facts: &Metadata) {
        let rest = if facts.mtime_nsec() == 0 { UNCHANGED_MIN_COARSE } else { UNCHANGED_MIN };
        let is_at_rest = facts.modified().is_ok_and(|time| clock::now().since(clock::timestamp(time)) >= rest);
        // Whatever changes it from now on gives it another time.
        let is_sure = names.len() <= NAMES_KEPT_MAX && is_at_rest;
        self.listing = is_sure.then(|| Listing { names: names.to_vec(), changed: changed(facts), at: clock::awake() });
    }
}

fn identity(facts: &Metadata) -> (u64, u64) {
    (facts.dev(), facts.ino())
}

fn changed(facts: &Metadata) -> [i64; 4] {
    [facts.mtime(), facts.mtime_nsec(), facts.ctime(), facts.ctime_nsec()]
}

impl RealDisk {
    /// Does something with an open folder that nobody else uses meanwhile, and with what was told of it just before.
    fn with_folder<T>(&self, path: &Path, work: impl FnOnce(&mut Opened, &Metadata) -> io::Result<T>) -> io::Result<T> {
        // As opening it would, the look follows a link.
        let kept = self.take(path).and_then(|opened| Some((opened, path.metadata().ok()?)));
        let (mut opened, facts) = match kept.filter(|(opened, facts)| opened.identity == identity(facts)) {
            Some(kept) => kept,
            None => Opened::new(path, File::from(self.heard(open_to_read(path, OFlags::DIRECTORY))?))?,
        };
        let done = self.heard(work(&mut opened, &facts))?;
        self.keep(opened);
        Ok(done)
    }

    /// Passes on how a step ended.
    fn heard<T>(&self, end: io::Result<T>) -> io::Result<T> {
        end.inspect_err(|fault| {
            if fault.kind() != io::ErrorKind::AlreadyExists && Trouble::of(fault) == Trouble::Disks {
                self.kept.lock().unwrap_or_else(PoisonError::into_inner).clear();
            }
        })
    }

    /// Takes what stayed open of a path. Whether it is still what is there is to be looked at.
    fn take(&self, path: &Path) -> Option<Opened> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let place = kept.iter().position(|opened| opened.path.as_os_str() == path.as_os_str())?;
        Some(kept.swap_remove(place))
    }

    fn keep(&self, opened: Opened) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= KEPT_MAX {
            kept.swap_remove(0);
        }
        kept.push(opened);
    }

    /// Locks a file that stayed open, if it is still the one at its path.
    fn lock_kept(&self, path: &Path, wait: Wait) -> io::Result<Kept> {
        let Some(opened) = self.take(path) else { return Ok(Kept::No) };
        if !flock_for(&opened.file, wait)? {
            self.keep(opened);
            return Ok(Kept::Busy);
        }
        let is_there = path.symlink_metadata().is_ok_and(|named| identity(&named) == opened.identity);
        Ok(if is_there { Kept::Locked(opened.file) } else { Kept::No })
    }
}

/// What came of a lock whose file stayed open.
enum Kept {
    Locked(File),
    /// Somebody has it.
    Busy,
    /// It is not there, or not any more.
    No,
}

impl Disk for RealDisk {
    fn create(&self, path: &Path, bytes: &[u8]) -> io::Result<File> {
        let mut file = self.heard(OpenOptions::new().write(true).create_new(true).mode(0o600).open(path))?;
        match self.heard(file.write_all(bytes)) {
            Ok(()) => Ok(file),
            Err(fault) => {
                self.unlink(path)?;
                Err(fault)
            }
        }
    }

    fn sync_file(&self, _path: &Path, file: &File) -> io::Result<()> {
        file.sync_all()
    }

    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        Ok(renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE)?)
    }

    fn rename_over(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::hard_link(from, to)
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn remove_tree(&self, folder: &Path) -> io::Result<()> {
        std::fs::remove_dir_all(folder)
    }

    fn names(&self, folder: &Path) -> io::Result<Vec<OsString>> {
        self.with_folder(folder, |opened, facts| {
            if let Some(names) = opened.remembered(facts) {
                return Ok(names);
            }
            let names = list(&opened.file)?;
            opened.remember(&names, facts);
            Ok(names)
        })
    }

    fn read(&self, path: &Path, bytes_max: usize) -> io::Result<Content> {
        let file = File::from(open_to_read(path, OFlags::NOFOLLOW | OFlags::NONBLOCK)?);
        let facts = file.metadata()?;
        if !facts.is_file() {
            return Ok(Content::NotAFile);
        }
        // One call gives all that there was at that moment, and says that no more has come. A call that gives less is no end.
        let expected = usize::try_from(facts.len()).unwrap_or(usize::MAX);
        let mut bytes = vec![0; expected.min(bytes_max) + 1];
        let mut length = 0;
        loop {
            let more = retry_on_intr(|| rustix::io::pread(&file, &mut bytes[length..], length as u64))?;
            length += more;
            if more == 0 || length == expected {
                break;
            }
            if length > bytes_max {
                bytes.truncate(bytes_max);
                return Ok(Content::Cut(bytes));
            }
            if length == bytes.len() {
                bytes.resize((2 * length).min(bytes_max + 1), 0);
            }
        }
        bytes.truncate(length);
        Ok(Content::Whole(bytes))
    }

    fn stat(&self, path: &Path) -> io::Result<Stat> {
        let facts = path.symlink_metadata()?;
        let kind = if facts.is_file() {
            Kind::File
        } else if facts.is_dir() {
            Kind::Folder
        } else {
            Kind::Other
        };
        Ok(Stat {
            kind,
            identity: (facts.dev(), facts.ino()),
            links: facts.nlink(),
            bytes: facts.len(),
            written_at: Timestamp::from_millis(facts.mtime().saturating_mul(1_000)),
            changed_at: Timestamp::from_millis(
                facts.ctime().saturating_mul(1_000).saturating_add(facts.ctime_nsec() / 1_000_000),
            ),
        })
    }

    fn make_folder(&self, folder: &Path) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(folder)
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        self.with_folder(folder, |opened, _| opened.file.sync_all())
    }

    fn sync_file_system(&self, _path: &Path, file: &File) -> io::Result<()> {
        Ok(rustix::fs::syncfs(file)?)
    }

    fn append(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        OpenOptions::new().append(true).create(true).mode(0o600).open(path)?.write_all(bytes)
    }

    fn lock(&self, path: &Path, wait: Wait) -> io::Result<Option<File>> {
        match self.heard(self.lock_kept(path, wait))? {
            Kept::Locked(file) => return Ok(Some(file)),
            Kept::Busy => return Ok(None),
            Kept::No => {}
        }
        for _ in 0..LOCKS_MAX {
            // Whoever could write it would keep the file system from being made read-only as long as it stays open.
            let create = if wait == Wait::Never { OFlags::empty() } else { OFlags::CREATE };
            let how = OFlags::RDONLY | OFlags::CLOEXEC | create;
            let opened = retry_on_intr(|| rustix::fs::open(path, how, Mode::RUSR | Mode::WUSR));
            let file = File::from(self.heard(opened.map_err(io::Error::from))?);
            if !flock_for(&file, wait)? {
                return Ok(None);
            }
            // Whoever had the lock before may have removed the file; then our lock is one on nothing.
            let open = file.metadata()?;
            match (path.symlink_metadata(), wait) {
                (Ok(named), _) if (named.dev(), named.ino()) == (open.dev(), open.ino()) => return Ok(Some(file)),
                (Ok(_), Wait::Forever | Wait::AtMost(_)) => {}
                (Ok(_), Wait::Never) => return Ok(None),
                (Err(fault), Wait::Forever | Wait::AtMost(_)) if fault.kind() == io::ErrorKind::NotFound => {}
                (Err(fault), _) => return Err(fault),
            }
        }
        Err(io::Error::new(io::ErrorKind::ResourceBusy, "the file to lock was removed at every try"))
    }

    fn unlock(&self, path: &Path, file: File) {
        // One that cannot be unlocked is closed, and that unlocks it.
        if flock(&file, FlockOperation::Unlock).is_ok()
            && let Ok((opened, _)) = Opened::new(path, file)
        {
            self.keep(opened);
        }
    }

    fn read_locked(&self, _path: &Path, file: &File, bytes_max: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; bytes_max];
        let length = file.read_at(&mut bytes, 0)?;
        bytes.truncate(length);
        Ok(bytes)
    }

    fn overwrite(&self, path: &Path, _file: &File, bytes: &[u8]) -> io::Result<()> {
        let file = OpenOptions::new().write(true).open(path)?;
        file.write_all_at(bytes, 0)?;
        // Cut afterwards, and only where there is something to cut: a file that was empty for a moment is given new blocks,
        // and some file systems write them out at once.
        let length = bytes.len() as u64;
        if file.metadata()?.len() > length { file.set_len(length) } else { Ok(()) }
    }
}

/// Opens something to read it, and leaves no trace of that: the time of the last reading would be one more block that the
/// next wait for the disk waits for. Only an owner may ask for this.
fn open_to_read(path: &Path, how: OFlags) -> io::Result<OwnedFd> {
    let how = how | OFlags::RDONLY | OFlags::CLOEXEC;
    let open = |how| retry_on_intr(|| rustix::fs::open(path, how, Mode::empty()));
    match open(how | OFlags::NOATIME) {
        Err(Errno::PERM) => Ok(open(how)?),
        other => Ok(other?),
    }
}

/// Lists an open folder from its beginning.
fn list(folder: &File) -> io::Result<Vec<OsString>> {
    rustix::fs::seek(folder, SeekFrom::Start(0))?;
    LISTING.with_borrow_mut(|buffer| {
        let mut entries = RawDir::new(folder, buffer.spare_capacity_mut());
        let mut names = Vec::new();
        while let Some(entry) = entries.next() {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." {
                names.push(OsStr::from_bytes(name).to_owned());
            }
        }
        Ok(names)
    })
}

/// Locks an open file, and says whether that was possible in the time that there is.
fn flock_for(file: &File, wait: Wait) -> io::Result<bool> {
    match wait {
        Wait::Forever => Ok(flock(file, FlockOperation::LockExclusive).map(|()| true)?),
        Wait::AtMost(time) => try_lock_for(file, time),
        Wait::Never => try_lock_for(file, Duration::ZERO),
    }
}

/// Tries to lock a file for a while. There is no system call that waits so long and no longer, so this asks again and again.
fn try_lock_for(file: &File, time: Duration) -> io::Result<bool> {
    let mut waited = Duration::ZERO;
    let mut pause = LOCK_PAUSE_MIN;
    loop {
        match flock(file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(true),
            Err(Errno::WOULDBLOCK) if waited >= time => return Ok(false),
            Err(Errno::WOULDBLOCK) => {
                std::thread::sleep(pause);
                waited += pause;
                pause = (pause * 2).min(LOCK_PAUSE_MAX);
            }
            Err(errno) => return Err(errno.into()),
        }
    }
}
