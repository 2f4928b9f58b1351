//! Leasing: taking back what has expired, then claiming the first envelope whose turn it is.
//!
//! Lessees take turns: each look and claim happens under the mailbox's lock, so that "nothing older of its lane is in
//! flight" still holds when the claim is made. No step is synced: a claim or redelivery that a power cut undoes has only
//! to be made again.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs::File;
use std::time::Duration;

use crate::model::envelope::Envelope;
use crate::model::fault::with_causes;
use crate::model::id::{EnvelopeId, Mailbox};
use crate::model::time::Timestamp;

use super::disk::Wait;
use super::durable::Moved;
use super::expiry::{EXPIRED, is_expired};
use super::fault::SpoolError;
use super::history::{Happening, Note};
use super::holder::Holder;
use super::lessee::Feed;
use super::limits::{DELAY_MAX, TURN_WAIT_MAX};
use super::line::{Terms, Turn};
use super::load::{LoadFault, Loaded, load_as};
use super::memory::{Freshness, Known, Seen, earliest};
use super::name::{EndedName, Folder, LaterName, LeasedName, Stem};
use super::receipt::Receipt;
use super::{RACES_MAX, Room, Spool};

/// How many envelopes one call looks at at most while others are quicker or the line does not move.
const CANDIDATES_MAX: usize = 200_000;

/// How many envelopes that must wait for others a lessee reads in one turn; then others have theirs.
const HELD_PER_TURN_MAX: usize = 500;

/// Up to how many names one system call lists a folder, and so sees it at one moment: 32 KiB of the longest names.
const NAMES_AT_ONCE: usize = 100;

/// How long the text in a mailbox's lock file may be, in bytes.
const MARK_BYTES_MAX: usize = 32;

/// An envelope in the caller's hands.
#[derive(Debug, Clone, PartialEq)]
pub struct Leased {
    /// What ack, nack and extend ask for.
    pub receipt: Receipt,
    /// The envelope.
    pub envelope: Envelope,
    /// How often it has been leased, this time included.
    pub attempt: u32,
}

/// The right to look and claim: the mailbox's lock, and what its file says.
#[derive(Debug)]
pub(super) struct Lock {
    file: File,
    mark: Vec<u8>,
}

/// What somebody asks for.
#[derive(Debug)]
pub(super) struct Ask {
    pub(super) holder: Holder,
    pub(super) count: usize,
    pub(super) lease: Duration,
    pub(super) now: Timestamp,
}

/// A turn under way. Those who asked before it began may share it, one after another.
#[derive(Debug)]
struct Shift {
    /// Absent if whoever has it does not let go.
    lock: Option<Lock>,
    /// What is in flight was looked at. Whatever departs since is entered; whatever lands holds others back for the rest
    /// of this turn.
    knows_flights: bool,
    /// Everything was looked at.
    looked: bool,
}

/// What one lease call wants, and has so far.
struct Wanted<'a> {
    room: Room,
    holder: &'a Holder,
    until: Timestamp,
    now: Timestamp,
    count: usize,
    taken: Vec<Leased>,
    /// Keeps what is known up to date.
    feed: Option<&'a mut Feed>,
    /// Whether this call has looked for itself.
    looked: bool,
    /// How many candidates it has seen.
    candidates: usize,
}

/// How a turn ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TurnEnd {
    /// There is enough, or nothing more may be had.
    Enough,
    /// There may be more; let others have a turn first.
    Pause,
}

impl Spool {
    /// Leases the first envelope of a mailbox whose turn it is: of the highest priority, and of those the oldest. An
    /// envelope has its turn when none that is older, of the same order group and priority, is leased or waits for
    /// another attempt. Mailboxes of work orders know no groups.
    ///
    /// First every lease that has ended is taken back: its envelope waits again, or is dead after its last attempt. In
    /// mailboxes of work orders this is left to the supervisor. What cannot be an envelope is moved to `dead/`.
    ///
    /// # Errors
    /// Fails if the mailbox cannot be read or changed.
    pub fn lease(
        &self,
        mailbox: &Mailbox,
        holder: &Holder,
        lease: Duration,
        now: Timestamp,
    ) -> Result<Option<Leased>, SpoolError> {
        Ok(self.lease_batch(mailbox, holder, 1, lease, now)?.pop())
    }

