//! The server and the session: started, found again, told from those of others.

use std::sync::PoisonError;
use std::time::Duration;

use tmux_interface::{DisplayMessage, KillPane, NewSession, NewWindow, SetOption, SplitWindow};

use super::client::Client;
use super::script::{Script, literal};
use super::version::{OLDEST, Version};
use super::{Connected, ROOT_TAG, Server, Tmux, TmuxError, oneshot};
use crate::io::process;

/// The window that keeps the session while no agent has one. No process runs in it.
///
/// It is more than comfort: 3.3a looks at the session's current window when it tells control clients of a change, and
/// crashes, with every pane of the server, if the last windows ended in the same moment and there is none.
const KEEPER: &str = "miyabi";

/// The pane option by which the keeper is found, whatever people call its window.
const KEEPER_TAG: &str = "@miyabi_keeper";

/// What a window of ours is born with; it is replaced before it could end by itself.
const FIRST_PROGRAM: [&str; 3] = ["--", "sleep", "60"];

/// How many lines of each pane people can scroll back. A pane full of short ones costs the server 6 MiB in tmux 3.3a and 18 MiB
/// in 3.8; the text itself is in the logs.
const HISTORY_LINES: u32 = 10_000;

/// How long a server that somebody else keeps may take to come back.
const SERVER_PATIENCE: Duration = Duration::from_secs(20);

/// The wait between two looks for such a server.
const SERVER_LOOK: Duration = Duration::from_millis(20);

/// Columns and rows of the panes as long as nobody is attached.
const SCREEN: (usize, usize) = (200, 50);

impl Tmux {
    /// Connects: starts the server if none runs, makes the session if it is missing and sure that it is ours, and attaches
    /// our client to it.
    ///
    /// # Errors
    /// When tmux is missing or too old, does not answer, or the session belongs to another root.
    pub async fn connect(&self) -> Result<Connected, TmuxError> {
        check_name(&self.spec.session)?;
        oneshot::version(&self.spec).await?;
        // A pane may be on its way, and it makes the session as well.
        let _alone = self.slots.lock().await;
        let connected = self.start_server_if_needed().await?;
        self.learn_server().await?;
        let session = self.ensure_session().await?;
        self.attach(&session).await?;
        self.ask(&self.settings(&session)).await?;
        self.ensure_keeper(&session).await?;
        Ok(connected)
    }

    /// Returns the id of our session, which is made if it is missing.
    pub(super) async fn ensure_session(&self) -> Result<String, TmuxError> {
        if let Some(session) = self.find_session().await? {
            return Ok(session);
        }
        let make = self.new_session();
        self.ask(&make).await?;
        let made = self.find_session().await?;
        made.ok_or_else(|| TmuxError::Nonsense { verb: make.verb().to_owned(), answer: "no session".to_owned() })
    }

    /// Starts a server if none listens.
    pub(super) async fn start_server_if_needed(&self) -> Result<Connected, TmuxError> {
        if oneshot::server_listens(&self.spec).await {
            return Ok(Connected::Joined);
        }
        // What is left of a connection belongs to the server that is gone.
        *self.client.lock().await = None;
        if self.spec.server_is_kept {
            self.await_server().await?;
            self.learn_server().await?;
            return Ok(Connected::Joined);
        }
        oneshot::start_server(&self.spec).await?;
        self.learn_server().await?;
        Ok(Connected::StartedServer)
    }

    /// Waits for a server that a service manager starts again. A socket gives no sign of a listener, so it is looked at.
    async fn await_server(&self) -> Result<(), TmuxError> {
        let listens = async {
            while !oneshot::server_listens(&self.spec).await {
                tokio::time::sleep(SERVER_LOOK).await;
            }
        };
        let none = |_| TmuxError::NoServer { socket: self.spec.socket_path() };
        tokio::time::timeout(SERVER_PATIENCE, listens).await.map_err(none)
    }

    /// Returns the server, asking for it if nobody did yet.
    pub(super) async fn server(&self) -> Result<Server, TmuxError> {
        let known = *self.server.lock().unwrap_or_else(PoisonError::into_inner);
        match known {
            Some(server) if server.process.is_some_and(|process| process::is_alive(&process)) => Ok(server),
            Some(_) | None => self.learn_server().await,
        }
    }

    /// Returns the server's process id, as long as it lives.
    pub async fn server_pid(&self) -> Option<u32> {
        self.server().await.ok()?.process.map(|process| process.pid)
    }

    async fn learn_server(&self) -> Result<Server, TmuxError> {
        let question = Script::new(&DisplayMessage::new().print().message("#{pid}\t#{version}").build());
        let answer = self.ask(&question).await?;
        let nonsense = || TmuxError::Nonsense { verb: question.verb().to_owned(), answer: answer.join("\n") };
        let (pid, version) = answer.first().and_then(|line| line.split_once('\t')).ok_or_else(nonsense)?;
        let version = Version::parse(version).ok_or_else(nonsense)?;
        if version < OLDEST {
            return Err(TmuxError::TooOld { found: version });
        }
        let server = Server { process: process::identify(pid.parse().map_err(|_| nonsense())?), version };
        *self.server.lock().unwrap_or_else(PoisonError::into_inner) = Some(server);
        Ok(server)
    }

