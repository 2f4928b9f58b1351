//! Every piece of news in every state does what the table says.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::table::{News, State, targets};
use super::{KILL_REPEAT, Liveness, Pane, SPAWN_TRIES_MAX, START_SLICES, Seen};
use crate::core::Core;
use crate::core::effect::{Effect, Stop};
use crate::core::event::{Branches, Event, Evidence, PaneFound, Room};
use crate::core::fact::{Budget, DownCause, Fact, Hold, Recorded};
use crate::core::state::Durable;
use crate::model::agent::{AgentSpec, DriverKind, Limits, RestartKind, RestartPolicy, StallAnswer};
use crate::model::beat::{Activity, Beat};
use crate::model::id::{AgentId, Incarnation, Role};
use crate::model::plan::{Plan, ResourceLimits, SessionSpec, SpoolLimits, Workflow};
use crate::model::request::{Request, RequestId};
use crate::model::size::Size;
use crate::model::time::Timestamp;
use crate::model::watching::WatchFaults;

const FIRST: Incarnation = Incarnation(1);

fn kaede() -> AgentId {
    AgentId::new("kaede").unwrap()
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_millis(1_000_000_000 + seconds * 1_000)
}

fn plan(policy: RestartKind, intensity: u32) -> Plan {
    let seconds = Duration::from_secs;
    let agent = AgentSpec {
        id: kaede(),
        name: "カエデ".to_owned(),
        role: Role::new("codegen").unwrap(),
        labels: BTreeSet::new(),
        driver: DriverKind::Echo,
        command: Vec::new(),
        env: BTreeSet::new(),
        heartbeat: seconds(5),
        heartbeat_timeout: seconds(30),
        start_timeout: seconds(40),
        stop_timeout: seconds(10),
        timeout: seconds(600),
        stall: seconds(300),
        on_stall: StallAnswer::Escalate,
        limits: Limits::default(),
        restart: RestartPolicy {
            policy,
            intensity,
            period: seconds(600),
            backoff: seconds(1),
            backoff_max: seconds(60),
            reset_after: seconds(600),
        },
    };
    Plan {
        session: SessionSpec { name: "t".to_owned(), socket: "t".to_owned() },
        agents: vec![agent],
        repositories: Vec::new(),
        workflow: Workflow::default(),
        resources: ResourceLimits::default(),
        scheduler: crate::model::plan::SchedulerSpec::default(),
        spool: SpoolLimits::default(),
        alert_command: Vec::new(),
        log_days: 7,
        attempt_log_days: 30,
        drain: Duration::from_secs(30),
        github: crate::model::github::GithubSpec::default(),
    }
}

fn pane() -> Pane {
    Pane { id: "%1".to_owned(), pid: 10 }
}

fn seen() -> Seen {
    Seen { at: at(0), pid: 10, sequence: 3 }
}

/// A clock that never leapt.
fn awake(at: Timestamp) -> Duration {
    Duration::from_millis(u64::try_from(at.as_millis()).unwrap())
}

fn evidence(seconds: i64) -> Evidence {
    Evidence { at: at(seconds), awake: awake(at(seconds)), stopped: false, cpu_ticks: 7, told_ms: 0 }
}

fn liveness(state: State) -> Liveness {
    let (pane, last_beat, activity) = (pane(), seen(), Activity::Idle);
    match state {
        State::Absent => Liveness::Absent,
        State::Spawning => Liveness::Spawning { deadline: at(30), tries: 1, early: None },
        State::Starting => Liveness::Starting { pane, deadline: at(10), slice: 1 },
        State::Up => Liveness::Up { pane, last_beat, activity },
        State::Suspect => Liveness::Suspect { pane, last_beat, activity, first: Some(evidence(15)), probe_at: at(30) },
        State::Stopping => Liveness::Stopping { pane, cause: DownCause::Silent, deadline: at(20) },
        State::Clearing => Liveness::Clearing { cause: DownCause::PaneDied, deadline: at(20) },
        State::BackingOff => Liveness::BackingOff { until: at(20) },
        State::CrashLoop => Liveness::Held(Hold::CrashLoop),
        State::Paused => Liveness::Held(Hold::Paused),
        State::Ended => Liveness::Held(Hold::Ended),
    }
}

