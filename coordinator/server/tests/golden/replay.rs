//! Requests sent byte by byte: a client's library would add an `Accept` of its own.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use coordinator_client::pinned_tls;
use rustls::{ClientConnection, StreamOwned};
use rustls_pki_types::ServerName;
use serde_json::{Value, json};

use crate::Exchange;
use crate::site::Site;

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) kind: String,
    pub(crate) location: Option<String>,
    pub(crate) body: Value,
}

pub(crate) async fn replay(site: &Site, exchange: &Exchange) -> Answer {
    let Exchange { method, path, .. } = exchange;
    let mut request =
        format!("{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n");
    let token = match exchange.user.as_deref() {
        Some("alice") => Some(site.alice.clone()),
        Some(stranger) => Some(stranger.to_owned()),
        None => None,
    };
    let token = token.map(|token| format!("Authorization: Bearer {token}\r\n"));
    request += &token.unwrap_or_default();
    for (name, value) in &exchange.headers {
        request += &format!("{name}: {value}\r\n");
    }
    let body = exchange.body.as_deref().unwrap_or_default();
    // A character is a byte in the recording: archives are among the bodies.
    let body: Vec<u8> = body.chars().map(|letter| u8::try_from(letter).unwrap()).collect();
    request += &format!("Content-Length: {}\r\n\r\n", body.len());
    let request = [request.into_bytes(), body].concat();
    let authority = site.server.url.strip_prefix("https://").unwrap().split('/').next().unwrap();
    let (authority, tls) = (authority.to_owned(), pinned_tls(site.server.root));
    let talk = tokio::task::spawn_blocking(move || {
        let name = ServerName::try_from("127.0.0.1").unwrap();
        let session = ClientConnection::new(Arc::new(tls), name).unwrap();
        let mut stream = StreamOwned::new(session, TcpStream::connect(authority).unwrap());
        stream.write_all(&request).unwrap();
        let mut answer = Vec::new();
        // A server that closes without saying so in TLS has still answered: the length is checked below.
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8(answer).unwrap()
    });
    parse(&talk.await.unwrap(), method)
}

fn parse(answer: &str, method: &str) -> Answer {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let header = |name: &str| {
        let mut lines = head.lines().filter_map(|line| line.split_once(": "));
        lines.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    };
    if method != "HEAD" && header("content-length").is_some() {
        assert_eq!(header("content-length").unwrap(), body.len().to_string(), "{head}");
    }
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let kind = header("content-type").unwrap_or_default().split(';').next().unwrap().to_owned();
    let location = header("location").map(str::to_owned);
    let body = match &*kind {
        _ if body.is_empty() => Value::Null,
        "application/json" => serde_json::from_str(body).unwrap(),
        "text/yaml" => serde_norway::from_str(body).unwrap(),
        "application/octet-stream" => json!({ "text": body }),
        _ => page(body),
    };
    Answer { status, kind, location, body }
}

/// The value that a page shows, its links without their markup.
fn page(html: &str) -> Value {
    let between = |start: &str, end: &str| {
        html.split_once(start).and_then(|(_, rest)| rest.split_once(end)).map(|(inner, _)| inner)
    };
    let shown = between("<PRE>\n", "\n</PRE>");
    match (between("<h1>", "</h1>"), shown) {
        (Some(title), Some(message)) => json!({ "title": title, "message": message }),
        (None, Some(yaml)) => serde_norway::from_str(&text_of(yaml)).unwrap(),
        (_, None) => {
            let end = html.rsplit("<HR>").next().unwrap();
            json!({ "text": text_of(end).trim() })
        }
    }
}

fn text_of(html: &str) -> String {
    let mut text = String::new();
    let mut pieces = html.split('<');
    text += pieces.next().unwrap();
    for piece in pieces {
        text += piece.split_once('>').unwrap().1;
    }
    let marks = [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&#39;", "'"), ("&amp;", "&")];
    marks.iter().fold(text, |text, (mark, letter)| text.replace(mark, letter))
}
