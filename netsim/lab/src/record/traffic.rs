//! Bytes at the machines' interfaces, read as often as the agents tell what their jobs have sent.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use netsim_report::{Recorder, Sample, What};

use crate::netns::Netns;

/// How often they are read.
const EVERY: Duration = Duration::from_millis(200);
/// Reading may take this share of the time at most.
const SHARE_OF_TIME: u32 = 10;
/// How often the thread looks whether it is to end.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Readings under way. Dropping this takes the last ones and ends them.
#[derive(Debug)]
pub struct Traffic {
    end: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Traffic {
    /// Begins to read, in the machines' namespaces, from one thread that goes from one to the next.
    ///
    /// # Errors
    /// When there can be no more threads.
    pub fn start(machines: Vec<(String, Netns)>, recorder: Recorder) -> std::io::Result<Self> {
        let end = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&end);
        let thread = thread::Builder::new().name("traffic".to_owned()).spawn(move || {
            let mut last = BTreeMap::new();
            while !stop.load(Ordering::Relaxed) {
                let began = Instant::now();
                read_all(&machines, &mut last, &recorder);
                let next = began + EVERY.max(began.elapsed() * SHARE_OF_TIME);
                while Instant::now() < next && !stop.load(Ordering::Relaxed) {
                    thread::sleep(LOOK_EVERY);
                }
            }
            read_all(&machines, &mut last, &recorder);
        })?;
        Ok(Self { end, thread: Some(thread) })
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A machine's counts, and when they were seen first and last, seconds.
#[derive(Clone, Copy)]
struct Seen {
    sent: u64,
    received: u64,
    first: f64,
    last: f64,
}

fn read_all(machines: &[(String, Netns)], last: &mut BTreeMap<String, Seen>, recorder: &Recorder) {
    for (node, netns) in machines {
        // A machine that has gone has nothing to say.
        if netns.enter().is_err() {
            continue;
        }
        let Ok(text) = fs::read_to_string("/proc/thread-self/net/dev") else { continue };
        let (sent, received) = total(&text);
        let now = recorder.now();
        let reading =
            |sent, received| What::Sample(Sample::NodeBytes { node: node.clone(), sent, received });
        let known = last.get(node).copied();
        if let Some(Seen { sent: s, received: r, first, last: seen }) = known {
            if (s, r) == (sent, received) {
                last.insert(node.clone(), Seen { sent, received, first, last: now });
                continue;
            }
            // Then what follows is known to have been sent since, and not long ago.
            if seen > first {
                recorder.record_at(seen, reading(s, r));
            }
        }
        last.insert(node.clone(), Seen { sent, received, first: now, last: now });
        recorder.record_at(now, reading(sent, received));
    }
}

/// Bytes sent and received at all interfaces but the loopback, of the kernel's table.
fn total(table: &str) -> (u64, u64) {
    let (mut sent, mut received) = (0, 0);
    for line in table.lines() {
        let Some((name, counts)) = line.split_once(':') else { continue };
        if name.trim() == "lo" {
            continue;
        }
        let counts: Vec<u64> =
            counts.split_whitespace().map(|count| count.parse().unwrap_or(0)).collect();
        received += counts.first().copied().unwrap_or(0);
        sent += counts.get(8).copied().unwrap_or(0);
    }
    (sent, received)
}

#[cfg(test)]
mod tests {
    use super::total;

    #[test]
    fn the_kernels_table_is_added_up_without_the_loopback() {
        let table = "Inter-|   Receive                |  Transmit\n face |bytes packets\n    \
                     lo: 99 1 0 0 0 0 0 0 99 1 0 0 0 0 0 0\n  \
                     eth0: 1000 10 0 0 0 0 0 0 2000 20 0 0 0 0 0 0\n  \
                     wg0:1 1 0 0 0 0 0 0 2 1 0 0 0 0 0 0\n";
        assert_eq!(total(table), (2002, 1001));
    }
}
