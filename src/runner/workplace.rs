//! Where an attempt works: its worktree or scratch folder, from the first file to the commit and the end.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::attempt::{Commit, PROTECTED_TOLD_MAX, Prepared};
use super::context::Context;
use super::event::{Purpose, Trouble};
use super::pane::Tone;
use crate::drivers::registry::{LITTER, litter};
use crate::io::git::commit::{self, CommitRequest, SALVAGE_TRAILER};
use crate::io::git::worktree::{self, Removal};
use crate::model::fault::with_causes;
use crate::model::order::{ATTEMPT_TRAILER, WorkOrder, Workplace, attempt_key};
use crate::model::report::DIFF_BYTES_MAX;
use crate::model::task::Work;

/// How many earlier attempts are looked after when a new one begins.
const EARLIER_MAX: u32 = 100;

/// How often, and how far apart, clearing up is tried again.
const CLEAR_TRIES_MAX: u32 = 6;
const CLEAR_AGAIN: Duration = Duration::from_secs(10);

/// How many folders of attempts are looked into at the start.
const LEFTOVERS_MAX: usize = 1_000;

/// Looks for the commit of an attempt that was not reported; if there is none, makes a fresh place to work in.
pub(super) async fn prepare(context: &Context, order: &WorkOrder) -> Result<Prepared, Trouble> {
    let Some(workplace) = &order.workplace else {
        let folder = context.worktree(order);
        remove_folder(&folder).await.map_err(|error| trouble(&error))?;
        tokio::fs::create_dir_all(&folder)
            .await
            .map_err(|error| Trouble(format!("cannot create {}: {error}", folder.display())))?;
        return Ok(Prepared::default());
    };
    let recovered = recover(workplace, order).await?;
    for attempt in (1..order.attempt).rev().take(EARLIER_MAX as usize) {
        rescue(context, workplace, order, attempt).await;
    }
    if let Some(recovered) = recovered {
        return Ok(Prepared { base: Some(recovered.base.clone()), recovered: Some(recovered) });
    }
    let path = context.worktree(order);
    let base = worktree::prepare(&workplace.path, &workplace.target, &workplace.branch, &path)
        .await
        .map_err(|error| trouble(&error))?;
    Ok(Prepared { base: Some(base), recovered: None })
}

/// Clears away what earlier starts of this agent left: whoever dies after his report has no next attempt that would do it.
pub(super) async fn clear_leftovers(context: &Context, mut orders: Vec<WorkOrder>) {
    for _ in 0..CLEAR_TRIES_MAX {
        for order in &orders {
            match &order.workplace {
                Some(workplace) => rescue(context, workplace, order, order.attempt).await,
                None => {
                    warn_unless_removed(&context.worktree(order)).await;
                    warn_unless_removed(&context.files(order).folder).await;
                }
            }
        }
        orders.retain(|order| remains(context, order, order.attempt));
        if orders.is_empty() {
            return;
        }
        tokio::time::sleep(CLEAR_AGAIN).await;
    }
}

/// Says whether anything of an attempt is on the disk.
fn remains(context: &Context, order: &WorkOrder, attempt: u32) -> bool {
    let layout = &context.layout;
    has_worktrees(context, order, attempt) || is_there(&layout.attempt(order.run, &order.stage, attempt))
}

fn has_worktrees(context: &Context, order: &WorkOrder, attempt: u32) -> bool {
    let layout = &context.layout;
    is_there(&layout.worktree(order.run, &order.stage, attempt))
        || is_there(&layout.check_worktree(order.run, &order.stage, attempt))
}

fn is_there(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}

/// Finds the orders of this agent whose files an earlier start left. Reads at most [`LEFTOVERS_MAX`] folders.
pub(super) fn leftovers(context: &Context) -> Vec<WorkOrder> {
    let Ok(folders) = std::fs::read_dir(context.layout.data().join("attempts")) else { return Vec::new() };
    folders
        .flatten()
        .take(LEFTOVERS_MAX)
        .filter_map(|folder| {
            serde_json::from_slice::<WorkOrder>(&std::fs::read(folder.path().join("order.json")).ok()?).ok()
        })
        .filter(|order| order.agent == context.agent.id)
        .collect()
}

/// Finds proven-to-be work of this run and stage that never made it into a report.
async fn recover(workplace: &Workplace, order: &WorkOrder) -> Result<Option<Commit>, Trouble> {
    let unreported = order.previous.iter().flat_map(|previous| &previous.unreported);
    for branch in std::iter::once(&workplace.branch).chain(unreported) {
        let found = commit::find_commit(&workplace.path, branch).await.map_err(|error| trouble(&error))?;
        let Some(found) = found else { continue };
        let of_ours = (1..=order.attempt).any(|attempt| found.attempt == attempt_key(order.run, &order.stage, attempt));
        if of_ours {
            return look_at(workplace, found.id, found.base, branch).await.map(Some);
        }
    }
    Ok(None)
}

