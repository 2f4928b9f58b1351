//! A GitHub App: the key that it proves itself with, and the tokens that its installations are given for an hour.
//!
//! Tokens live in this process alone. One is asked for before the one before it ends, and when GitHub refuses the one before.

use std::collections::BTreeMap;
use std::fmt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{Method, StatusCode};
use ring::rand::SystemRandom;
use ring::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject;
use serde::Deserialize;
use serde_json::json;

use super::GithubError;
use super::wire::{Answered, Call, Wire, parse, refused};
use crate::io::clock;
use crate::model::github::{AppId, Trouble};
use crate::model::id::RepositorySlug;
use crate::model::secret::Secret;
use crate::model::time::Timestamp;

/// How long a proof is good for; GitHub takes none that ends later than in ten minutes.
const PROOF_AGE_MAX: Duration = Duration::from_secs(540);

/// How much the clocks of two machines may differ.
const CLOCK_DIFFERENCE: Duration = Duration::from_secs(60);

/// How long before its end a token is replaced: what is begun with it, such as a push, must be able to end.
const LEFT_MIN: Duration = Duration::from_secs(600);

/// How long a token is used at least, also when it seems to have ended before it came: then the clocks differ.
const USED_MIN: Duration = Duration::from_secs(60);

/// How many tokens are remembered to be taken out of texts.
const HIDDEN_MAX: usize = 4;

/// The largest file that can be a key, in bytes.
const KEY_BYTES_MAX: u64 = 64 * 1024;

/// What tells the time.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// Why the key of an app cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// It cannot be read.
    #[error("the private key {path} cannot be read")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// Others can read it.
    #[error("the private key {path} can be read by others (mode {mode:04o})")]
    Open {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// It is none.
    #[error("{what} is no private RSA key of at least 2048 bits in PEM form")]
    NoKey {
        /// What was read.
        what: String,
    },
}

impl KeyError {
    /// Says whether the file is kept from whoever asks, which says nothing about the file.
    #[must_use]
    pub fn is_kept(&self) -> bool {
        matches!(self, Self::Read { source, .. } if source.kind() == std::io::ErrorKind::PermissionDenied)
    }
}

/// The private key of an app. It has no text form.
#[derive(Clone)]
pub struct Key(Arc<RsaKeyPair>);

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl Key {
    /// Reads a file that nobody else may read.
    ///
    /// # Errors
    /// Says what is wrong with the file.
    pub fn read(path: &Path) -> Result<Self, KeyError> {
        let unread = |source| KeyError::Read { path: path.to_owned(), source };
        let about = std::fs::metadata(path).map_err(unread)?;
        let mode = about.permissions().mode() & 0o7777;
        if mode & 0o077 != 0 {
            return Err(KeyError::Open { path: path.to_owned(), mode });
        }
        let what = || path.display().to_string();
        if !about.is_file() || about.len() > KEY_BYTES_MAX {
            return Err(KeyError::NoKey { what: what() });
        }
        // Not all that is wrong with a file is said: its text may be a secret of another kind.
        let text = std::fs::read(path).map_err(unread)?;
        Self::parse(&text).ok_or_else(|| KeyError::NoKey { what: what() })
    }

    /// Takes the key that the service manager has handed over.
    ///
    /// # Errors
    /// It is no key.
    pub fn of_credential(secret: &Secret) -> Result<Self, KeyError> {
        let what = || "the credential github_app_key".to_owned();
        Self::parse(secret.expose().as_bytes()).ok_or_else(|| KeyError::NoKey { what: what() })
    }

    fn parse(pem: &[u8]) -> Option<Self> {
        let pair = match PrivateKeyDer::from_pem_slice(pem).ok()? {
            PrivateKeyDer::Pkcs1(key) => RsaKeyPair::from_der(key.secret_pkcs1_der()),
            PrivateKeyDer::Pkcs8(key) => RsaKeyPair::from_pkcs8(key.secret_pkcs8_der()),
            PrivateKeyDer::Sec1(_) | _ => return None,
        };
        pair.ok().map(|pair| Self(Arc::new(pair)))
    }

    /// Makes a proof of being the app: a JSON web token.
    fn proof(&self, app: AppId, now: Timestamp) -> Result<Secret, Trouble> {
        let seconds = |at: Timestamp| at.as_millis() / 1_000;
        let claims = json!({
            // Older servers take the number only as a number.
            "iss": app.0,
            "iat": seconds(now - CLOCK_DIFFERENCE),
            "exp": seconds(now + PROOF_AGE_MAX),
        });
        let head = json!({ "alg": "RS256", "typ": "JWT" });
        let part = |value: &serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", part(&head), part(&claims));
        let mut signature = vec![0; self.0.public().modulus_len()];
        self.0
            .sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), signed.as_bytes(), &mut signature)
            .map_err(|_| Trouble::Unsure { reason: "the app's key cannot sign".to_owned() })?;
        Ok(Secret::new(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))))
    }
}

/// A GitHub App at one API.
#[derive(Clone)]
pub struct App {
    id: AppId,
    key: Key,
    wire: Arc<Wire>,
    clock: Clock,
}

impl fmt::Debug for App {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("App").field("id", &self.id).field("api", &self.wire.api).finish_non_exhaustive()
    }
}

