//! A GitHub App: a server in this process that gives tokens for an hour of a clock that the test moves.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::signature::{KeyPair, RSA_PKCS1_2048_8192_SHA256, RsaKeyPair, UnparsedPublicKey};
use rustls_pki_types::PrivatePkcs1KeyDer;
use rustls_pki_types::pem::PemObject;
use serde_json::{Value, json};
use wiremock::matchers::any;
use wiremock::{Mock, MockServer, Request, Respond, ResponseTemplate};

use miyabi::io::github::client::Client;
use miyabi::io::github::connection::{Connection, Credential};
use miyabi::io::github::installation::{App, Installation, Key, KeyError};
use miyabi::model::github::{AppId, Trouble};
use miyabi::model::id::RepositorySlug;
use miyabi::model::time::Timestamp;

mod push;

/// The app's number.
const APP: u32 = 4_711;

/// When the clock begins, in milliseconds.
const BEGINNING: i64 = 1_790_000_000_000;

const HOUR: Duration = Duration::from_secs(3_600);
const MINUTE: Duration = Duration::from_secs(60);

/// A clock that goes when the test says so.
#[derive(Debug, Clone)]
struct Hands(Arc<AtomicI64>);

impl Hands {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.0.load(Ordering::SeqCst))
    }

    fn pass(&self, time: Duration) {
        self.0.fetch_add(i64::try_from(time.as_millis()).unwrap(), Ordering::SeqCst);
    }
}

#[derive(Debug)]
struct State {
    hands: Hands,
    /// How far its clock is before ours.
    ahead: Duration,
    /// Which installation has which repositories.
    installations: BTreeMap<u64, Vec<&'static str>>,
    /// The tokens that count, with their installations and ends.
    tokens: BTreeMap<String, (u64, Timestamp)>,
    /// How many were given.
    given: usize,
    /// Every request and the status of its answer.
    log: Vec<(String, String, u16)>,
    comments: Vec<Value>,
    /// How long a token lasts by what is said of it.
    lasts: Duration,
    /// Whether every token is refused.
    refuses: bool,
}

impl State {
    fn now(&self) -> Timestamp {
        self.hands.now() + self.ahead
    }

    fn proves(&self, proof: &str) -> bool {
        proves(proof, APP, self.now().as_millis() / 1_000)
    }

    fn answer(&mut self, request: &Request) -> (u16, Value) {
        let (verb, path) = (request.method.as_str(), request.url.path());
        let shown = request.headers.get("authorization").and_then(|value| value.to_str().ok());
        let shown = shown.and_then(|value| value.strip_prefix("Bearer ")).unwrap_or_default();
        let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
        let as_app = matches!(parts[..], ["app", ..] | ["repos", _, _, "installation"]);
        if as_app && !self.proves(shown) {
            return (401, json!({ "message": "A JSON web token could not be decoded" }));
        }
        let now = self.now();
        let token = self.tokens.get(shown).filter(|(_, until)| now < *until && !self.refuses);
        match (verb, &parts[..]) {
            ("GET", ["app"]) => (200, json!({ "slug": "miyabi" })),
            ("GET", ["repos", owner, name, "installation"]) => {
                let slug = format!("{owner}/{name}");
                let found = self.installations.iter().find(|(_, has)| has.contains(&slug.as_str()));
                found.map_or((404, json!({ "message": "Not Found" })), |(id, _)| (200, json!({ "id": id })))
            }
            ("POST", ["app", "installations", id, "access_tokens"]) => {
                let id: u64 = id.parse().unwrap();
                if !self.installations.contains_key(&id) {
                    return (404, json!({ "message": "Not Found" }));
                }
                self.given += 1;
                let (token, until) = (format!("ghs_secret{:04}", self.given), now + HOUR);
                self.tokens.insert(token.clone(), (id, until));
                (201, json!({ "token": token, "expires_at": now + self.lasts }))
            }
            (_, ["repos", owner, name, rest @ ..]) => {
                let Some((id, _)) = token else { return (401, json!({ "message": "Bad credentials" })) };
                let slug = format!("{owner}/{name}");
                if !self.installations.get(id).is_some_and(|has| has.contains(&slug.as_str())) {
                    return (404, json!({ "message": "Not Found" }));
                }
                match (verb, rest) {
                    ("POST", ["statuses", _]) => (201, json!({})),
                    ("GET", ["issues", _, "comments"]) => (200, json!(self.comments)),
                    (_, ["issues", ..]) => {
                        let body: Value = serde_json::from_slice(&request.body).unwrap();
                        let comment = json!({"id": 1, "body": body["body"], "user": {"login": "miyabi[bot]"}});
                        if verb == "POST" {
                            self.comments.push(comment.clone());
                        }
                        (200, comment)
                    }
                    _ => (404, json!({ "message": "Not Found" })),
                }
            }
            _ => (403, json!({ "message": "Resource not accessible by integration" })),
        }
    }
}

