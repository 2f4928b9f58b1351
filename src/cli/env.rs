//! The only reader of the process's environment: variables, current folder, program, terminals.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::path::PathBuf;

use crate::io::github::connection::Credential;
use crate::io::github::installation::{Key, KeyError};
use crate::model::github::GithubSpec;
use crate::model::secret::Secret;

/// The variable that names the descriptor through which secrets were handed over.
const HANDED: &str = "MIYABI_TOKEN_FD";

/// The most bytes of secrets that are handed over; a pipe has room for them.
const HANDED_BYTES_MAX: usize = 32 * 1024;

/// Everything that the process was given besides its arguments.
///
/// It has no `Debug` form on purpose: some of the values are secrets.
pub struct Environment {
    /// `MIYABI_ROOT`: the root folder when `-C` does not name one.
    pub root: Option<PathBuf>,
    /// `MIYABI_AGENT`: the agent in whose pane this runs.
    pub agent: Option<String>,
    /// `MIYABI_INCARNATION`: which start of that agent.
    pub incarnation: Option<String>,
    /// `MIYABI_RUN`: the run that an agent's program works on.
    pub run: Option<String>,
    /// `MIYABI_LOG`: a log level or filter.
    pub log: Option<String>,
    /// `MIYABI_LOG_FORMAT`: `json` or `compact`.
    pub log_format: Option<String>,
    /// `MIYABI_GITHUB_API`: another server than GitHub's own.
    pub github_api: Option<String>,
    /// The service manager's credential `github_token`, which nobody else sees.
    pub github_credential: Option<Secret>,
    /// The service manager's credential `github_app_key`.
    pub app_key_credential: Option<Secret>,
    /// The service manager's credential `webhook_secret`.
    pub webhook_credential: Option<Secret>,
    /// The secrets that an earlier self of this process took out of its environment, by their variables.
    pub handed: BTreeMap<String, Secret>,
    /// `NO_COLOR`: set and not empty means no colours.
    pub no_color: bool,
    /// `CLICOLOR_FORCE`: set and neither empty nor `0` means colours even without a terminal.
    pub color_forced: bool,
    /// `TERM`.
    pub term: Option<String>,
    /// `TMUX`: set inside tmux.
    pub tmux: Option<String>,
    /// `TMUX_TMPDIR`: where tmux keeps its sockets.
    pub tmux_folder: Option<PathBuf>,
    /// `JOURNAL_STREAM`: set when standard error goes to the system's journal.
    pub journal_stream: Option<String>,
    /// `HOME`.
    pub home: Option<PathBuf>,
    /// The folders of `PATH`.
    pub path: Vec<PathBuf>,
    /// The value of `LC_ALL`, `LC_CTYPE` or `LANG`, whichever decides.
    pub locale: Option<String>,
    /// All variables whose value is text, for the supervisor and the runner.
    pub all: BTreeMap<String, String>,
    /// The current folder.
    pub folder: PathBuf,
    /// The path of this program.
    pub program: PathBuf,
    /// Whether standard input is a terminal.
    pub stdin_is_terminal: bool,
    /// Whether standard output is a terminal.
    pub stdout_is_terminal: bool,
    /// Whether standard error is a terminal.
    pub stderr_is_terminal: bool,
}

impl Environment {
    /// Reads the environment of this process.
    #[must_use]
    pub fn read() -> Self {
        // A variable that is no text cannot be meant for us, and could not be handed on in a file either.
        let all = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        Self {
            folder: std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/")),
            program: std::env::current_exe().unwrap_or_else(|_| PathBuf::from("miyabi")),
            stdin_is_terminal: std::io::stdin().is_terminal(),
            stdout_is_terminal: std::io::stdout().is_terminal(),
            stderr_is_terminal: std::io::stderr().is_terminal(),
            ..Self::from_variables(all).with_credentials()
        }
        .with_handed_secrets()
    }

