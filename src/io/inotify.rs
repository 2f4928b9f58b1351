//! What changes in a few folders, in the order in which it happens, straight from the kernel's queue.
//!
//! [`super::watch`] hints that something has changed; this says what, so that a long list need not be made again. It has
//! no thread: whoever reads the queue has every change that was made before, and whoever waits is woken by the kernel.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::io::Errno;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// How many bytes of changes one system call reads.
const BUFFER_BYTES: usize = 16 * 1024;

/// Something that happened in a folder; folders are numbered as they were given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A name came into the folder.
    Came(usize, OsString),
    /// A name went from it.
    Left(usize, OsString),
    /// Changes were lost, or a folder is no longer where it was: only a look helps, after [`Folders::arm`].
    Lost,
}

/// Folders, and the changes in them since they were first watched.
#[derive(Debug)]
pub struct Folders {
    queue: OwnedFd,
    folders: Vec<Watched>,
    /// Which folder a watch belongs to.
    watches: BTreeMap<i32, usize>,
    /// Of what the kernel tells.
    flags: WatchFlags,
}

#[derive(Debug)]
struct Watched {
    path: PathBuf,
    /// The watch, and device and inode of the folder when it was set.
    armed: Option<(i32, (u64, u64))>,
}

impl Folders {
    /// Makes a queue for changes in folders; watches nothing yet.
    ///
    /// # Errors
    /// Says why there can be no queue, e.g. that the user has too many already.
    pub fn new(folders: Vec<PathBuf>) -> io::Result<Self> {
        let names = WatchFlags::MOVED_TO | WatchFlags::MOVED_FROM | WatchFlags::CREATE | WatchFlags::DELETE;
        Self::with_flags(folders, names)
    }

    /// Makes a queue that tells only of files that were renamed into the folders: drafts that are written beside them wake
    /// nobody.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn of_renames(folders: Vec<PathBuf>) -> io::Result<Self> {
        Self::with_flags(folders, WatchFlags::MOVED_TO)
    }

    fn with_flags(folders: Vec<PathBuf>, names: WatchFlags) -> io::Result<Self> {
        let queue = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
        let folders = folders.into_iter().map(|path| Watched { path, armed: None }).collect();
        let flags = names | WatchFlags::DELETE_SELF | WatchFlags::MOVE_SELF | WatchFlags::ONLYDIR;
        Ok(Self { queue, folders, watches: BTreeMap::new(), flags })
    }

    /// Watches folders that are not watched yet, and those that were replaced. What came before gave no change.
    /// Returns how many were not watched as they should have been.
    ///
    /// # Errors
    /// Says why a folder cannot be watched, e.g. that it is missing or that the user has too many watches.
    pub fn arm(&mut self) -> io::Result<usize> {
        let mut armed = 0;
        for (number, folder) in self.folders.iter_mut().enumerate() {
            let now = identity(&folder.path);
            if let (Some((_, then)), Ok(now)) = (folder.armed, &now)
                && then == *now
            {
                continue;
            }
            if let Some((watch, _)) = folder.armed.take() {
                self.watches.remove(&watch);
                // The kernel may have removed it already.
                inotify::remove_watch(&self.queue, watch).ok();
            }
            let watch = inotify::add_watch(&self.queue, &folder.path, self.flags)?;
            self.watches.insert(watch, number);
            folder.armed = Some((watch, identity(&folder.path)?));
            armed += 1;
        }
        Ok(armed)
    }

    /// Tells every change that was made before this call and was not told yet.
    ///
    /// # Errors
    /// Says why the queue cannot be read.
    pub fn drain(&mut self, mut tell: impl FnMut(Change)) -> io::Result<()> {
        let mut buffer = [MaybeUninit::uninit(); BUFFER_BYTES];
        let mut reader = inotify::Reader::new(&self.queue, &mut buffer);
        loop {
            let event = match reader.next() {
                Ok(event) => event,
                Err(Errno::AGAIN) => return Ok(()),
                Err(Errno::INTR) => continue,
                Err(errno) => return Err(errno.into()),
            };
            let what = event.events();
            let name = event.file_name().map(|name| OsStr::from_bytes(name.to_bytes()).to_owned());
            match (self.watches.get(&event.wd()), name) {
                (Some(folder), Some(name)) if what.intersects(ReadFlags::MOVED_TO | ReadFlags::CREATE) => {
                    tell(Change::Came(*folder, name));
                }
                (Some(folder), Some(name)) if what.intersects(ReadFlags::MOVED_FROM | ReadFlags::DELETE) => {
                    tell(Change::Left(*folder, name));
                }
                // The last words of a watch that was replaced.
                (None, _) if !what.contains(ReadFlags::QUEUE_OVERFLOW) => {}
                (Some(_) | None, _) => tell(Change::Lost),
            }
        }
    }

    /// Waits until there is a change, or so long.
    ///
    /// # Errors
    /// Says why the queue cannot be waited for.
    pub fn wait(&self, time: Duration) -> io::Result<()> {
        let seconds = i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
        let time = Timespec { tv_sec: seconds, tv_nsec: time.subsec_nanos().into() };
        let mut queue = [PollFd::new(&self.queue, PollFlags::IN)];
        match poll(&mut queue, Some(&time)) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }
}

