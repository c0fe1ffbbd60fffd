//! Links and ways in the simulator's vocabulary.

use netsim_sim::topology::LinkSpec;
use netsim_sim::{GilbertElliott, LinkProfile, Loss, Mtu, OneWay, Rate, TooBig};

use crate::file::{Direction, Link, Way};
use crate::text::{Share, Size, Speed};

/// The least queue that goes with a rate: ten full packets. Chosen.
const LEAST_QUEUE: u64 = 16 * 1024;

/// The link, or what is wrong with it.
pub(super) fn link(written: Option<&Link>) -> Result<LinkSpec, String> {
    let full = match written {
        None => return Ok(LinkSpec::default()),
        Some(Link::Preset(preset)) => return Ok(LinkSpec::Preset(*preset)),
        Some(Link::Full(full)) => full,
    };
    let base = full.like.map_or(LinkProfile::PERFECT, |preset| preset.profile());
    let both = full.both();
    let direction = |base: OneWay, own: Option<&Direction>| {
        let common = apply(base, &both)?;
        own.map_or(Ok(common), |own| apply(common, own))
    };
    let profile = LinkProfile {
        up: direction(base.up, full.up.as_ref())?,
        down: direction(base.down, full.down.as_ref())?,
    };
    profile.check().map_err(|error| error.to_string())?;
    Ok(LinkSpec::Profile(Box::new(profile)))
}

/// The way between two regions, or what is wrong with it.
pub(super) fn way(written: &Way) -> Result<OneWay, String> {
    let direction = Direction {
        delay: Some(written.delay),
        jitter: Some(written.jitter),
        loss: Some(written.loss),
        burst: written.burst,
        rate: written.rate,
        queue: written.queue,
        ..Direction::default()
    };
    apply(OneWay::PERFECT, &direction)
}

fn apply(base: OneWay, given: &Direction) -> Result<OneWay, String> {
    let mut way = base;
    if let Some(delay) = given.delay {
        way.delay = delay.0;
    }
    if let Some(jitter) = given.jitter {
        way.jitter = jitter.0;
    }
    if let Some(reorders) = given.reorders {
        way.jitter_reorders = reorders;
    }
    if let Some(share) = given.loss {
        way.loss = loss(share, given.burst)?;
    } else if given.burst.is_some() {
        return Err("`burst` needs `loss`".to_owned());
    }
    if let Some(rate) = given.rate {
        way.rate = Some(Rate { bits_per_s: rate.0, queue_bytes: queue(rate, given.queue)? });
    } else if let Some(size) = given.queue {
        let rate = way.rate.as_mut().ok_or("`queue` needs `rate`")?;
        rate.queue_bytes = bytes(size)?;
    }
    if let Some(bytes) = given.mtu {
        way.mtu = Some(Mtu { bytes, too_big: TooBig::Notice });
    }
    if let Some(Share(share)) = given.duplicate {
        way.duplicate = share;
    }
    way.check().map_err(|error| error.to_string())?;
    Ok(way)
}

/// Bursts are Gilbert's: everything is lost in one, nothing between them.
fn loss(Share(share): Share, burst: Option<f64>) -> Result<Loss, String> {
    let Some(length) = burst else {
        return Ok(if share > 0.0 { Loss::Independent(share) } else { Loss::None });
    };
    if !(1.0..=1e6).contains(&length) {
        return Err(format!("`burst` is {length}: give the mean number of packets, at least 1"));
    }
    let leave = 1.0 / length;
    let enter = leave * share / (1.0 - share);
    if !(0.0..=1.0).contains(&enter) {
        return Err("there is no room for that much loss in such short bursts".to_owned());
    }
    Ok(Loss::Bursty(GilbertElliott { enter, leave, loss_good: 0.0, loss_bad: 1.0 }))
}

fn queue(Speed(rate): Speed, given: Option<Size>) -> Result<u32, String> {
    bytes(given.unwrap_or(Size((rate / 80).max(LEAST_QUEUE))))
}

fn bytes(Size(size): Size) -> Result<u32, String> {
    u32::try_from(size).map_err(|_| format!("a queue of {}: give less than 4GiB", Size(size)))
}
