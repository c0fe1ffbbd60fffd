//! The relay's counters for a scraper: `coordinator serve --metrics` and `coordinator relay --metrics`.

use std::fmt;
use std::net::SocketAddr;

use anyhow::Context;
use axum::Router;
use axum::extract::State;
use axum::http::header;
use axum::routing::get;
use overlay_relay::{CONTENT_TYPE, RelayMeter, exposition};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// The port for scrapers. Dropping it shuts it.
pub(crate) struct MetricsPort {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    task: JoinHandle<()>,
}

impl MetricsPort {
    /// Answers `GET /metrics` there with the counters of the relay that runs at that time.
    ///
    /// # Errors
    ///
    /// A sentence for the operator: the port cannot be had.
    pub(crate) async fn open(
        at: SocketAddr,
        meter: watch::Receiver<RelayMeter>,
    ) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(at)
            .await
            .with_context(|| format!("cannot listen on tcp {at} (--metrics)"))?;
        let address = listener.local_addr().context("cannot read the metrics' address")?;
        let router = Router::new().route("/metrics", get(answer)).with_state(meter);
        let task = tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, router).await {
                tracing::warn!(%error, "the metrics' port is shut");
            }
        });
        Ok(Self { address, task })
    }
}

/// As the operator reads it.
impl fmt::Display for MetricsPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "metrics: http://{}/metrics", self.address)
    }
}

impl Drop for MetricsPort {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn answer(
    State(meter): State<watch::Receiver<RelayMeter>>,
) -> ([(header::HeaderName, &'static str); 1], String) {
    let stats = meter.borrow().stats();
    ([(header::CONTENT_TYPE, CONTENT_TYPE)], exposition(&stats))
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::time::Duration;

    use overlay_relay::{Relay, RelayKeys};

    use super::*;

    #[tokio::test]
    async fn a_scraper_sees_what_the_relay_that_runs_has_counted() {
        rustls::crypto::ring::default_provider().install_default().ok();
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let relay = Relay::spawn(socket, RelayKeys::generate()).unwrap();
        let (sender, meter) = watch::channel(RelayMeter::default());
        let port = MetricsPort::open("127.0.0.1:0".parse().unwrap(), meter).await.unwrap();
        let url = port.to_string().replace("metrics: ", "");
        let page = async || reqwest::get(&url).await.unwrap().text().await.unwrap();
        let malformed = "clouds_relay_dropped_datagrams_total{reason=\"malformed\"}";
        assert!(page().await.contains(&format!("{malformed} 0\n")), "no relay runs yet");

        sender.send_replace(relay.meter());
        let stranger = UdpSocket::bind("127.0.0.1:0").unwrap();
        stranger.send_to(b"rubbish", relay.local_addr()).unwrap();
        let seen = async {
            while !page().await.contains(&format!("{malformed} 1\n")) {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), seen).await.unwrap();
        let answer = reqwest::get(url).await.unwrap();
        assert_eq!(answer.headers()["content-type"], CONTENT_TYPE);
    }
}