/// Saves what an earlier attempt left in its worktree, and clears it away. Its failure must not stop the new attempt.
async fn rescue(context: &Context, workplace: &Workplace, order: &WorkOrder, attempt: u32) {
    let path = context.layout.worktree(order.run, &order.stage, attempt);
    // First without saving: a worktree that was never finished, or whose work is on its branch, needs none.
    if is_there(&path) && !matches!(worktree::remove(&workplace.path, &path, &LITTER).await, Ok(Removal::Removed)) {
        let key = attempt_key(order.run, &order.stage, attempt);
        let message = commit::message("left by an attempt that was ended", "", (SALVAGE_TRAILER, &key));
        let fallback = format!("{}-saved-{attempt}", workplace.branch);
        let saved = commit::save(&workplace.path, &path, &fallback, &message, &context.author(), &LITTER).await;
        if let Err(error) = saved {
            tracing::warn!(path = %path.display(), error = %with_causes(&error), "cannot save what an earlier attempt left");
        }
        remove_worktree(context, workplace, &path).await;
    }
    let check = context.layout.check_worktree(order.run, &order.stage, attempt);
    worktree::remove_scratch(&workplace.path, &check).await.ok();
    // The order in it is how a worktree is found again that could not be removed now.
    if !has_worktrees(context, order, attempt) {
        remove_folder(&context.layout.attempt(order.run, &order.stage, attempt)).await.ok();
    }
}

/// Puts everything since the base into one commit.
pub(super) async fn commit(
    context: &Context,
    order: &WorkOrder,
    base: &str,
    purpose: Purpose,
    summary: Option<&str>,
) -> Result<Option<Commit>, Trouble> {
    let workplace =
        order.workplace.as_ref().ok_or_else(|| Trouble("there is no repository to commit to".to_owned()))?;
    let key = attempt_key(order.run, &order.stage, order.attempt);
    let trailer = match purpose {
        Purpose::Proof => ATTEMPT_TRAILER,
        Purpose::Salvage => SALVAGE_TRAILER,
    };
    let asked = match &order.work {
        Work::Prompt(prompt) => prompt.trim().lines().next().unwrap_or_default(),
        Work::Run(_) => "",
    };
    let fallback = if asked.is_empty() { order.task.as_str() } else { asked };
    let author = context.author();
    let request = CommitRequest {
        repository: &workplace.path,
        worktree: &context.worktree(order),
        branch: &workplace.branch,
        base,
        message: &commit::message(summary.unwrap_or_default(), fallback, (trailer, &key)),
        author: &author,
        litter: litter(context.agent.driver),
    };
    let Some(id) = commit::commit_all(&request).await.map_err(|error| trouble(&error))? else { return Ok(None) };
    look_at(workplace, id, base.to_owned(), &workplace.branch).await.map(Some)
}

/// Reads what a commit changes.
async fn look_at(workplace: &Workplace, id: String, base: String, branch: &str) -> Result<Commit, Trouble> {
    let diff = commit::diff(&workplace.path, &base, &id, DIFF_BYTES_MAX).await.map_err(|error| trouble(&error))?;
    let protected = commit::changed(&workplace.path, (&base, &id), &workplace.protected, PROTECTED_TOLD_MAX)
        .await
        .map_err(|error| trouble(&error))?;
    Ok(Commit { id, base, branch: branch.to_owned(), diff, protected })
}

/// Removes what an attempt has on the disk, never work that is nowhere else.
pub(super) async fn clear(context: &Context, order: &WorkOrder) {
    let path = context.worktree(order);
    match &order.workplace {
        Some(workplace) => {
            remove_worktree(context, workplace, &path).await;
            let check = context.check_worktree(order);
            if let Err(error) = worktree::remove_scratch(&workplace.path, &check).await {
                tracing::warn!(path = %check.display(), error = %with_causes(&error), "cannot remove a checked worktree");
            }
        }
        None => warn_unless_removed(&path).await,
    }
    if !has_worktrees(context, order, order.attempt) {
        warn_unless_removed(&context.files(order).folder).await;
    }
}

/// Tries again, now and then, to clear away what could not be cleared at once, e.g. because the disk was full: of this attempt, and
/// of those before it.
pub(super) async fn clear_later(context: &Context, order: &WorkOrder) {
    for _ in 0..CLEAR_TRIES_MAX {
        let earlier = (1..order.attempt).rev().take(EARLIER_MAX as usize);
        let earlier: Vec<u32> = earlier.filter(|attempt| remains(context, order, *attempt)).collect();
        if earlier.is_empty() && !remains(context, order, order.attempt) {
            return;
        }
        tokio::time::sleep(CLEAR_AGAIN).await;
        clear(context, order).await;
        for attempt in earlier {
            if let Some(workplace) = &order.workplace {
                rescue(context, workplace, order, attempt).await;
            }
        }
    }
}

async fn remove_worktree(context: &Context, workplace: &Workplace, path: &Path) {
    match worktree::remove(&workplace.path, path, &LITTER).await {
        Ok(Removal::Removed) => {}
        Ok(Removal::Kept { reason }) => {
            tracing::warn!(path = %path.display(), reason, "a worktree is kept: it holds work that is nowhere else");
            context.pane.say(Tone::Bad, &format!("{} is kept: {reason}", path.display()));
        }
        Err(error) => tracing::warn!(path = %path.display(), error = %with_causes(&error), "cannot remove a worktree"),
    }
}

async fn warn_unless_removed(path: &Path) {
    if let Err(error) = remove_folder(path).await {
        tracing::warn!(%error, "cannot clear up");
    }
}

/// A folder cannot be removed.
#[derive(Debug, thiserror::Error)]
#[error("cannot remove {path}")]
struct RemoveError {
    path: PathBuf,
    #[source]
    source: io::Error,
}

async fn remove_folder(path: &Path) -> Result<(), RemoveError> {
    match tokio::fs::remove_dir_all(path).await {
        Err(source) if source.kind() != io::ErrorKind::NotFound => Err(RemoveError { path: path.to_owned(), source }),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Turns an error with its causes into a line for the report.
pub(super) fn trouble(error: &(dyn std::error::Error + 'static)) -> Trouble {
    Trouble(with_causes(error))
}
