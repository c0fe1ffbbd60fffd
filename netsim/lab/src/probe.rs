//! A job that a test talks with: it tries connections from inside its sandbox.
//!
//! The same functions try the same connections from outside, as the control of each refusal.
//!
//! ```text
//! test ── 127.0.0.1:7701 in the job's network namespace ── probe:  "dial tcp:10.128.0.2:7700"
//!                                                                   "ok tcp:10.128.0.2:7700 TOKEN"
//! ```

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{
    IpAddr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, ToSocketAddrs as _, UdpSocket,
};
use std::thread;
use std::time::Duration;

/// Where every probe answers everybody with its token, by TCP and by UDP.
pub const TOKEN_PORT: u16 = 7700;
/// Where a probe takes commands, on the loopback address only.
pub const COMMAND_PORT: u16 = 7701;

/// The longest that a dial may take. Chosen: a loaded machine answers in milliseconds.
const DIAL: Duration = Duration::from_millis(1500);

/// Answers with `token` and obeys commands until it is told to exit; returns the exit status.
pub fn serve(token: &str) -> io::Result<i32> {
    let commands = TcpListener::bind((IpAddr::from([127, 0, 0, 1]), COMMAND_PORT))?;
    answer_tcp(TcpListener::bind((Ipv6Addr::UNSPECIFIED, TOKEN_PORT))?, token);
    answer_udp(UdpSocket::bind((Ipv6Addr::UNSPECIFIED, TOKEN_PORT))?, token);
    loop {
        let (stream, _) = commands.accept()?;
        let mut answers = stream.try_clone()?;
        for line in BufReader::new(stream).lines() {
            let line = line?;
            let (verb, rest) = line.split_once(' ').unwrap_or((&line, ""));
            let answer = match verb {
                "dial" => match dial(rest) {
                    Ok(answer) => format!("ok {rest} {answer}"),
                    Err(error) => format!("failed {rest} {error}"),
                },
                "send" => match rest.split_once(' ').map(|(to, text)| send(to, text)) {
                    Some(Ok(())) => "sent".to_owned(),
                    other => format!("failed {other:?}"),
                },
                "exit" => return Ok(rest.parse().unwrap_or(0)),
                _ => format!("failed: no such command: {verb}"),
            };
            writeln!(answers, "{answer}")?;
        }
    }
}

/// Answers every connection with `token`, in the background.
pub fn answer_tcp(listener: TcpListener, token: &str) {
    let token = token.to_owned();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let _ = stream.write_all(token.as_bytes());
        }
    });
}

/// Answers every datagram with `token`, in the background.
pub fn answer_udp(socket: UdpSocket, token: &str) {
    let token = token.to_owned();
    thread::spawn(move || {
        let mut bytes = [0; 2048];
        while let Ok((_, from)) = socket.recv_from(&mut bytes) {
            let _ = socket.send_to(token.as_bytes(), from);
        }
    });
}

/// Tries to reach `tcp:HOST:PORT` or `udp:HOST:PORT` and returns what it answers; `connect:HOST:PORT`
/// by TCP too, without waiting for an answer.
pub fn dial(target: &str) -> io::Result<String> {
    let (kind, address) = target.split_once(':').unwrap_or(("", target));
    let address = resolve(address)?;
    let mut bytes = Vec::new();
    match kind {
        "connect" => drop(TcpStream::connect_timeout(&address, DIAL)?),
        "tcp" => {
            let stream = TcpStream::connect_timeout(&address, DIAL)?;
            stream.set_read_timeout(Some(DIAL))?;
            stream.take(256).read_to_end(&mut bytes)?;
        }
        "udp" => {
            let socket = UdpSocket::bind((wildcard(address), 0))?;
            socket.set_read_timeout(Some(DIAL))?;
            socket.send_to(b"hello", address)?;
            bytes.resize(256, 0);
            let (length, _) = socket.recv_from(&mut bytes)?;
            bytes.truncate(length);
        }
        _ => return Err(io::Error::other("a target begins with tcp:, udp: or connect:")),
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Sends `text` in a datagram, without waiting for an answer.
fn send(to: &str, text: &str) -> io::Result<()> {
    let address = resolve(to)?;
    UdpSocket::bind((wildcard(address), 0))?.send_to(text.as_bytes(), address).map(drop)
}

fn resolve(address: &str) -> io::Result<SocketAddr> {
    address.to_socket_addrs()?.next().ok_or_else(|| io::Error::other("no such host"))
}

fn wildcard(for_peer: SocketAddr) -> IpAddr {
    if for_peer.is_ipv4() {
        IpAddr::from([0, 0, 0, 0])
    } else {
        IpAddr::from(Ipv6Addr::UNSPECIFIED)
    }
}

/// A test's connection to a probe. Make it in the job's network namespace.
pub struct Commands {
    answers: BufReader<TcpStream>,
}

impl Commands {
    /// Connects to the probe of the calling thread's network namespace.
    pub fn connect() -> io::Result<Self> {
        let address = SocketAddr::from(([127, 0, 0, 1], COMMAND_PORT));
        let stream = TcpStream::connect_timeout(&address, DIAL)?;
        stream.set_read_timeout(Some(DIAL * 4))?;
        Ok(Self { answers: BufReader::new(stream) })
    }

    /// Gives a command and returns the answer.
    pub fn ask(&mut self, command: &str) -> io::Result<String> {
        writeln!(self.answers.get_mut(), "{command}")?;
        let mut answer = String::new();
        self.answers.read_line(&mut answer)?;
        Ok(answer.trim_end().to_owned())
    }

    /// Whether the probe reaches `target`, and what it answers.
    pub fn dial(&mut self, target: &str) -> io::Result<Result<String, String>> {
        let answer = self.ask(&format!("dial {target}"))?;
        if let Some(rest) = answer.strip_prefix(&format!("ok {target}")) {
            return Ok(Ok(rest.trim().to_owned()));
        }
        Ok(Err(answer))
    }

    /// Tells the probe to end with that status.
    pub fn exit(&mut self, status: u8) -> io::Result<()> {
        writeln!(self.answers.get_mut(), "exit {status}")
    }
}
