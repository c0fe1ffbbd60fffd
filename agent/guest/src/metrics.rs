//! What the agent counts, in Prometheus' text format: `agent metrics`, and `agent run --metrics` for a
//! scraper on this machine.

use std::fmt::Write as _;
use std::io;
use std::net::SocketAddr;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use overlay_core::control::PathReport;
use overlay_driver::{Overlay, View};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// What the format calls itself.
const FORMAT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The port for scrapers. Dropping it shuts it.
pub struct MetricsServer {
    at: SocketAddr,
    task: JoinHandle<()>,
}

impl MetricsServer {
    /// Listens there: an address of this machine alone, see [`is_local`].
    ///
    /// # Errors
    /// When the port cannot be had.
    pub async fn start(at: SocketAddr, overlay: Overlay) -> io::Result<Self> {
        let listener = TcpListener::bind(at).await?;
        let at = listener.local_addr()?;
        let app = Router::new().route("/metrics", get(answer)).with_state(overlay);
        let task = tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, app).await {
                tracing::warn!(%error, "the metrics' port is shut");
            }
        });
        Ok(Self { at, task })
    }

    /// Where it listens.
    pub fn at(&self) -> SocketAddr {
        self.at
    }
}

impl Drop for MetricsServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Whether only this machine's users can ask there.
pub fn is_local(at: SocketAddr) -> bool {
    at.ip().to_canonical().is_loopback()
}

async fn answer(State(overlay): State<Overlay>) -> Response {
    match overlay.view().await {
        Some(view) => ([(CONTENT_TYPE, FORMAT)], of(&overlay, &view)).into_response(),
        None => (StatusCode::SERVICE_UNAVAILABLE, "the agent is stopping\n").into_response(),
    }
}

/// The metrics of a running overlay.
pub fn of(overlay: &Overlay, view: &View) -> String {
    text(overlay.connected(), overlay.tunnelled(), view)
}

fn text(connected: bool, tunnelled: bool, view: &View) -> String {
    let mut page = Page::default();
    let version = env!("CARGO_PKG_VERSION");
    page.gauge(
        "build_info",
        "The agent's version; always 1.",
        [(labels([("version", version)]), 1)],
    );
    page.one("connected", "The coordinator's control session is up.", u64::from(connected));
    page.one("tunnelled", "UDP does not get through: everything goes over TLS.", tunnelled.into());
    page.one("meshes", "Jobs' networks that this node is in.", count(view.meshes.len()));
    page.gauge("pairs", "Pairs with other nodes, by the path in use.", pairs(view));
    page.one(
        "new_mappings",
        "Entries that this node has asked of its router in the last ten seconds.",
        count(view.node.new_mappings),
    );
    let relays = view.node.relays.iter().filter_map(|(relay, rtt)| {
        Some((labels([("relay", relay.to_string().as_str())]), rtt.as_ref()?.as_secs_f64()))
    });
    page.gauge("relay_rtt_seconds", "Round trip time to each relay that holds this node.", relays);
    let data = view.stats;
    let core = view.node.stats;
    for (name, help, value) in [
        ("udp_sent_datagrams", "Datagrams sent by the data plane.", data.udp_sent_datagrams),
        ("udp_sent_bytes", "Bytes of those.", data.udp_sent_bytes),
        ("udp_send_errors", "Datagrams that the socket refused.", data.udp_send_errors),
        ("udp_received_datagrams", "Datagrams received.", data.udp_received_datagrams),
        ("udp_received_bytes", "Bytes of those.", data.udp_received_bytes),
        ("unknown_datagrams", "Datagrams of no known protocol.", data.unknown_datagrams),
        ("unknown_sessions", "WireGuard packets for nobody here.", data.unknown_sessions),
        (
            "refused_packets",
            "WireGuard packets replayed, forged or too old; copies that came by a second way count.",
            data.refused_packets,
        ),
        ("spoofed_packets", "Packets from peers with addresses not theirs.", data.spoofed_packets),
        (
            "congested_packets",
            "Packets marked for jobs that know no marks.",
            data.congested_packets,
        ),
        ("job_sent_packets", "IP packets that jobs sent.", data.tun_sent_packets),
        ("job_sent_bytes", "Bytes of those.", data.tun_sent_bytes),
        ("job_received_packets", "IP packets from peers given to jobs.", data.tun_received_packets),
        ("job_received_bytes", "Bytes of those.", data.tun_received_bytes),
        ("job_unroutable_packets", "Jobs' packets to nobody in the job.", data.unroutable_packets),
        ("job_dropped_packets", "Jobs' packets that waited too long.", data.dropped_packets),
        (
            "job_limited_frames",
            "Packets from peers, perhaps dozens as one, dropped above the owner's limit.",
            data.limited_frames,
        ),
        ("promotions", "Times that a direct path was taken into use.", core.promotions),
        ("demotions", "Times that a direct path was given up.", core.demotions),
        ("pings", "Pings sent inside sessions.", core.pings_sent),
        ("pings_postponed", "Pings that waited, to spare the router.", core.pings_postponed),
        ("handshakes", "WireGuard initiations asked for.", core.initiations),
        ("resumptions", "Times that this machine had stood still.", core.resumptions),
        (
            "refused_control_frames",
            "Control frames not understood, or not asked for any more: answers that a changed way delays count.",
            core.control_refused,
        ),
        ("refused_probes", "Probes not understood or not asked for.", core.probes_refused),
        ("refused_endpoints", "Peers' endpoints that were not tried.", core.endpoints_refused),
        ("refused_netmaps", "Netmaps that were too old or malformed.", core.netmaps_refused),
        ("stalled_timers", "Timers that came to nothing: a defect.", core.stalled_timers),
    ] {
        page.family(&format!("{name}_total"), "counter", help, [(String::new(), value)]);
    }
    page.0
}