    /// Leases up to a number of envelopes, in their order. Those that follow one another in an order group may come
    /// together; the holder is to work on them in this order.
    ///
    /// # Errors
    /// As [`Spool::lease`]. What was leased before the error is returned, and the next call meets it again.
    pub fn lease_batch(
        &self,
        mailbox: &Mailbox,
        holder: &Holder,
        count: usize,
        lease: Duration,
        now: Timestamp,
    ) -> Result<Vec<Leased>, SpoolError> {
        let known = self.shared.memory.of(mailbox);
        let ask = Ask { holder: holder.clone(), count, lease, now };
        let lead = |asks: Vec<Ask>| {
            let mut shift = None;
            let served =
                asks.iter().map(|ask| self.serve(&known, &mut shift, self.wanted(mailbox, ask, None))).collect();
            self.end_turn(mailbox, shift);
            served
        };
        known.asks.pass(ask, lead).map_err(SpoolError::io("lease from", &self.room(mailbox).base))?
    }

    /// Leases by what is known of a mailbox, and by what a feed tells of it.
    pub(super) fn lease_known(
        &self,
        known: &Known,
        feed: &mut Feed,
        mailbox: &Mailbox,
        ask: &Ask,
    ) -> Result<Vec<Leased>, SpoolError> {
        let mut shift = None;
        let served = self.serve(known, &mut shift, self.wanted(mailbox, ask, Some(feed)));
        self.end_turn(mailbox, shift);
        served
    }

    /// Gives the lock of a turn back.
    fn end_turn(&self, mailbox: &Mailbox, shift: Option<Shift>) {
        if let Some(Shift { lock: Some(lock), .. }) = shift {
            let room = self.room(mailbox);
            room.disk.unlock(&room.lock(), lock.file);
        }
    }

    fn wanted<'a>(&self, mailbox: &Mailbox, ask: &'a Ask, feed: Option<&'a mut Feed>) -> Wanted<'a> {
        let Ask { holder, count, lease, now } = ask;
        let until = *now + (*lease).min(self.limits().lease_max);
        let (room, taken) = (self.room(mailbox), Vec::new());
        Wanted { room, holder, until, now: *now, count: *count, taken, feed, looked: false, candidates: 0 }
    }

    /// Gives somebody what it wants, in the turn under way and in more if it takes more.
    fn serve(
        &self,
        known: &Known,
        shift: &mut Option<Shift>,
        mut wanted: Wanted<'_>,
    ) -> Result<Vec<Leased>, SpoolError> {
        while wanted.taken.len() < wanted.count {
            let mut seen = known.seen();
            let end = self.have_turn(&mut wanted, &mut seen, shift);
            // Whoever is next must not pass them, and whoever gives one back before the next look must be noticed by then.
            for leased in &wanted.taken {
                seen.line.departs(leased.receipt.name.stem, Terms::of(&leased.envelope));
            }
            if end.is_err() {
                // What was not claimed has left the line, and the next of its lane must not go before it.
                seen.forget();
            }
            drop(seen);
            match end {
                Ok(TurnEnd::Enough) => break,
                Ok(TurnEnd::Pause) => *shift = None,
                Err(fault) => {
                    *shift = None;
                    if wanted.taken.is_empty() {
                        return Err(fault);
                    }
                    let mailbox = &wanted.room.mailbox;
                    tracing::warn!(%mailbox, fault = %with_causes(&fault), "leased fewer envelopes than there may be");
                    break;
                }
            }
        }
        if !wanted.taken.is_empty() {
            known.is_due(wanted.until);
        }
        Ok(wanted.taken)
    }

    /// Takes the mailbox's lock, or goes without when whoever has it does not let go.
    pub(super) fn take_turn(&self, room: &Room, is_stuck: bool) -> Result<Option<Lock>, SpoolError> {
        let path = room.lock();
        let wait = Wait::AtMost(if is_stuck { Duration::ZERO } else { TURN_WAIT_MAX });
        let locked = room.disk.lock(&path, wait).and_then(|locked| match locked {
            Some(file) => Ok(Some(Lock { mark: room.disk.read_locked(&path, &file, MARK_BYTES_MAX)?, file })),
            None => Ok(None),
        });
        match locked {
            Ok(lock) => {
                if lock.is_none() && !is_stuck {
                    tracing::warn!(path = %path.display(), "a process keeps a mailbox locked; going on without order");
                }
                Ok(lock)
            }
            // There is no such mailbox: nothing to be quarrelled about.
            Err(fault) if fault.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(fault) => Err(SpoolError::io("lock", &path)(fault)),
        }
    }

