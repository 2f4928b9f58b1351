//! The receiving side of webhooks, over real connections: what is signed is kept before it is answered, everything else is not.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use miyabi::http::serve;
use miyabi::http::webhook::{AT_ONCE_MAX, BODY_BYTES_MAX, Deliveries, Kept, Webhook};
use miyabi::model::github::{Delivery, WEBHOOK_PATH};
use miyabi::model::secret::Secret;

const SECRET: &str = "It's a Secret to Everybody";

/// Keeps deliveries in memory, as many at once as it is allowed to.
#[derive(Clone)]
struct Memory {
    kept: Arc<Mutex<Vec<Delivery>>>,
    gate: Arc<Semaphore>,
}

impl Deliveries for Memory {
    async fn keep(&self, delivery: Delivery) -> Kept {
        let _pass = self.gate.acquire().await.unwrap();
        let mut kept = self.kept.lock().unwrap();
        let ids: BTreeSet<&str> = kept.iter().map(|delivery| delivery.id.as_str()).collect();
        if ids.contains(delivery.id.as_str()) {
            return Kept::Known;
        }
        kept.push(delivery);
        Kept::New
    }
}

struct Side {
    address: SocketAddr,
    memory: Memory,
    /// The server; it ends with this.
    _server: tokio::task::JoinSet<()>,
}

impl Side {
    async fn start() -> Self {
        let memory = Memory { kept: Arc::default(), gate: Arc::new(Semaphore::new(AT_ONCE_MAX)) };
        let router = Webhook::new(Secret::new(SECRET.to_owned()), memory.clone()).router();
        let listener = serve::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut server = tokio::task::JoinSet::new();
        server.spawn(serve::serve(listener, router, CancellationToken::new()));
        Self { address, memory, _server: server }
    }

    /// Sends a request and returns the status of its answer.
    async fn send(&self, head: &str, body: &[u8]) -> u16 {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        // Whoever refuses early need not take everything.
        stream.write_all(body).await.ok();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.ok();
        let answer = String::from_utf8_lossy(&answer);
        answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_else(|| panic!("{answer:?}"))
    }

    async fn post(&self, event: &str, id: &str, signature: &str, body: &[u8]) -> u16 {
        self.send(&head(event, id, signature, &format!("content-length: {}", body.len())), body).await
    }

    async fn post_signed(&self, event: &str, id: &str, body: &[u8]) -> u16 {
        self.post(event, id, &sign(SECRET, body), body).await
    }

    fn kept(&self) -> Vec<Delivery> {
        self.memory.kept.lock().unwrap().clone()
    }
}

fn head(event: &str, id: &str, signature: &str, length: &str) -> String {
    format!(
        "POST {WEBHOOK_PATH} HTTP/1.1\r\nhost: x\r\nconnection: close\r\nx-github-event: {event}\r\n\
         x-github-delivery: {id}\r\nx-hub-signature-256: {signature}\r\n{length}\r\n\r\n"
    )
}

fn sign(secret: &str, body: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(body);
    mac.finalize().into_bytes().iter().fold("sha256=".to_owned(), |text, byte| format!("{text}{byte:02x}"))
}

