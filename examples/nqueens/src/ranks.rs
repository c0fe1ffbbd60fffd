//! The run of one rank: connect, exchange, search, reduce, part.
//!
//! ```text
//!   connecting ──all connected──▶ exchanging ──all unaltered──▶ searching ──rank 0: all counted──▶ parting
//!        └──────────────────────────────┴────────a rank is lost, refused or lies────┴──▶ error, told to all
//! ```
//! Until the count is complete a lost rank is an error for everybody, so a count that is printed is
//! complete. Afterwards it is not: the ranks say goodbye and leave, and the last words of one whose
//! network goes with it may be lost.

use std::{
    io,
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

use crate::{
    exchange::Exchange,
    ledger::{Ledger, LedgerError, Tally},
    link::{Link, LinkError},
    mesh::{Event, GreetError, News, Roster},
    pool::Pool,
    steal::Asking,
    units::Units,
    wire::Message,
};

/// Events waiting for the run, at most; readers wait beyond that (chosen).
const EVENTS: usize = 1024;
/// Waiting for goodbyes, or for an error to be told (chosen: a slow path's round trips).
const PARTING: Duration = Duration::from_secs(3);

/// How a run ended well.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// Solutions of the whole board.
    pub(crate) solutions: u64,
    /// Units that each rank finished; known on rank 0 only, empty elsewhere.
    pub(crate) units_per_rank: Vec<u64>,
    /// Units that this rank finished.
    pub(crate) units_here: u64,
}

/// Why there is no count.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RunError {
    #[error("cannot listen on port {port}")]
    Listen { port: u16, source: io::Error },
    #[error("cannot start a thread")]
    Thread(#[source] io::Error),
    #[error("rank {rank} ({host}) cannot take part")]
    Refused { rank: u32, host: String, source: GreetError },
    #[error(
        "rank {rank} ({host}) did not call within {} s: is it running? \
         (in a job, nqueens has to run on every node: -t mesh -t spmd)",
        .within.as_secs_f32()
    )]
    Missing { rank: u32, host: String, within: Duration },
    #[error("rank {rank} ({host}) came twice: two processes have the same rank")]
    Twice { rank: u32, host: String },
    #[error("lost rank {rank} ({host})")]
    Lost { rank: u32, host: String, source: LinkError },
    #[error("lost rank {rank} ({host}): {what}")]
    Misbehaved { rank: u32, host: String, what: String },
    #[error("rank {culprit} ({host}) failed, says rank {by}: {reason}")]
    Told { culprit: u32, host: String, by: u32, reason: String },
    #[error("the count is not sound")]
    Ledger(#[from] LedgerError),
    #[error("rank 0 left without a result")]
    NoResult,
}

impl RunError {
    /// The rank to blame, if it is another one.
    fn culprit(&self) -> Option<u32> {
        match self {
            Self::Refused { rank, .. }
            | Self::Missing { rank, .. }
            | Self::Twice { rank, .. }
            | Self::Lost { rank, .. }
            | Self::Misbehaved { rank, .. } => Some(*rank),
            Self::Told { culprit, .. } => Some(*culprit),
            Self::Listen { .. } | Self::Thread(_) | Self::Ledger(_) | Self::NoResult => None,
        }
    }

    /// What to tell the others: the reason without what they add themselves.
    fn reason(&self) -> String {
        match self {
            Self::Told { reason, .. } => reason.clone(),
            Self::Lost { source, .. } => chain(source),
            Self::Refused { source, .. } => chain(source),
            Self::Misbehaved { what, .. } => what.clone(),
            Self::Listen { .. }
            | Self::Thread(_)
            | Self::Missing { .. }
            | Self::Twice { .. }
            | Self::Ledger(_)
            | Self::NoResult => chain(self),
        }
    }
}

/// An error and what caused it, in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