/// Builds a core whose agent is in a state, with a journal that fits it.
fn core_in(state: State, plan: Plan) -> Core {
    let mut durable = Durable::default();
    let mut apply = |fact: Fact| durable.apply(&Recorded { at: at(0), fact }).unwrap();
    apply(Fact::Begun { seed: 7 });
    if state != State::Absent {
        apply(Fact::SpawnRequested { agent: kaede(), incarnation: FIRST, budget: Budget::Free });
    }
    let live = liveness(state);
    if live.is_down() && state != State::Absent {
        apply(Fact::AgentDown { agent: kaede(), incarnation: FIRST, cause: DownCause::PaneDied, streak: 1 });
    }
    if let Liveness::Held(hold) = live {
        apply(Fact::AgentHeld { agent: kaede(), hold });
    }
    let mut core = Core::restore(plan, durable, at(0));
    core.started = true;
    core.agents.get_mut(&kaede()).unwrap().state = live;
    core
}

fn ask(core: &mut Core, request: Request) {
    core.handle_event(Event::Asked { id: RequestId(1), request, branches: Branches::new() }, at(1));
}

fn tell(core: &mut Core, news: News) {
    let (agent, incarnation) = (kaede(), FIRST);
    match news {
        News::Found | News::Lost => {
            // Only a supervisor that has just started looks around, and then all are absent.
            if state_of(core) == State::Absent {
                core.started = false;
                let spawned = Fact::SpawnRequested { agent: agent.clone(), incarnation, budget: Budget::Free };
                core.durable.apply(&Recorded { at: at(0), fact: spawned }).unwrap();
            }
            let pane = PaneFound { agent, incarnation, pane: "%1".to_owned(), pid: 10, launched: None };
            let panes = if news == News::Found { vec![pane] } else { Vec::new() };
            core.handle_event(Event::Started { panes, orders: BTreeMap::new() }, at(1));
        }
        News::Wanted => {
            core.handle_event(Event::RoomSeen(Room { disk: Size(1 << 40), memory: Size(1 << 40), load: None }), at(1));
        }
        News::Held => ask(core, Request::AgentPause { agent }),
        News::Spawned => {
            core.handle_event(Event::PaneSpawned { agent, incarnation, pane: "%1".to_owned(), pid: 10 }, at(1));
        }
        News::SpawnFailed => {
            let reason = "no tmux".to_owned();
            core.handle_event(Event::PaneSpawnFailed { agent, incarnation, reason }, at(1));
        }
        News::ReadyBeat => {
            let activity = Activity::Idle;
            let beat = Beat {
                agent,
                incarnation,
                pid: 10,
                sequence: 4,
                at: at(1),
                activity,
                progress: None,
                watching: WatchFaults::default(),
            };
            core.handle_event(Event::BeatsSeen(vec![beat]), at(1));
        }
        News::SecondSign => {
            core.handle_event(Event::Probed { agent, incarnation, evidence: Some(evidence(31)) }, at(31));
        }
        News::Hopeless => core.stop(&agent, News::Hopeless, DownCause::Stalled, Stop::Term),
        News::PaneDied => core.handle_event(Event::PaneDied { agent, incarnation }, at(1)),
        News::Cleared => core.handle_event(Event::RemainsCleared { agent, incarnation, order: None }, at(1)),
        News::Due => core.handle_timeout(at(60)),
        News::RestartAsked => ask(core, Request::AgentRestart { agent }),
        News::Released => ask(core, Request::AgentResume { agent }),
        News::Drained => ask(core, Request::Drain),
    }
}

fn state_of(core: &Core) -> State {
    core.agents.get(&kaede()).unwrap().state.state()
}