    /// Claims as much as is wanted in one turn.
    fn have_turn(
        &self,
        wanted: &mut Wanted<'_>,
        seen: &mut Seen,
        shift: &mut Option<Shift>,
    ) -> Result<TurnEnd, SpoolError> {
        let shift = match shift {
            Some(shift) => shift,
            None => {
                let lock = self.take_turn(&wanted.room, seen.lock_is_stuck)?;
                seen.lock_is_stuck = lock.is_none() && wanted.room.disk.is_there(&wanted.room.lock());
                shift.insert(Shift { lock, knows_flights: false, looked: false })
            }
        };
        // We have the lock: what others did in their turns has been told by now.
        wanted.hear(seen);
        // Whoever shares a turn has asked before it began, so a look in it is a look of every one of its calls.
        wanted.looked |= shift.looked;
        let mut lock = shift.lock.as_mut();
        let mark = lock.as_ref().map_or(&[][..], |lock| &lock.mark);
        let freshness = match &wanted.feed {
            Some(feed) if feed.is_live() => seen.freshness_of_feed(wanted.now),
            Some(_) | None if seen.is_fresh(mark, wanted.now, self.limits().listing_age_max) => Freshness::Fresh,
            Some(_) | None => Freshness::Stale,
        };
        match freshness {
            Freshness::Fresh if shift.knows_flights => {}
            // A look at everything follows at once, as nothing is known to wait.
            Freshness::Fresh if seen.line.len() == 0 && !wanted.is_followed() => {}
            Freshness::Fresh => self.see_flights(wanted, seen, Look::Leased)?,
            Freshness::Due => {
                let due = self.take_back(&wanted.room, wanted.now, lock.as_deref_mut())?;
                seen.due_next(due);
                wanted.hear(seen);
                self.see_flights(wanted, seen, Look::LeasedAndLater)?;
            }
            Freshness::Stale => self.look_anew(wanted, seen, lock.as_deref_mut())?,
        }
        let end = self.claim(wanted, seen, lock)?;
        (shift.knows_flights, shift.looked) = (true, wanted.looked);
        Ok(end)
    }

    /// Claims as much as is wanted of what waits.
    fn claim(
        &self,
        wanted: &mut Wanted<'_>,
        seen: &mut Seen,
        mut lock: Option<&mut Lock>,
    ) -> Result<TurnEnd, SpoolError> {
        // Who hears of every change need not look to know that nothing waits.
        wanted.looked |= wanted.is_followed();
        let mut held = 0;
        while wanted.taken.len() < wanted.count {
            let Some(stem) = seen.line.first() else {
                if wanted.looked {
                    return Ok(TurnEnd::Enough);
                }
                // "Nothing waits" is said only after a look of this very call.
                self.look_anew(wanted, seen, lock.as_deref_mut())?;
                continue;
            };
            if !wanted.looked && seen.is_overtaken(stem) {
                self.look_anew(wanted, seen, lock.as_deref_mut())?;
                continue;
            }
            wanted.candidates += 1;
            if wanted.candidates > CANDIDATES_MAX {
                return Ok(TurnEnd::Enough);
            }
            if held == HELD_PER_TURN_MAX {
                return Ok(TurnEnd::Pause);
            }
            held += usize::from(self.try_candidate(wanted, seen, stem)? == Tried::Held);
        }
        Ok(TurnEnd::Enough)
    }

