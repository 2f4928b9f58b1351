//! Running the effects on GitHub: commits through the publisher's own clone, all else through the API.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::mpsc;

use crate::core::event::Event;
use crate::core::github::{GithubEffect, GithubEvent};
use crate::io::git::GitError;
use crate::io::git::publish::{self, CaughtUp, Push, Pushed, Remote};
use crate::io::github::client::Client;
use crate::io::github::connection::{Connection, Credential};
use crate::model::fault::with_causes;
use crate::model::github::{API_URL, Discover, Found, Issue, IssueRef, Publish, Quota, Trouble, Watch, Write, Written};
use crate::model::github_view::WebhookView;
use crate::model::id::{RepositoryName, RepositorySlug};
use crate::model::layout::Layout;
use crate::model::plan::{MergeMode, Plan};
use crate::tasks::Tasks;

use super::hands::send;
use super::turn::Input;
use super::webhooks::Inbox;

/// The way to GitHub.
#[derive(Debug)]
pub(super) struct Github {
    credential: Option<Credential>,
    layout: Layout,
    inputs: mpsc::Sender<Input>,
    /// The way to the address that was asked last.
    connection: Mutex<Option<Connection>>,
    /// Where webhooks are received.
    inbox: Option<Inbox>,
}

/// Where a repository's commits are.
struct Place {
    clone: PathBuf,
    repository: PathBuf,
    way: Way,
}

/// The way to a remote repository.
#[derive(Debug, Clone)]
pub(super) struct Way {
    address: String,
    /// Who has the token, if the address takes it.
    client: Option<Arc<Client>>,
}

impl Github {
    pub(super) fn new(
        credential: Option<Credential>,
        layout: &Layout,
        inputs: mpsc::Sender<Input>,
        inbox: Option<Inbox>,
    ) -> Self {
        Self { credential, layout: layout.clone(), inputs, connection: Mutex::default(), inbox }
    }

    /// Tells the loop once more of the webhooks that wait.
    pub(super) fn sweep(&self) {
        if let Some(inbox) = &self.inbox {
            inbox.sweep();
        }
    }

    /// Shows the receiving side of webhooks.
    pub(super) fn webhook_view(&self) -> Option<WebhookView> {
        self.inbox.as_ref().map(Inbox::view)
    }

    /// Starts one effect.
    pub(super) fn run(&self, effect: GithubEffect, tasks: &mut Tasks, plan: &Plan) {
        let inputs = self.inputs.clone();
        match effect {
            GithubEffect::Discover { repository, what } => {
                let client = self.client(plan, &what.slug);
                tasks.start("github", move |_| async move {
                    let (asked, (found, quota)) = (what.asked, look(client, &what).await);
                    let event = GithubEvent::Discovered { repository, asked, found, quota };
                    send(&inputs, Event::Github(Box::new(event))).await;
                });
            }
            GithubEffect::LookAt { repository, what } => {
                let client = self.client(plan, &what.slug);
                tasks.start("github", move |_| async move {
                    let (asked, (found, quota)) = (what.asked, look(client, &what).await);
                    let event = GithubEvent::LookedAt { repository, asked, found, quota };
                    send(&inputs, Event::Github(Box::new(event))).await;
                });
            }
            GithubEffect::Settle { ids } => {
                if let Some(inbox) = &self.inbox {
                    inbox.settle(ids);
                }
            }
            GithubEffect::Watch { what } => {
                let slugs: BTreeSet<RepositorySlug> = what.issues.iter().map(|one| one.issue.slug.clone()).collect();
                let clients = slugs.into_iter().map(|slug| (self.client(plan, &slug), slug)).collect();
                tasks.start("github", move |_| async move {
                    let (asked, (found, quota)) = (what.asked, watch(clients, &what).await);
                    send(&inputs, Event::Github(Box::new(GithubEvent::Watched { asked, found, quota }))).await;
                });
            }
            GithubEffect::LookAtClaims { task, issue, asked } => {
                let client = self.client(plan, &issue.slug);
                tasks.start("github", move |_| async move {
                    let (seen, quota) = match client {
                        Ok(client) => (client.claims(&issue.slug, issue.number).await, client.quota()),
                        Err(trouble) => (Err(trouble), None),
                    };
                    let event = GithubEvent::ClaimsSeen { task, asked, seen, quota };
                    send(&inputs, Event::Github(Box::new(event))).await;
                });
            }
            GithubEffect::Write { task, repository, slug, issue, write } => {
                let (client, place) = (self.client(plan, &slug), self.place(plan, &repository));
                tasks.start("github", move |_| async move {
                    let kind = write.kind();
                    let written = match (&client, place) {
                        (Ok(client), Some(place)) => perform(client, &place, &slug, issue, write).await,
                        (Err(trouble), _) => Err(trouble.clone()),
                        (Ok(_), None) => Err(missing(&repository)),
                    };
                    let quota = client.ok().and_then(|client| client.quota());
                    send(&inputs, Event::Github(Box::new(GithubEvent::Written { task, kind, written, quota }))).await;
                });
            }
            GithubEffect::CatchUp { task, repository, target } => {
                let place = self.place(plan, &repository);
                tasks.start("github", move |_| async move {
                    let result = match place {
                        Some(place) => place.catch_up(&target).await,
                        None => Err(missing(&repository).to_string()),
                    };
                    send(&inputs, Event::Github(Box::new(GithubEvent::CaughtUp { task, result }))).await;
                });
            }
        }
    }

