//! The shell of a ladder: has the ways to one place made, proves and measures them, and leads the place's lane
//! through the one that the ladder chooses.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use overlay_core::control::PathReport;
use overlay_core::ladder::train::Measured;
use overlay_core::ladder::{Effect, Ladder, Report, Rung};
use overlay_tunnel::Queue;
use serde::{Deserialize, Serialize};
use tokio::sync::{oneshot, watch};
use tokio::task::{AbortHandle, JoinError, JoinSet};
use tokio::time::{sleep_until, timeout};

use super::ask::{Asking, By};
use super::link::Link;
use super::making::{Coordinator, Making};
use super::{Dialer, Lane};
use crate::control::chain;
use crate::socket::Socket;
use crate::view::{Seen, View};
use crate::worker::{Command, WorkerHandle};

/// How long the data plane, or a sign of life, may take to be answered.
const PATIENCE: Duration = Duration::from_secs(5);

/// Between looks at whether the way in use is worth a train.
const LOOK: Duration = Duration::from_secs(10);

/// Bytes of the jobs that went through the relay since the last look and make it worth one: a train is 2 kB.
const WORTH_A_TRAIN: u64 = 64 * 1024;

/// Steps that are remembered.
const STEPS: usize = 16;

/// How packets reach the coordinator's relay, and how that came about.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Way {
    /// What carries them now; none: nothing does.
    pub rung: Option<Rung>,
    /// What a TCP connection through it would get, bytes per second, when that was measured last.
    pub goodput: Option<u64>,
    /// Packets that it lost then, per mille.
    pub loss: Option<u16>,
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
    attempts: HashMap<Rung, AbortHandle>,
    links: BTreeMap<Rung, Open>,
    links_made: u64,
    /// To be measured when they are there.
    compared: Vec<Rung>,
    is_measuring: bool,
    look_every: Duration,
    looked_at: Instant,
    carried: u64,
}

