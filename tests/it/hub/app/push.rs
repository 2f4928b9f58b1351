//! Pushes with an app's tokens: the real git against a server that hands git's own back end only to whoever has a token that
//! counts.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use miyabi::io::git::publish::{self, Push, Pushed, Remote};
use miyabi::io::github::client::Client;

use super::{Hub, State};

/// The largest body that a push of a test has.
const BODY_BYTES_MAX: usize = 1 << 20;

/// Serves bare repositories below a folder until the test ends; returns its address.
fn serve(folder: &Path, state: &Arc<Mutex<State>>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let (folder, state) = (folder.to_owned(), Arc::clone(state));
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // A client that goes away is none of the server's business.
            drop(answer(stream, &folder, &state));
        }
    });
    address
}

fn answer(mut stream: TcpStream, folder: &Path, state: &Mutex<State>) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let mut words = line.split_whitespace();
    let (verb, target) = (words.next().unwrap_or_default().to_owned(), words.next().unwrap_or_default().to_owned());
    let mut headers = std::collections::BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let header = |name: &str| headers.get(name).cloned().unwrap_or_default();
    let length: usize = header("content-length").parse().unwrap_or(0);
    assert!(length <= BODY_BYTES_MAX && header("transfer-encoding").is_empty(), "{headers:?}");
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let shown = header("authorization");
    let shown = shown.strip_prefix("Basic ").and_then(|text| STANDARD.decode(text).ok()).unwrap_or_default();
    let token = String::from_utf8_lossy(&shown).strip_prefix("x-access-token:").map(str::to_owned);
    let counts = token.is_some_and(|token| counts(state, &token));
    if !counts {
        return stream.write_all(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    }
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let mut backend = Command::new("git")
        .arg("http-backend")
        .envs([("REQUEST_METHOD", verb.as_str()), ("PATH_INFO", path), ("QUERY_STRING", query)])
        .envs([("GIT_HTTP_EXPORT_ALL", "1"), ("REMOTE_USER", "app")])
        .env("GIT_PROJECT_ROOT", folder)
        .env("CONTENT_TYPE", header("content-type"))
        .env("CONTENT_LENGTH", length.to_string())
        .env("HTTP_CONTENT_ENCODING", header("content-encoding"))
        .env("GIT_PROTOCOL", header("git-protocol"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    backend.stdin.take().expect("a pipe").write_all(&body)?;
    let output = backend.wait_with_output()?.stdout;
    let end = output.windows(4).position(|four| four == b"\r\n\r\n").unwrap_or(output.len());
    let head = String::from_utf8_lossy(&output[..end]).into_owned();
    let status = head.lines().find_map(|line| line.strip_prefix("Status: ")).unwrap_or("200 OK").to_owned();
    write!(stream, "HTTP/1.1 {status}\r\nConnection: close\r\n{head}\r\n\r\n")?;
    stream.write_all(output.get(end + 4..).unwrap_or_default())
}

fn counts(state: &Mutex<State>, token: &str) -> bool {
    let state = state.lock().unwrap();
    state.tokens.get(token).is_some_and(|(_, until)| state.now() < *until)
}

fn git(folder: &Path, args: &[&str]) -> String {
    let who = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "init.defaultBranch=main"];
    let output = Command::new("git").current_dir(folder).args(who).args(args).output().unwrap();
    assert!(output.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// A checkout with a commit, a bare repository that is served, and the publisher's clone.
struct Ground {
    folder: tempfile::TempDir,
    address: String,
}

impl Ground {
    fn new(hub: &Hub) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let bare = folder.path().join("served/octo/app.git");
        std::fs::create_dir_all(&bare).unwrap();
        git(&bare, &["init", "--quiet", "--bare", "."]);
        std::fs::create_dir(folder.path().join("work")).unwrap();
        git(&folder.path().join("work"), &["init", "--quiet", "."]);
        let address = serve(&folder.path().join("served"), &hub.state);
        Self { folder, address: format!("{address}/octo/app.git") }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn commit(&self) -> String {
        git(&self.path("work"), &["commit", "--quiet", "--allow-empty", "--message", "work"]);
        git(&self.path("work"), &["rev-parse", "HEAD"])
    }

    fn held(&self) -> String {
        git(&self.path("served/octo/app.git"), &["rev-parse", "refs/heads/auto-code/issue-1"])
    }

    /// Pushes as the publisher does: with what the client has now, which is in doubt when that fails.
    async fn push(&self, client: &Client, commit: &str, ours: &[String]) -> Result<Pushed, String> {
        let token = client.token().await.unwrap();
        let remote = Remote { address: self.address.clone(), token: Some(token.clone()) };
        let (work, clone) = (self.path("work"), self.path("clone"));
        let push = Push { repository: &work, from: "main", commit, branch: "auto-code/issue-1", ours };
        match publish::push(&clone, &remote, push).await {
            Ok(pushed) => Ok(pushed),
            Err(error) => {
                client.doubt(&token).await;
                Err(error.to_string())
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn commits_are_pushed_with_the_token_of_the_hour_which_no_file_ever_holds() {
    let hub = Hub::start().await;
    let ground = Ground::new(&hub);
    let (client, _) = hub.client("octo/app");
    let first = ground.commit();
    assert_eq!(ground.push(&client, &first, &[]).await, Ok(Pushed::Done));
    assert_eq!(ground.held(), first);

    // Another hour, another token.
    hub.hands.pass(super::HOUR);
    let second = ground.commit();
    assert_eq!(ground.push(&client, &second, std::slice::from_ref(&first)).await, Ok(Pushed::Done));
    assert_eq!((ground.held(), hub.state().given), (second.clone(), 2));

    // GitHub takes the token away: git fails once, and the next try has a new one.
    hub.state().tokens.clear();
    let third = ground.commit();
    let ours = [first, second];
    let failed = ground.push(&client, &third, &ours).await.unwrap_err();
    assert!(!failed.contains("ghs_"), "{failed}");
    assert_eq!(ground.push(&client, &third, &ours).await, Ok(Pushed::Done));
    assert_eq!((ground.held(), hub.state().given), (third, 3));

    std::fs::write(ground.path("probe"), "ghs_probe").unwrap();
    assert!(files_hold(ground.folder.path(), "ghs_probe"), "the search finds what is there");
    for token in hub.state().tokens.keys() {
        let basic = STANDARD.encode(format!("x-access-token:{token}"));
        assert!(!files_hold(ground.folder.path(), token) && !files_hold(ground.folder.path(), &basic));
    }
}

/// Says whether a text is in a file below a folder.
fn files_hold(folder: &Path, text: &str) -> bool {
    std::fs::read_dir(folder).unwrap().flatten().any(|entry| {
        let path = entry.path();
        if path.is_dir() {
            return files_hold(&path, text);
        }
        let bytes = std::fs::read(&path).unwrap_or_default();
        bytes.windows(text.len()).any(|window| window == text.as_bytes())
    })
}