    /// Reads a candidate, and claims it if it is its turn.
    fn try_candidate(&self, wanted: &mut Wanted<'_>, seen: &mut Seen, stem: Stem) -> Result<Tried, SpoolError> {
        let Some(envelope) = self.peek(wanted, seen, stem)? else { return Ok(Tried::Other) };
        let terms = Terms::of(&envelope);
        if wanted.is_ordered() {
            match seen.line.judge(stem, &terms) {
                Turn::Its => {}
                Turn::Held => return Ok(Tried::Held),
                Turn::After(older) => {
                    if let Some(envelope) = self.peek(wanted, seen, older)? {
                        seen.line.meet(older, Terms::of(&envelope), &terms);
                    }
                    return Ok(Tried::Held);
                }
            }
        }
        seen.line.left(stem);
        let name = LeasedName { stem, holder: wanted.holder.clone(), until: wanted.until };
        let (from, to) = (wanted.room.file(Folder::New, &stem), wanted.room.file(Folder::Leased, &name));
        match wanted.room.disk.move_file(&from, &to).map_err(SpoolError::io("lease", &from))? {
            Moved::Yes => {
                let receipt = Receipt { mailbox: wanted.room.mailbox.clone(), name };
                wanted.taken.push(Leased { receipt, envelope, attempt: stem.attempt });
            }
            Moved::Gone | Moved::Taken => self.see_flights(wanted, seen, Look::LeasedAndLater)?,
        }
        Ok(Tried::Other)
    }

    /// Reads what waits, without touching it. What is gone is in flight now: its lane must not go on as if it were not.
    fn peek(&self, wanted: &Wanted<'_>, seen: &mut Seen, stem: Stem) -> Result<Option<Envelope>, SpoolError> {
        let room = &wanted.room;
        let path = room.file(Folder::New, &stem);
        match load_as(room, &path, stem.id, self.limits().envelope_bytes_max)? {
            Loaded::Good(envelope) if is_expired(&envelope, stem, wanted.now) => {
                seen.line.left(stem);
                let buried = EndedName { stem, holder: None, ended_at: wanted.now };
                self.bury(room, (Folder::New, &stem.to_string()), buried, EXPIRED)?;
                Ok(None)
            }
            Loaded::Good(envelope) => Ok(Some(*envelope)),
            Loaded::Bad(fault) => {
                seen.line.left(stem);
                self.bury_bad(room, (Folder::New, &stem.to_string()), (stem, None), &fault, wanted.now);
                Ok(None)
            }
            // The next look tries again; meanwhile nobody else waits for it.
            Loaded::Unread(fault) => {
                seen.line.left(stem);
                self.complain(&path, &fault);
                Ok(None)
            }
            Loaded::Gone => {
                seen.line.left(stem);
                self.see_flights(wanted, seen, Look::LeasedAndLater)?;
                Ok(None)
            }
        }
    }

    /// Finds out what is in flight.
    fn see_flights(&self, wanted: &Wanted<'_>, seen: &mut Seen, look: Look) -> Result<(), SpoolError> {
        if !wanted.is_ordered() {
            return Ok(());
        }
        let mut look = if std::mem::take(&mut seen.must_see_later) { Look::LeasedAndLater } else { look };
        for _ in 0..RACES_MAX {
            let leased: Vec<LeasedName> = list(&wanted.room, Folder::Leased, LeasedName::parse, |_| {})?;
            let now_leased: BTreeSet<EnvelopeId> = leased.iter().map(|name| name.stem.id).collect();
            let has_landed = |id: &EnvelopeId| !now_leased.contains(id);
            let later = if look == Look::LeasedAndLater || seen.line.flights().keys().any(has_landed) {
                list(&wanted.room, Folder::Later, LaterName::parse, |_| {})?
            } else {
                Vec::new()
            };
            seen.is_due(leased.iter().map(|name| name.until).min());
            if self.enter_flights(wanted, seen, &Flights { leased, later })? {
                return Ok(());
            }
            look = Look::LeasedAndLater;
        }
        Ok(())
    }