    /// Returns the token for GitHub, which is in a variable of this name unless it came in a safer way.
    #[must_use]
    pub fn github_token(&self, variable: &str) -> Option<Secret> {
        self.github_credential.clone().or_else(|| self.secret(variable))
    }

    /// Returns what is shown to GitHub, if it is there: the app, or the token.
    ///
    /// # Errors
    /// The key of the app cannot be used.
    pub fn github(&self, spec: &GithubSpec) -> Result<Option<Credential>, KeyError> {
        match &spec.app {
            Some(app) => {
                let key = match &self.app_key_credential {
                    Some(credential) => Key::of_credential(credential)?,
                    None => Key::read(&app.private_key_file)?,
                };
                Ok(Some(Credential::App(app.id, key)))
            }
            None => Ok(self.github_token(&spec.token_env).map(Credential::Token)),
        }
    }

    /// Returns the secret of the webhooks, which is in a variable of this name unless it came in a safer way.
    #[must_use]
    pub fn webhook_secret(&self, variable: &str) -> Option<Secret> {
        self.webhook_credential.clone().or_else(|| self.secret(variable))
    }

    fn secret(&self, variable: &str) -> Option<Secret> {
        let open = || self.all.get(variable).filter(|secret| !secret.is_empty()).cloned().map(Secret::new);
        self.handed.get(variable).cloned().or_else(open)
    }

    /// Begins this process anew without the variables that hold secrets: whatever it starts would inherit them, and whoever may
    /// look at its environment would see them. The values go through a pipe, with what was handed over before.
    ///
    /// # Errors
    /// Returns only when the process could not begin anew.
    pub fn begin_without(&self, variables: &[&str]) -> std::io::Error {
        use std::io::Write;
        use std::os::fd::AsRawFd;
        use std::os::unix::process::CommandExt;

        let begin = || -> std::io::Result<std::io::Error> {
            let (reader, mut writer) = std::io::pipe()?;
            let open = variables.iter().filter_map(|name| Some(((*name).to_owned(), self.all.get(*name)?.as_str())));
            let handed = self.handed.iter().map(|(name, secret)| (name.clone(), secret.expose()));
            let secrets: BTreeMap<String, &str> = handed.chain(open).collect();
            let text = serde_json::to_string(&secrets)?;
            if text.len() > HANDED_BYTES_MAX {
                return Err(std::io::Error::other("the secrets are too long"));
            }
            // They fit into the pipe, so nobody has to read yet.
            writer.write_all(text.as_bytes())?;
            drop(writer);
            rustix::io::fcntl_setfd(&reader, rustix::io::FdFlags::empty())?;
            let mut arguments = std::env::args_os();
            let name = arguments.next().unwrap_or_else(|| "miyabi".into());
            let mut command = std::process::Command::new(&self.program);
            command.arg0(name).args(arguments).env(HANDED, reader.as_raw_fd().to_string());
            for variable in variables {
                command.env_remove(variable);
            }
            Ok(command.exec())
        };
        begin().unwrap_or_else(|error| error)
    }

    /// Takes the secrets that were handed over through a pipe.
    fn with_handed_secrets(mut self) -> Self {
        let number = self.all.remove(HANDED).and_then(|number| number.parse::<u32>().ok());
        let read = number.and_then(|number| std::fs::read_to_string(format!("/proc/self/fd/{number}")).ok());
        let secrets: BTreeMap<String, String> =
            read.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
        self.handed = secrets.into_iter().map(|(name, secret)| (name, Secret::new(secret))).collect();
        self
    }

    /// Takes what the service manager hands over in files that only this process can read.
    fn with_credentials(mut self) -> Self {
        let folder = self.all.get("CREDENTIALS_DIRECTORY").filter(|folder| !folder.is_empty()).map(PathBuf::from);
        let read = |name: &str| {
            let text = std::fs::read_to_string(folder.as_ref()?.join(name)).ok()?;
            Some(text.trim().to_owned()).filter(|text| !text.is_empty()).map(Secret::new)
        };
        (self.github_credential, self.webhook_credential) = (read("github_token"), read("webhook_secret"));
        self.app_key_credential = read("github_app_key");
        self
    }

