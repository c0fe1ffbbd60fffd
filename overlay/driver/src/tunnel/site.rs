//! The shell of a ladder: has the ways to one place made, proves and measures them, and leads the place's lane
//! through the one that the ladder chooses.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use overlay_core::SessionKey;
use overlay_core::ladder::flow::{Arrivals, Counters, Flowed};
use overlay_core::ladder::train::Measured;
use overlay_core::ladder::{Effect, Ladder, Report, Rung};
use overlay_tunnel::Queue;
use quinn::ClientConfig;
use serde::{Deserialize, Serialize};
use tokio::sync::{oneshot, watch};
use tokio::task::{AbortHandle, JoinError, JoinSet};
use tokio::time::{sleep, sleep_until, timeout};

use super::ask::{Asking, By};
use super::link::{Link, Transport};
use super::making::{Making, QuicPlace};
use super::{Dialer, Lane};
use crate::control::chain;
use crate::socket::Socket;
use crate::view::{Seen, View};
use crate::worker::{Command, WorkerHandle};

/// How long the data plane, or a sign of life, may take to be answered.
const PATIENCE: Duration = Duration::from_secs(5);

/// Between looks at what flows.
const LOOK: Duration = Duration::from_secs(5);

/// Looks for one at whether the way in use is worth a train.
const LOOKS_FOR_A_TRAIN: u32 = 2;

/// For how long the relays may take to be shown another way. Until then relay frames go by both, and what was replaced
/// delivers what is on its way. Chosen: three tries of a channel on a slow line.
const HANDOVER: Duration = Duration::from_secs(3);

/// Bytes of the jobs that went through the relay since the last look and make it worth one: a train is 2 kB.
const WORTH_A_TRAIN: u64 = 64 * 1024;

/// An attempt that has gone on for so long and is ended has met silence.
const WAITED_FOR: Duration = Duration::from_secs(2);

/// Steps that are remembered.
const STEPS: usize = 16;

/// How packets reach the coordinator's relay, and how that came about.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Way {
    /// What carries them now; none: nothing does.
    pub rung: Option<Rung>,
    /// What flowed by it when jobs used it last, bytes per second in both directions together.
    pub goodput: Option<u64>,
    /// Packets that it lost then, per mille.
    pub loss: Option<u16>,
    /// What a TCP connection through it would get, bytes per second, as a train of questions promised last.
    #[serde(default)]
    pub promised: Option<u64>,
    /// What each way met when it was tried last and did not carry.
    #[serde(default)]
    pub met: BTreeMap<Rung, Step>,
    /// What was done, the oldest first.
    pub steps: VecDeque<Step>,
}

/// One step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// When, seconds since 1970.
    pub unix_s: u64,
    /// What, for people.
    pub what: String,
}

/// What the site shares with the rest of the overlay.
#[derive(Clone)]
pub(crate) struct SiteHandle {
    /// What carries packets now.
    pub(crate) used: watch::Receiver<Option<Rung>>,
    /// Where the coordinator says that its reflector is.
    pub(crate) seen: Arc<watch::Sender<Option<Seen>>>,
    way: Arc<Mutex<Way>>,
}

impl SiteHandle {
    /// For people.
    pub(crate) fn way(&self) -> Way {
        lock(&self.way).clone()
    }
}

/// See the module.
pub(crate) struct Site {
    making: Arc<Making>,
    lane: Arc<Lane>,
    worker: WorkerHandle,
    ladder: Ladder,
    used: watch::Sender<Option<Rung>>,
    seen: watch::Receiver<Option<Seen>>,
    way: Arc<Mutex<Way>>,
    tasks: JoinSet<Done>,
    attempts: HashMap<Rung, (AbortHandle, Instant)>,
    links: BTreeMap<Rung, Open>,
    links_made: u64,
    /// To be measured when they are there.
    compared: Vec<Rung>,
    is_measuring: bool,
    look_every: Duration,
    looked_at: Instant,
    looks: u32,
    carried: u64,
    /// What was counted at the last look.
    counted: Option<Counted>,
    /// The newest change of the way.
    changes: u64,
    /// Why the next way is another one.
    why: String,
}

/// A link that is up.
struct Open {
    queue: Queue,
    transport: Transport,
    number: u64,
    task: AbortHandle,
}

/// Counters of the way in use.
struct Counted {
    at: Instant,
    way: Counters,
    pairs: BTreeMap<SessionKey, (SocketAddr, Arrivals, u64)>,
}

/// A task that has ended.
enum Done {
    /// An attempt: what can carry, if it needs anything.
    Attempt(Rung, io::Result<Option<Link>>),
    /// A link has ended.
    Ended(Rung, u64),
    /// A train has arrived.
    Train(Rung, Measured),
    /// Whether a sign of life was answered.
    Sign(bool),
    /// The relays have been shown the way since that change.
    HandedOver(u64),
    /// A link that is not wanted any more has delivered what was on its way.
    Left(AbortHandle),
}