    /// Returns the id of our session if it exists.
    ///
    /// # Errors
    /// When a session of that name exists that is not ours.
    pub(super) async fn find_session(&self) -> Result<Option<String>, TmuxError> {
        let answer = self.ask(&oneshot::sessions()).await?;
        if let Some(session) = oneshot::our_session(&self.spec, &answer) {
            return Ok(Some(session));
        }
        let foreign = answer.iter().find_map(|line| {
            let mut fields = line.splitn(3, '\t').skip(1);
            fields.next().filter(|name| *name == self.spec.session).map(|_| fields.next().unwrap_or_default())
        });
        match foreign {
            None => Ok(None),
            Some(root) => Err(TmuxError::Foreign {
                session: self.spec.session.clone(),
                owner: if root.is_empty() { "somebody else".to_owned() } else { format!("the root {root}") },
            }),
        }
    }

    /// Attaches our client unless it is attached.
    pub(super) async fn attach(&self, session: &str) -> Result<(), TmuxError> {
        {
            let mut client = self.client.lock().await;
            if client.as_ref().is_some_and(Client::is_open) {
                return Ok(());
            }
            *client = Some(Client::attach(&self.spec, session, &self.events)?);
        }
        // An attach that the server refuses ends the client, and this question with it.
        self.learn_server().await.map(drop)
    }

    /// Makes the session, in one sequence, so that nobody sees it without its tag. A window is born with a process; the
    /// pane without one takes its place.
    fn new_session(&self) -> Script {
        let name = &self.spec.session;
        let target = format!("={name}:");
        let mut make = NewSession::new()
            .detached()
            .session_name(name)
            .window_name(KEEPER)
            .start_directory("/")
            .width(SCREEN.0)
            .height(SCREEN.1)
            .build();
        for word in FIRST_PROGRAM {
            make.push_param(word);
        }
        Script::new(&make).then_all(&empty_and_tag(&target)).then_all(&self.settings(&target))
    }

    /// Makes the keeper again if somebody closed it.
    async fn ensure_keeper(&self, session: &str) -> Result<(), TmuxError> {
        if self.keeper().await?.is_some() {
            return Ok(());
        }
        let taken = self.window_indexes(session).await?;
        let index = (0..).find(|index| !taken.contains(index)).unwrap_or_default();
        let target = format!("{session}:{index}");
        let mut make = NewWindow::new().detached().window_name(KEEPER).target_window(target.as_str()).build();
        for word in FIRST_PROGRAM {
            make.push_param(word);
        }
        self.ask(&Script::new(&make).then_all(&empty_and_tag(&target))).await.map(drop)
    }

    /// Returns the window id of our session's keeper.
    pub(super) async fn keeper(&self) -> Result<Option<String>, TmuxError> {
        let format = format!("#{{window_id}}\t#{{{KEEPER_TAG}}}\t#{{{ROOT_TAG}}}");
        let answer = self.all_panes(&format).await?;
        let ending = format!("\t1\t{}", self.spec.root_tag());
        Ok(answer.iter().find_map(|line| line.strip_suffix(ending.as_str())).map(str::to_owned))
    }

    /// Returns what is set on the server and the session at every connection; none of it touches sessions of others.
    fn settings(&self, session: &str) -> Script {
        let purpose = self.spec.root.file_name().unwrap_or(self.spec.root.as_os_str()).to_string_lossy();
        let left = format!("#[bold] miyabi #[nobold]{} | ", literal(&purpose).replace('[', "("));
        let lines = HISTORY_LINES.to_string();
        let options = [
            (ROOT_TAG, self.spec.root_tag()),
            ("history-limit", lines),
            ("status", "on".to_owned()),
            ("status-left", left),
            ("status-left-length", "40".to_owned()),
            ("status-right", " %H:%M ".to_owned()),
            ("destroy-unattached", "off".to_owned()),
            // Whoever attaches must not hand his environment on to panes that are made later.
            ("update-environment", String::new()),
        ];
        // If every pane ends at once the server must stay; and programs must find a terminal that they know.
        let stay = SetOption::new().server().option("exit-empty").value("off").build();
        let terminal = SetOption::new().server().option("default-terminal").value("screen-256color").build();
        options.into_iter().fold(Script::new(&stay).then(&terminal), |script, (option, value)| {
            script.then(&SetOption::new().target_pane(session).option(option).value(value).build())
        })
    }
}

/// Replaces the program of a new window by nothing.
fn empty_and_tag(target: &str) -> Script {
    let empty = SplitWindow::new().detached().target_pane(target).shell_command("").build();
    let kill = KillPane::new().target_pane(target).build();
    let tag = SetOption::new().pane().target_pane(target).option(KEEPER_TAG).value("1").build();
    Script::new(&empty).then(&kill).then(&tag)
}

/// Versions before 3.7 replace some characters, and targets give others a meaning.
fn check_name(name: &str) -> Result<(), TmuxError> {
    let fine = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-');
    if name.starts_with(char::is_alphanumeric) && name.chars().all(fine) {
        Ok(())
    } else {
        Err(TmuxError::SessionName { name: name.to_owned() })
    }
}