/// One rank at work.
#[derive(Debug)]
pub(crate) struct Run {
    roster: Arc<Roster>,
    pool: Arc<Pool>,
    threads: usize,
    /// Silence after which a rank counts as lost.
    silence: Duration,
    news: SyncSender<News>,
    events: Receiver<News>,
    /// By rank; `None` for this one and for those not yet connected.
    links: Vec<Option<Link>>,
    /// Ranks whose exchange came unaltered.
    exchanged: u32,
    /// Ranks that said goodbye or, once this run is over, whose connection has ended.
    left: Vec<bool>,
    /// Ranks to which nothing more will be sent.
    sent: Vec<bool>,
    searching: bool,
    asking: Asking,
    ledger: Ledger,
    reported: Option<Tally>,
    finished: Option<u64>,
}

impl Run {
    /// Prepares a rank; nothing is opened yet.
    pub(crate) fn new(roster: Roster, units: Units, threads: usize, silence: Duration) -> Self {
        let (news, events) = sync_channel(EVENTS);
        let (rank, ranks) = (roster.rank, roster.ranks());
        Self {
            ledger: Ledger::new(units.len(), ranks),
            roster: Arc::new(roster),
            pool: Arc::new(Pool::new(units)),
            threads,
            silence,
            news,
            events,
            links: (0..ranks).map(|_| None).collect(),
            exchanged: 0,
            left: vec![false; ranks as usize],
            sent: vec![false; ranks as usize],
            searching: false,
            asking: Asking::new(rank, ranks),
            reported: None,
            finished: None,
        }
    }

    /// Runs to the complete count. On an error the other ranks have been told.
    pub(crate) fn search(&mut self) -> Result<Outcome, RunError> {
        let outcome = self.search_or_fail();
        self.pool.close();
        if let Err(error) = &outcome {
            self.abort(error);
        }
        outcome
    }

    /// Says goodbye, and waits (bounded) until the others have done so.
    pub(crate) fn part(mut self) {
        if self.roster.rank == 0 {
            self.broadcast(&Message::Finish { solutions: self.finished.unwrap_or(0) });
        }
        self.broadcast(&Message::Bye);
        self.links.iter_mut().for_each(|link| drop(link.take()));
        self.mark_gone(self.roster.rank);
        let deadline = Instant::now() + PARTING;
        while self.sent.contains(&false) || self.left.contains(&false) {
            let Some((rank, event)) = self.next_event(deadline) else { return };
            match event {
                Event::Message(Message::Bye) | Event::Ended(_) => self.left[rank as usize] = true,
                Event::Sent => self.mark_sent(rank),
                Event::Message(_)
                | Event::Connected(_)
                | Event::Refused(_)
                | Event::Exchanged
                | Event::Hungry => {}
            }
        }
    }

    fn search_or_fail(&mut self) -> Result<Outcome, RunError> {
        let port = self.roster.hosts.get(self.roster.rank as usize).map_or(0, |host| host.port);
        self.roster.connect(&self.news).map_err(|source| RunError::Listen { port, source })?;
        // Callers give up by themselves and say why; the one who waits for calls allows for that.
        let deadline = Instant::now() + self.roster.patience + Duration::from_secs(1);
        loop {
            let now = Instant::now();
            self.advance(now)?;
            if let Some(solutions) = self.finished {
                return Ok(Outcome {
                    solutions,
                    units_per_rank: self.ledger.units_per_rank(),
                    units_here: self.reported.map_or(0, |tally| tally.units),
                });
            }
            if now >= deadline {
                self.all_connected()?;
            }
            let wakeup = if self.missing().is_some() {
                deadline
            } else {
                self.asking.wakeup().unwrap_or(now + self.silence)
            };
            match self.events.recv_timeout(wakeup.saturating_duration_since(now)) {
                Ok((rank, event)) => self.on_event(rank, event)?,
                // `self.news` is a sender, so they are never all gone.
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
            }
        }
    }