    fn client(&self, plan: &Plan, slug: &RepositorySlug) -> Result<Arc<Client>, Trouble> {
        let refused = |reason: String| Trouble::Refused { status: 401, reason };
        let credential = match (&self.credential, &plan.github.app) {
            (Some(credential @ Credential::Token(_)), None) => credential,
            (Some(credential @ Credential::App(id, _)), Some(app)) if *id == app.id => credential,
            (None, None) => {
                let variable = &plan.github.token_env;
                return Err(refused(format!(
                    "there is no token; set {variable} for the supervisor and start it again"
                )));
            }
            (Some(Credential::Token(_) | Credential::App(..)) | None, Some(_)) | (Some(Credential::App(..)), None) => {
                return Err(refused(
                    "[github] names somebody else since the start; start the supervisor again".to_owned(),
                ));
            }
        };
        let mut held = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = match held.take_if(|connection| connection.leads_to(&plan.github.api_url)) {
            Some(connection) => Ok(connection),
            None => Connection::new(credential.clone(), &plan.github.api_url),
        };
        let client = fresh.and_then(|fresh| held.insert(fresh).client(slug));
        client.map_err(|error| refused(with_causes(&error)))
    }

    fn place(&self, plan: &Plan, name: &RepositoryName) -> Option<Place> {
        let repository = plan.repository(name)?;
        let slug = &repository.github.as_ref()?.slug;
        let home = web(&plan.github.api_url);
        let address = repository.remote.clone().unwrap_or_else(|| format!("{home}{slug}.git"));
        Some(Place {
            clone: self.layout.publisher(name),
            repository: repository.path.clone(),
            way: self.way(plan, address),
        })
    }

    /// Returns the way to the remote repository whose branch a merge queue is about, and the publisher's clone for it; nothing if
    /// the local branch is.
    pub(super) fn queue_way(&self, plan: &Plan, name: &RepositoryName) -> Option<(PathBuf, Way)> {
        let repository = plan.repository(name).filter(|repository| repository.merge == MergeMode::Queue)?;
        let address = repository.remote.clone()?;
        Some((self.layout.publisher(name), self.way(plan, address)))
    }

    fn way(&self, plan: &Plan, address: String) -> Way {
        // The token is for GitHub alone, whatever `remote` says.
        let path = address.strip_prefix(&web(&plan.github.api_url));
        let slug = path.and_then(|path| RepositorySlug::new(path.strip_suffix(".git").unwrap_or(path)).ok());
        let client = slug.and_then(|slug| self.client(plan, &slug).ok());
        Way { address, client }
    }
}

impl Way {
    /// Takes what git needs to go there now.
    pub(super) async fn remote(&self) -> Result<Remote, Trouble> {
        let token = match &self.client {
            Some(client) => Some(client.token().await?),
            None => None,
        };
        Ok(Remote { address: self.address.clone(), token })
    }

    /// Makes a text of what went wrong there. Git does not tell a token that has ended from other trouble, so the next try has a
    /// new one.
    pub(super) async fn failed(&self, remote: &Remote, error: &GitError) -> String {
        let text = with_causes(error);
        let (Some(client), Some(token)) = (&self.client, &remote.token) else { return text };
        client.doubt(token).await;
        client.hide_in(&text)
    }
}

impl Place {
    async fn catch_up(&self, target: &str) -> Result<String, String> {
        let remote = self.way.remote().await.map_err(|trouble| trouble.to_string())?;
        match publish::catch_up(&self.clone, &remote, &self.repository, target).await {
            Ok(CaughtUp::Yes { commit }) => Ok(commit),
            Ok(CaughtUp::Parked { reason }) => Err(reason),
            Err(error) => Err(self.way.failed(&remote, &error).await),
        }
    }
}