#[test]
fn every_piece_of_news_in_every_state_does_what_the_table_says() {
    for state in State::ALL {
        for news in News::ALL {
            let mut core = core_in(state, plan(RestartKind::Permanent, 5));
            if state == State::Absent && news != News::Wanted {
                // Else it would be started in the same breath.
                core.frozen = Some(at(0));
            }
            tell(&mut core, news);
            let (to, after) = (targets(state, news), state_of(&core));
            assert_eq!(core.broken(), None, "{state:?} {news:?}");
            if to.is_empty() {
                assert_eq!(after, state, "{news:?} changed {state:?}");
            } else {
                let started_at_once = to.contains(&State::Absent) && after == State::Spawning;
                assert!(to.contains(&after) || started_at_once, "{news:?} led from {state:?} to {after:?}, not {to:?}");
            }
        }
    }
}

#[test]
fn news_of_another_incarnation_changes_nothing() {
    let older = Incarnation(0);
    for state in State::ALL.into_iter().filter(|state| *state != State::Absent) {
        let mut core = core_in(state, plan(RestartKind::Permanent, 5));
        let before = core.agents.get(&kaede()).unwrap().state.clone();
        let (agent, incarnation) = (kaede(), older);
        let beat = Beat {
            agent: agent.clone(),
            incarnation,
            pid: 10,
            sequence: 9,
            at: at(1),
            activity: Activity::Idle,
            progress: None,
            watching: WatchFaults::default(),
        };
        core.handle_event(Event::BeatsSeen(vec![beat]), at(1));
        core.handle_event(Event::PaneDied { agent: agent.clone(), incarnation }, at(1));
        let pane = "%9".to_owned();
        core.handle_event(Event::PaneSpawned { agent: agent.clone(), incarnation, pane, pid: 99 }, at(1));
        core.handle_event(Event::Probed { agent: agent.clone(), incarnation, evidence: Some(evidence(1)) }, at(1));
        core.handle_event(Event::RemainsCleared { agent, incarnation, order: None }, at(1));
        assert_eq!(core.agents.get(&kaede()).unwrap().state, before);
    }
}

#[test]
fn what_is_due_is_tried_a_bounded_number_of_times() {
    let mut core = core_in(State::Spawning, plan(RestartKind::Permanent, 5));
    core.agents.get_mut(&kaede()).unwrap().state =
        Liveness::Spawning { deadline: at(30), tries: SPAWN_TRIES_MAX, early: None };
    tell(&mut core, News::Due);
    assert_eq!(state_of(&core), State::Clearing);

    let mut core = core_in(State::Starting, plan(RestartKind::Permanent, 5));
    core.agents.get_mut(&kaede()).unwrap().state =
        Liveness::Starting { pane: pane(), deadline: at(59), slice: START_SLICES };
    tell(&mut core, News::Due);
    assert_eq!(state_of(&core), State::Stopping);

    core.handle_timeout(at(60) + KILL_REPEAT);
    assert_eq!(state_of(&core), State::Stopping, "it is killed again until it is gone");
}

#[test]
fn a_start_is_not_cut_short_by_a_clock_that_leaps_again_and_again() {
    let mut core = core_in(State::Starting, plan(RestartKind::Permanent, 5));
    for hour in 1..20 {
        core.handle_timeout(at(hour * 3_600));
        assert_eq!(state_of(&core), State::Starting);
    }
    for _ in 0..START_SLICES {
        let (due, _) = core.poll_timeout().unwrap();
        core.handle_timeout(due);
    }
    assert_eq!(state_of(&core), State::Stopping, "a start that takes too long is ended");
}