impl Site {
    /// Leads that lane. The race begins when it runs.
    pub(super) fn new(making: Making, lane: Arc<Lane>, worker: WorkerHandle) -> (Self, SiteHandle) {
        let retry = making.dialer.as_ref().map_or(overlay_core::ladder::RETRY, Dialer::recheck);
        let (used, used_receiver) = watch::channel(None);
        let (seen_sender, seen) = watch::channel(None);
        let way = Arc::new(Mutex::new(Way::default()));
        let handle =
            SiteHandle { used: used_receiver, seen: Arc::new(seen_sender), way: Arc::clone(&way) };
        let now = Instant::now();
        let site = Self {
            ladder: Ladder::new(now, &making.rungs(), retry),
            making: Arc::new(making),
            lane,
            worker,
            used,
            seen,
            way,
            tasks: JoinSet::new(),
            attempts: HashMap::new(),
            links: BTreeMap::new(),
            links_made: 0,
            compared: Vec::new(),
            is_measuring: false,
            look_every: LOOK.min(retry),
            looked_at: now,
            looks: 0,
            carried: 0,
            counted: None,
            changes: 0,
            why: String::new(),
        };
        (site, handle)
    }

    /// To the coordinator and its own relay.
    pub(crate) fn of_coordinator(
        socket: Arc<Socket>,
        worker: WorkerHandle,
        (place, control): (QuicPlace, ClientConfig),
        dialer: Option<Dialer>,
    ) -> (Self, SiteHandle) {
        let lane = Arc::clone(socket.detour().own());
        let making = Making { socket, quic: Some(place), control: Some(control), dialer };
        Self::new(making, lane, worker)
    }

    /// Runs until it is dropped.
    pub(crate) async fn run(mut self) {
        let mut effects = self.ladder.handle_wakeup(Instant::now());
        loop {
            effects.into_iter().for_each(|effect| self.carry_out(effect));
            let look = self.looked_at + self.look_every;
            let wakeup = self.ladder.next_wakeup().map_or(look, |at| at.min(look));
            let lane = Arc::clone(&self.lane);
            effects = tokio::select! {
                Some(done) = self.tasks.join_next() => self.on_done(done),
                () = lane.silent() => {
                    self.because("packets to the relay were not answered");
                    self.report(Report::Silent)
                }
                () = lane.changed() => {
                    self.because("this machine's network has changed");
                    self.report(Report::NetworkChanged)
                }
                () = sleep_until(wakeup.into()) => {
                    let mut effects = self.look().await;
                    effects.extend(self.ladder.handle_wakeup(Instant::now()));
                    effects
                }
            };
        }
    }

    fn because(&mut self, why: impl Into<String>) {
        self.why = why.into();
    }

    fn report(&mut self, report: Report) -> Vec<Effect> {
        tracing::debug!(?report, "way to the relay");
        self.ladder.handle_report(Instant::now(), report)
    }

    fn on_done(&mut self, done: Result<Done, JoinError>) -> Vec<Effect> {
        // Those that were not wanted any more.
        let Ok(done) = done else { return Vec::new() };
        match done {
            Done::Attempt(rung, Ok(link)) => {
                self.attempts.remove(&rung);
                if let Some(link) = link {
                    self.hold(rung, link);
                }
                lock(&self.way).met.remove(&rung);
                self.because("it answers");
                let effects = self.report(Report::Connected(rung));
                if let Some(place) = self.compared.iter().position(|compared| *compared == rung) {
                    self.compared.swap_remove(place);
                    self.measure(rung);
                }
                effects
            }
            Done::Attempt(rung, Err(error)) => {
                self.attempts.remove(&rung);
                self.note_failure(rung, &met(&error));
                self.report(Report::Failed(rung))
            }
            Done::Ended(rung, number) => {
                if self.links.get(&rung).is_none_or(|link| link.number != number) {
                    return Vec::new();
                }
                self.links.remove(&rung);
                self.note_failure(rung, "it broke");
                self.because(format!("{rung} broke"));
                self.report(Report::Failed(rung))
            }
            Done::Train(rung, Measured { goodput, loss, .. }) => {
                self.is_measuring = false;
                if *self.used.borrow() == Some(rung) {
                    lock(&self.way).promised = Some(goodput);
                }
                self.because(format!("a train promises {} kB/s by it", goodput / 1000));
                self.report(Report::Measured { rung, goodput, loss })
            }
            Done::Sign(true) => Vec::new(),
            Done::Sign(false) => {
                self.because("a sign of life was not answered");
                self.report(Report::Silent)
            }
            Done::HandedOver(change) => {
                if change == self.changes {
                    self.making.detour().forget_former(&self.lane);
                }
                Vec::new()
            }
            Done::Left(link) => {
                link.abort();
                Vec::new()
            }
        }
    }