struct Answering(Arc<Mutex<State>>);

impl Respond for Answering {
    fn respond(&self, request: &Request) -> ResponseTemplate {
        let mut state = self.0.lock().unwrap();
        let (status, body) = state.answer(request);
        state.log.push((request.method.to_string(), request.url.path().to_owned(), status));
        ResponseTemplate::new(status).set_body_json(body)
    }
}

/// The server, with the app installed for `octo` and `alice`.
struct Hub {
    server: MockServer,
    state: Arc<Mutex<State>>,
    hands: Hands,
}

impl Hub {
    async fn start() -> Self {
        let hands = Hands(Arc::new(AtomicI64::new(BEGINNING)));
        let installations = BTreeMap::from([(1, vec!["octo/app", "octo/lib"]), (2, vec!["alice/site"])]);
        let state = State {
            hands: hands.clone(),
            ahead: Duration::ZERO,
            installations,
            tokens: BTreeMap::new(),
            given: 0,
            log: Vec::new(),
            comments: Vec::new(),
            lasts: HOUR,
            refuses: false,
        };
        let (server, state) = (MockServer::start().await, Arc::new(Mutex::new(state)));
        Mock::given(any()).respond_with(Answering(Arc::clone(&state))).mount(&server).await;
        Self { server, state, hands }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// A client of the installation of `octo`, found by a repository, that goes by the test's clock.
    fn client(&self, by: &str) -> (Client, Arc<Installation>) {
        let hands = self.hands.clone();
        let clock = Arc::new(move || hands.now());
        let app = App::with_clock(AppId(APP), key(), &self.server.uri(), clock).unwrap();
        let installation = Arc::new(Installation::new(app, slug(by)));
        (Client::of_installation(Arc::clone(&installation), &self.server.uri()).unwrap(), installation)
    }

    fn count(&self, verb: &str, end: &str, status: u16) -> usize {
        let state = self.state();
        state.log.iter().filter(|(has, path, got)| has == verb && path.ends_with(end) && *got == status).count()
    }
}

fn key_file() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/hub/keys/app.pem")
}

/// Says whether somebody has proven that they have the app's key, as GitHub would at a time in seconds.
pub(crate) fn proves(proof: &str, app: u32, seconds: i64) -> bool {
    let der = PrivatePkcs1KeyDer::from_pem_slice(&key_text()).unwrap();
    let pair = RsaKeyPair::from_der(der.secret_pkcs1_der()).unwrap();
    let key = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, pair.public_key().as_ref().to_vec());
    let Some((signed, signature)) = proof.rsplit_once('.') else { return false };
    let Ok(signature) = URL_SAFE_NO_PAD.decode(signature) else { return false };
    if key.verify(signed.as_bytes(), &signature).is_err() {
        return false;
    }
    let part = |part: &str| serde_json::from_slice::<Value>(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap();
    let (head, claims) = signed.split_once('.').map(|(head, claims)| (part(head), part(claims))).unwrap();
    let number = |name: &str| claims[name].as_i64().unwrap();
    head["alg"] == "RS256"
        && claims["iss"] == app
        && number("iat") <= seconds
        && number("exp") > seconds
        && number("exp") - seconds <= 600
}