    /// Does what has become possible.
    fn advance(&mut self, now: Instant) -> Result<(), RunError> {
        if !self.searching {
            if self.missing().is_some() || self.exchanged + 1 < self.roster.ranks() {
                return Ok(());
            }
            self.start_threads()?;
        }
        if let Some(tally) = self.pool.idle_tally().filter(|tally| self.reported != Some(*tally)) {
            self.reported = Some(tally);
            if self.roster.rank == 0 {
                self.ledger.report(0, tally)?;
            } else {
                self.send(0, Message::Report(tally))?;
            }
        }
        if self.roster.rank == 0 {
            self.finished = self.ledger.solutions()?;
        }
        if self.finished.is_none()
            && self.pool.is_hungry()
            && let Some(rank) = self.asking.next(now)
        {
            self.send(rank, Message::Ask)?;
        }
        Ok(())
    }

    fn start_threads(&mut self) -> Result<(), RunError> {
        self.searching = true;
        let rank = self.roster.rank;
        self.pool.add(self.pool.units().share(rank, self.roster.ranks()));
        for _ in 0..self.threads {
            let (pool, news) = (Arc::clone(&self.pool), self.news.clone());
            let hungry = move || drop(news.send((rank, Event::Hungry)));
            let work = move || pool.work(hungry);
            thread::Builder::new().spawn(work).map_err(RunError::Thread)?;
        }
        Ok(())
    }

    fn on_event(&mut self, rank: u32, event: Event) -> Result<(), RunError> {
        match event {
            Event::Connected(stream) => self.on_connected(rank, stream)?,
            Event::Refused(source) => {
                return Err(RunError::Refused { rank, host: self.roster.host(rank), source });
            }
            Event::Exchanged => self.exchanged += 1,
            Event::Message(message) => self.on_message(rank, message)?,
            Event::Ended(_) if self.left[rank as usize] && rank == 0 => {
                return Err(RunError::NoResult);
            }
            Event::Ended(_) if self.left[rank as usize] => {}
            Event::Ended(source) => {
                return Err(RunError::Lost { rank, host: self.roster.host(rank), source });
            }
            Event::Sent => self.mark_sent(rank),
            Event::Hungry => {}
        }
        Ok(())
    }

    fn on_connected(&mut self, rank: u32, stream: std::net::TcpStream) -> Result<(), RunError> {
        let Some(slot) = self.links.get_mut(rank as usize).filter(|slot| slot.is_none()) else {
            return Err(RunError::Twice { rank, host: self.roster.host(rank) });
        };
        let greeting = &self.roster.greeting;
        let (n, bytes, me) = (greeting.n, greeting.exchange, greeting.rank);
        let outgoing = Exchange { n, from: me, to: rank, bytes };
        let incoming = Exchange { n, from: rank, to: me, bytes };
        let link = Link::start(stream, outgoing, incoming, self.silence, &self.news);
        *slot = Some(link.map_err(|source| RunError::Lost {
            rank,
            host: self.roster.host(rank),
            source: LinkError::Broken(source),
        })?);
        Ok(())
    }

    fn on_message(&mut self, rank: u32, message: Message) -> Result<(), RunError> {
        match message {
            Message::Ask => {
                // Nothing is given away before this rank takes part itself.
                let range = if self.searching { self.pool.give() } else { 0..0 };
                self.send(rank, Message::Grant(range))
            }
            Message::Grant(range) => {
                if range.start > range.end || range.end > self.pool.units().len() {
                    return Err(self.misbehaved(rank, "it gave units that the board has not"));
                }
                self.asking
                    .answered(Instant::now(), rank, !range.is_empty())
                    .map_err(|error| self.misbehaved(rank, &error.to_string()))?;
                self.pool.add(range);
                Ok(())
            }
            Message::Report(tally) if self.roster.rank == 0 => {
                Ok(self.ledger.report(rank, tally)?)
            }
            Message::Finish { solutions } if rank == 0 => {
                self.finished = Some(solutions);
                Ok(())
            }
            Message::Bye if self.roster.rank == 0 => {
                Err(self.misbehaved(rank, "it left before the count was complete"))
            }
            Message::Bye => {
                self.left[rank as usize] = true;
                self.asking.forget(rank);
                Ok(())
            }
            Message::Abort { culprit, reason } => {
                let host = self.roster.host(culprit);
                Err(RunError::Told { culprit, host, by: rank, reason })
            }
            Message::Report(_)
            | Message::Finish { .. }
            | Message::Heartbeat
            | Message::Chunk(_)
            | Message::ChunkEnd(_) => {
                Err(self.misbehaved(rank, "it sent a message that is not for this rank"))
            }
        }
    }

