//! What things are called in a drawing.

use std::time::Duration;

use netsim_scenario::file::JobState;
use netsim_scenario::resolved::{What, When};
use netsim_scenario::text::{Share, Size, Speed};
use netsim_sim::topology::{LinkSpec, RouterSpec, WaySpec};
use netsim_sim::{
    Event, Filtering, Firewall, LinkProfile, Mapping, NatProfile, OneWay, PortAllocation,
};

/// A router's class by RFC 4787, abbreviated, and what else it does.
pub(super) fn router(spec: &RouterSpec) -> String {
    let mut words = match spec.nat.profile() {
        None => "no NAT".to_owned(),
        Some(nat) => class(&nat),
    };
    let firewall = match spec.firewall {
        Firewall::None => "",
        Firewall::UdpBlocked => ", udp-blocked",
        Firewall::Tcp80443Only => ", web-only",
        Firewall::ProxyOnly => ", proxy-only",
    };
    words += firewall;
    words += match (spec.ipv6, spec.ipv6_only) {
        (_, true) => ", IPv6 only",
        (true, false) => ", IPv6",
        (false, false) => "",
    };
    words
}

fn class(nat: &NatProfile) -> String {
    let mapping = match nat.mapping {
        Mapping::EndpointIndependent => "EIM",
        Mapping::AddressDependent => "ADM",
        Mapping::AddressAndPortDependent => "APDM",
    };
    let filtering = match nat.filtering {
        Filtering::EndpointIndependent => "EIF",
        Filtering::AddressDependent => "ADF",
        Filtering::AddressAndPortDependent => "APDF",
    };
    let port = match nat.port {
        PortAllocation::Preserving | PortAllocation::PreservingOrRandom => "",
        PortAllocation::Sequential => " sequential",
        PortAllocation::Random => " random",
    };
    format!("{mapping} {filtering}{port}")
}

/// A link by its name, or by what it does; nothing if it does nothing.
pub(super) fn link(spec: &LinkSpec) -> String {
    match spec {
        LinkSpec::Preset(preset) => preset.name().to_owned(),
        LinkSpec::Profile(profile) => full(profile),
    }
}

fn full(LinkProfile { up, down }: &LinkProfile) -> String {
    if up == down {
        return direction(up).join(", ");
    }
    let mut words = Vec::new();
    match (up.rate, down.rate) {
        (Some(up), Some(down)) if up != down => {
            words.push(format!("{} / {}", Speed(down.bits_per_s), Speed(up.bits_per_s)));
        }
        (Some(rate), _) | (None, Some(rate)) => words.push(Speed(rate.bits_per_s).to_string()),
        (None, None) => {}
    }
    let rest = OneWay { rate: None, ..*down };
    words.extend(direction(&rest));
    words.join(", ")
}

fn direction(way: &OneWay) -> Vec<String> {
    let mut words = Vec::new();
    if let Some(rate) = way.rate {
        words.push(Speed(rate.bits_per_s).to_string());
    }
    if !way.delay.is_zero() {
        words.push(format!("{} ms", way.delay.as_secs_f64() * 1e3));
    }
    let loss = way.loss.mean();
    if loss > 0.0 {
        words.push(format!("{} loss", Share(loss)));
    }
    if let Some(mtu) = way.mtu
        && way.rate.is_none()
    {
        words.push(format!("MTU {}", Size(u64::from(mtu.bytes))));
    }
    words
}

/// What lies between two regions.
pub(super) fn way(spec: &WaySpec) -> String {
    let [a, b] = &spec.between;
    format!("{a} – {b}: {}", direction(&spec.way).join(", "))
}

/// When something happens.
pub(super) fn when(when: &When) -> String {
    match when {
        When::At(at) => time(*at),
        When::Job { group, state, after } => {
            let state = match state {
                JobState::Submitted => "is submitted",
                JobState::Launching => "is launching",
                JobState::Running => "is running",
                JobState::Ended => "has ended",
            };
            let after =
                if after.is_zero() { String::new() } else { format!("{} after ", time(*after)) };
            let when = if after.is_empty() { "when " } else { "" };
            format!("{when}{after}{group} {state}")
        }
    }
}

fn time(time: Duration) -> String {
    humantime::format_duration(time).to_string()
}

/// What happens.
pub(super) fn what(what: &What) -> String {
    match what {
        What::Network(event) => event_words(event),
        What::CoordinatorStop(name) => format!("coordinator-stop {name}"),
        What::CoordinatorKill(name) => format!("coordinator-kill {name}"),
        What::CoordinatorStart(name) => format!("coordinator-start {name}"),
        What::RelayStop(name) => format!("relay-stop {name}"),
        What::RelayKill(name) => format!("relay-kill {name}"),
        What::RelayStart(name) => format!("relay-start {name}"),
    }
}

fn event_words(event: &Event) -> String {
    let (verb, name) = match event {
        Event::Roam { host, behind } => {
            let to = behind.as_deref().unwrap_or("the public network");
            return format!("{host} roams to {to}");
        }
        Event::NatReboot(name) => ("nat-reboot", name),
        Event::LinkDown(name) => ("link-down", name),
        Event::LinkUp(name) => ("link-up", name),
        Event::UplinkDown(name) => ("uplink-down", name),
        Event::UplinkUp(name) => ("uplink-up", name),
        Event::Suspend(name) => ("suspend", name),
        Event::Resume(name) => ("resume", name),
        Event::Kill(name) => ("kill", name),
        Event::Start(name) => ("start", name),
    };
    format!("{verb} {name}")
}

/// The machine or router that something happens to.
pub(super) fn node(what: &What) -> Option<&str> {
    match what {
        What::Network(Event::Roam { host: name, .. })
        | What::Network(
            Event::NatReboot(name)
            | Event::LinkDown(name)
            | Event::LinkUp(name)
            | Event::UplinkDown(name)
            | Event::UplinkUp(name)
            | Event::Suspend(name)
            | Event::Resume(name)
            | Event::Kill(name)
            | Event::Start(name),
        )
        | What::RelayStop(name)
        | What::RelayKill(name)
        | What::RelayStart(name)
        | What::CoordinatorStop(name)
        | What::CoordinatorKill(name)
        | What::CoordinatorStart(name) => Some(name),
    }
}
