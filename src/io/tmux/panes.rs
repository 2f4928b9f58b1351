//! The agents' panes.

use std::collections::{BTreeMap, BTreeSet};

use tmux_interface::{
    CapturePane, DisplayMessage, IfShell, KillPane, ListPanes, ListWindows, NewWindow, SelectWindow, SetOption,
};

use super::script::{Script, literal};
use super::{AGENT_TAG, INCARNATION_TAG, PaneSeen, ROOT_TAG, SpawnPane, Tmux, TmuxError, oneshot};
use crate::io::process;
use crate::model::id::{AgentId, Incarnation};

/// How often another place for a window is tried when somebody took the chosen one in between.
const PLACES_TRIED_MAX: u32 = 5;

/// Where each agent's window was, so that it comes back to the same place.
#[derive(Debug, Default)]
pub(super) struct Slots {
    by_agent: BTreeMap<AgentId, u32>,
}

impl Slots {
    /// Chooses a place: the agent's old one, else the lowest that nobody has or had.
    fn choose(&self, agent: &AgentId, taken: &BTreeSet<u32>) -> u32 {
        if let Some(slot) = self.by_agent.get(agent).filter(|slot| !taken.contains(slot)) {
            return *slot;
        }
        let reserved: BTreeSet<u32> = self.by_agent.values().copied().collect();
        (1..)
            .find(|slot| !taken.contains(slot) && !reserved.contains(slot))
            .expect("there are more numbers than windows")
    }
}

impl Tmux {
    /// Returns the panes that carry an agent's tag in our session. Without a server there are none.
    ///
    /// # Errors
    /// When the server does not answer; that says nothing about the panes.
    pub async fn list_panes(&self) -> Result<Vec<PaneSeen>, TmuxError> {
        let format = format!("#{{{ROOT_TAG}}}\t{}", pane_format());
        let answer = match self.all_panes(&format).await {
            Err(TmuxError::NoServer { .. }) => return Ok(Vec::new()),
            answer => answer?,
        };
        let ours = self.spec.root_tag();
        let mut panes: Vec<PaneSeen> = answer
            .iter()
            .filter_map(|line| line.strip_prefix(ours.as_str())?.strip_prefix('\t'))
            .filter_map(parse_pane)
            .collect();
        // A window that people linked into another session is listed twice.
        panes.sort_by(|one, other| one.pane.cmp(&other.pane));
        panes.dedup_by(|one, other| one.pane == other.pane);
        if panes.iter().any(|pane| pane.dead) {
            self.reap().await?;
        }
        Ok(panes)
    }

    /// Returns a line for every pane of every session.
    pub(super) async fn all_panes(&self, format: &str) -> Result<Vec<String>, TmuxError> {
        match self.ask(&Script::new(&ListPanes::new().all().format(format).build())).await {
            // A server without any session refuses the question.
            Err(TmuxError::Refused { .. }) if self.ask(&oneshot::sessions()).await?.is_empty() => Ok(Vec::new()),
            answer => answer,
        }
    }

    /// Makes a pane in a window of its own, and the session if it is lost. A live pane of the same agent and incarnation
    /// is returned instead, so the call may be repeated.
    ///
    /// # Errors
    /// When the agent has a live pane of another incarnation, or tmux refuses.
    pub async fn spawn_pane(&self, spawn: &SpawnPane) -> Result<PaneSeen, TmuxError> {
        let mut slots = self.slots.lock().await;
        self.start_server_if_needed().await?;
        for pane in self.list_panes().await?.into_iter().filter(|pane| pane.agent == spawn.agent) {
            if pane.dead {
                // Something below the dead process holds the window open; its place is needed.
                self.kill_pane(&pane.pane, &pane.agent, pane.incarnation).await?;
            } else if pane.incarnation == spawn.incarnation {
                return Ok(pane);
            } else {
                let PaneSeen { agent, pane, incarnation, .. } = pane;
                return Err(TmuxError::StillThere { agent, pane, incarnation });
            }
        }
        for _ in 1..PLACES_TRIED_MAX {
            match self.make_window(spawn, &mut slots).await {
                Err(TmuxError::Refused { message, .. }) if message.contains("in use") => {}
                other => return other,
            }
        }
        self.make_window(spawn, &mut slots).await
    }

