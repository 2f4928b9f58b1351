//! What every verb is given: the environment, the output, and the root folder with what lies in it.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use super::env::Environment;
use super::failure::{Failure, Kind, Result};
use super::output::{Color, Output, count};
use crate::config;
use crate::control::client::Client;
use crate::model::fault::Fault;
use crate::model::layout::Layout;
use crate::model::plan::Plan;

/// The largest configuration or dependency file that is read, in bytes.
pub const FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// What every verb is given.
pub struct Context {
    /// What the process was given.
    pub environment: Environment,
    /// Where results go.
    pub out: Output,
    /// The folder named with `-C`.
    pub root: Option<PathBuf>,
}

impl Context {
    /// Returns the folder that is meant, whether or not it is a root.
    ///
    /// # Errors
    /// Names a folder that does not exist.
    pub fn folder(&self) -> Result<PathBuf> {
        let named = self.root.as_deref().or(self.environment.root.as_deref());
        let path = self.environment.folder.join(named.unwrap_or(Path::new("")));
        // One root has one name, however it is reached: sockets, sessions and worktrees are found by it.
        path.canonicalize().map_err(|error| {
            Failure::new(Kind::Invalid, anyhow::Error::new(error).context(format!("no folder {}", path.display())))
        })
    }

    /// Returns the root's layout.
    ///
    /// # Errors
    /// Says how to make a root when the folder is none.
    pub fn layout(&self) -> Result<Layout> {
        let layout = Layout::new(self.folder()?);
        if layout.config().is_file() {
            return Ok(layout);
        }
        Err(Failure::say(Kind::Invalid, format!("there is no agents.toml in {}", layout.root().display()))
            .hint("run `miyabi init` there, or name the root with -C ROOT or MIYABI_ROOT"))
    }

    /// Returns the means to ask the supervisor of the root.
    ///
    /// # Errors
    /// Says how to make a root when the folder is none.
    pub fn client(&self) -> Result<Client> {
        Ok(Client::new(self.layout()?.control_socket()))
    }

    /// Reads agents.toml.
    ///
    /// # Errors
    /// Shows every fault of the file.
    pub fn plan(&self) -> Result<Plan> {
        let layout = self.layout()?;
        let (text, parsed) = read_plan(&layout)?;
        parsed.map_err(|faults| self.faulty(&faults, &BTreeMap::from([(CONFIG_NAME.to_owned(), text)])))
    }

    /// Turns faults into a failure that shows them.
    #[must_use]
    pub fn faulty(&self, faults: &[Fault], texts: &BTreeMap<String, String>) -> Failure {
        let files: std::collections::BTreeSet<_> = faults.iter().map(|fault| fault.place.file.as_str()).collect();
        let files: Vec<_> = files.into_iter().collect();
        let count = count(faults.len(), "fault", "faults");
        Failure::say(Kind::Invalid, format!("{count} in {}", files.join(", "))).show(config::render::render(
            faults,
            texts,
            match self.out.note_color {
                Color::Plain => config::render::Color::Plain,
                Color::Ansi => config::render::Color::Ansi,
            },
        ))
    }
}

/// The name of the configuration file as it is shown in faults.
pub const CONFIG_NAME: &str = "agents.toml";

/// Reads agents.toml, and returns its text together with what it says.
///
/// # Errors
/// Only when the file cannot be read.
pub fn read_plan(layout: &Layout) -> Result<(String, std::result::Result<Plan, Vec<Fault>>)> {
    let text = read_text(&layout.config())?;
    let parsed = config::agents::parse(CONFIG_NAME, &text, layout.root());
    Ok((text, parsed))
}

/// Reads a text file of bounded size.
///
/// # Errors
/// Names the file.
pub fn read_text(path: &Path) -> Result<String> {
    String::from_utf8(read_bytes(path)?).map_err(|error| {
        let error = anyhow::Error::new(error).context(format!("cannot read {}", path.display()));
        Failure::new(Kind::Invalid, error).hint("save the file as UTF-8")
    })
}

/// Reads a file of bounded size.
///
/// # Errors
/// Names the file.
pub fn read_bytes(path: &Path) -> Result<Vec<u8>> {
    let read = || -> io::Result<Vec<u8>> {
        let size = std::fs::metadata(path)?.len();
        if size > FILE_BYTES_MAX {
            return Err(io::Error::other(format!("it has {size} bytes, and at most {FILE_BYTES_MAX} are read")));
        }
        std::fs::read(path)
    };
    read().map_err(|error| {
        Failure::new(Kind::Invalid, anyhow::Error::new(error).context(format!("cannot read {}", path.display())))
    })
}