/// A link that is up.
struct Open {
    queue: Queue,
    number: u64,
    task: AbortHandle,
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
            carried: 0,
        };
        (site, handle)
    }

    /// To the coordinator and its own relay.
    pub(crate) fn of_coordinator(
        socket: Arc<Socket>,
        worker: WorkerHandle,
        coordinator: Coordinator,
        dialer: Option<Dialer>,
    ) -> (Self, SiteHandle) {
        let detour = Arc::clone(socket.detour());
        let lane = Arc::clone(detour.own());
        let making = Making { socket, detour, coordinator: Some(coordinator), dialer };
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
                () = lane.silent() => self.report(Report::Silent),
                () = lane.changed() => self.report(Report::NetworkChanged),
                () = sleep_until(wakeup.into()) => {
                    self.look().await;
                    self.ladder.handle_wakeup(Instant::now())
                }
            };
        }
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
                let effects = self.report(Report::Connected(rung));
                if let Some(place) = self.compared.iter().position(|compared| *compared == rung) {
                    self.compared.swap_remove(place);
                    self.measure(rung);
                }
                effects
            }
            Done::Attempt(rung, Err(error)) => {
                self.attempts.remove(&rung);
                tracing::debug!(%rung, error = %chain(&error), "no such way to the relay");
                self.report(Report::Failed(rung))
            }
            Done::Ended(rung, number) => {
                if self.links.get(&rung).is_none_or(|link| link.number != number) {
                    return Vec::new();
                }
                self.links.remove(&rung);
                self.report(Report::Failed(rung))
            }
            Done::Train(rung, Measured { goodput, loss, .. }) => {
                self.is_measuring = false;
                if *self.used.borrow() == Some(rung) {
                    let mut way = lock(&self.way);
                    (way.goodput, way.loss) = (Some(goodput), Some(loss));
                }
                self.report(Report::Measured { rung, goodput, loss })
            }
            Done::Sign(true) => Vec::new(),
            Done::Sign(false) => self.report(Report::Silent),
        }
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Open(rung) => self.attempt(rung),
            Effect::Close(rung) => {
                if let Some(attempt) = self.attempts.remove(&rung) {
                    attempt.abort();
                }
                self.drop_link(rung);
            }
            Effect::Use(rung) => self.lead(Some(rung)),
            Effect::Nothing => self.lead(None),
            Effect::Compare(rung) if self.attempts.contains_key(&rung) => self.compared.push(rung),
            Effect::Compare(rung) => {
                self.measure(rung);
                let used = *self.used.borrow();
                if let Some(used) = used.filter(|used| *used != rung) {
                    self.measure(used);
                }
            }
        }
    }

    /// Packets go that way from now on.
    fn lead(&mut self, rung: Option<Rung>) {
        let before = self.used.send_replace(rung);
        let link = rung.and_then(|rung| Some((rung, self.links.get(&rung)?.queue.clone())));
        let is_other = link.is_some() || self.lane.rung().is_some();
        self.making.detour.lead(&self.lane, link);
        let what = match rung {
            Some(rung) => format!("packets to the relay go by {rung}"),
            None => "nothing carries packets to the relay".to_owned(),
        };
        tracing::info!(before = before.map(|rung| rung.to_string()), "{what}");
        let mut way = lock(&self.way);
        (way.rung, way.goodput, way.loss) = (rung, None, None);
        if way.steps.len() >= STEPS {
            way.steps.pop_front();
        }
        let unix_s = SystemTime::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_secs());
        way.steps.push_back(Step { unix_s, what });
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
        let (detour, lane) = (Arc::clone(&self.making.detour), Arc::clone(&self.lane));
        let (queue, carrying) = link.carry(detour, lane, self.worker.clone());
        let task = self.tasks.spawn(async move {
            let ended = carrying.await;
            tracing::debug!(%rung, ?ended, "a tunnel has ended");
            Done::Ended(rung, number)
        });
        self.links.insert(rung, Open { queue, number, task });
    }

    fn drop_link(&mut self, rung: Rung) {
        if let Some(link) = self.links.remove(&rung) {
            link.task.abort();
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
        Some(Asking { detour: Arc::clone(&self.making.detour), by: self.by(rung)?, seen })
    }

    fn attempt(&mut self, rung: Rung) {
        if let Some(before) = self.attempts.remove(&rung) {
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
        self.attempts.insert(rung, attempt);
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
        if self.making.coordinator.is_none()
            && used.is_stream()
            && let Some(asking) = self.asking(used)
        {
            self.tasks.spawn(async move {
                Done::Sign(timeout(PATIENCE, asking.until_answered()).await.is_ok())
            });
        }
    }

    /// Measures the way in use while jobs use it.
    async fn look(&mut self) {
        let now = Instant::now();
        if now < self.looked_at + self.look_every {
            return;
        }
        self.looked_at = now;
        let Some(used) = *self.used.borrow() else { return };
        self.give_sign_of_life(used);
        let (reply, answer) = oneshot::channel();
        if self.worker.try_send(Command::View(reply)).is_err() {
            return;
        }
        let Ok(Ok(view)) = timeout(PATIENCE, answer).await else { return };
        let carried = relayed_bytes(&view, &self.lane.relays());
        let grown = carried.saturating_sub(std::mem::replace(&mut self.carried, carried));
        if grown >= WORTH_A_TRAIN && !self.is_measuring {
            self.measure(used);
        }
    }
}

/// Bytes of the pairs that one of those relays carries now.
fn relayed_bytes(view: &View, relays: &[SocketAddr]) -> u64 {
    let pairs = view.meshes.iter().flat_map(|mesh| &mesh.pairs);
    let relayed = pairs.filter(|pair| match pair.path {
        PathReport::Relayed { relay } => relays.contains(&relay),
        PathReport::Direct { .. } | PathReport::None => false,
    });
    relayed.map(|pair| pair.sent_bytes + pair.received_bytes).sum()
}

fn lock(way: &Mutex<Way>) -> MutexGuard<'_, Way> {
    way.lock().unwrap_or_else(PoisonError::into_inner)
}