fn issue(number: u64) -> Vec<u8> {
    format!(r#"{{"action":"labeled","issue":{{"number":{number}}},"repository":{{"full_name":"octo/app"}}}}"#)
        .into_bytes()
}

#[tokio::test]
async fn recorded_deliveries_name_their_issue_or_pull_request() {
    let side = Side::start().await;
    let recorded = [
        ("issues", include_str!("payloads/issues.json"), 1),
        ("issue_comment", include_str!("payloads/issue_comment.json"), 1),
        ("pull_request", include_str!("payloads/pull_request.json"), 2),
        ("pull_request_review", include_str!("payloads/pull_request_review.json"), 2),
        ("pull_request_review_comment", include_str!("payloads/pull_request_review_comment.json"), 2),
    ];
    for (event, body, number) in recorded {
        let id = event.replace('_', "-");
        assert_eq!(side.post_signed(event, &id, body.as_bytes()).await, 202, "{event}");
        let newest = side.kept().pop().unwrap();
        assert_eq!((newest.slug.as_str(), newest.numbers), ("Codertocat/Hello-World", vec![number]), "{event}");
    }
    // GitHub's own pages describe these; nobody has recorded them yet.
    let both = br#"{"action":"blocked_by_added","blocked_issue":{"number":3},"blocking_issue":{"number":4},"repository":{"full_name":"octo/app"}}"#;
    assert_eq!(side.post_signed("issue_dependencies", "d1", both).await, 202);
    let family = br#"{"action":"sub_issue_added","sub_issue":{"number":5},"parent_issue":{"number":6},"repository":{"full_name":"octo/app"}}"#;
    assert_eq!(side.post_signed("sub_issues", "d2", family).await, 202);
    let numbers: Vec<Vec<u64>> = side.kept().into_iter().rev().take(2).map(|delivery| delivery.numbers).collect();
    assert_eq!(numbers, [vec![5, 6], vec![3, 4]]);
}

#[tokio::test]
async fn the_signature_is_that_of_githubs_own_example_and_no_other_one_fits() {
    assert_eq!(
        sign(SECRET, b"Hello, World!"),
        "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
    );
    let side = Side::start().await;
    let body = issue(7);
    let good = sign(SECRET, &body);
    let wrong = [
        sign("another secret", &body),
        sign(SECRET, &issue(8)),
        sign("", &body),
        good.replace("sha256=", "sha1="),
        good[..good.len() - 2].to_owned(),
        format!("{good}00"),
        "sha256=".to_owned(),
        "sha256=あ".to_owned(),
        String::new(),
    ];
    for signature in wrong {
        assert_eq!(side.post("issues", "a", &signature, &body).await, 401, "{signature}");
    }
    let unsigned = format!(
        "POST {WEBHOOK_PATH} HTTP/1.1\r\nhost: x\r\nconnection: close\r\nx-github-event: issues\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    assert_eq!(side.send(&unsigned, &body).await, 401);
    assert_eq!(side.kept(), []);
    assert_eq!(side.post("issues", "a", &good, &body).await, 202);
}

#[tokio::test]
async fn what_is_too_large_is_refused_before_anything_is_computed() {
    let side = Side::start().await;
    // Said in the head: not a byte of the body is waited for.
    let said = head("issues", "a", "sha256=00", &format!("content-length: {}", BODY_BYTES_MAX + 1));
    assert_eq!(side.send(&said, b"").await, 413);
    // Not said: reading ends at the limit.
    let mut chunked = Vec::new();
    let chunk = vec![b' '; 1024 * 1024];
    for _ in 0..3 {
        chunked.extend(format!("{:x}\r\n", chunk.len()).into_bytes());
        chunked.extend(&chunk);
        chunked.extend(b"\r\n");
    }
    chunked.extend(b"0\r\n\r\n");
    let unsaid = head("issues", "a", "sha256=00", "transfer-encoding: chunked");
    assert_eq!(side.send(&unsaid, &chunked).await, 413);
    let mut large = issue(7);
    large.resize(BODY_BYTES_MAX, b' ');
    assert_eq!(side.post_signed("issues", "a", &large).await, 202, "what just fits is taken");
    assert_eq!(side.kept().len(), 1);
}

#[tokio::test]
async fn a_delivery_that_comes_again_is_known_and_what_means_nothing_is_not_kept() {
    let side = Side::start().await;
    let body = issue(7);
    assert_eq!(side.post_signed("issues", "a", &body).await, 202);
    assert_eq!(side.post_signed("issues", "a", &body).await, 200);
    for (event, id, body, status) in [
        ("ping", "b", br#"{"zen":"Design for failure."}"#.as_slice(), 200),
        ("push", "b", br#"{"repository":{"full_name":"octo/app"}}"#, 200),
        ("issues", "b", br#"{"repository":{"full_name":"octo/app"}}"#, 200),
        ("issues", "../b", &body, 400),
        ("issues", "", &body, 400),
        ("issues", "b", b"{", 400),
        ("issues", "b", br#"{"issue":{"number":1},"repository":{"full_name":"../../etc"}}"#, 400),
    ] {
        assert_eq!(side.post_signed(event, id, body).await, status, "{event} {id}");
    }
    assert_eq!(side.kept().len(), 1);
    let get = format!("GET {WEBHOOK_PATH} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    assert_eq!(side.send(&get, b"").await, 405);
    assert_eq!(side.send("GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n", b"").await, 404);
}

#[tokio::test]
async fn a_flood_is_turned_away_and_what_was_accepted_is_kept() {
    let side = Arc::new(Side::start().await);
    // Nothing can be kept for the moment: as many as may be read at once wait, and the rest is told so.
    let held = side.memory.gate.acquire_many(u32::try_from(AT_ONCE_MAX).unwrap()).await.unwrap();
    let mut posts = tokio::task::JoinSet::new();
    for number in 0..40_u64 {
        let side = Arc::clone(&side);
        posts.spawn(async move { side.post_signed("issues", &format!("d{number}"), &issue(number)).await });
    }
    let mut answers = Vec::new();
    while answers.len() < 40 - AT_ONCE_MAX {
        answers.push(posts.join_next().await.unwrap().unwrap());
    }
    assert!(answers.iter().all(|status| *status == 503), "{answers:?}");
    drop(held);
    while let Some(answer) = posts.join_next().await {
        assert_eq!(answer.unwrap(), 202);
    }
    assert_eq!(side.kept().len(), AT_ONCE_MAX);
}