    /// Enters what is in flight. Says no if something moved on while it was read.
    fn enter_flights(
        &self,
        wanted: &Wanted<'_>,
        seen: &mut Seen,
        Flights { leased, later }: &Flights,
    ) -> Result<bool, SpoolError> {
        let room = &wanted.room;
        let mut flights = BTreeMap::new();
        let mut news = Vec::new();
        let leased = leased.iter().map(|name| (name.stem, room.file(Folder::Leased, name)));
        // One that waits for its first attempt was put off by its sender, and holds nobody back.
        let later = later.iter().filter(|name| name.stem.attempt > 1);
        let later = later.map(|name| (name.stem, room.file(Folder::Later, name)));
        for (stem, path) in leased.chain(later) {
            // What comes with one call comes together.
            if wanted.taken.iter().any(|leased| leased.envelope.id == stem.id) {
                continue;
            }
            if seen.line.is_unknown(stem.id) {
                match load_as(room, &path, stem.id, self.limits().envelope_bytes_max)? {
                    Loaded::Good(envelope) => news.push((stem.id, Terms::of(&envelope))),
                    Loaded::Bad(_) | Loaded::Unread(_) => {}
                    Loaded::Gone => return Ok(false),
                }
            }
            flights.insert(stem.id, stem);
        }
        seen.line.fly(flights, news);
        Ok(true)
    }

    /// Takes back what is due and lists what waits.
    fn look_anew(
        &self,
        wanted: &mut Wanted<'_>,
        seen: &mut Seen,
        mut lock: Option<&mut Lock>,
    ) -> Result<(), SpoolError> {
        wanted.looked = true;
        // In the order in which envelopes go: one that is claimed meanwhile, by somebody who takes no turns, is met again.
        let (mut waiting, mut newcomers) = self.list_waiting(&wanted.room, wanted.now)?;
        seen.must_see_later = false;
        let mut flights = self.list_flights(&wanted.room, wanted.now)?;
        if self.take_back_of(&wanted.room, &flights, wanted.now) > 0 {
            if let Some(lock) = lock.as_deref_mut() {
                self.leave_mark(&wanted.room, lock)?;
            }
            (waiting, newcomers) = self.list_waiting(&wanted.room, wanted.now)?;
            flights = self.list_flights(&wanted.room, wanted.now)?;
        }
        let due = self.next_due(&wanted.room, &flights, wanted.now);
        let mark = lock.map(|lock| lock.mark.clone()).unwrap_or_default();
        wanted.hear(seen);
        if let Some(feed) = wanted.feed.as_deref_mut().filter(|feed| feed.is_live()) {
            let is_missed = |stem: &&Stem| {
                // What came and went during the listing was told of, and is not there any more.
                seen.line.is_news(**stem) && wanted.room.disk.is_there(&wanted.room.file(Folder::New, *stem))
            };
            let missed = if seen.was_followed { waiting.iter().filter(is_missed).count() } else { 0 };
            if missed > 0 {
                feed.missed(missed);
            }
        }
        seen.was_followed = wanted.is_followed();
        seen.line.list(waiting, newcomers);
        seen.look(wanted.now, mark, due);
        if !wanted.is_ordered() {
            return Ok(());
        }
        // What has moved on since the lists were made must be met.
        if !seen.must_see_later && self.enter_flights(wanted, seen, &flights)? {
            return Ok(());
        }
        self.see_flights(wanted, seen, Look::LeasedAndLater)
    }

    /// Takes back what is due. Returns when the next is.
    fn take_back(&self, room: &Room, now: Timestamp, lock: Option<&mut Lock>) -> Result<Option<Timestamp>, SpoolError> {
        let flights = self.list_flights(room, now)?;
        let taken_back = self.take_back_of(room, &flights, now);
        match lock {
            Some(lock) if taken_back > 0 => self.leave_mark(room, lock)?,
            Some(_) | None => {}
        }
        Ok(self.next_due(room, &flights, now))
    }

    /// Tells the lessees of other processes that older envelopes wait again: they must look anew.
    fn leave_mark(&self, room: &Room, lock: &mut Lock) -> Result<(), SpoolError> {
        let number = std::str::from_utf8(&lock.mark).ok().and_then(|text| text.trim_end().parse::<u64>().ok());
        lock.mark = format!("{}\n", number.unwrap_or(0).wrapping_add(1)).into_bytes();
        room.disk.overwrite(&room.lock(), &lock.file, &lock.mark).map_err(SpoolError::io("write", &room.lock()))
    }