/// What GitHub says of an app's installation.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct About {
    /// Its number.
    pub id: u64,
    /// What it may do: the word after each permission is `read`, `write` or `admin`.
    #[serde(default)]
    pub permissions: BTreeMap<String, String>,
    /// Since when somebody has it stopped, if so.
    #[serde(default)]
    pub suspended_at: Option<String>,
}

impl App {
    /// Sets up the way to an app.
    ///
    /// # Errors
    /// The address is none, or no connection can be set up.
    pub fn new(id: AppId, key: Key, api: &str) -> Result<Self, GithubError> {
        Self::with_clock(id, key, api, Arc::new(clock::now))
    }

    /// Sets up the way to an app whose time is told by somebody else.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn with_clock(id: AppId, key: Key, api: &str, clock: Clock) -> Result<Self, GithubError> {
        Ok(Self { id, key, wire: Arc::new(Wire::new(api)?), clock })
    }

    /// Asks for the app's name; GitHub refuses with 401 when the key is not the app's.
    ///
    /// # Errors
    /// Those of the call.
    pub async fn name(&self) -> Result<String, Trouble> {
        #[derive(Deserialize)]
        struct Named {
            slug: String,
        }
        Ok(self.ask(Call::get("/app")).await?.parsed::<Named>("/app")?.slug)
    }

    /// Looks for the app's installation in a repository; there may be none.
    ///
    /// # Errors
    /// Those of the call.
    pub async fn find(&self, slug: &RepositorySlug) -> Result<Option<About>, Trouble> {
        let path = format!("/repos/{slug}/installation");
        let answered = self.ask(Call::get(&path)).await?;
        if answered.status == StatusCode::NOT_FOUND { Ok(None) } else { answered.parsed(&path).map(Some) }
    }

    pub(super) async fn ask(&self, call: Call<'_>) -> Result<Answered, Trouble> {
        let proof = self.key.proof(self.id, (self.clock)())?;
        self.wire.call(&proof, call).await?.at_once()
    }
}

/// What an app is to the repositories of one owner.
#[derive(Debug)]
pub struct Installation {
    app: App,
    /// A repository by which it is found.
    by: Mutex<RepositorySlug>,
    /// Held while a token is asked for, so that only one is.
    held: tokio::sync::Mutex<Held>,
    hidden: Mutex<Vec<Secret>>,
}

#[derive(Debug, Default)]
struct Held {
    id: Option<u64>,
    token: Option<(Secret, Timestamp)>,
}

impl Installation {
    /// Begins without a token.
    #[must_use]
    pub fn new(app: App, by: RepositorySlug) -> Self {
        Self { app, by: Mutex::new(by), held: tokio::sync::Mutex::default(), hidden: Mutex::default() }
    }

    /// Names another repository of the same owner: the app may have been given only some of them.
    pub fn find_by(&self, slug: &RepositorySlug) {
        *self.by.lock().unwrap_or_else(PoisonError::into_inner) = slug.clone();
    }

    /// Returns who writes what the app writes.
    pub(super) async fn login(&self) -> Result<String, Trouble> {
        self.app.name().await.map(|name| format!("{name}[bot]"))
    }

    /// Returns a token that is good for a while.
    pub(super) async fn token(&self) -> Result<Secret, Trouble> {
        let mut held = self.held.lock().await;
        if let Some((token, until)) = &held.token
            && (self.app.clock)() < *until
        {
            return Ok(token.clone());
        }
        let id = match held.id {
            Some(id) => id,
            None => self.find().await?,
        };
        held.id = Some(id);
        let path = format!("/app/installations/{id}/access_tokens");
        let nothing = json!({});
        let call = Call { method: Method::POST, path: &path, body: Some(&nothing), known: None };
        let answered = self.app.ask(call).await?;
        if !answered.status.is_success() {
            // It may have been taken away and installed anew, with another number.
            held.id = None;
            return Err(refused(answered.status, &answered.body).of(&path));
        }
        let (token, until) = self.take(&answered.body)?;
        held.token = Some((token.clone(), until));
        Ok(token)
    }

    /// Forgets a token, if it is still the one that is held.
    pub(super) async fn doubt(&self, token: &Secret) {
        self.held.lock().await.token.take_if(|(held, _)| held == token);
    }

    /// Takes the tokens of late out of a text.
    pub(super) fn hide_in(&self, text: &str) -> String {
        let hidden = self.hidden.lock().unwrap_or_else(PoisonError::into_inner);
        hidden.iter().fold(text.to_owned(), |text, token| token.hide_in(&text))
    }

    async fn find(&self) -> Result<u64, Trouble> {
        let by = self.by.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let found = self.app.find(&by).await?;
        found.map(|about| about.id).ok_or_else(|| Trouble::Refused {
            status: 404,
            reason: format!("the app {} is not installed on {by}", self.app.id),
        })
    }

    /// Reads a new token and until when it is used.
    fn take(&self, body: &[u8]) -> Result<(Secret, Timestamp), Trouble> {
        #[derive(Deserialize)]
        struct Given {
            token: String,
            expires_at: Timestamp,
        }
        let given: Given = parse(body)?;
        let until = (given.expires_at - LEFT_MIN).max((self.app.clock)() + USED_MIN);
        let token = Secret::new(given.token);
        let mut hidden = self.hidden.lock().unwrap_or_else(PoisonError::into_inner);
        if hidden.len() == HIDDEN_MAX {
            hidden.remove(0);
        }
        hidden.push(token.clone());
        Ok((token, until))
    }
}
