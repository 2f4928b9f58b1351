//! What stays open or is remembered between two uses is never believed when something else is at the path.

use std::ffi::OsString;
use std::fs::{self, File};
use std::path::Path;
use std::time::Duration;

use miyabi::io::spool::disk::{Disk, RealDisk, Wait};
use tempfile::TempDir;

/// Makes a folder look as if nothing had happened in it for a minute.
fn let_rest(folder: &Path) {
    let open = File::open(folder).unwrap();
    let changed = open.metadata().unwrap().modified().unwrap();
    open.set_modified(changed - Duration::from_secs(60)).unwrap();
}

fn names(disk: &RealDisk, folder: &Path) -> Vec<String> {
    let mut names: Vec<OsString> = disk.names(folder).unwrap();
    names.sort();
    names.into_iter().map(|name| name.into_string().unwrap()).collect()
}

#[test]
fn a_change_is_listed_at_once_also_in_a_folder_that_has_rested() {
    let home = TempDir::new().unwrap();
    let folder = home.path().join("later");
    fs::create_dir(&folder).unwrap();
    let disk = RealDisk::default();
    for round in 0..20 {
        let name = format!("{round:02}");
        let_rest(&folder);
        let before = names(&disk, &folder);
        assert_eq!(names(&disk, &folder), before);
        File::create(folder.join(&name)).unwrap();
        assert_eq!(names(&disk, &folder), [before.clone(), vec![name.clone()]].concat());
        // One name goes and another comes, so that all that is left to see is the time.
        let_rest(&folder);
        names(&disk, &folder);
        fs::rename(folder.join(&name), folder.join(format!("{name}-moved"))).unwrap();
        assert_eq!(names(&disk, &folder), [before.clone(), vec![format!("{name}-moved")]].concat());
        let_rest(&folder);
        names(&disk, &folder);
        fs::rename(folder.join(format!("{name}-moved")), folder.join(&name)).unwrap();
        assert_eq!(names(&disk, &folder), [before, vec![name]].concat());
    }
}

#[test]
fn a_folder_that_was_replaced_is_listed_anew_and_one_that_is_gone_is_gone() {
    let home = TempDir::new().unwrap();
    let (folder, other) = (home.path().join("later"), home.path().join("other"));
    fs::create_dir(&folder).unwrap();
    fs::create_dir(&other).unwrap();
    File::create(folder.join("old")).unwrap();
    File::create(other.join("new")).unwrap();
    let_rest(&folder);
    let_rest(&other);
    let disk = RealDisk::default();
    assert_eq!(names(&disk, &folder), ["old"]);
    fs::rename(&folder, home.path().join("away")).unwrap();
    fs::rename(&other, &folder).unwrap();
    assert_eq!(names(&disk, &folder), ["new"]);
    fs::remove_dir_all(&folder).unwrap();
    assert_eq!(disk.names(&folder).unwrap_err().kind(), std::io::ErrorKind::NotFound);
}

#[test]
fn a_lock_that_was_given_back_is_free_for_others_and_not_believed_when_its_file_was_replaced() {
    let home = TempDir::new().unwrap();
    let path = home.path().join(".lock");
    // Two processes.
    let (ours, theirs) = (RealDisk::default(), RealDisk::default());
    let lock = |disk: &RealDisk| disk.lock(&path, Wait::AtMost(Duration::ZERO)).unwrap();
    for _ in 0..3 {
        let file = lock(&ours).unwrap();
        assert!(lock(&theirs).is_none() && lock(&ours).is_none(), "also another thread of ours has to wait");
        ours.unlock(&path, file);
        let file = lock(&theirs).unwrap();
        assert!(lock(&ours).is_none());
        theirs.unlock(&path, file);
    }
    let file = lock(&ours).unwrap();
    ours.unlock(&path, file);
    fs::remove_file(&path).unwrap();
    let file = lock(&theirs).unwrap();
    assert!(lock(&ours).is_none(), "what stayed open is a lock on nothing");
    drop(file);
    let file = lock(&ours).unwrap();
    assert!(lock(&theirs).is_none());
    drop(file);
    fs::remove_file(&path).unwrap();
    assert_eq!(ours.lock(&path, Wait::Never).unwrap_err().kind(), std::io::ErrorKind::NotFound);
}

#[test]
fn threads_that_share_locks_that_stay_open_exclude_one_another() {
    let home = TempDir::new().unwrap();
    let path = home.path().join(".lock");
    let (disk, count) = (RealDisk::default(), home.path().join("count"));
    fs::write(&count, "0").unwrap();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..200 {
                    let file = disk.lock(&path, Wait::Forever).unwrap().unwrap();
                    let number: u32 = fs::read_to_string(&count).unwrap().parse().unwrap();
                    fs::write(&count, (number + 1).to_string()).unwrap();
                    disk.unlock(&path, file);
                }
            });
        }
    });
    assert_eq!(fs::read_to_string(&count).unwrap(), "1600");
}
