//! GitHub for tests: the emulator, and in front of it a server that adds what it lacks and breaks where a test says so.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// The installed emulator.
const EMULATOR: &str = ".tools/node_modules/emulate/dist/api.js";

/// A request as it came.
#[derive(Debug, Clone)]
pub(super) struct Request {
    pub(super) method: String,
    pub(super) path: String,
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

/// An answer.
#[derive(Debug, Clone)]
pub(super) struct Response {
    pub(super) status: u16,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
}

/// Where a request is held, for ever: its sender is killed meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Held {
    /// Before it is carried out.
    Before,
    /// After it was carried out, before its answer.
    After,
}

/// A request that does not go its usual way.
pub(super) enum Trap {
    /// It is held, and the test is told.
    Hold(Held, mpsc::Sender<()>),
    /// It is answered so instead.
    Answer(Response),
    /// It is carried out, and then answered so.
    AnswerAfter(Response),
}

#[derive(Default)]
struct State {
    /// Every request and the status of its answer.
    log: Vec<(String, String, u16)>,
    /// The next request with this method and this in its path is caught.
    traps: Vec<(&'static str, &'static str, Trap)>,
    /// Which issues are blocked by which.
    blocked: BTreeMap<u64, BTreeSet<String>>,
    /// Which issues have which sub-issues.
    subs: BTreeMap<u64, BTreeSet<String>>,
    /// The app that alone is let in, if there is one.
    app: Option<Arc<dyn Door>>,
}

/// Whoever lets callers in.
pub(super) trait Door: Send + Sync {
    /// Answers what is its own to answer, and callers who may not come in; nothing to those who may.
    fn open(&self, method: &str, path: &str, shown: &str) -> Option<Response>;
}