    async fn make_window(&self, spawn: &SpawnPane, slots: &mut Slots) -> Result<PaneSeen, TmuxError> {
        let session = self.ensure_session().await?;
        let taken = self.window_indexes(&session).await?;
        let slot = slots.choose(&spawn.agent, &taken);
        let target = format!("{session}:{slot}");
        let mut script = window_script(spawn, &target)?;
        if taken.len() <= 1 {
            // Whoever attaches wants to see an agent, not the window that keeps the session.
            script = script.then(&SelectWindow::new().target_window(target.as_str()).build());
        }
        let tell = DisplayMessage::new().print().target_pane(target.as_str()).message(pane_format()).build();
        let script = script.then(&tell);
        let answer = self.ask(&script).await?;
        let pane = answer
            .last()
            .and_then(|line| parse_pane(line))
            .ok_or_else(|| TmuxError::Nonsense { verb: script.verb().to_owned(), answer: answer.join("\n") })?;
        slots.by_agent.insert(spawn.agent.clone(), slot);
        if let Err(error) = self.attach(&session).await {
            tracing::warn!(%error, "no persistent connection to tmux; each question starts a process");
        }
        Ok(pane)
    }

    pub(super) async fn window_indexes(&self, session: &str) -> Result<BTreeSet<u32>, TmuxError> {
        let list = ListWindows::new().format("#{window_index}").target_session(session).build();
        let answer = self.ask(&Script::new(&list)).await?;
        Ok(answer.iter().filter_map(|line| line.parse().ok()).collect())
    }