#[test]
fn a_clock_that_leaps_does_not_cut_short_the_time_of_whoever_is_told_to_end() {
    let mut core = core_in(State::Up, plan(RestartKind::Permanent, 5));
    ask(&mut core, Request::AgentRestart { agent: kaede() });
    let stops = |core: &mut Core| -> Vec<Stop> {
        let effects = std::iter::from_fn(|| core.poll_effect());
        effects.filter_map(|effect| if let Effect::StopPane { how, .. } = effect { Some(how) } else { None }).collect()
    };
    assert_eq!(stops(&mut core), [Stop::Term]);
    core.handle_timeout(at(3_600));
    assert_eq!((stops(&mut core), state_of(&core)), (Vec::new(), State::Stopping));
    let (due, _) = core.poll_timeout().unwrap();
    assert_eq!(due, at(3_600) + Duration::from_secs(10) + KILL_REPEAT);
    core.handle_timeout(due);
    assert_eq!(stops(&mut core), [Stop::Kill]);
}

#[test]
fn the_end_of_an_incarnation_follows_the_restart_policy() {
    let after = |policy, intensity, cause: DownCause| {
        let mut core = core_in(State::Clearing, plan(policy, intensity));
        core.frozen = Some(at(0));
        core.agents.get_mut(&kaede()).unwrap().state = Liveness::Clearing { cause, deadline: at(20) };
        tell(&mut core, News::Cleared);
        state_of(&core)
    };
    assert_eq!(after(RestartKind::Permanent, 5, DownCause::PaneDied), State::BackingOff);
    assert_eq!(after(RestartKind::Permanent, 5, DownCause::Clean), State::BackingOff);
    assert_eq!(after(RestartKind::Permanent, 0, DownCause::PaneDied), State::CrashLoop);
    assert_eq!(after(RestartKind::Transient, 5, DownCause::Clean), State::Ended, "a clean end is no crash");
    assert_eq!(after(RestartKind::Transient, 5, DownCause::PaneDied), State::BackingOff);
    assert_eq!(after(RestartKind::Temporary, 5, DownCause::PaneDied), State::Ended);
    assert_eq!(after(RestartKind::Permanent, 5, DownCause::Operator), State::Absent);
}

#[test]
fn a_crash_loop_raises_one_alert_and_resume_clears_it() {
    let mut core = core_in(State::Clearing, plan(RestartKind::Permanent, 0));
    tell(&mut core, News::Cleared);
    assert_eq!(core.snapshot(at(2)).alerts.iter().map(|alert| alert.key()).collect::<Vec<_>>(), ["crash-loop/kaede"]);
    tell(&mut core, News::Wanted);
    let raised = std::iter::from_fn(|| core.poll_effect())
        .filter(
            |effect| matches!(effect, Effect::Record(recorded) if matches!(recorded.fact, Fact::AlertRaised { .. })),
        )
        .count();
    assert_eq!(raised, 1);
    ask(&mut core, Request::AgentResume { agent: kaede() });
    assert_eq!(core.snapshot(at(2)).alerts, []);
    assert_eq!(state_of(&core), State::Spawning);
}

#[test]
fn a_silent_agent_is_ended_within_its_timeout_and_a_second() {
    let mut core = core_in(State::Up, plan(RestartKind::Permanent, 5));
    let mut ended = None;
    while ended.is_none() {
        let (due, _) = core.poll_timeout().unwrap();
        assert!(due < at(60), "nobody ends it");
        core.handle_timeout(due);
        let effects: Vec<_> = std::iter::from_fn(|| core.poll_effect()).collect();
        for effect in effects {
            if let Effect::Probe { .. } = effect {
                let evidence = Some(Evidence { at: due, awake: awake(due), stopped: false, cpu_ticks: 7, told_ms: 0 });
                core.handle_event(Event::Probed { agent: kaede(), incarnation: FIRST, evidence }, due);
                ended = (state_of(&core) == State::Stopping).then_some(due);
            }
        }
    }
    assert!(ended.unwrap() <= at(31), "{ended:?}");
    assert!(ended.unwrap() >= at(30), "{ended:?}");
}

/// Looks at a silent agent until somebody ends it, or for a minute; says whether it was ended.
fn is_ended_when(look: impl Fn(Timestamp) -> Evidence) -> bool {
    end_of(Activity::Idle, 90, look).is_some()
}