/// GitHub for tests.
pub(super) struct Server {
    pub(super) address: String,
    emulator: Child,
    upstream: String,
    state: Arc<Mutex<State>>,
    ended: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Server {
    /// Starts both; nothing when the emulator is not installed, which in CI is a failure.
    #[expect(clippy::print_stderr, reason = "a test that is skipped says so")]
    pub(super) fn start() -> Option<Self> {
        let project = Path::new(env!("CARGO_MANIFEST_DIR"));
        let library = project.join(EMULATOR);
        if !library.exists() {
            let in_ci = std::env::vars().any(|(name, value)| name == "CI" && value == "true");
            assert!(!in_ci, "{EMULATOR} is missing; scripts/install-test-tools installs it");
            eprintln!("SKIPPED: {EMULATOR} is missing; scripts/install-test-tools installs it");
            return None;
        }
        Some(Self::begin(project, &library))
    }

    fn begin(project: &Path, library: &Path) -> Self {
        let mut emulator = Command::new("node")
            .arg(project.join("tests/it/daemon/github/emulator.mjs"))
            .arg(library)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("node can be run");
        let mut url = String::new();
        BufReader::new(emulator.stdout.as_mut().unwrap()).read_line(&mut url).unwrap();
        let port = url.trim().rsplit(':').next().and_then(|port| port.parse::<u16>().ok()).expect("an address");
        let upstream = format!("127.0.0.1:{port}");
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let state = Arc::new(Mutex::new(State::default()));
        let ended = Arc::new(AtomicBool::new(false));
        let (shared, stop, to) = (Arc::clone(&state), Arc::clone(&ended), upstream.clone());
        let (here, there) = (address.clone(), url.trim().to_owned());
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                let (Ok(stream), state, to) = (stream, Arc::clone(&shared), to.clone()) else { continue };
                let (here, there) = (here.clone(), there.clone());
                std::thread::spawn(move || serve(stream, &state, &to, &here, &there));
            }
        });
        let server = Self { address, emulator, upstream, state, ended, thread: Some(thread) };
        let put =
            server.ask("alice", "PUT", "/repos/alice/app/collaborators/miyabi-bot", &json!({"permission": "push"}));
        assert!(put.status < 300, "{put:?}");
        server
    }

    /// Asks the emulator itself, as one of its users; nothing of it is logged.
    pub(super) fn ask(&self, who: &str, method: &str, path: &str, body: &Value) -> Response {
        let token = if who == "miyabi-bot" { "token-of-the-bot".to_owned() } else { format!("token-of-{who}") };
        let headers = BTreeMap::from([
            ("authorization".to_owned(), format!("Bearer {token}")),
            ("content-type".to_owned(), "application/json".to_owned()),
        ]);
        let body = if method == "GET" { Vec::new() } else { body.to_string().into_bytes() };
        let request = Request { method: method.to_owned(), path: path.to_owned(), headers, body };
        forward(&request, &self.upstream)
    }

    pub(super) fn json(&self, who: &str, method: &str, path: &str, body: &Value) -> Value {
        let response = self.ask(who, method, path, body);
        let text = String::from_utf8_lossy(&response.body).into_owned();
        assert!(response.status < 300, "{method} {path}: {} {text}", response.status);
        serde_json::from_str(&text).unwrap_or(Value::Null)
    }

    /// Opens an issue with the label and returns its number.
    pub(super) fn issue(&self, who: &str, title: &str, body: &str) -> u64 {
        let new = json!({"title": title, "body": body});
        let number = self.json(who, "POST", "/repos/alice/app/issues", &new)["number"].as_u64().unwrap();
        self.label("alice", number, "auto-code");
        number
    }

    pub(super) fn label(&self, who: &str, number: u64, label: &str) {
        let path = format!("/repos/alice/app/issues/{number}/labels");
        self.json(who, "POST", &path, &json!({"labels": [label]}));
    }

    pub(super) fn comment(&self, who: &str, number: u64, body: &str) {
        self.json(who, "POST", &format!("/repos/alice/app/issues/{number}/comments"), &json!({"body": body}));
    }

    pub(super) fn comments(&self, number: u64) -> Vec<String> {
        let all = self.json("alice", "GET", &format!("/repos/alice/app/issues/{number}/comments"), &Value::Null);
        let all = all.as_array().unwrap().clone();
        let ours = all.iter().filter(|comment| comment["user"]["login"] == "miyabi-bot");
        ours.map(|comment| comment["body"].as_str().unwrap().to_owned()).collect()
    }

    pub(super) fn pulls(&self) -> Vec<Value> {
        self.json("alice", "GET", "/repos/alice/app/pulls?state=all&per_page=100", &Value::Null)
            .as_array()
            .unwrap()
            .clone()
    }

    /// Says that an issue is blocked by another.
    pub(super) fn block(&self, issue: u64, by: u64) {
        self.block_by(issue, &format!("/repos/alice/app/issues/{by}"));
    }

    /// Says that an issue is blocked by one of any repository.
    pub(super) fn block_by(&self, issue: u64, by: &str) {
        self.state.lock().unwrap().blocked.entry(issue).or_default().insert(by.to_owned());
    }

    /// Says that an issue is blocked by nothing any more.
    pub(super) fn unblock(&self, issue: u64) {
        self.state.lock().unwrap().blocked.remove(&issue);
    }

    /// Makes an issue a sub-issue of another.
    pub(super) fn add_child(&self, parent: u64, child: u64) {
        let child = format!("/repos/alice/app/issues/{child}");
        self.state.lock().unwrap().subs.entry(parent).or_default().insert(child);
    }

    /// Lets in nobody but an app from now on, which the emulator takes for the bot.
    pub(super) fn set_door(&self, door: Arc<dyn Door>) {
        self.state.lock().unwrap().app = Some(door);
    }

    pub(super) fn set_trap(&self, method: &'static str, path: &'static str, trap: Trap) {
        self.state.lock().unwrap().traps.push((method, path, trap));
    }

    /// Returns every request that came, with the status of its answer.
    pub(super) fn log(&self) -> Vec<(String, String, u16)> {
        self.state.lock().unwrap().log.clone()
    }

    pub(super) fn count(&self, method: &str, path: &str) -> usize {
        self.log().iter().filter(|(m, p, _)| m == method && p.contains(path)).count()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        // One more connection lets the listener see that it is over.
        drop(TcpStream::connect(self.address.trim_start_matches("http://")));
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
        drop(self.emulator.kill());
        drop(self.emulator.wait());
    }
}

impl Response {
    pub(super) fn new(status: u16, headers: &[(&str, &str)], body: &Value) -> Self {
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Self { status, headers, body: body.to_string().into_bytes() }
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }
}

