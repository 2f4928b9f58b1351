//! Where an attempt works: its worktree or scratch folder, from the first file to the commit and the end.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::attempt::{Commit, PROTECTED_TOLD_MAX, Prepared};
use super::context::Context;
use super::event::{Purpose, Trouble};
use super::pane::Tone;
use crate::drivers::registry::{LITTER, litter};
use crate::io::git::GitError;
use crate::io::git::commit::{self, CommitRequest, SALVAGE_TRAILER};
use crate::io::git::worktree::{self, Removal};
use crate::model::fault::with_causes;
use crate::model::order::{ATTEMPT_TRAILER, Expects, WorkOrder, Workplace, attempt_key};
use crate::model::report::DIFF_BYTES_MAX;
use crate::model::task::Work;

/// How many earlier attempts are looked after when a new one begins.
const EARLIER_MAX: u32 = 100;

/// How many folders of attempts are looked into at the start.
const LEFTOVERS_MAX: usize = 1_000;

/// Looks for the commit of an attempt that was not reported; if there is none, makes a fresh place to work in.
pub(super) async fn prepare(context: &Context, order: &Arc<WorkOrder>) -> Result<Prepared, Trouble> {
    // First of all the order, by which a later start finds whatever this one leaves.
    make_folder(context, order).await.map_err(|error| trouble(&error))?;
    for attempt in (1..order.attempt).rev().take(EARLIER_MAX as usize) {
        clear_away_now_or_later(context, order, attempt).await;
    }
    let path = context.worktree(order);
    let Some(workplace) = &order.workplace else {
        remove_folder(&path).await.map_err(|error| trouble(&error))?;
        let made = tokio::fs::create_dir_all(&path).await;
        made.map_err(|source| trouble(&FolderError { act: "create", path, source }))?;
        return Ok(Prepared::default());
    };
    if let (Expects::Proof, Some(start)) = (order.expects, &workplace.start) {
        // There is nothing to make; the commit is checked in a worktree of its own.
        let commit = look_at(workplace, start.commit.clone(), start.base.clone(), &workplace.branch).await?;
        return Ok(Prepared { base: Some(start.base.clone()), recovered: Some(commit) });
    }
    if let Some(recovered) = recover(workplace, order).await? {
        return Ok(Prepared { base: Some(recovered.base.clone()), recovered: Some(recovered) });
    }
    let base = match &workplace.start {
        Some(start) => worktree::prepare_at(&workplace.path, &start.commit, &workplace.branch, &path)
            .await
            .map(|()| start.base.clone()),
        None => worktree::prepare(&workplace.path, &workplace.target, &workplace.branch, &path).await,
    };
    Ok(Prepared { base: Some(base.map_err(|error| trouble(&error))?), recovered: None })
}

/// Makes the folder of an attempt's files anew, with the order in it: what an earlier start of the same attempt left must not
/// be taken for this one's.
async fn make_folder(context: &Context, order: &WorkOrder) -> Result<(), FolderError> {
    let files = context.files(order);
    remove_folder(&files.folder).await?;
    let made = async {
        tokio::fs::create_dir_all(&files.folder).await?;
        tokio::fs::write(&files.order, serde_json::to_vec_pretty(order).map_err(io::Error::other)?).await
    };
    made.await.map_err(|source| FolderError { act: "write into", path: files.folder, source })
}

/// Says whether an attempt still has something on the disk.
fn is_there(context: &Context, order: &WorkOrder, attempt: u32) -> bool {
    let places = context.layout.places(order.run, &order.stage, attempt);
    places.iter().any(|path| path.symlink_metadata().is_ok())
}

/// Finds the orders of this agent whose files an earlier start left. Reads at most [`LEFTOVERS_MAX`] folders.
pub(super) fn leftovers(context: &Context) -> Vec<Arc<WorkOrder>> {
    let Ok(folders) = std::fs::read_dir(context.layout.attempts()) else { return Vec::new() };
    folders
        .flatten()
        .take(LEFTOVERS_MAX)
        .filter_map(|folder| {
            serde_json::from_slice::<WorkOrder>(&std::fs::read(folder.path().join("order.json")).ok()?).ok()
        })
        .filter(|order| order.agent == context.agent.id)
        .map(Arc::new)
        .collect()
}

/// Finds proven-to-be work of this run and stage that never made it into a report.
async fn recover(workplace: &Workplace, order: &WorkOrder) -> Result<Option<Commit>, Trouble> {
    let unreported = order.previous.iter().flat_map(|previous| &previous.unreported);
    for branch in std::iter::once(&workplace.branch).chain(unreported) {
        let found = commit::find_commit(&workplace.path, branch).await.map_err(|error| trouble(&error))?;
        let Some(found) = found else { continue };
        if workplace.start.as_ref().is_some_and(|start| start.commit == found.id) {
            // It is what the attempt began with, not what it made.
            continue;
        }
        let of_ours = (1..=order.attempt).any(|attempt| found.attempt == attempt_key(order.run, &order.stage, attempt));
        if of_ours {
            return look_at(workplace, found.id, found.base, branch).await.map(Some);
        }
    }
    Ok(None)
}