    /// Lists what waits, and what came during the listing. A listing of many names is not one moment: a younger
    /// envelope may be in it whose elder came too late for it. Who lists again sees all that came before those of the
    /// first listing.
    fn list_waiting(&self, room: &Room, now: Timestamp) -> Result<(BTreeSet<Stem>, BTreeSet<Stem>), SpoolError> {
        let folder = room.folder(Folder::New);
        let mut names = match room.disk.names(&folder) {
            Ok(names) => names,
            Err(fault) if fault.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            Err(fault) => return Err(SpoolError::io("list", &folder)(fault)),
        };
        // Hidden ones count here: they are listed as well.
        let is_one_moment = names.len() <= NAMES_AT_ONCE;
        names.retain(|name| !name.as_encoded_bytes().starts_with(b"."));
        let mut waiting = BTreeSet::new();
        for name in names {
            match name.to_str().and_then(Stem::parse) {
                Some(stem) => {
                    waiting.insert(stem);
                }
                None => self.quarantine(room, Folder::New, &name, now),
            }
        }
        if is_one_moment {
            return Ok((waiting, BTreeSet::new()));
        }
        let again: Vec<Stem> = list(room, Folder::New, Stem::parse, |_| {})?;
        let newcomers = again.into_iter().filter(|stem| !waiting.contains(stem)).collect();
        Ok((waiting, newcomers))
    }

    /// Lists what is leased and what waits for a time; what cannot be either is moved out of the way.
    fn list_flights(&self, room: &Room, now: Timestamp) -> Result<Flights, SpoolError> {
        let set_aside = |folder| move |name: &OsStr| self.quarantine(room, folder, name, now);
        Ok(Flights {
            leased: list(room, Folder::Leased, LeasedName::parse, set_aside(Folder::Leased))?,
            later: list(room, Folder::Later, LaterName::parse, set_aside(Folder::Later))?,
        })
    }

    /// Takes back the leases that are over and the envelopes whose time has come. Returns how many were tried.
    fn take_back_of(&self, room: &Room, flights: &Flights, now: Timestamp) -> usize {
        let mut taken_back = 0;
        for leased in flights.leased.iter().filter(|leased| self.standing_of(room, leased, now) == Standing::Over) {
            taken_back += 1;
            if let Err(fault) = self.redeliver(room, leased, now) {
                self.complain(&room.file(Folder::Leased, leased), &fault);
            }
        }
        for later in &flights.later {
            if later.not_before > now + DELAY_MAX {
                self.bury_delayed(room, later, now);
            } else if later.not_before <= now {
                taken_back += 1;
                let from = room.file(Folder::Later, later);
                if let Err(fault) = room.disk.move_file(&from, &room.file(Folder::New, &later.stem)) {
                    self.complain(&from, &fault);
                }
            }
        }
        taken_back
    }

    /// Says when the next lease ends or the next delayed envelope's time comes, of those that are not due yet.
    fn next_due(&self, room: &Room, flights: &Flights, now: Timestamp) -> Option<Timestamp> {
        let goes_on = |leased: &&LeasedName| self.standing_of(room, leased, now) == Standing::Held;
        let leased = flights.leased.iter().filter(goes_on).map(|leased| leased.until).min();
        let is_ahead = |later: &&LaterName| later.not_before > now && later.not_before <= now + DELAY_MAX;
        earliest(leased, flights.later.iter().filter(is_ahead).map(|later| later.not_before).min())
    }

    fn standing_of(&self, room: &Room, leased: &LeasedName, now: Timestamp) -> Standing {
        if room.mailbox.worked_by().is_some() {
            Standing::Supervisors
        // No lease is longer than `lease_max`: one that seems so was written under a clock that ran ahead.
        } else if leased.until <= now || leased.until > now + self.limits().lease_max {
            Standing::Over
        } else {
            Standing::Held
        }
    }