impl AsRawFd for Folders {
    fn as_raw_fd(&self) -> RawFd {
        self.queue.as_raw_fd()
    }
}

/// Folders whose changes a task waits for without a thread of its own.
#[derive(Debug)]
pub struct Awaited {
    folders: AsyncFd<Folders>,
}

impl Awaited {
    /// Lets the runtime watch the queue. Call it in the runtime.
    ///
    /// # Errors
    /// Says why the runtime cannot.
    pub fn new(folders: Folders) -> io::Result<Self> {
        #[expect(
            deprecated,
            reason = "its successor is unsafe for types that could give up their descriptor; `Folders` cannot"
        )]
        let folders = AsyncFd::with_interest(folders, Interest::READABLE)?;
        Ok(Self { folders })
    }

    /// As [`Folders::arm`].
    ///
    /// # Errors
    /// As [`Folders::arm`].
    pub fn arm(&mut self) -> io::Result<usize> {
        self.folders.get_mut().arm()
    }

    /// Waits until something has changed; it stays so until [`Self::drain`] is called. May be dropped at any time.
    ///
    /// # Errors
    /// Says that the runtime is ending.
    pub async fn changed(&self) -> io::Result<()> {
        self.folders.readable().await.map(drop)
    }

    /// As [`Folders::drain`].
    ///
    /// # Errors
    /// As [`Folders::drain`].
    pub fn drain(&mut self, tell: impl FnMut(Change)) -> io::Result<()> {
        let mut drained = Ok(());
        let nothing_left = self.folders.try_io_mut(Interest::READABLE, |folders| {
            drained = folders.drain(tell);
            // Everything was read: the runtime may wait for more.
            Err::<(), io::Error>(io::ErrorKind::WouldBlock.into())
        });
        drop(nothing_left);
        drained
    }
}

fn identity(folder: &Path) -> io::Result<(u64, u64)> {
    let facts = std::fs::metadata(folder)?;
    Ok((facts.dev(), facts.ino()))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn changes(folders: &mut Folders) -> Vec<Change> {
        let mut changes = Vec::new();
        folders.drain(|change| changes.push(change)).unwrap();
        changes
    }

    #[test]
    fn changes_are_told_in_their_order_and_once() {
        let root = tempfile::tempdir().unwrap();
        let [one, two] = ["one", "two"].map(|name| root.path().join(name));
        fs::create_dir(&one).unwrap();
        fs::create_dir(&two).unwrap();
        let mut folders = Folders::new(vec![one.clone(), two.clone()]).unwrap();
        assert_eq!(folders.arm().unwrap(), 2);
        assert_eq!(folders.arm().unwrap(), 0);
        fs::write(one.join("x"), "").unwrap();
        fs::rename(one.join("x"), two.join("y")).unwrap();
        folders.wait(Duration::from_secs(10)).unwrap();
        let (x, y) = (OsString::from("x"), OsString::from("y"));
        assert_eq!(changes(&mut folders), [Change::Came(0, x.clone()), Change::Left(0, x), Change::Came(1, y)]);
        assert_eq!(changes(&mut folders), []);
    }

    #[tokio::test]
    async fn a_task_is_woken_by_a_rename_and_not_by_the_draft_before_it() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().to_owned();
        let mut awaited = Awaited::new(Folders::of_renames(vec![folder.clone()]).unwrap()).unwrap();
        awaited.arm().unwrap();
        fs::write(folder.join("draft"), "").unwrap();
        let woken = tokio::time::timeout(Duration::from_millis(50), awaited.changed()).await;
        assert!(woken.is_err(), "a draft woke the task");
        for name in ["one", "two"] {
            fs::rename(folder.join("draft"), folder.join(name)).unwrap();
            fs::write(folder.join("draft"), "").unwrap();
            tokio::time::timeout(Duration::from_secs(10), awaited.changed()).await.unwrap().unwrap();
            let mut changes = Vec::new();
            awaited.drain(|change| changes.push(change)).unwrap();
            assert_eq!(changes, [Change::Came(0, name.into())]);
        }
    }

    #[test]
    fn a_folder_that_is_replaced_is_lost_and_watched_again() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("folder");
        let mut folders = Folders::new(vec![folder.clone()]).unwrap();
        assert!(folders.arm().is_err(), "a folder that is missing was watched");
        fs::create_dir(&folder).unwrap();
        assert_eq!(folders.arm().unwrap(), 1);
        fs::rename(&folder, root.path().join("old")).unwrap();
        fs::create_dir(&folder).unwrap();
        assert_eq!(changes(&mut folders), [Change::Lost]);
        assert_eq!(folders.arm().unwrap(), 1);
        changes(&mut folders);
        fs::write(folder.join("x"), "").unwrap();
        assert_eq!(changes(&mut folders), [Change::Came(0, "x".into())]);
    }
}