/// Looks at a silent agent until somebody ends it, or for so many seconds; says when it was ended.
fn end_of(activity: Activity, seconds: i64, look: impl Fn(Timestamp) -> Evidence) -> Option<Timestamp> {
    let mut core = core_in(State::Up, plan(RestartKind::Permanent, 5));
    core.agents.get_mut(&kaede())?.state = Liveness::Up { pane: pane(), last_beat: seen(), activity };
    loop {
        let (due, _) = core.poll_timeout()?;
        if due > at(seconds) {
            return None;
        }
        core.handle_timeout(due);
        let probes = std::iter::from_fn(|| core.poll_effect()).filter(|effect| matches!(effect, Effect::Probe { .. }));
        for _ in 0..probes.count() {
            let evidence = Some(look(due));
            core.handle_event(Event::Probed { agent: kaede(), incarnation: FIRST, evidence }, due);
        }
        if state_of(&core) == State::Stopping {
            return Some(due);
        }
    }
}

#[test]
fn a_runner_that_hangs_while_its_program_waits_for_somebody_is_ended_too_but_later() {
    let still = |due: Timestamp| Evidence { at: due, awake: awake(due), ..evidence(0) };
    let waiting = Activity::WaitingForHuman { since: at(0), reason: String::new(), order: None, task: None };
    let limited = Activity::Limited { until: None, reason: String::new(), order: None, task: None };
    for activity in [waiting, limited] {
        let ended = end_of(activity.clone(), 300, still).expect("nobody ends it");
        assert!(at(30 + 90) <= ended && ended <= at(15 + 120 + 10), "ended at {ended}");
        let moving = |due: Timestamp| Evidence { cpu_ticks: u64::try_from(due.as_millis()).unwrap(), ..still(due) };
        assert_eq!(end_of(activity.clone(), 300, moving), None, "something moves");
        let stopped = |due: Timestamp| Evidence { stopped: true, ..still(due) };
        assert!(end_of(activity, 300, stopped).is_some_and(|ended| ended <= at(31)), "a stopped runner cannot beat");
    }
}

#[test]
fn a_clock_that_leaps_twice_within_a_moment_does_not_make_two_looks_at_an_agent_two_signs() {
    let mut core = core_in(State::Up, plan(RestartKind::Permanent, 5));
    for leap in 1..20_i64 {
        let (now, awake) = (at(leap * 3_600), Duration::from_secs(u64::try_from(leap).unwrap()));
        core.handle_timeout(now);
        let evidence = Some(Evidence { at: now, awake, ..evidence(0) });
        core.handle_event(Event::Probed { agent: kaede(), incarnation: FIRST, evidence }, now);
        let expected = if awake - Duration::from_secs(1) < Duration::from_millis(6_250) {
            State::Suspect
        } else {
            State::Stopping
        };
        assert_eq!(state_of(&core), expected, "after {awake:?}");
        if expected == State::Stopping {
            return;
        }
    }
    panic!("it is silent, and nobody sees it");
}

#[test]
fn events_of_its_program_are_a_sign_of_life_of_an_agent_that_does_not_beat() {
    let telling = |due: Timestamp| Evidence { told_ms: u64::try_from(due.as_millis()).unwrap(), ..evidence(0) };
    assert!(
        !is_ended_when(|due| Evidence { at: due, awake: awake(due), ..telling(due) }),
        "it tells of itself, and is left alone"
    );
    assert!(
        is_ended_when(|due| Evidence { at: due, awake: awake(due), told_ms: 5, ..evidence(0) }),
        "old events say nothing"
    );
    assert!(
        is_ended_when(|due| Evidence { at: due, awake: awake(due), stopped: true, ..telling(due) }),
        "a stopped runner hears none"
    );
}

#[test]
#[should_panic(expected = "cannot go from up to spawning")]
fn a_move_that_the_table_does_not_know_is_a_mistake_of_ours() {
    let mut core = core_in(State::Up, plan(RestartKind::Permanent, 5));
    core.enter(&kaede(), News::Due, Liveness::Spawning { deadline: at(1), tries: 1, early: None });
}