/// Removes what an attempt that has ended has on the disk, never work that is nowhere else: that is saved on a branch first.
/// A failure is told, and is nobody's end. Says whether nothing is left.
pub(super) async fn clear_away(context: &Context, order: &WorkOrder, attempt: u32) -> bool {
    let _turn = context.clearing.turn().await;
    if is_there(context, order, attempt) {
        try_to_clear(context, order, attempt).await;
    }
    !is_there(context, order, attempt)
}

/// Does the same, and leaves to the background what cannot be done at once.
pub(super) async fn clear_away_now_or_later(context: &Context, order: &Arc<WorkOrder>, attempt: u32) {
    if !clear_away(context, order, attempt).await {
        context.clearing.add(order, attempt);
    }
}

async fn try_to_clear(context: &Context, order: &WorkOrder, attempt: u32) {
    let layout = &context.layout;
    let path = layout.worktree(order.run, &order.stage, attempt);
    match &order.workplace {
        Some(workplace) => {
            clear_worktree(context, (workplace, order), attempt, &path).await;
            let check = layout.check_worktree(order.run, &order.stage, attempt);
            if let Err(error) = worktree::remove_scratch(&workplace.path, &check).await {
                tracing::warn!(path = %check.display(), error = %with_causes(&error), "cannot remove a checked worktree");
            }
            if check.symlink_metadata().is_ok() {
                return;
            }
        }
        None => warn_unless_removed(&path).await,
    }
    // The order in it is how a worktree is found again that could not be removed now.
    if path.symlink_metadata().is_err() {
        warn_unless_removed(&layout.attempt(order.run, &order.stage, attempt)).await;
    }
}

async fn clear_worktree(context: &Context, of: (&Workplace, &WorkOrder), attempt: u32, path: &Path) {
    let (workplace, order) = of;
    // First without saving: a worktree that was never finished, or whose work is on its branch, needs none.
    if matches!(worktree::remove(&workplace.path, path, &LITTER).await, Ok(Removal::Removed)) {
        return;
    }
    let key = attempt_key(order.run, &order.stage, attempt);
    let message = commit::message("left by an attempt that was ended", "", (SALVAGE_TRAILER, &key));
    let fallback = format!("{}-saved-{attempt}", workplace.branch);
    let saved = commit::save(&workplace.path, path, &fallback, &message, &context.author(), &LITTER).await;
    if let Err(error) = saved {
        tracing::warn!(path = %path.display(), error = %with_causes(&error), "cannot save what an attempt left");
    }
    remove_worktree(context, &workplace.path, path).await;
}

/// Removes a worktree of which only the folder is known, never work that is nowhere else: that is saved on a branch first. What is
/// no worktree any more stays, unless it is empty.
pub(super) async fn clear_unknown(context: &Context, path: &Path, name: &str, message: &str) -> Result<(), GitError> {
    let Some(repository) = worktree::repository_of(path).await? else {
        // Nothing but an empty folder goes this way.
        tokio::fs::remove_dir(path).await.ok();
        return Ok(());
    };
    if matches!(worktree::remove(&repository, path, &LITTER).await, Ok(Removal::Removed)) {
        return Ok(());
    }
    let fallback = format!("miyabi/left/{name}");
    commit::save(&repository, path, &fallback, message, &context.author(), &LITTER).await?;
    remove_worktree(context, &repository, path).await;
    Ok(())
}

/// Removes a worktree in which a commit was checked, and of which only the folder is known.
pub(super) async fn clear_check(path: &Path) -> Result<(), GitError> {
    if path.symlink_metadata().is_err() {
        return Ok(());
    }
    match worktree::repository_of(path).await? {
        Some(repository) => worktree::remove_scratch(&repository, path).await,
        None => {
            warn_unless_removed(path).await;
            Ok(())
        }
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
    if let Some(start) = &workplace.start
        && commit::same_files(&workplace.path, &start.commit, &id).await.map_err(|error| trouble(&error))?
    {
        return Ok(None);
    }
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

async fn remove_worktree(context: &Context, repository: &Path, path: &Path) {
    match worktree::remove(repository, path, &LITTER).await {
        Ok(Removal::Removed) => {}
        Ok(Removal::Kept { reason }) => {
            tracing::warn!(path = %path.display(), reason, "a worktree is kept: it holds work that is nowhere else");
            context.pane.say(Tone::Bad, &format!("{} is kept: {reason}", path.display()));
        }
        Err(error) => tracing::warn!(path = %path.display(), error = %with_causes(&error), "cannot remove a worktree"),
    }
}

pub(super) async fn warn_unless_removed(path: &Path) {
    if let Err(error) = remove_folder(path).await {
        tracing::warn!(%error, "cannot clear up");
    }
}

/// A folder cannot be made or removed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {act} {path}")]
struct FolderError {
    act: &'static str,
    path: PathBuf,
    #[source]
    source: io::Error,
}

async fn remove_folder(path: &Path) -> Result<(), FolderError> {
    match tokio::fs::remove_dir_all(path).await {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(FolderError { act: "remove", path: path.to_owned(), source })
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Turns an error with its causes into a line for the report.
pub(super) fn trouble(error: &(dyn std::error::Error + 'static)) -> Trouble {
    Trouble(with_causes(error))
}
