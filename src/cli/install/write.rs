//! Files of the system: written only when they change, and never seen half written.

use std::fs::Permissions;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::super::failure::{Failure, Kind, Result};

/// Whether a file had to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Written {
    /// It was.
    New,
    /// It was there already, with the same content.
    Same,
}

/// Writes a text file that everybody may read.
///
/// # Errors
/// Names the file.
pub(super) fn write_if_new(path: &Path, text: &str) -> Result<Written> {
    if std::fs::read_to_string(path).is_ok_and(|found| found == text) {
        return Ok(Written::Same);
    }
    replace(path, 0o644, |draft| std::fs::write(draft, text)).map_err(|error| not_written(path, error))?;
    Ok(Written::New)
}

/// Says whether a program differs from its installed copy.
///
/// # Errors
/// Names the file that cannot be read.
pub(super) fn program_is_new(program: &Path, installed: &Path) -> Result<bool> {
    if !installed.exists() {
        return Ok(true);
    }
    let read = |path: &Path| {
        std::fs::read(path).map_err(|error| {
            Failure::new(Kind::Failed, anyhow::Error::new(error).context(format!("cannot read {}", path.display())))
        })
    };
    Ok(read(program)? != read(installed)?)
}

/// Copies a program to where it is installed.
///
/// # Errors
/// Names the file.
pub(super) fn copy_program(program: &Path, installed: &Path) -> Result<()> {
    // Renamed over the old one, so that a program that is running keeps its own.
    replace(installed, 0o755, |draft| std::fs::copy(program, draft).map(|_| ()))
        .map_err(|error| not_written(installed, error))
}

fn replace(path: &Path, mode: u32, write: impl FnOnce(&Path) -> io::Result<()>) -> io::Result<()> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    std::fs::create_dir_all(folder)?;
    let draft = folder.join(format!(".{}.new", name.to_string_lossy()));
    write(&draft)?;
    std::fs::set_permissions(&draft, Permissions::from_mode(mode))?;
    std::fs::rename(&draft, path)
}

fn not_written(path: &Path, error: io::Error) -> Failure {
    Failure::new(Kind::Failed, anyhow::Error::new(error).context(format!("cannot write {}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_written_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("units/a.service");
        assert_eq!(write_if_new(&path, "text").unwrap(), Written::New);
        assert_eq!(write_if_new(&path, "text").unwrap(), Written::Same);
        assert_eq!(write_if_new(&path, "other").unwrap(), Written::New);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o644);
        assert_eq!(std::fs::read_dir(folder.path().join("units")).unwrap().count(), 1);
    }

    #[test]
    fn a_program_is_copied_only_when_it_differs() {
        let folder = tempfile::tempdir().unwrap();
        let (program, installed) = (folder.path().join("a"), folder.path().join("bin/miyabi"));
        std::fs::write(&program, "1").unwrap();
        assert!(program_is_new(&program, &installed).unwrap());
        copy_program(&program, &installed).unwrap();
        assert!(!program_is_new(&program, &installed).unwrap());
        assert_eq!(std::fs::metadata(&installed).unwrap().permissions().mode() & 0o777, 0o755);
    }
}