    /// Closes a pane if it still belongs to this agent and incarnation; one that is gone already is fine.
    ///
    /// Its process gets SIGHUP, which it may ignore: the process is known to be gone by its pidfd only.
    ///
    /// # Errors
    /// When the pane belongs to somebody else, or tmux refuses.
    pub async fn kill_pane(&self, pane: &str, agent: &AgentId, incarnation: Incarnation) -> Result<(), TmuxError> {
        check_pane(pane)?;
        let tags = format!("#{{{AGENT_TAG}}}.#{{{INCARNATION_TAG}}}");
        let expected = format!("{agent}.{incarnation}");
        // The server itself compares and kills in one step, so that nothing can come between.
        let kill = Script::new(&KillPane::new().target_pane(pane).build());
        let seen = format!("#{{pane_id}} {tags}");
        let tell = Script::new(&DisplayMessage::new().print().target_pane(pane).message(seen).build());
        let mut check =
            IfShell::new().not_execute().target_pane(pane).shell_command(format!("#{{==:{tags},{expected}}}")).build();
        check.push_param(kill.line().to_owned()).push_param(tell.line().to_owned());
        match self.ask(&Script::new(&check)).await {
            // Nothing is printed after a kill. For a pane that is gone the server looks at none, or at another one.
            Ok(answer) => match answer.first().and_then(|line| line.split_once(' ')) {
                Some((found, owner)) if found == pane => Err(TmuxError::WrongPane {
                    pane: pane.to_owned(),
                    agent: agent.clone(),
                    incarnation,
                    found: owner.to_owned(),
                }),
                Some(_) | None => Ok(()),
            },
            Err(TmuxError::NoServer { .. }) => Ok(()),
            Err(TmuxError::Refused { message, .. }) if message.contains("can't find pane") => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Returns what the pane shows now, without its history.
    ///
    /// # Errors
    /// When there is no such pane, or tmux does not answer.
    pub async fn capture_pane(&self, pane: &str) -> Result<String, TmuxError> {
        check_pane(pane)?;
        let capture = CapturePane::new().stdout().target_pane(pane).build();
        // Never through the connection: what a pane shows is its program's to choose, also lines that look like replies.
        Ok(oneshot::ask(&self.spec, &Script::new(&capture)).await?.join("\n"))
    }
}

fn check_pane(pane: &str) -> Result<(), TmuxError> {
    let digits = pane.strip_prefix('%').unwrap_or_default();
    if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(());
    }
    Err(TmuxError::Refused { verb: "target".to_owned(), message: format!("`{pane}` is no pane id such as %3") })
}

/// Makes the window and tags its pane, in one sequence.
fn window_script(spawn: &SpawnPane, target: &str) -> Result<Script, TmuxError> {
    let title: String = spawn.title.chars().filter(|c| !c.is_control()).collect();
    let title = if title.trim().is_empty() { spawn.agent.to_string() } else { title };
    let mut make = NewWindow::new()
        .detached()
        .window_name(literal(&title))
        .start_directory(literal(&spawn.cwd.to_string_lossy()))
        .target_window(target)
        .build();
    for (name, value) in &spawn.env {
        make.push_option("-e", format!("{name}={value}"));
    }
    make.push_param("--");
    match spawn.argv.as_slice() {
        [] => return Err(TmuxError::NoProgram { agent: spawn.agent.clone() }),
        // tmux hands a single argument to a shell, several straight to the kernel.
        [program] => {
            for word in ["/bin/sh", "-c", "exec \"$0\"", program] {
                make.push_param(word.to_owned());
            }
        }
        several => {
            for word in several {
                make.push_param(word.clone());
            }
        }
    }
    let in_window = |option, value| SetOption::new().window().target_pane(target).option(option).value(value).build();
    let in_pane = |option, value| SetOption::new().pane().target_pane(target).option(option).value(value).build();
    Ok(Script::new(&make)
        .then(&in_pane(AGENT_TAG, spawn.agent.to_string()))
        .then(&in_pane(INCARNATION_TAG, spawn.incarnation.to_string()))
        // A dead pane that stays can crash old servers and swallows what is typed into it.
        .then(&in_window("remain-on-exit", "off"))
        .then(&in_window("automatic-rename", "off"))
        .then(&in_window("allow-rename", "off")))
}

fn pane_format() -> String {
    format!("#{{{AGENT_TAG}}}\t#{{{INCARNATION_TAG}}}\t#{{pane_id}}\t#{{window_id}}\t#{{pane_pid}}\t#{{pane_dead}}")
}

fn parse_pane(line: &str) -> Option<PaneSeen> {
    let [agent, incarnation, pane, window, pid, dead] =
        <[&str; 6]>::try_from(line.split('\t').collect::<Vec<_>>()).ok()?;
    let pid = pid.parse().ok()?;
    Some(PaneSeen {
        pane: pane.to_owned(),
        window: window.to_owned(),
        pid,
        agent: AgentId::new(agent).ok()?,
        incarnation: Incarnation(incarnation.parse().ok()?),
        dead: dead == "1" || process::identify(pid).is_none(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(name: &str) -> AgentId {
        AgentId::new(name).unwrap()
    }

    #[test]
    fn an_agent_comes_back_to_its_place_and_nobody_else_takes_it() {
        let mut slots = Slots::default();
        slots.by_agent.insert(id("kaede"), 1);
        slots.by_agent.insert(id("sakura"), 2);
        assert_eq!(slots.choose(&id("sakura"), &BTreeSet::from([1])), 2);
        assert_eq!(slots.choose(&id("botan"), &BTreeSet::from([1])), 3);
        assert_eq!(slots.choose(&id("sakura"), &BTreeSet::from([1, 2])), 3, "somebody sits there");
    }

    #[test]
    fn a_pane_without_tags_is_not_ours() {
        assert_eq!(parse_pane("\t\t%1\t@1\t1\t0"), None);
        let us = std::process::id();
        let seen = parse_pane(&format!("kaede\t7\t%1\t@2\t{us}\t0")).unwrap();
        assert_eq!((seen.incarnation, seen.dead), (Incarnation(7), false));
    }

    #[test]
    fn a_pane_whose_process_is_gone_is_dead_even_if_tmux_missed_it() {
        let beyond_the_last = u32::MAX;
        assert!(parse_pane(&format!("kaede\t7\t%1\t@2\t{beyond_the_last}\t0")).unwrap().dead);
    }
}