fn serve(mut stream: TcpStream, state: &Mutex<State>, upstream: &str, here: &str, there: &str) {
    let Some(mut request) = read_request(&mut stream) else { return };
    let door = state.lock().unwrap().app.clone();
    let refusal = door.as_ref().and_then(|door| come_in(door.as_ref(), &mut request));
    let trap = {
        let mut state = state.lock().unwrap();
        let at =
            state.traps.iter().position(|(method, path, _)| *method == request.method && request.path.contains(path));
        at.map(|at| state.traps.remove(at).2)
    };
    let mut held = None;
    let mut response = match trap {
        Some(Trap::Hold(Held::Before, told)) => {
            told.send(()).ok();
            drop(stream.read(&mut [0]));
            return;
        }
        Some(Trap::Hold(Held::After, told)) => {
            held = Some(told);
            answer(&request, state, upstream)
        }
        Some(Trap::Answer(response)) => response,
        None if refusal.is_some() => refusal.expect("it was just looked at"),
        Some(Trap::AnswerAfter(response)) => {
            answer(&request, state, upstream);
            response
        }
        None => answer(&request, state, upstream),
    };
    if request.method == "GET" && response.status == 200 {
        // What the emulator lacks: an answer that has not changed is not sent again.
        let etag =
            Sha256::digest(&response.body).iter().take(8).fold("\"".to_owned(), |tag, byte| format!("{tag}{byte:02x}"))
                + "\"";
        if request.headers.get("if-none-match") == Some(&etag) {
            response = Response { status: 304, headers: Vec::new(), body: Vec::new() };
        }
        response.headers.push(("etag".to_owned(), etag));
    }
    for (_, value) in &mut response.headers {
        *value = value.replace(there, here);
    }
    if door.is_some() {
        response.body =
            String::from_utf8_lossy(&response.body).replace("\"miyabi-bot\"", "\"miyabi[bot]\"").into_bytes();
    }
    state.lock().unwrap().log.push((request.method.clone(), request.path.clone(), response.status));
    if let Some(told) = held {
        told.send(()).ok();
        drop(stream.read(&mut [0]));
        return;
    }
    let mut head =
        format!("HTTP/1.1 {} X\r\nconnection: close\r\ncontent-length: {}\r\n", response.status, response.body.len());
    for (name, value) in &response.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    drop(stream.write_all(format!("{head}\r\n").as_bytes()));
    drop(stream.write_all(&response.body));
}

/// Has whoever lets callers in look at a request; returns its answer where that is the end of it.
fn come_in(door: &dyn Door, request: &mut Request) -> Option<Response> {
    let shown = request.headers.get("authorization").and_then(|shown| shown.strip_prefix("Bearer "));
    let refusal = door.open(&request.method, &request.path, shown.unwrap_or_default());
    request.headers.insert("authorization".to_owned(), "Bearer token-of-the-bot".to_owned());
    refusal
}

/// Answers as GitHub would: mostly as the emulator does.
fn answer(request: &Request, state: &Mutex<State>, upstream: &str) -> Response {
    if request.method == "POST" && request.path.contains("/statuses/") {
        return Response::new(201, &[], &json!({"state": "success"}));
    }
    let (blocked, subs) = {
        let state = state.lock().unwrap();
        (state.blocked.clone(), state.subs.clone())
    };
    let plain = request.path.split('?').next().unwrap_or_default();
    for (relation, related) in [("/dependencies/blocked_by", &blocked), ("/sub_issues", &subs)] {
        if let Some(issue) = plain.strip_suffix(relation) {
            let number: u64 = issue.rsplit('/').next().unwrap().parse().unwrap();
            let issues = related.get(&number).into_iter().flatten();
            let issues =
                issues.map(|path| forward(&Request { path: path.clone(), ..request.clone() }, upstream).json());
            return Response::new(200, &[], &Value::Array(issues.collect()));
        }
    }
    if request.method == "GET" && plain.ends_with("/issues/comments") {
        return all_comments(request, plain, upstream);
    }
    let mut response = forward(request, upstream);
    if request.method == "GET" && response.status == 200 && is_of_issues(plain) {
        let mut found = response.json();
        let summed = |issue: &mut Value| {
            let number = issue["number"].as_u64().unwrap();
            let count = |related: &BTreeMap<u64, BTreeSet<String>>| related.get(&number).map_or(0, BTreeSet::len);
            issue["issue_dependencies_summary"] = json!({"blocked_by": count(&blocked)});
            // Only those that are open are left to complete.
            issue["sub_issues_summary"] = json!({"total": count(&subs), "completed": 0});
        };
        match found.as_array_mut() {
            Some(issues) => issues.iter_mut().for_each(summed),
            None => summed(&mut found),
        }
        response.body = found.to_string().into_bytes();
    }
    response
}

