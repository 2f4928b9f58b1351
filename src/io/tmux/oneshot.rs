//! tmux by starting its program once per question: slower, but it needs no connection and can start the server.

use std::process::{Output, Stdio};
use std::time::Duration;

use tmux_interface::{ListSessions, SetOption, StartServer, TmuxCommands};
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tokio::process::Command;

use super::script::Script;
use super::version::{OLDEST, Version};
use super::{ROOT_TAG, TmuxError, TmuxSpec};

/// How long the server may take to answer; a stopped one never does.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// Returns the program with the environment that the server is to have: a list, never an inheritance.
pub(super) fn program(spec: &TmuxSpec) -> Command {
    let mut command = Command::new(&spec.program);
    command.env_clear().envs(&spec.env);
    if !spec.env.contains_key("LANG") && !spec.env.contains_key("LC_ALL") {
        command.env("LANG", "C.UTF-8");
    }
    if let Some(folder) = &spec.tmpdir {
        command.env("TMUX_TMPDIR", folder);
    }
    // The server keeps the folder that it was started in, which must not hold up a file system or vanish.
    command.args(["-u", "-L", &spec.socket, "-f", "/dev/null"]).current_dir("/");
    command
}

/// Returns the version of the program.
pub(super) async fn version(spec: &TmuxSpec) -> Result<Version, TmuxError> {
    let mut command = Command::new(&spec.program);
    command.arg("-V").env_clear().envs(&spec.env);
    let output = run(command, spec, "-V", "").await?;
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    let found = Version::parse(&text).ok_or(TmuxError::UnknownVersion { text })?;
    if found < OLDEST { Err(TmuxError::TooOld { found }) } else { Ok(found) }
}

/// Says whether a server listens on the socket. The file alone proves nothing: a killed server leaves it behind.
pub(super) async fn server_listens(spec: &TmuxSpec) -> bool {
    UnixStream::connect(spec.socket_path()).await.is_ok()
}

/// Starts a server that stays although it has no session.
pub(super) async fn start_server(spec: &TmuxSpec) -> Result<(), TmuxError> {
    let stay = SetOption::new().server().option("exit-empty").value("off").build();
    let both = TmuxCommands::new().add_command(StartServer::new().build()).add_command(stay);
    let mut command = program(spec);
    command.args(both.to_vec().iter().map(AsRef::as_ref));
    let output = run(command, spec, "start-server", "").await?;
    lines(spec, "start-server", &output).map(drop)
}

/// Runs a sequence and returns what it printed.
pub(super) async fn ask(spec: &TmuxSpec, script: &Script) -> Result<Vec<String>, TmuxError> {
    // Arguments of a process are visible to every user and limited to some 16 KiB; standard input is neither.
    let mut command = program(spec);
    command.args(["source-file", "-"]);
    let output = run(command, spec, script.verb(), &format!("{}\n", script.line())).await?;
    lines(spec, script.verb(), &output)
}

/// Returns the id of our root's session.
pub(super) async fn find_session(spec: &TmuxSpec) -> Result<Option<String>, TmuxError> {
    let answer = ask(spec, &sessions()).await?;
    Ok(our_session(spec, &answer))
}

/// The question for all sessions, their roots and names.
pub(super) fn sessions() -> Script {
    let format = format!("#{{session_id}}\t#{{session_name}}\t#{{{ROOT_TAG}}}");
    Script::new(&ListSessions::new().format(format).build())
}

/// Finds our session in the answer to [`sessions`]: by its tag, because people may rename it.
pub(super) fn our_session(spec: &TmuxSpec, answer: &[String]) -> Option<String> {
    let ours = spec.root_tag();
    answer.iter().find_map(|line| {
        let mut fields = line.splitn(3, '\t');
        let (id, _, root) = (fields.next()?, fields.next()?, fields.next()?);
        (root == ours).then(|| id.to_owned())
    })
}

async fn run(mut command: Command, spec: &TmuxSpec, verb: &str, input: &str) -> Result<Output, TmuxError> {
    let failed = |source| TmuxError::Run { program: spec.program.clone(), source };
    let done = async {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(failed)?;
        if let Some(mut stdin) = child.stdin.take() {
            // A program that fails early does not read its input; what it has to say comes from its standard error.
            stdin.write_all(input.as_bytes()).await.ok();
        }
        child.wait_with_output().await.map_err(failed)
    };
    match tokio::time::timeout(PATIENCE, done).await {
        Ok(output) => output,
        Err(_) => Err(TmuxError::Silent { verb: verb.to_owned(), patience: PATIENCE }),
    }
}

fn lines(spec: &TmuxSpec, verb: &str, output: &Output) -> Result<Vec<String>, TmuxError> {
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect());
    }
    let message = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    if message.starts_with("no server running on") || message.starts_with("error connecting to") {
        Err(TmuxError::NoServer { socket: spec.socket_path() })
    } else {
        Err(TmuxError::Refused { verb: verb.to_owned(), message })
    }
}