    fn from_variables(all: BTreeMap<String, String>) -> Self {
        let text = |name: &str| all.get(name).filter(|value| !value.is_empty()).cloned();
        Self {
            root: text("MIYABI_ROOT").map(PathBuf::from),
            agent: text("MIYABI_AGENT"),
            incarnation: text("MIYABI_INCARNATION"),
            run: text("MIYABI_RUN"),
            log: text("MIYABI_LOG"),
            log_format: text("MIYABI_LOG_FORMAT"),
            github_api: text("MIYABI_GITHUB_API"),
            github_credential: None,
            app_key_credential: None,
            webhook_credential: None,
            handed: BTreeMap::new(),
            no_color: text("NO_COLOR").is_some(),
            color_forced: text("CLICOLOR_FORCE").is_some_and(|value| value != "0"),
            term: text("TERM"),
            tmux: text("TMUX"),
            tmux_folder: text("TMUX_TMPDIR").map(PathBuf::from),
            journal_stream: text("JOURNAL_STREAM"),
            home: text("HOME").map(PathBuf::from),
            path: text("PATH").map(|path| std::env::split_paths(&path).collect()).unwrap_or_default(),
            locale: text("LC_ALL").or_else(|| text("LC_CTYPE")).or_else(|| text("LANG")),
            folder: PathBuf::from("/"),
            program: PathBuf::from("miyabi"),
            stdin_is_terminal: false,
            stdout_is_terminal: false,
            stderr_is_terminal: false,
            all,
        }
    }

    /// Finds a program as the shell would.
    #[must_use]
    pub fn find_program(&self, name: &str) -> Option<PathBuf> {
        if name.contains('/') {
            let path = self.folder.join(name);
            return is_executable(&path).then_some(path);
        }
        self.path.iter().map(|folder| folder.join(name)).find(|path| is_executable(path))
    }
}

fn is_executable(path: &std::path::Path) -> bool {
    path.is_file() && rustix::fs::access(path, rustix::fs::Access::EXEC_OK).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(pairs: &[(&str, &str)]) -> Environment {
        Environment::from_variables(
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        )
    }

    #[test]
    fn an_empty_variable_is_as_good_as_none() {
        let environment = of(&[("NO_COLOR", ""), ("MIYABI_ROOT", ""), ("CLICOLOR_FORCE", "0")]);
        assert!(!environment.no_color && !environment.color_forced && environment.root.is_none());
    }

    #[test]
    fn a_credential_is_preferred_and_stays_out_of_the_variables() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().display().to_string();
        let environment = of(&[("CREDENTIALS_DIRECTORY", &path), ("GITHUB_TOKEN", "open")]).with_credentials();
        assert_eq!(environment.github_token("GITHUB_TOKEN").as_ref().map(Secret::expose), Some("open"));
        for (text, token) in [(" \n", "open"), ("secret\n", "secret")] {
            std::fs::write(folder.path().join("github_token"), text).unwrap();
            let environment = of(&[("CREDENTIALS_DIRECTORY", &path), ("GITHUB_TOKEN", "open")]).with_credentials();
            assert_eq!(environment.github_token("GITHUB_TOKEN").as_ref().map(Secret::expose), Some(token));
            assert!(!environment.all.values().any(|value| value.contains("secret")));
        }
    }

    #[test]
    fn the_locale_is_the_one_that_decides() {
        assert_eq!(of(&[("LANG", "C.UTF-8"), ("LC_ALL", "C")]).locale.as_deref(), Some("C"));
    }

    #[test]
    fn programs_are_found_on_the_path_only_when_they_can_be_run() {
        let environment = of(&[("PATH", "/nonexistent:/etc:/bin")]);
        assert_eq!(environment.find_program("sh"), Some(PathBuf::from("/bin/sh")));
        assert_eq!(environment.find_program("hostname-that-is-none"), None);
        assert_eq!(environment.find_program("passwd.nothing"), None);
    }
}
