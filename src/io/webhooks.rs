//! Deliveries of webhooks on the disk: kept before they are answered, and known again when they come twice.
//!
//! `data/webhooks/new/ID` waits to be handled, `data/webhooks/done/ID` was; each is renamed once. What is handled twice after a
//! crash does no harm.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::model::github::Delivery;

/// How many deliveries may wait.
pub const WAITING_MAX: usize = 500;

/// How many handled ones are remembered; GitHub shows those of three days and lets people send them again.
pub const DONE_MAX: usize = 5_000;

/// The largest file that is read, in bytes.
const FILE_BYTES_MAX: u64 = 16 * 1024;

/// What became of a delivery that was to be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// It is on the disk.
    New,
    /// It was kept before.
    Known,
    /// Too many wait.
    Full,
}

/// The deliveries of one root.
#[derive(Debug)]
pub struct Webhooks {
    folder: PathBuf,
    waiting: BTreeMap<String, Delivery>,
    done: BTreeSet<String>,
    /// Handled ones, oldest first.
    order: Vec<String>,
}

impl Webhooks {
    /// Opens the folder and reads what is there.
    ///
    /// # Errors
    /// Those of the file system. What cannot be understood is left out: it is found by asking.
    pub fn open(folder: &Path) -> io::Result<Self> {
        for name in ["tmp", "new", "done"] {
            DirBuilder::new().recursive(true).mode(0o700).create(folder.join(name))?;
        }
        for draft in files(&folder.join("tmp"))? {
            fs::remove_file(folder.join("tmp").join(draft.0))?;
        }
        let mut waiting = BTreeMap::new();
        for (id, ..) in files(&folder.join("new"))? {
            let path = folder.join("new").join(&id);
            match read(&path) {
                Some(delivery) if delivery.id == id => drop(waiting.insert(id, delivery)),
                Some(_) | None => fs::remove_file(path)?,
            }
        }
        let mut handled = files(&folder.join("done"))?;
        handled.sort_by_key(|(_, at)| *at);
        let order: Vec<String> = handled.into_iter().map(|(id, _)| id).collect();
        let done = order.iter().cloned().collect();
        Ok(Self { folder: folder.to_owned(), waiting, done, order })
    }

    /// Returns what waits.
    pub fn waiting(&self) -> impl Iterator<Item = &Delivery> {
        self.waiting.values()
    }

    /// Keeps a delivery. When it returns [`Kept::New`], no crash loses it.
    ///
    /// # Errors
    /// Those of the file system; the delivery is not kept then.
    pub fn keep(&mut self, delivery: &Delivery) -> io::Result<Kept> {
        let id = &delivery.id;
        if self.waiting.contains_key(id) || self.done.contains(id) {
            return Ok(Kept::Known);
        }
        if self.waiting.len() >= WAITING_MAX {
            return Ok(Kept::Full);
        }
        let text = serde_json::to_string(delivery).map_err(io::Error::other)?;
        let (draft, place) = (self.folder.join("tmp").join(id), self.folder.join("new").join(id));
        let mut file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&draft)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&draft, &place)?;
        File::open(self.folder.join("new"))?.sync_all()?;
        self.waiting.insert(id.clone(), delivery.clone());
        Ok(Kept::New)
    }

    /// Notes that a delivery was handled.
    ///
    /// # Errors
    /// Those of the file system; it is handled again after the next start then.
    pub fn settle(&mut self, id: &str) -> io::Result<()> {
        if self.waiting.remove(id).is_none() {
            return Ok(());
        }
        self.done.insert(id.to_owned());
        self.order.push(id.to_owned());
        fs::rename(self.folder.join("new").join(id), self.folder.join("done").join(id))?;
        while self.order.len() > DONE_MAX {
            let oldest = self.order.remove(0);
            self.done.remove(&oldest);
            fs::remove_file(self.folder.join("done").join(oldest))?;
        }
        Ok(())
    }
}

/// Lists the files of a folder with the time of their last change.
fn files(folder: &Path) -> io::Result<Vec<(String, SystemTime)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if let Ok(name) = entry.file_name().into_string() {
            found.push((name, entry.metadata()?.modified()?));
        }
    }
    Ok(found)
}

fn read(path: &Path) -> Option<Delivery> {
    let is_small = fs::metadata(path).is_ok_and(|metadata| metadata.len() <= FILE_BYTES_MAX);
    serde_json::from_str(&fs::read_to_string(path).ok().filter(|_| is_small)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delivery(id: &str) -> Delivery {
        Delivery { id: id.to_owned(), slug: "octo/app".parse().unwrap(), numbers: vec![7] }
    }

    #[test]
    fn a_delivery_is_kept_once_and_known_again_after_a_restart_and_after_it_was_handled() {
        let folder = tempfile::tempdir().unwrap();
        let open = || Webhooks::open(folder.path()).unwrap();
        let mut webhooks = open();
        assert_eq!(webhooks.keep(&delivery("a")).unwrap(), Kept::New);
        assert_eq!(webhooks.keep(&delivery("a")).unwrap(), Kept::Known);
        let mut webhooks = open();
        assert_eq!(webhooks.waiting().cloned().collect::<Vec<_>>(), [delivery("a")]);
        assert_eq!(webhooks.keep(&delivery("a")).unwrap(), Kept::Known);
        webhooks.settle("a").unwrap();
        webhooks.settle("never came").unwrap();
        for mut webhooks in [webhooks, open()] {
            assert_eq!(webhooks.keep(&delivery("a")).unwrap(), Kept::Known);
            assert_eq!(webhooks.waiting().count(), 0);
        }
    }

    #[test]
    fn what_waits_and_what_is_remembered_is_bounded() {
        let folder = tempfile::tempdir().unwrap();
        let mut webhooks = Webhooks::open(folder.path()).unwrap();
        for number in 0..WAITING_MAX {
            assert_eq!(webhooks.keep(&delivery(&format!("w{number}"))).unwrap(), Kept::New);
        }
        assert_eq!(webhooks.keep(&delivery("more")).unwrap(), Kept::Full);
        webhooks.settle("w0").unwrap();
        assert_eq!(webhooks.keep(&delivery("more")).unwrap(), Kept::New);
        for number in 0..DONE_MAX {
            let id = format!("d{number}");
            File::create(folder.path().join("done").join(&id)).unwrap();
            webhooks.done.insert(id.clone());
            webhooks.order.push(id);
        }
        webhooks.settle("w1").unwrap();
        assert_eq!(webhooks.order.len(), DONE_MAX);
        assert_eq!(files(&folder.path().join("done")).unwrap().len(), DONE_MAX);
        assert!(!webhooks.done.contains("w0"), "the oldest goes first");
    }

    #[test]
    fn drafts_and_what_nobody_understands_are_cleared_away() {
        let folder = tempfile::tempdir().unwrap();
        drop(Webhooks::open(folder.path()).unwrap());
        fs::write(folder.path().join("tmp/half"), "{").unwrap();
        fs::write(folder.path().join("new/half"), "{\"id\":").unwrap();
        fs::write(folder.path().join("new/other"), serde_json::to_string(&delivery("a")).unwrap()).unwrap();
        fs::write(folder.path().join("new/huge"), "x".repeat(20_000)).unwrap();
        let webhooks = Webhooks::open(folder.path()).unwrap();
        assert_eq!(webhooks.waiting().count(), 0);
        assert_eq!(
            files(&folder.path().join("new")).unwrap().len() + files(&folder.path().join("tmp")).unwrap().len(),
            0
        );
    }
}
