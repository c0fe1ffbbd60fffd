//! Links by the kernel's own emulator, `tc netem`, where there is one.
//!
//! Not every profile can be said in its words; what cannot is told, and such a link is made in user
//! space. Differences that remain: packets are lost before the queue and not after it, and
//! neighbours' talk is delayed and lost as well.

use std::io;
use std::os::fd::BorrowedFd;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use netsim_sim::{Loss, OneWay};
use nix::sched::{CloneFlags, unshare};

use crate::within::within;

/// What an Ethernet interface carries anyway.
const ETHERNET_MTU: u32 = 1500;
/// Packets that may be on their way. Chosen: a second of 1 Gbit/s; the default, 1000, is 12 ms of it.
const LIMIT: &str = "100000";

/// What `tc netem` has no words for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("tc netem has no words for {0}")]
pub struct Unsaid(pub &'static str);

/// Whether this kernel has netem and this machine `tc`: tried once, in a namespace that is thrown away.
pub fn is_here() -> bool {
    static IS_HERE: OnceLock<bool> = OnceLock::new();
    *IS_HERE.get_or_init(|| {
        let tried = std::thread::Builder::new().name("netem".to_owned()).spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET)?;
            tc(&words("qdisc add dev lo root netem delay 1ms"))
        });
        tried.is_ok_and(|thread| thread.join().is_ok_and(|result: io::Result<()>| result.is_ok()))
    })
}

/// The commands that make an interface send as a profile says; their words, after `tc`. None are needed
/// for a perfect one.
pub fn commands(interface: &str, way: &OneWay) -> Result<Vec<Vec<String>>, Unsaid> {
    if way.mtu.is_some_and(|mtu| mtu.bytes < ETHERNET_MTU) {
        return Err(Unsaid("an mtu"));
    }
    if way.reorder.is_some() {
        // Its own reordering lets some packets overtake; ours holds some back.
        return Err(Unsaid("packets that are held back"));
    }
    if way.rate.is_some() && !way.jitter.is_zero() && way.jitter_reorders {
        return Err(Unsaid("jitter that reorders before a queue"));
    }
    let way = OneWay { mtu: None, ..*way };
    if way == OneWay::PERFECT {
        return Ok(Vec::new());
    }
    let mut netem = words(&format!("qdisc add dev {interface} root handle 1: netem limit {LIMIT}"));
    if !way.delay.is_zero() || !way.jitter.is_zero() {
        // Theirs is to both sides of the middle.
        let middle = way.delay + way.jitter / 2;
        netem.extend(words(&format!(
            "delay {}us {}us",
            middle.as_micros(),
            (way.jitter / 2).as_micros()
        )));
    }
    match way.loss {
        Loss::None => {}
        Loss::Independent(share) => netem.extend(["loss".to_owned(), percent(share)]),
        Loss::Bursty(chain) => {
            netem.extend(words("loss gemodel"));
            let shares = [chain.enter, chain.leave, chain.loss_bad, chain.loss_good];
            netem.extend(shares.map(percent));
        }
    }
    if way.duplicate > 0.0 {
        netem.extend(["duplicate".to_owned(), percent(way.duplicate)]);
    }
    let mut commands = vec![netem];
    if let Some(rate) = way.rate {
        let (rate, queue) = (rate.bits_per_s, rate.queue_bytes.max(ETHERNET_MTU + 14));
        commands.push(words(&format!(
            "qdisc add dev {interface} parent 1:1 handle 10: tbf rate {rate}bit burst 1540 limit {queue}"
        )));
    } else if !way.jitter.is_zero() && !way.jitter_reorders {
        // A queue that keeps order, in place of the one by time.
        commands.push(words(&format!(
            "qdisc add dev {interface} parent 1:1 handle 10: pfifo limit {LIMIT}"
        )));
    }
    Ok(commands)
}

/// Makes an interface of a network namespace send as the commands say.
pub fn apply(netns: BorrowedFd<'_>, commands: &[Vec<String>]) -> io::Result<()> {
    if commands.is_empty() {
        return Ok(());
    }
    within(netns, || commands.iter().try_for_each(|command| tc(command)))
}

fn tc(words: &[String]) -> io::Result<()> {
    let output = Command::new("tc").args(words).stdin(Stdio::null()).output()?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(io::Error::other(format!("tc {}: {said}", words.join(" "))))
}

fn words(text: &str) -> Vec<String> {
    text.split(' ').map(str::to_owned).collect()
}

fn percent(share: f64) -> String {
    format!("{:.6}%", share * 100.0)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use netsim_sim::{GilbertElliott, Mtu, Rate, Reorder, TooBig};

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn text(way: OneWay) -> Result<Vec<String>, Unsaid> {
        commands("eth0", &way)
            .map(|commands| commands.iter().map(|words| words.join(" ")).collect())
    }

    #[test]
    fn profiles_are_said_in_its_words() {
        let chain = GilbertElliott { enter: 0.01, leave: 0.25, loss_good: 0.0, loss_bad: 0.5 };
        let way = OneWay {
            delay: 20 * MS,
            jitter: 4 * MS,
            loss: Loss::Bursty(chain),
            rate: Some(Rate { bits_per_s: 1_000_000, queue_bytes: 64_000 }),
            duplicate: 0.001,
            ..OneWay::PERFECT
        };
        let said = text(way).unwrap();
        assert_eq!(
            said,
            [
                "qdisc add dev eth0 root handle 1: netem limit 100000 delay 22000us 2000us loss gemodel \
                 1.000000% 25.000000% 50.000000% 0.000000% duplicate 0.100000%",
                "qdisc add dev eth0 parent 1:1 handle 10: tbf rate 1000000bit burst 1540 limit 64000",
            ]
        );
        let ordered = text(OneWay { jitter: 4 * MS, ..OneWay::PERFECT }).unwrap();
        assert!(ordered[1].ends_with("pfifo limit 100000"), "{ordered:?}");
        assert_eq!(text(OneWay::PERFECT), Ok(vec![]));
    }

    #[test]
    fn what_it_has_no_words_for_is_told() {
        let small = Some(Mtu { bytes: 1492, too_big: TooBig::Notice });
        let unsaid = [
            OneWay { mtu: small, ..OneWay::PERFECT },
            OneWay { reorder: Some(Reorder { share: 0.1, hold: MS }), ..OneWay::PERFECT },
        ];
        for way in unsaid {
            assert!(text(way).is_err(), "{way:?}");
        }
    }
}
