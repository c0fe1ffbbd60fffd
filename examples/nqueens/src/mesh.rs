//! A connection between every two ranks: the higher one calls, the lower one listens.
//!
//! Names may resolve and listeners may come up late, so callers try again until a deadline. Both ends
//! greet first and read then, so that both see what does not fit.

use std::{
    io,
    net::{TcpListener, TcpStream, ToSocketAddrs},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc::SyncSender,
    },
    thread,
    time::{Duration, Instant},
};

use crate::{
    hosts::Host,
    link::LinkError,
    wire::{Greeting, Message, VERSION, WireError},
};

/// What happened, and on the link to which rank.
pub(crate) type News = (u32, Event);

/// Something that the run has to react to.
#[derive(Debug)]
pub(crate) enum Event {
    /// The rank is connected and has greeted well.
    Connected(TcpStream),
    /// The rank cannot be worked with.
    Refused(GreetError),
    /// All bytes of the exchange came from the rank, unaltered.
    Exchanged,
    /// The rank said something (never parts of the exchange, never a heartbeat).
    Message(Message),
    /// Nothing more will be heard of the rank.
    Ended(LinkError),
    /// All that this rank had to say to the other one is sent (or never will be).
    Sent,
    /// A thread of this rank is out of work. Comes under this rank's own number.
    Hungry,
}

/// Why a rank cannot be worked with.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GreetError {
    #[error(transparent)]
    Wire(#[from] WireError),
    #[error("it speaks version {theirs} of the protocol, this rank version {ours}: use one build")]
    Version { theirs: u16, ours: u16 },
    #[error("it solves N = {theirs}, this rank N = {ours}: give every rank the same N")]
    Board { theirs: u8, ours: u8 },
    #[error("it counts {theirs} ranks, this rank {ours}: give every rank the same host list")]
    Ranks { theirs: u32, ours: u32 },
    #[error("it says that it is rank {theirs}: give every rank the same host list")]
    Rank { theirs: u32 },
    #[error("it exchanges {theirs} bytes, this rank {ours}: give every rank the same --exchange")]
    Exchange { theirs: u64, ours: u64 },
    #[error("no connection within {} s", .within.as_secs_f32())]
    Unreachable {
        within: Duration,
        #[source]
        last: io::Error,
    },
}

/// Who the ranks are, and which one this is.
#[derive(Clone, Debug)]
pub(crate) struct Roster {
    pub(crate) hosts: Vec<Host>,
    pub(crate) rank: u32,
    pub(crate) greeting: Greeting,
    /// How long connecting may take.
    pub(crate) patience: Duration,
}

/// One attempt to connect (chosen: several fit into the patience).
const ATTEMPT: Duration = Duration::from_secs(5);
/// A stranger's time to greet (chosen).
const GREETING_TIME: Duration = Duration::from_secs(10);
/// Pauses between attempts, first and longest (chosen).
const PAUSE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));
/// Connections greeting at the same time beyond one for each rank (chosen).
const SPARE_GREETERS: usize = 16;

impl Roster {
    /// How many ranks there are.
    pub(crate) fn ranks(&self) -> u32 {
        self.greeting.ranks
    }

    /// The host of `rank`, for people.
    pub(crate) fn host(&self, rank: u32) -> String {
        self.hosts.get(rank as usize).map_or_else(|| "unknown host".to_owned(), Host::to_string)
    }

    /// Starts listening for the higher ranks and calling the lower ones.
    ///
    /// Each of them comes up once as [`Event::Connected`] or [`Event::Refused`]; a higher rank that
    /// never calls does not come up.
    pub(crate) fn connect(self: &Arc<Self>, news: &SyncSender<News>) -> io::Result<()> {
        let last = self.rank + 1 == self.ranks();
        if let Some(host) = self.hosts.get(self.rank as usize).filter(|_| !last) {
            let listener = listen(host.port)?;
            let (roster, news) = (Arc::clone(self), news.clone());
            thread::Builder::new().spawn(move || roster.accept(&listener, &news))?;
        }
        for rank in 0..self.rank {
            let (roster, news) = (Arc::clone(self), news.clone());
            thread::Builder::new().spawn(move || {
                let event = match roster.call(rank) {
                    Ok(stream) => Event::Connected(stream),
                    Err(error) => Event::Refused(error),
                };
                news.send((rank, event)).ok();
            })?;
        }
        Ok(())
    }

