//! Who the supervisor is on GitHub: one client for a token, one for each owner for an app.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::GithubError;
use super::client::Client;
use super::installation::{App, Installation, Key};
use crate::model::github::AppId;
use crate::model::id::RepositorySlug;
use crate::model::secret::Secret;

/// What the supervisor has to show.
#[derive(Debug, Clone)]
pub enum Credential {
    /// The token of a person or machine user.
    Token(Secret),
    /// An app and its key.
    App(AppId, Key),
}

/// The way to one API.
#[derive(Debug)]
pub struct Connection {
    api: String,
    who: Who,
}

#[derive(Debug)]
enum Who {
    Token(Arc<Client>),
    /// Clients by the owners of repositories, as many as agents.toml names.
    App(App, Mutex<BTreeMap<String, Arc<Client>>>),
}

impl Connection {
    /// Sets it up; nothing is asked yet.
    ///
    /// # Errors
    /// The address is none, or no connection can be set up.
    pub fn new(credential: Credential, api: &str) -> Result<Self, GithubError> {
        let who = match credential {
            Credential::Token(token) => Who::Token(Arc::new(Client::new(token, api)?)),
            Credential::App(id, key) => Who::App(App::new(id, key, api)?, Mutex::default()),
        };
        Ok(Self { api: api.to_owned(), who })
    }

    /// Says whether it leads to this API.
    #[must_use]
    pub fn leads_to(&self, api: &str) -> bool {
        self.api == api
    }

    /// Returns the client for a repository.
    ///
    /// # Errors
    /// No connection can be set up.
    pub fn client(&self, slug: &RepositorySlug) -> Result<Arc<Client>, GithubError> {
        match &self.who {
            Who::Token(client) => Ok(Arc::clone(client)),
            Who::App(app, clients) => {
                let owner = slug.as_str().split('/').next().unwrap_or_default().to_lowercase();
                let mut clients = clients.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(client) = clients.get(&owner) {
                    client.find_by(slug);
                    return Ok(Arc::clone(client));
                }
                let installation = Arc::new(Installation::new(app.clone(), slug.clone()));
                let client = Arc::new(Client::of_installation(installation, &self.api)?);
                clients.insert(owner, Arc::clone(&client));
                Ok(client)
            }
        }
    }
}