    fn redeliver(&self, room: &Room, name: &LeasedName, now: Timestamp) -> Result<(), SpoolError> {
        let path = room.file(Folder::Leased, name);
        let envelope = match load_as(room, &path, name.stem.id, self.limits().envelope_bytes_max)? {
            Loaded::Good(envelope) => envelope,
            Loaded::Bad(fault) => {
                self.bury_bad(room, (Folder::Leased, &name.to_string()), (name.stem, Some(&name.holder)), &fault, now);
                return Ok(());
            }
            Loaded::Unread(fault) => return Err(fault),
            Loaded::Gone => return Ok(()),
        };
        let LeasedName { stem, holder, until } = name;
        if is_last_attempt(*stem, &envelope) {
            let buried = EndedName { stem: *stem, holder: Some(holder.clone()), ended_at: now };
            let reason =
                format!("not answered in attempt {}, the last one; {holder} had it until {until}", stem.attempt);
            self.bury(room, (Folder::Leased, &name.to_string()), buried, &reason)?;
            return Ok(());
        }
        let target = room.file(Folder::New, &stem.next());
        if room.disk.move_file(&path, &target).map_err(SpoolError::io("take back", &path))? == Moved::Yes {
            let note = Note::new(now, stem.attempt, Happening::Expired).by(holder);
            self.note(room, stem.id, &note);
        }
        Ok(())
    }

    /// Sets aside what would wait for so long that only a wrong clock can have meant it.
    fn bury_delayed(&self, room: &Room, name: &LaterName, now: Timestamp) {
        let buried = EndedName { stem: name.stem, holder: None, ended_at: now };
        let reason = format!("it is delayed until {}: that is what a wrong clock writes", name.not_before);
        if let Err(fault) = self.bury(room, (Folder::Later, &name.to_string()), buried, &reason) {
            self.complain(&room.file(Folder::Later, name), &fault);
        }
    }

    /// Moves what a name promised to be an envelope, and is none, out of the way.
    fn bury_bad(
        &self,
        room: &Room,
        (folder, name): (Folder, &str),
        (stem, holder): (Stem, Option<&Holder>),
        fault: &LoadFault,
        now: Timestamp,
    ) {
        let buried = EndedName { stem, holder: holder.cloned(), ended_at: now };
        let path = room.file(folder, &name);
        match self.bury(room, (folder, name), buried, &with_causes(fault)) {
            Ok(Moved::Yes) => {
                tracing::warn!(path = %path.display(), fault = %with_causes(fault), "moved a bad envelope to dead/");
            }
            Ok(Moved::Gone | Moved::Taken) => {}
            Err(fault) => self.complain(&path, &fault),
        }
    }
}

impl Wanted<'_> {
    /// Enters what the feed has to tell.
    fn hear(&mut self, seen: &mut Seen) {
        if let Some(feed) = &mut self.feed {
            feed.tell(seen);
        }
    }

    /// Says whether every change of the mailbox is told.
    fn is_followed(&self) -> bool {
        self.feed.as_ref().is_some_and(|feed| feed.is_live())
    }

    /// Says whether the mailbox keeps the order of groups.
    fn is_ordered(&self) -> bool {
        self.room.mailbox.worked_by().is_none()
    }
}

/// What lies in `leased/` and `later/`.
struct Flights {
    leased: Vec<LeasedName>,
    later: Vec<LaterName>,
}

/// How a lease stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// It goes on.
    Held,
    /// Its time is over.
    Over,
    /// It is the supervisor's to end.
    Supervisors,
}

/// What became of a candidate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tried {
    /// It must wait for another.
    Held,
    /// It was claimed, or is none any more.
    Other,
}

/// Where to look for what is in flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Look {
    /// In `leased/`; also in `later/` if something is no longer in `leased/`.
    Leased,
    /// In both.
    LeasedAndLater,
}

/// Lists a folder's names as far as they are what they should be, and tells of the others.
fn list<T>(
    room: &Room,
    folder: Folder,
    parse: impl Fn(&str) -> Option<T>,
    mut foreign: impl FnMut(&OsStr),
) -> Result<Vec<T>, SpoolError> {
    let path = room.folder(folder);
    let names = room.disk.visible_names(&path).map_err(SpoolError::io("list", &path))?;
    let parsed = names.iter().filter_map(|name| {
        let parsed = name.to_str().and_then(&parse);
        if parsed.is_none() {
            foreign(name);
        }
        parsed
    });
    Ok(parsed.collect())
}

/// Says whether an envelope may not be leased again after this attempt. Every requeue allows as many attempts anew.
pub(super) fn is_last_attempt(stem: Stem, envelope: &Envelope) -> bool {
    stem.attempt.is_multiple_of(envelope.attempts_max.max(1))
}