pub(crate) fn key_text() -> Vec<u8> {
    std::fs::read(key_file()).unwrap()
}

fn key() -> Key {
    let folder = tempfile::tempdir().unwrap();
    Key::read(&private(folder.path(), &key_text())).unwrap()
}

/// Writes a file that nobody else can read.
fn private(folder: &Path, text: &[u8]) -> PathBuf {
    let path = folder.join("app.pem");
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    path
}

fn slug(text: &str) -> RepositorySlug {
    RepositorySlug::new(text).unwrap()
}

async fn write(client: &Client, to: &str) -> Result<(), Trouble> {
    client.status(&slug(to), "abc", "proven").await
}

#[tokio::test]
async fn tokens_are_replaced_before_they_end_for_as_long_as_the_supervisor_runs() {
    let hub = Hub::start().await;
    let (client, _) = hub.client("octo/app");
    for _ in 0..24 * 60 / 7 {
        write(&client, "octo/app").await.unwrap();
        hub.hands.pass(7 * MINUTE);
    }
    assert_eq!(hub.count("POST", "/statuses/abc", 401), 0, "no token was used after its end");
    let given = hub.state().given;
    assert!((24..=32).contains(&given), "{given} tokens in a day");
    assert_eq!(hub.count("GET", "/installation", 200), 1, "the installation is looked up once");
}

#[tokio::test]
async fn a_token_that_is_refused_is_replaced_and_the_write_is_done_once() {
    let hub = Hub::start().await;
    let (client, _) = hub.client("octo/app");
    write(&client, "octo/app").await.unwrap();
    hub.state().tokens.clear();
    write(&client, "octo/app").await.unwrap();
    assert_eq!((hub.count("POST", "/statuses/abc", 201), hub.count("POST", "/statuses/abc", 401)), (2, 1));
    assert_eq!(hub.state().given, 2);
}

#[tokio::test]
async fn who_is_refused_also_with_a_new_token_asks_no_third_time() {
    let hub = Hub::start().await;
    let (client, installation) = hub.client("octo/app");
    hub.state().refuses = true;
    let trouble = write(&client, "octo/app").await.unwrap_err();
    assert!(matches!(trouble, Trouble::Refused { status: 401, .. }), "{trouble:?}");
    assert_eq!((hub.count("POST", "/statuses/abc", 401), hub.state().given), (2, 2));
    let shown = format!("{trouble:?} {client:?} {installation:?} {:?}", key());
    assert!(!shown.contains("secret0") && !shown.contains("eyJ") && !shown.contains("PRIVATE"), "{shown}");
}

#[tokio::test]
async fn where_the_clocks_differ_by_hours_a_token_is_still_used_for_a_minute() {
    let hub = Hub::start().await;
    hub.state().lasts = Duration::from_secs(1);
    let (client, _) = hub.client("octo/app");
    // By our clock the token is about to end, so each call could ask for another.
    for _ in 0..10 {
        write(&client, "octo/app").await.unwrap();
    }
    assert_eq!(hub.state().given, 1);
    hub.hands.pass(MINUTE);
    write(&client, "octo/app").await.unwrap();
    assert_eq!(hub.state().given, 2);
}

#[tokio::test]
async fn a_proof_holds_when_the_clock_of_github_is_a_little_different() {
    for behind in [Duration::ZERO, Duration::from_secs(50)] {
        let hub = Hub::start().await;
        hub.state().ahead = Duration::from_secs(50) - behind;
        hub.hands.pass(behind);
        let (client, _) = hub.client("octo/app");
        write(&client, "octo/app").await.unwrap();
    }
}

