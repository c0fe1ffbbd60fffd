//! The SSH server of a job's node: who may come in, and what they may ask for.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Read as _};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use russh::keys::ssh_key;
use russh::keys::{PrivateKey, PublicKey};
use russh::server::{
    Auth, ChannelOpenHandle, Config, Handler, Msg, PublicKeyOffer, Session, VerifiedPublicKey,
    run_stream,
};
use russh::{Channel, ChannelId, MethodKind, MethodSet};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;

use super::backlog::{Backlog, WINDOW};
use super::session;
use crate::environment::USER;
use crate::ssh::{AUTHORIZED_KEYS, IDENTITY, SSH_DIRECTORY};

/// Connections at a time. Chosen: every node of the largest job at once.
const MAX_CONNECTIONS: usize = 1024;

/// Sessions at a time on one connection, as OpenSSH's MaxSessions has it, tenfold: programs share connections.
const MAX_SESSIONS: usize = 100;

/// How long a client may take to say who it is, as OpenSSH's LoginGraceTime has it.
const LOGIN_GRACE: Duration = Duration::from_secs(120);

/// The longest file of keys that is read: 1,024 members of 100 bytes, with room.
const MAX_KEYS_BYTES: u64 = 512 << 10;

/// The node's own key and where its peers' are.
pub(super) struct Keys {
    own: PrivateKey,
}

impl Keys {
    /// Reads the files that the agent has put into the sandbox.
    ///
    /// # Errors
    /// When they are missing or damaged.
    pub(super) fn read() -> io::Result<Self> {
        let text = read_bounded(&Path::new(SSH_DIRECTORY).join(IDENTITY))?;
        let own = PrivateKey::from_openssh(text).map_err(io::Error::other)?;
        Ok(Self { own })
    }
}

/// Serves for ever.
pub(super) async fn serve(listener: TcpListener, keys: Keys) {
    let config = Arc::new(Config {
        methods: MethodSet::from(&[MethodKind::PublicKey][..]),
        auth_rejection_time: Duration::from_secs(1),
        // A client's first question is which methods there are; that costs it nothing.
        auth_rejection_time_initial: Some(Duration::ZERO),
        keys: vec![keys.own],
        window_size: WINDOW,
        // A job's nodes may be silent to each other for as long as the job lasts.
        inactivity_timeout: None,
        nodelay: true,
        ..Config::default()
    });
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let config = config.clone();
                tokio::spawn(async move {
                    if let Err(error) = connection(config, stream).await {
                        tracing::debug!(%error, "an ssh connection ended");
                    }
                    drop(place);
                });
            }
            // Out of descriptors, as a rule: some will be closed.
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

async fn connection(config: Arc<Config>, stream: TcpStream) -> Result<(), russh::Error> {
    let (known, mut is_known) = watch::channel(false);
    let peer = Peer { known, backlog: Backlog::default(), sessions: Arc::default() };
    let running = timeout(LOGIN_GRACE, run_stream(config, stream, peer)).await;
    let mut running = running.map_err(|_| russh::Error::ConnectionTimeout)??;
    tokio::select! {
        ended = &mut running => return ended,
        known = timeout(LOGIN_GRACE, is_known.wait_for(|known| *known)) => {
            if !matches!(known, Ok(Ok(_))) {
                // Dropped here, which closes the connection.
                return Err(russh::Error::ConnectionTimeout);
            }
        }
    }
    running.await
}

/// One client.
struct Peer {
    known: watch::Sender<bool>,
    backlog: Backlog,
    /// Counts, by its owners, the sessions that run.
    sessions: Arc<()>,
}

impl Handler for Peer {
    type Error = russh::Error;

    async fn auth_publickey_offered(
        &mut self,
        user: &str,
        offer: PublicKeyOffer<'_>,
    ) -> Result<Auth, Self::Error> {
        Ok(verdict(user, offer.public_key))
    }

    async fn auth_publickey(
        &mut self,
        user: &str,
        key: VerifiedPublicKey<'_>,
    ) -> Result<Auth, Self::Error> {
        Ok(verdict(user, key.public_key))
    }

    async fn auth_succeeded(&mut self, _: &mut Session) -> Result<(), Self::Error> {
        self.known.send_replace(true);
        Ok(())
    }

    async fn channel_open_session(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        if Arc::strong_count(&self.sessions) > MAX_SESSIONS {
            return Ok(());
        }
        reply.accept().await;
        let running = self.sessions.clone();
        let session = session::serve(channel, session.handle(), self.backlog.clone());
        tokio::spawn(async move {
            session.await;
            drop(running);
        });
        Ok(())
    }

    fn adjust_window(&mut self, _: ChannelId, _: u32) -> u32 {
        self.backlog.window()
    }
}

fn verdict(user: &str, key: &PublicKey) -> Auth {
    let file = Path::new(SSH_DIRECTORY).join(AUTHORIZED_KEYS);
    // Read each time: members come and go.
    let text = read_bounded(&file).unwrap_or_default();
    if user == USER && authorized(&text).contains(key.key_data()) {
        Auth::Accept
    } else {
        Auth::reject()
    }
}

/// The keys in a text of OpenSSH's form, a line each.
fn authorized(text: &str) -> BTreeSet<ssh_key::public::KeyData> {
    let keys = text.lines().filter_map(|line| PublicKey::from_openssh(line).ok());
    keys.map(|key| key.key_data().clone()).collect()
}

fn read_bounded(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    fs::File::open(path)?.take(MAX_KEYS_BYTES).read_to_string(&mut text)?;
    Ok(text)
}
