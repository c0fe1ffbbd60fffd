//! An HTTPS server with an answer ready for each request: one request per connection.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use coordinator_client::RootPin;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// What is sent back: all of it, then the connection ends.
pub(crate) type Answer = Vec<u8>;

pub(crate) struct Server {
    pub(crate) url: String,
    pub(crate) pin: RootPin,
    pub(crate) root: CertificateDer<'static>,
    requests: Arc<Mutex<Vec<String>>>,
    body: Arc<Mutex<Vec<u8>>>,
}

impl Server {
    /// Serves `answers`, one after the other.
    pub(crate) fn start(answers: Vec<Answer>) -> Self {
        rustls::crypto::ring::default_provider().install_default().ok();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let url = format!("https://localhost:{}/oarapi", listener.local_addr().unwrap().port());
        let (tls, root) = certificates();
        let pin = RootPin::of_certificate(&root);
        let requests = Arc::new(Mutex::new(Vec::new()));
        let body = Arc::new(Mutex::new(Vec::new()));
        let (seen, last) = (requests.clone(), body.clone());
        std::thread::spawn(move || {
            for answer in answers {
                let (tcp, _) = listener.accept().unwrap();
                // Whoever does not like the certificate hangs up.
                serve(tcp, tls.clone(), &answer, &seen, &last).ok();
            }
        });
        Self { url, pin, root, requests, body }
    }

    /// Heads of the requests so far, in lower case.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }

    /// The last request's body.
    pub(crate) fn body(&self) -> Vec<u8> {
        self.body.lock().unwrap().clone()
    }
}

/// An answer with a JSON body.
pub(crate) fn answer(status: &str, body: &str) -> Answer {
    head(status, &format!("Content-Length: {}", body.len()))
        .into_iter()
        .chain(body.bytes())
        .collect()
}

/// Only the head of an answer.
pub(crate) fn head(status: &str, headers: &str) -> Answer {
    format!("HTTP/1.1 {status}\r\nConnection: close\r\n{headers}\r\n\r\n").into_bytes()
}

fn serve(
    tcp: TcpStream,
    tls: Arc<ServerConfig>,
    answer: &[u8],
    seen: &Mutex<Vec<String>>,
    last: &Mutex<Vec<u8>>,
) -> std::io::Result<()> {
    let connection = ServerConnection::new(tls).map_err(std::io::Error::other)?;
    let mut stream = StreamOwned::new(connection, tcp);
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        request.extend(byte);
    }
    let request = String::from_utf8_lossy(&request).to_lowercase();
    let length = request.lines().find_map(|line| line.strip_prefix("content-length: "));
    let length = length.map_or(0, |length| length.parse().unwrap());
    let mut body = Vec::new();
    Read::by_ref(&mut stream).take(length).read_to_end(&mut body)?;
    *last.lock().unwrap() = body;
    seen.lock().unwrap().push(request);
    stream.write_all(answer)?;
    stream.flush()
}

fn certificates() -> (Arc<ServerConfig>, CertificateDer<'static>) {
    let mut params = CertificateParams::new([]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    let root = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(["localhost".to_owned()]).unwrap();
    let leaf = params.signed_by(&key, &root).unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let chain = vec![leaf.der().clone(), root.der().clone()];
    let tls = ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key).unwrap();
    (Arc::new(tls), root.der().clone())
}
