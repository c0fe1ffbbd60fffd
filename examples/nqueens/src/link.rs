//! One connection to another rank: a thread that reads and a thread that writes.
//!
//! Both only carry; what a message means is decided in `ranks`. Every link tells a heartbeat when it
//! has nothing else to say, so silence means that the peer or the path is gone.

use std::{
    io::{self, BufReader, ErrorKind},
    net::{Shutdown, TcpStream},
    sync::{
        Arc, OnceLock,
        mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, TrySendError, sync_channel},
    },
    thread,
    time::Duration,
};

use crate::{
    exchange::{Exchange, ExchangeError, Incoming, Outgoing},
    mesh::{Event, News},
    wire::{Message, WireError},
};

/// Heartbeats within the time after which a silent peer counts as lost (chosen: two may be late).
const HEARTBEATS_PER_SILENCE: u32 = 4;
/// The longest time between heartbeats (chosen: also keeps the mappings on the path alive).
const LONGEST_HEARTBEAT: Duration = Duration::from_secs(2);
/// Messages waiting for a slow peer, at most; a sound one has a handful (chosen).
const OUTBOX: usize = 256;

/// Why a link ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LinkError {
    #[error("it closed the connection")]
    Closed,
    #[error("nothing was heard of it for {} s", .0.as_secs_f32())]
    Silent(Duration),
    #[error("it took no bytes for {} s", .0.as_secs_f32())]
    Stuck(Duration),
    #[error("the connection broke")]
    Broken(#[source] io::Error),
    #[error(transparent)]
    Wire(#[from] WireError),
    #[error(transparent)]
    Exchange(#[from] ExchangeError),
}

/// This rank's end of a connection. Dropping it ends the writing direction.
#[derive(Debug)]
pub(crate) struct Link {
    outbox: SyncSender<Message>,
}

/// The peer takes no messages (or the link is already broken, which is told by an event).
#[derive(Debug, thiserror::Error)]
#[error("it takes no more messages")]
pub(crate) struct OutboxFull;

impl Link {
    /// Starts the threads of a connection that has been greeted.
    ///
    /// `outgoing` and `incoming` are the two directions of the exchange. Everything that happens on
    /// the link from now on comes through `news`, under the peer's rank.
    pub(crate) fn start(
        stream: TcpStream,
        outgoing: Exchange,
        incoming: Exchange,
        silence: Duration,
        news: &SyncSender<News>,
    ) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(silence))?;
        stream.set_write_timeout(Some(silence))?;
        let reading = stream.try_clone()?;
        let (outbox, messages) = sync_channel(OUTBOX);
        let broken = Arc::new(OnceLock::new());

        let reader = Reader {
            rank: incoming.from,
            incoming: Incoming::new(incoming),
            news: news.clone(),
            silence,
            broken: Arc::clone(&broken),
        };
        thread::Builder::new().spawn(move || reader.run(reading))?;

        let (rank, news) = (outgoing.to, news.clone());
        thread::Builder::new().spawn(move || {
            if let Err(error) = write_all(&stream, outgoing, &messages, silence) {
                // The reader tells: it may still find the peer's own reason in the stream.
                broken.set(error.kind()).ok();
                stream.shutdown(Shutdown::Both).ok();
            } else {
                stream.shutdown(Shutdown::Write).ok();
            }
            news.send((rank, Event::Sent)).ok();
        })?;
        Ok(Self { outbox })
    }

    /// Sends when the peer takes it; never waits.
    pub(crate) fn send(&self, message: Message) -> Result<(), OutboxFull> {
        match self.outbox.try_send(message) {
            Ok(()) | Err(TrySendError::Disconnected(_)) => Ok(()),
            Err(TrySendError::Full(_)) => Err(OutboxFull),
        }
    }
}

/// Sends the exchange, messages and heartbeats until the outbox is dropped.
fn write_all(
    mut stream: &TcpStream,
    exchange: Exchange,
    messages: &Receiver<Message>,
    silence: Duration,
) -> io::Result<()> {
    let mut outgoing = Outgoing::new(exchange);
    while let Some(chunk) = outgoing.chunk() {
        match messages.try_recv() {
            Ok(message) => message.write(&mut stream)?,
            Err(TryRecvError::Empty) => {}
            Err(TryRecvError::Disconnected) => return Ok(()),
        }
        Message::Chunk(chunk).write(&mut stream)?;
    }
    Message::ChunkEnd(outgoing.digest()).write(&mut stream)?;

    let heartbeat = (silence / HEARTBEATS_PER_SILENCE).min(LONGEST_HEARTBEAT);
    loop {
        match messages.recv_timeout(heartbeat) {
            Ok(message) => message.write(&mut stream)?,
            Err(RecvTimeoutError::Timeout) => Message::Heartbeat.write(&mut stream)?,
            Err(RecvTimeoutError::Disconnected) => return Ok(()),
        }
    }
}

struct Reader {
    rank: u32,
    incoming: Incoming,
    news: SyncSender<News>,
    silence: Duration,
    /// Why the writer gave up, if it did.
    broken: Arc<OnceLock<ErrorKind>>,
}

impl Reader {
    fn run(mut self, stream: TcpStream) {
        let mut stream = BufReader::new(stream);
        loop {
            let event = match Message::read(&mut stream) {
                Ok(message) => self.on_message(message).unwrap_or_else(|e| Some(Event::Ended(e))),
                Err(error) => Some(Event::Ended(self.cause(error))),
            };
            let Some(event) = event else { continue };
            let ended = matches!(event, Event::Ended(_));
            if self.news.send((self.rank, event)).is_err() || ended {
                return;
            }
        }
    }

    fn on_message(&mut self, message: Message) -> Result<Option<Event>, LinkError> {
        Ok(match message {
            Message::Heartbeat => None,
            Message::Chunk(bytes) => {
                self.incoming.absorb(&bytes)?;
                None
            }
            Message::ChunkEnd(digest) => {
                self.incoming.end(digest)?;
                Some(Event::Exchanged)
            }
            message @ (Message::Ask
            | Message::Grant(_)
            | Message::Report(_)
            | Message::Finish { .. }
            | Message::Bye
            | Message::Abort { .. }) => Some(Event::Message(message)),
        })
    }

    fn cause(&self, error: WireError) -> LinkError {
        let WireError::Io(error) = error else { return LinkError::Wire(error) };
        let is_timeout = |kind| matches!(kind, ErrorKind::WouldBlock | ErrorKind::TimedOut);
        match self.broken.get() {
            Some(&kind) if is_timeout(kind) => LinkError::Stuck(self.silence),
            Some(&kind) => LinkError::Broken(kind.into()),
            None if is_timeout(error.kind()) => LinkError::Silent(self.silence),
            None if error.kind() == ErrorKind::UnexpectedEof => LinkError::Closed,
            None => LinkError::Broken(error),
        }
    }
}