    fn accept(self: Arc<Self>, listener: &TcpListener, news: &SyncSender<News>) {
        let greeting = Arc::new(AtomicUsize::new(0));
        let most = self.ranks() as usize + SPARE_GREETERS;
        for stream in listener.incoming() {
            let Ok(stream) = stream else { continue };
            if greeting.fetch_add(1, Ordering::Relaxed) >= most {
                greeting.fetch_sub(1, Ordering::Relaxed);
                continue;
            }
            let (roster, news, greeting) = (Arc::clone(&self), news.clone(), Arc::clone(&greeting));
            let greeter = thread::Builder::new().spawn(move || {
                roster.welcome(stream, &news);
                greeting.fetch_sub(1, Ordering::Relaxed);
            });
            drop(greeter);
        }
    }

    /// Tells apart ranks and strangers: only the former can fail the run.
    fn welcome(&self, mut stream: TcpStream, news: &SyncSender<News>) {
        let greeted = self.greet(&mut stream, GREETING_TIME);
        match greeted {
            Ok(theirs) if (self.rank + 1..self.ranks()).contains(&theirs.rank) => {
                let event = match self.check(&theirs) {
                    Ok(()) => Event::Connected(stream),
                    Err(error) => Event::Refused(error),
                };
                news.send((theirs.rank, event)).ok();
            }
            Ok(theirs) => {
                let error = self.check(&theirs).err();
                let error = error.unwrap_or(GreetError::Rank { theirs: theirs.rank });
                news.send((theirs.rank, Event::Refused(error))).ok();
            }
            Err(error) => {
                let from =
                    stream.peer_addr().map_or_else(|_| "somewhere".into(), |a| a.to_string());
                eprintln!("nqueens: ignored a connection from {from}: {error}");
            }
        }
    }

    fn call(&self, rank: u32) -> Result<TcpStream, GreetError> {
        let deadline = Instant::now() + self.patience;
        let mut pause = PAUSE.0;
        loop {
            let last = match self.try_call(rank, deadline) {
                Ok((stream, theirs)) => {
                    self.check(&theirs)?;
                    if theirs.rank != rank {
                        return Err(GreetError::Rank { theirs: theirs.rank });
                    }
                    return Ok(stream);
                }
                Err(WireError::Io(error)) => error,
                Err(error) => return Err(error.into()),
            };
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(GreetError::Unreachable { within: self.patience, last });
            }
            thread::sleep(pause.min(left));
            pause = (pause * 2).min(PAUSE.1);
        }
    }

    fn try_call(&self, rank: u32, deadline: Instant) -> Result<(TcpStream, Greeting), WireError> {
        let Some(host) = self.hosts.get(rank as usize) else {
            return Err(io::Error::other("no such rank").into());
        };
        let mut last = io::Error::other("the name has no address");
        for address in (host.name.as_str(), host.port).to_socket_addrs()? {
            match TcpStream::connect_timeout(&address, ATTEMPT) {
                Ok(mut stream) => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    let theirs = self.greet(&mut stream, left.max(ATTEMPT))?;
                    return Ok((stream, theirs));
                }
                Err(error) => last = error,
            }
        }
        Err(last.into())
    }

    fn greet(&self, stream: &mut TcpStream, within: Duration) -> Result<Greeting, WireError> {
        stream.set_read_timeout(Some(within))?;
        stream.set_write_timeout(Some(within))?;
        self.greeting.write(stream)?;
        Greeting::read(stream)
    }

    fn check(&self, theirs: &Greeting) -> Result<(), GreetError> {
        let ours = &self.greeting;
        if theirs.version != VERSION {
            return Err(GreetError::Version { theirs: theirs.version, ours: VERSION });
        }
        if theirs.n != ours.n {
            return Err(GreetError::Board { theirs: theirs.n, ours: ours.n });
        }
        if theirs.ranks != ours.ranks {
            return Err(GreetError::Ranks { theirs: theirs.ranks, ours: ours.ranks });
        }
        if theirs.exchange != ours.exchange {
            let (theirs, ours) = (theirs.exchange, ours.exchange);
            return Err(GreetError::Exchange { theirs, ours });
        }
        Ok(())
    }
}

/// Both address families where the machine has IPv6.
fn listen(port: u16) -> io::Result<TcpListener> {
    TcpListener::bind(("::", port)).or_else(|_| TcpListener::bind(("0.0.0.0", port)))
}