    fn misbehaved(&self, rank: u32, what: &str) -> RunError {
        RunError::Misbehaved { rank, host: self.roster.host(rank), what: what.to_owned() }
    }

    /// The first rank that is not connected.
    fn missing(&self) -> Option<u32> {
        (0..self.roster.ranks())
            .find(|&rank| rank != self.roster.rank && self.links[rank as usize].is_none())
    }

    fn all_connected(&self) -> Result<(), RunError> {
        let Some(rank) = self.missing() else { return Ok(()) };
        let (host, within) = (self.roster.host(rank), self.roster.patience);
        Err(RunError::Missing { rank, host, within })
    }

    fn send(&self, rank: u32, message: Message) -> Result<(), RunError> {
        let Some(Some(link)) = self.links.get(rank as usize) else { return Ok(()) };
        link.send(message).map_err(|full| self.misbehaved(rank, &full.to_string()))
    }

    fn broadcast(&self, message: &Message) {
        for link in self.links.iter().flatten() {
            // Whoever takes no more messages learns it from the closed connection.
            link.send(message.clone()).ok();
        }
    }

    /// Tells the others why, also those who connect only now, and waits (bounded) until they close.
    ///
    /// Leaving earlier would reset connections with bytes still to be read, and could so take the
    /// reason back that is behind them.
    fn abort(&mut self, error: &RunError) {
        let culprit = error.culprit().unwrap_or(self.roster.rank);
        let word = Message::Abort { culprit, reason: error.reason() };
        self.broadcast(&word);
        self.mark_gone(self.roster.rank);
        let is_linked = self.links.get(culprit as usize).is_some_and(Option::is_some);
        if !is_linked || matches!(error, RunError::Lost { .. } | RunError::Told { .. }) {
            self.mark_gone(culprit);
        }
        self.links.iter_mut().for_each(|link| drop(link.take()));
        let deadline = Instant::now() + PARTING;
        while self.sent.contains(&false) || self.left.contains(&false) {
            let Some((rank, event)) = self.next_event(deadline) else { return };
            match event {
                Event::Connected(stream) => {
                    if self.on_connected(rank, stream).is_ok() {
                        self.send(rank, word.clone()).ok();
                        self.links[rank as usize] = None;
                    }
                }
                Event::Refused(_) => self.mark_gone(rank),
                Event::Sent => self.mark_sent(rank),
                Event::Ended(_) => self.left[rank as usize] = true,
                Event::Message(_) | Event::Exchanged | Event::Hungry => {}
            }
        }
    }

    /// Nothing is to be said to `rank`, or heard of it.
    fn mark_gone(&mut self, rank: u32) {
        self.mark_sent(rank);
        if let Some(left) = self.left.get_mut(rank as usize) {
            *left = true;
        }
    }

    fn mark_sent(&mut self, rank: u32) {
        if let Some(sent) = self.sent.get_mut(rank as usize) {
            *sent = true;
        }
    }

    fn next_event(&self, deadline: Instant) -> Option<News> {
        let left = deadline.saturating_duration_since(Instant::now());
        self.events.recv_timeout(left).ok()
    }
}

#[cfg(test)]
mod tests;