/// How many pairs have which path. All three are always there, so that a graph has no holes.
fn pairs(view: &View) -> impl Iterator<Item = (String, u64)> {
    let all = || view.meshes.iter().flat_map(|mesh| &mesh.pairs);
    let of = |is_it: fn(&PathReport) -> bool| count(all().filter(|pair| is_it(&pair.path)).count());
    let counts = [
        ("direct", of(|path| matches!(path, PathReport::Direct { .. }))),
        ("relayed", of(|path| matches!(path, PathReport::Relayed { .. }))),
        ("none", of(|path| matches!(path, PathReport::None))),
    ];
    counts.into_iter().map(|(path, count)| (labels([("path", path)]), count))
}

fn count(value: usize) -> u64 {
    u64::try_from(value).unwrap_or(u64::MAX)
}

/// Labels as the format wants them. Values are addresses and words of ours: nothing to escape.
fn labels<const N: usize>(pairs: [(&str, &str); N]) -> String {
    let one = |(name, value): (&str, &str)| format!("{name}=\"{value}\"");
    format!("{{{}}}", pairs.map(one).join(","))
}

#[derive(Default)]
struct Page(String);

impl Page {
    fn family<V: ToString>(
        &mut self,
        name: &str,
        kind: &str,
        help: &str,
        samples: impl IntoIterator<Item = (String, V)>,
    ) {
        // Writing to a string does not fail.
        let _ = writeln!(self.0, "# HELP clouds_agent_{name} {help}");
        let _ = writeln!(self.0, "# TYPE clouds_agent_{name} {kind}");
        for (labels, value) in samples {
            let _ = writeln!(self.0, "clouds_agent_{name}{labels} {}", value.to_string());
        }
    }

    fn gauge<V: ToString>(
        &mut self,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = (String, V)>,
    ) {
        self.family(name, "gauge", help, samples);
    }

    fn one(&mut self, name: &str, help: &str, value: u64) {
        self.gauge(name, help, [(String::new(), value)]);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use overlay_core::control::PairReport;
    use overlay_core::{MeshId, Node, NodeConfig, NodeId};
    use overlay_driver::MeshView;

    use super::*;

    fn view() -> View {
        let id = NodeId([1; 32]);
        let mut node = Node::new(NodeConfig { id, seed: 1 }, std::time::Instant::now()).snapshot();
        node.relays.push(("198.51.100.1:6444".parse().unwrap(), Some(Duration::from_millis(20))));
        node.stats.promotions = 3;
        let pair = |path| PairReport {
            peer: NodeId([2; 32]),
            established: true,
            settled: true,
            path,
            rtt_us: None,
            sent_bytes: 0,
            received_bytes: 0,
            established_after_ms: None,
            explain: String::new(),
            activity: Default::default(),
        };
        let relay = "198.51.100.1:6444".parse().unwrap();
        let pairs = vec![pair(PathReport::Relayed { relay }), pair(PathReport::None)];
        let mesh =
            MeshView { id: MeshId { job: 1, generation: 1 }, is_open: true, netmap: None, pairs };
        View {
            id,
            node,
            seen: None,
            meshes: vec![mesh],
            stats: Default::default(),
            flows: Vec::new(),
            reflectors: Vec::new(),
        }
    }

    #[test]
    fn text_is_what_a_scraper_reads() {
        let text = text(true, false, &view());
        for line in [
            "# TYPE clouds_agent_pairs gauge",
            "clouds_agent_pairs{path=\"direct\"} 0",
            "clouds_agent_pairs{path=\"relayed\"} 1",
            "clouds_agent_relay_rtt_seconds{relay=\"198.51.100.1:6444\"} 0.02",
            "# TYPE clouds_agent_promotions_total counter",
            "clouds_agent_promotions_total 3",
            "clouds_agent_connected 1",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in:\n{text}");
        }
        let mut families = BTreeSet::new();
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                assert!(families.insert(rest.split(' ').next().unwrap()), "twice: {line}");
            } else if !line.starts_with('#') {
                let (name, value) = line.rsplit_once(' ').unwrap();
                let family = name.split('{').next().unwrap();
                assert!(families.contains(family) && value.parse::<f64>().is_ok(), "{line}");
            }
        }
    }

    #[test]
    fn only_this_machine_may_be_listened_on() {
        for (at, expected) in [
            ("127.0.0.1:0", true),
            ("[::1]:9464", true),
            ("0.0.0.0:9464", false),
            ("[::]:1", false),
        ] {
            assert_eq!(is_local(at.parse().unwrap()), expected, "{at}");
        }
    }
}
