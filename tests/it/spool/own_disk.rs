//! File systems of a test's own: small ones, on a loop device or in memory, that can be filled, made read-only, counted
//! and cut off from their power.
//!
//! The test runs itself again in a mount namespace of its own. All that it mounts goes with its last process, and the
//! loop device with its last mount, however the test ends.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

/// Tells a copy of this program that it runs in mounts of its own, and in which folder it may work.
const INSIDE: &str = "MIYABI_TEST_OWN_MOUNTS";

/// Makes the long tests longer: how many times as many rounds they take. `scripts/soak` sets it.
const SOAK: &str = "MIYABI_SOAK";

/// Returns how many times as long as usual the long tests should run.
pub(crate) fn soak() -> usize {
    environment(SOAK).map_or(1, |text| text.parse().unwrap_or_else(|_| panic!("{SOAK}={text} is no number")))
}

#[expect(clippy::disallowed_methods, reason = "only the tests' surroundings are read, never the program's")]
fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// Runs a test in mounts of its own, by its full name. Returns the folder to work in, for the copy that is to do the
/// work; `None` for the one that has seen its copy succeed.
///
/// Without root the test passes with a word on what was not tested; in CI, where nothing may be left out, it fails.
pub(super) fn enter(test: &str) -> Option<PathBuf> {
    enter_with(test, &["--mount", "--propagation", "private"])
}

/// As [`enter`], as the root of a user namespace, whose limits are its own. It can mount no disk.
pub(super) fn enter_with_own_limits(test: &str) -> Option<PathBuf> {
    enter_with(test, &["--user", "--map-root-user"])
}

/// As [`enter`], in a process that may open some files and not many. It has no mounts of its own.
pub(super) fn enter_with_few_files(test: &str) -> Option<PathBuf> {
    enter_through(test, &["sh", "-c", "ulimit -n 64; exec \"$@\"", "sh"])
}

fn enter_with(test: &str, namespaces: &[&str]) -> Option<PathBuf> {
    let mut through = vec!["unshare"];
    through.extend(namespaces);
    through.push("--");
    enter_through(test, &through)
}

/// Runs the test again through a command that is put before it.
fn enter_through(test: &str, through: &[&str]) -> Option<PathBuf> {
    if let Some(folder) = environment(INSIDE) {
        return Some(folder.into());
    }
    let folder = TempDir::new().unwrap();
    let unshare = |command: &[&std::ffi::OsStr]| {
        let mut unshared = Command::new(through[0]);
        unshared.args(&through[1..]).args(command);
        unshared
    };
    if !unshare(&["true".as_ref()]).output().is_ok_and(|output| output.status.success()) {
        assert!(environment("CI").is_none(), "{test} needs {through:?}, and in CI nothing is left out");
        super::tell(&format!("{test}: not tested, it needs root and {through:?}"));
        return None;
    }
    let program = std::env::current_exe().unwrap();
    let output = unshare(&[program.as_os_str(), "--exact".as_ref(), test.as_ref(), "--nocapture".as_ref()])
        .env(INSIDE, folder.path())
        .output()
        .unwrap();
    let told = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && told.contains("1 passed"), "{told}");
    // For `--nocapture`, and for whoever reads the figures.
    super::tell(&told);
    None
}

/// What a file system is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Ext4,
    Xfs,
}

impl Kind {
    /// Lists those that this kernel knows. Their programs must be there.
    pub(super) fn all() -> Vec<Self> {
        let known = fs::read_to_string("/proc/filesystems").unwrap();
        let has = |name: &str| known.split_whitespace().any(|word| word == name);
        [(Self::Ext4, "ext4"), (Self::Xfs, "xfs")]
            .into_iter()
            .filter(|(_, name)| has(name))
            .map(|(kind, _)| kind)
            .collect()
    }

    fn make(self, image: &Path, options: &[&str]) {
        match self {
            Self::Ext4 => run(Command::new("mkfs.ext4").args(["-q", "-F"]).args(options).arg(image)),
            Self::Xfs => run(Command::new("mkfs.xfs").args(["-q", "-f"]).args(options).arg(image)),
        }
    }
}

/// A file system on a loop device.
#[derive(Debug)]
pub(super) struct LoopDisk {
    image: PathBuf,
    folder: PathBuf,
}

impl LoopDisk {
    /// Makes a file system of so many MiB below a folder from [`enter`], and mounts it.
    pub(super) fn new(below: &Path, kind: Kind, mebibytes: u64) -> Self {
        Self::with_options(below, kind, mebibytes, &[])
    }

    /// As [`Self::new`], with options for the program that makes it.
    pub(super) fn with_options(below: &Path, kind: Kind, mebibytes: u64, options: &[&str]) -> Self {
        let name = format!("{kind:?}{mebibytes}{}", options.concat());
        let disk = Self { image: below.join(format!("{name}.image")), folder: below.join(name) };
        fs::File::create(&disk.image).unwrap().set_len(mebibytes << 20).unwrap();
        fs::create_dir(&disk.folder).unwrap();
        kind.make(&disk.image, options);
        disk.mount("loop");
        disk
    }

    /// Returns where it is mounted.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Mounts it again after [`Self::unmount`].
    pub(super) fn mount(&self, options: &str) {
        run(Command::new("mount").args(["-o", options]).arg(&self.image).arg(&self.folder));
    }

    pub(super) fn remount(&self, options: &str) {
        run(Command::new("mount").args(["-o", &format!("remount,{options}")]).arg(&self.folder));
    }

    /// Unmounts it; every file on it must be closed.
    pub(super) fn unmount(&self) {
        run(Command::new("umount").arg(&self.folder));
    }

    /// Returns how many flushes its device has done.
    pub(super) fn flushes(&self) -> u64 {
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
        let folder = self.folder.to_str().unwrap();
        let device = mounts.lines().find(|line| line.split(' ').nth(1) == Some(folder)).unwrap();
        let device = device.split(' ').next().unwrap().rsplit('/').next().unwrap();
        let counts = fs::read_to_string(format!("/sys/block/{device}/stat")).unwrap();
        // The sixteenth number: Documentation/block/stat.rst of the kernel.
        counts.split_whitespace().nth(15).expect("Linux 5.5 or newer counts flushes").parse().unwrap()
    }

    /// Makes ready for a power cut: after it the file system takes and gives nothing, and what was not on the disk by
    /// then, in the journal or in its place, never comes there.
    pub(super) fn switch(&self) -> PowerSwitch {
        // `FS_IOC_SHUTDOWN` with `NOLOGFLUSH`. Our own code has no `unsafe`, which a call by number would need.
        const CUT: &str = "import fcntl, os, struct, sys\n\
            disk = os.open(sys.argv[1], os.O_RDONLY)\n\
            print('ready', flush=True)\n\
            sys.stdin.readline()\n\
            fcntl.ioctl(disk, 0x8004587d, struct.pack('I', 2))\n";
        let mut child = Command::new("python3")
            .args(["-c", CUT])
            .arg(&self.folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut ready = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut ready).unwrap();
        assert_eq!(ready, "ready\n");
        PowerSwitch { child }
    }
}

/// Cuts the power of one file system.
#[derive(Debug)]
pub(super) struct PowerSwitch {
    child: Child,
}

impl PowerSwitch {
    pub(super) fn cut(mut self) {
        self.child.stdin.take().unwrap().write_all(b"\n").unwrap();
        assert!(self.child.wait().unwrap().success(), "the power was not cut");
    }
}

fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|fault| panic!("{command:?}: {fault}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}