#[tokio::test]
async fn each_owner_has_an_installation_of_its_own_and_writes_bear_the_name_of_the_app() {
    let hub = Hub::start().await;
    // This one goes by the real clock, and so must the server.
    let real = miyabi::io::clock::now().as_millis() - BEGINNING;
    hub.hands.pass(Duration::from_millis(u64::try_from(real).unwrap()));
    let connection = Connection::new(Credential::App(AppId(APP), key()), &hub.server.uri()).unwrap();
    for name in ["octo/app", "alice/site", "octo/lib", "Octo/app"] {
        let client = connection.client(&slug(name)).unwrap();
        write(&client, &name.to_lowercase()).await.unwrap();
    }
    assert_eq!(hub.count("POST", "/statuses/abc", 201), 4);
    assert_eq!(hub.state().given, 2, "one token for each owner");
    let client = connection.client(&slug("octo/app")).unwrap();
    assert_eq!(client.login().await.unwrap(), "miyabi[bot]");
}

#[tokio::test]
async fn a_comment_of_the_app_is_found_again_and_never_holds_its_token() {
    let hub = Hub::start().await;
    let (client, _) = hub.client("octo/app");
    let token = client.token().await.unwrap();
    for _ in 0..2 {
        let body = format!("<!-- mark --> the agent has found {}", token.expose());
        client.comment(&slug("octo/app"), 1, None, "<!-- mark -->", &body).await.unwrap();
    }
    let comments = hub.state().comments.clone();
    assert_eq!(comments.len(), 1, "{comments:?}");
    assert_eq!(comments[0]["body"], "<!-- mark --> the agent has found ***");
}

#[tokio::test]
async fn where_the_app_is_not_installed_that_is_said_and_another_repository_is_not_held_up() {
    let hub = Hub::start().await;
    let (client, installation) = hub.client("octo/other");
    let trouble = write(&client, "octo/other").await.unwrap_err();
    assert_eq!(trouble.to_string(), "GitHub refuses with 404: the app 4711 is not installed on octo/other");
    installation.find_by(&slug("octo/app"));
    write(&client, "octo/app").await.unwrap();
}

#[tokio::test]
async fn an_app_that_was_installed_anew_is_found_by_its_new_number() {
    let hub = Hub::start().await;
    let (client, _) = hub.client("octo/app");
    write(&client, "octo/app").await.unwrap();
    let repositories = hub.state().installations.remove(&1).unwrap();
    hub.state().installations.insert(9, repositories);
    hub.state().tokens.clear();
    let trouble = write(&client, "octo/app").await.unwrap_err();
    assert!(matches!(trouble, Trouble::Refused { status: 404, .. }), "{trouble:?}");
    write(&client, "octo/app").await.unwrap();
    assert_eq!(hub.count("GET", "/installation", 200), 2);
}

#[test]
fn a_key_is_read_only_from_a_file_that_is_one_and_that_nobody_else_can_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = private(folder.path(), &key_text());
    Key::read(&path).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
    let error = Key::read(&path).unwrap_err();
    assert!(matches!(error, KeyError::Open { mode: 0o640, .. }), "{error:?}");
    let text = String::from_utf8(key_text()).unwrap();
    for wrong in ["", "nothing", text.get(..600).unwrap(), &text.replace("RSA PRIVATE", "EC PRIVATE")] {
        let error = Key::read(&private(folder.path(), wrong.as_bytes())).unwrap_err();
        assert!(matches!(error, KeyError::NoKey { .. }), "{error:?}");
        assert!(!format!("{error:?} {error}").contains("MII"), "{error:?}");
    }
    let error = Key::read(&folder.path().join("none.pem")).unwrap_err();
    assert!(matches!(error, KeyError::Read { .. }) && !error.is_kept(), "{error:?}");
}