    /// That way does not carry. Told when it is news.
    fn note_failure(&mut self, rung: Rung, what: &str) {
        tracing::debug!(%rung, what, "no such way to the relay");
        let mut way = lock(&self.way);
        let is_news = way.met.get(&rung).is_none_or(|known| known.what != what);
        way.met.insert(rung, Step::now(what.to_owned()));
        if is_news {
            way.add(Step::now(format!("{rung}: {what}")));
        }
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Open(rung) => self.attempt(rung),
            Effect::Close(rung) => {
                if let Some((attempt, since)) = self.attempts.remove(&rung) {
                    attempt.abort();
                    // One that was not waited for says nothing.
                    if since.elapsed() >= WAITED_FOR {
                        self.note_failure(rung, "no answer");
                    }
                }
                self.drop_link(rung);
            }
            Effect::Use(rung) => self.lead(Some(rung)),
            Effect::Nothing => self.lead(None),
            Effect::Compare(rung) if self.attempts.contains_key(&rung) => self.compared.push(rung),
            Effect::Compare(rung) => self.measure(rung),
        }
    }

    /// Packets go that way from now on.
    fn lead(&mut self, rung: Option<Rung>) {
        let before = self.used.send_replace(rung);
        let link = rung.and_then(|rung| Some((rung, self.links.get(&rung)?.queue.clone())));
        let is_other = link.is_some() || self.lane.rung().is_some();
        // What carried until now, if it is there still, is what the relays know.
        let had_any = before.is_some() && rung.is_some();
        self.making.detour().lead(&self.lane, link, had_any);
        self.changes += 1;
        let change = self.changes;
        self.tasks.spawn(async move {
            sleep(HANDOVER).await;
            Done::HandedOver(change)
        });
        self.counted = None;
        let mut what = match rung {
            Some(rung) => format!("packets to the relay go by {rung}"),
            None => "nothing carries packets to the relay".to_owned(),
        };
        if before.is_some() && !self.why.is_empty() {
            what += &format!(": {}", self.why);
        }
        tracing::info!(before = before.map(|rung| rung.to_string()), "{what}");
        let mut way = lock(&self.way);
        (way.rung, way.goodput, way.loss, way.promised) = (rung, None, None, None);
        way.add(Step::now(what));
        drop(way);
        if is_other {
            for relay in self.lane.relays() {
                // A full queue: the next refresh of the channels does it.
                let _ = self.worker.try_send(Command::RelayWay(relay));
            }
        }
    }

    fn hold(&mut self, rung: Rung, link: Link) {
        self.drop_link(rung);
        self.links_made += 1;
        let number = self.links_made;
        let (detour, lane) = (Arc::clone(self.making.detour()), Arc::clone(&self.lane));
        let transport = link.transport();
        let (queue, carrying) = link.carry(detour, lane, self.worker.clone());
        let task = self.tasks.spawn(async move {
            let ended = carrying.await;
            tracing::debug!(%rung, ?ended, "a tunnel has ended");
            Done::Ended(rung, number)
        });
        self.links.insert(rung, Open { queue, transport, number, task });
    }

    fn drop_link(&mut self, rung: Rung) {
        if let Some(link) = self.links.remove(&rung) {
            // What is on its way shall arrive.
            self.tasks.spawn(async move {
                sleep(HANDOVER).await;
                Done::Left(link.task)
            });
        }
    }

    /// By which way a question goes that shall tell something about that rung.
    fn by(&self, rung: Rung) -> Option<By> {
        if rung == Rung::Udp {
            return Some(By::Udp(Arc::clone(&self.making.socket)));
        }
        self.links.get(&rung).map(|link| By::Link(link.queue.clone()))
    }

    fn asking(&self, rung: Rung) -> Option<Asking> {
        let seen = (*self.seen.borrow())?;
        Some(Asking { detour: Arc::clone(self.making.detour()), by: self.by(rung)?, seen })
    }

    fn attempt(&mut self, rung: Rung) {
        if let Some((before, _)) = self.attempts.remove(&rung) {
            before.abort();
        }
        // A way that is there proves that it still carries.
        let proof = self.asking(rung).filter(|_| rung != Rung::Udp);
        let (making, seen) = (Arc::clone(&self.making), self.seen.clone());
        let attempt = self.tasks.spawn(async move {
            if let Some(proof) = proof {
                proof.until_answered().await;
                return Done::Attempt(rung, Ok(None));
            }
            Done::Attempt(rung, making.make(rung, seen).await)
        });
        self.attempts.insert(rung, (attempt, Instant::now()));
    }

    fn measure(&mut self, rung: Rung) {
        if let Some(asking) = self.asking(rung) {
            self.is_measuring = true;
            self.tasks.spawn(async move { Done::Train(rung, asking.train().await) });
        }
    }

    /// Beside the coordinator's, which carries its control session, a stream may be silent for long: it is closed
    /// then, and one that has broken is not noticed.
    fn give_sign_of_life(&mut self, used: Rung) {
        if self.making.control.is_none()
            && used.is_stream()
            && let Some(asking) = self.asking(used)
        {
            self.tasks.spawn(async move {
                Done::Sign(timeout(PATIENCE, asking.until_answered()).await.is_ok())
            });
        }
    }

    /// Looks at what flows by the way in use while jobs use it.
    async fn look(&mut self) -> Vec<Effect> {
        let now = Instant::now();
        if now < self.looked_at + self.look_every {
            return Vec::new();
        }
        self.looked_at = now;
        self.looks = self.looks.wrapping_add(1);
        let Some(used) = *self.used.borrow() else { return Vec::new() };
        let is_for_a_train = self.looks.is_multiple_of(LOOKS_FOR_A_TRAIN);
        if is_for_a_train {
            self.give_sign_of_life(used);
        }
        let (reply, answer) = oneshot::channel();
        if self.worker.try_send(Command::View(reply)).is_err() {
            return Vec::new();
        }
        let Ok(Ok(view)) = timeout(PATIENCE, answer).await else { return Vec::new() };
        let flowed = self.count(now, used, &view);
        if is_for_a_train {
            let carried = self
                .counted
                .as_ref()
                .map_or(0, |counted| counted.way.received_bytes + counted.way.sent_bytes);
            let grown = carried.saturating_sub(std::mem::replace(&mut self.carried, carried));
            if grown >= WORTH_A_TRAIN && !self.is_measuring {
                self.measure(used);
            }
        }
        let Some(flowed) = flowed else { return Vec::new() };
        let Flowed { goodput, loss, is_full } = flowed;
        {
            let mut way = lock(&self.way);
            (way.goodput, way.loss) = (Some(goodput), Some(loss));
        }
        let full = if is_full { ", and there was more to send" } else { "" };
        self.because(format!(
            "{} kB/s flowed by {used}, {}.{} % lost{full}",
            goodput / 1000,
            loss / 10,
            loss % 10
        ));
        self.report(Report::Flowed(used, flowed))
    }

    /// What has flowed since the last look, by this way.
    fn count(&mut self, now: Instant, used: Rung, view: &View) -> Option<Flowed> {
        let relays = self.lane.relays();
        let pairs: BTreeMap<_, _> = view
            .flows
            .iter()
            .filter(|flow| relays.contains(&flow.relay))
            .map(|flow| (flow.session, (flow.relay, flow.arrivals, flow.sent_bytes)))
            .collect();
        let before = self.counted.take();
        let mut way = before.as_ref().map(|before| before.way).unwrap_or_default();
        for (session, (relay, arrived, sent_bytes)) in &pairs {
            // A pair that has just come to this relay begins now.
            let Some((_, had, had_sent)) = before
                .as_ref()
                .and_then(|before| before.pairs.get(session))
                .filter(|(at, ..)| at == relay)
            else {
                continue;
            };
            let grown = |now: u64, before: u64| now.saturating_sub(before);
            way.received += grown(arrived.received, had.received);
            way.expected += grown(arrived.expected, had.expected);
            way.received_bytes += grown(arrived.bytes, had.bytes);
            if used == Rung::Udp {
                way.sent_bytes += grown(*sent_bytes, *had_sent);
            }
        }
        if let Some(link) = self.links.get(&used) {
            let offered = link.queue.counted();
            way.sent = offered.datagrams;
            way.sent_bytes = offered.bytes;
            way.overflowed = offered.overflowed;
            way.sent_lost = link.transport.lost();
        }
        let flowed = before
            .and_then(|before| way.since(&before.way, now.saturating_duration_since(before.at)));
        self.counted = Some(Counted { at: now, way, pairs });
        flowed
    }
}

impl Way {
    fn add(&mut self, step: Step) {
        if self.steps.len() >= STEPS {
            self.steps.pop_front();
        }
        self.steps.push_back(step);
    }
}

impl Step {
    fn now(what: String) -> Self {
        let unix_s = SystemTime::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_secs());
        Self { unix_s, what }
    }
}

/// For people: what an attempt has met.
fn met(error: &io::Error) -> String {
    match error.kind() == io::ErrorKind::TimedOut {
        true => "no answer".to_owned(),
        false => chain(error),
    }
}

fn lock(way: &Mutex<Way>) -> MutexGuard<'_, Way> {
    way.lock().unwrap_or_else(PoisonError::into_inner)
}