/// What became of single issues; those behind one for which GitHub asks to wait are not asked for.
type Seen = Vec<(IssueRef, Result<Box<Issue>, Trouble>)>;

/// Looks at single issues, those of each repository as whom it lets in.
async fn watch(clients: Vec<(Result<Arc<Client>, Trouble>, RepositorySlug)>, what: &Watch) -> (Seen, Option<Quota>) {
    let (mut seen, mut quota): (Seen, Option<Quota>) = (Vec::new(), None);
    for (client, slug) in clients {
        let issues = what.issues.iter().filter(|one| one.issue.slug == slug).cloned().collect();
        let part = Watch { issues, asked: what.asked };
        match &client {
            Ok(client) => {
                seen.extend(client.watch(&part).await);
                quota = client.quota().or(quota);
            }
            Err(trouble) => seen.extend(part.issues.into_iter().map(|one| (one.issue, Err(trouble.clone())))),
        }
        if seen.last().is_some_and(|(_, found)| matches!(found, Err(Trouble::Limited { .. }))) {
            break;
        }
    }
    (seen, quota)
}

/// Looks once, and says what is left of the quota.
async fn look(client: Result<Arc<Client>, Trouble>, what: &Discover) -> (Result<Box<Found>, Trouble>, Option<Quota>) {
    match client {
        Ok(client) => (client.discover(what).await.map(Box::new), client.quota()),
        Err(trouble) => (Err(trouble), None),
    }
}

/// Returns the address below which an API's repositories can be cloned.
fn web(api: &str) -> String {
    if api == API_URL {
        return "https://github.com/".to_owned();
    }
    format!("{}/", api.strip_suffix("/api/v3").unwrap_or(api))
}

fn missing(repository: &RepositoryName) -> Trouble {
    Trouble::Stopped { reason: format!("repository {repository} is not in agents.toml, or not on GitHub") }
}

async fn perform(
    client: &Client,
    place: &Place,
    slug: &RepositorySlug,
    issue: Option<u64>,
    write: Write,
) -> Result<Written, Trouble> {
    let missing = || Trouble::Stopped { reason: "the task has no issue".to_owned() };
    match write {
        Write::Publish(publish) => {
            // Others may have taken the issue over while this was on its way: looked at before the push, and again after it.
            if let (Some(claimant), Some(issue)) = (&publish.claimant, issue) {
                client.check_claim(slug, issue, claimant).await?;
            }
            push(place, &publish).await?;
            if let (Some(claimant), Some(issue)) = (&publish.claimant, issue) {
                client.check_claim(slug, issue, claimant).await?;
            }
            client.open_pull(slug, &publish).await.map(Written::Published)
        }
        Write::Comment { known, marker, body } => {
            let issue = issue.ok_or_else(missing)?;
            client.comment(slug, issue, known, &marker, &body).await.map(Written::Commented)
        }
        Write::Claim { known, body, .. } => {
            let issue = issue.ok_or_else(missing)?;
            client.claim(slug, issue, known, &body).await.map(|(comment, claims)| Written::Claimed(comment, claims))
        }
        Write::Withdraw { comment } => client.withdraw(slug, comment).await.map(|()| Written::Withdrawn(comment)),
        Write::Status { commit, description } => {
            client.status(slug, &commit, &description).await.map(|()| Written::StatusSet)
        }
        Write::Label(how) => {
            let issue = issue.ok_or_else(missing)?;
            client.label(slug, issue, &how).await.map(|()| Written::Labelled)
        }
    }
}

async fn push(place: &Place, publish: &Publish) -> Result<(), Trouble> {
    let push = Push {
        repository: &place.repository,
        from: &publish.from,
        commit: &publish.commit,
        branch: &publish.branch,
        ours: &publish.ours,
    };
    let remote = place.way.remote().await?;
    match publish::push(&place.clone, &remote, push).await {
        Ok(Pushed::Done) => Ok(()),
        Ok(Pushed::Foreign { commit }) => Err(Trouble::Stopped {
            reason: format!(
                "the branch {} holds {}, which we have not pushed; delete the branch or merge it",
                publish.branch,
                commit.get(..10).unwrap_or(&commit)
            ),
        }),
        Err(error) => Err(Trouble::Unsure { reason: place.way.failed(&remote, &error).await }),
    }
}

#[cfg(test)]
mod tests {
    use super::web;

    #[test]
    fn clones_come_from_where_the_api_is() {
        assert_eq!(web("https://api.github.com"), "https://github.com/");
        assert_eq!(web("https://ghe.example.org/api/v3"), "https://ghe.example.org/");
        assert_eq!(web("http://127.0.0.1:4000"), "http://127.0.0.1:4000/");
    }
}