/// Says whether a path is that of our repository's issues, or of one of them.
fn is_of_issues(plain: &str) -> bool {
    let rest = plain.strip_prefix("/repos/alice/app/issues");
    rest.is_some_and(|rest| {
        rest.is_empty() || rest.strip_prefix('/').is_some_and(|number| number.bytes().all(|b| b.is_ascii_digit()))
    })
}

/// Collects what the emulator has only issue by issue: it takes `comments` for an issue's number.
fn all_comments(request: &Request, plain: &str, upstream: &str) -> Response {
    let ask = |path: String| forward(&Request { path, ..request.clone() }, upstream).json();
    let repository = plain.strip_suffix("/issues/comments").unwrap();
    let query = request.path.split_once("since=").map_or("", |(_, since)| since.split('&').next().unwrap());
    let since = query.replace("%3A", ":");
    let mut comments = Vec::new();
    for kind in ["issues", "pulls"] {
        for item in ask(format!("{repository}/{kind}?state=all&per_page=100")).as_array().into_iter().flatten() {
            let of_item = ask(format!("{repository}/issues/{}/comments?per_page=100", item["number"]));
            comments.extend(of_item.as_array().into_iter().flatten().cloned());
        }
    }
    comments.retain(|comment| comment["updated_at"].as_str().unwrap() >= since.as_str());
    comments.sort_by_key(|comment| comment["updated_at"].as_str().unwrap().to_owned());
    Response::new(200, &[], &Value::Array(comments))
}

fn read_request(stream: &mut TcpStream) -> Option<Request> {
    let (first, headers, body) = read_message(&mut BufReader::new(stream))?;
    let mut words = first.split(' ');
    Some(Request {
        method: words.next()?.to_owned(),
        path: words.next()?.to_owned(),
        headers: headers.into_iter().collect(),
        body,
    })
}

type Message = (String, Vec<(String, String)>, Vec<u8>);

fn read_message(reader: &mut impl BufRead) -> Option<Message> {
    let line = |reader: &mut dyn BufRead| {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|bytes| *bytes > 0).map(|_| line.trim_end().to_owned())
    };
    let first = line(reader)?;
    let mut headers = Vec::new();
    loop {
        let text = line(reader)?;
        let Some((name, value)) = text.split_once(':') else { break };
        headers.push((name.to_lowercase(), value.trim().to_owned()));
    }
    let header = |name: &str| headers.iter().find(|(found, _)| found == name).map(|(_, value)| value.clone());
    let mut body = Vec::new();
    if header("transfer-encoding").is_some() {
        loop {
            let size = usize::from_str_radix(&line(reader)?, 16).ok()?;
            let mut chunk = vec![0; size + 2];
            reader.read_exact(&mut chunk).ok()?;
            if size == 0 {
                break;
            }
            body.extend_from_slice(&chunk[..size]);
        }
    } else if let Some(length) = header("content-length") {
        body = vec![0; length.parse().ok()?];
        reader.read_exact(&mut body).ok()?;
    }
    Some((first, headers, body))
}

fn forward(request: &Request, upstream: &str) -> Response {
    let mut stream = TcpStream::connect(upstream).expect("the emulator listens");
    let mut head = format!("{} {} HTTP/1.1\r\nhost: {upstream}\r\nconnection: close\r\n", request.method, request.path);
    for (name, value) in &request.headers {
        if !matches!(name.as_str(), "host" | "connection" | "content-length" | "if-none-match" | "transfer-encoding") {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
    }
    let length = request.body.len();
    stream.write_all(format!("{head}content-length: {length}\r\n\r\n").as_bytes()).unwrap();
    stream.write_all(&request.body).unwrap();
    let (first, headers, body) = read_message(&mut BufReader::new(stream)).expect("the emulator answers");
    let status = first.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    let headers = headers.into_iter().filter(|(name, _)| name.starts_with("x-ratelimit") || name == "link").collect();
    Response { status, headers, body }
}
