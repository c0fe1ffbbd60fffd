//! Who saw this node where, and what that says about the mapping.

use std::net::SocketAddr;

use crate::netmap::{ObservedMapping, ObservedPorts};

/// The most observers that are remembered; the oldest goes first. Chosen: the coordinator, and the
/// reflectors and relays of two large jobs.
const MAX_SEEN: usize = 16;

/// Neighbouring ports are a pattern, if they are no further apart. At random two are that near once in
/// 2,000 times.
const NEAR: i32 = 16;

/// Who saw it. The coordinator's own address does not matter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Observer {
    Coordinator,
    At(SocketAddr),
}

/// What an observation changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum News {
    Nothing,
    More,
    Moved,
}

/// See the module. In the order in which they were learned.
#[derive(Debug, Default)]
pub(super) struct Seen {
    hosts: Vec<SocketAddr>,
    all: Vec<(Observer, SocketAddr)>,
    /// What was known before all but one observer were forgotten.
    before: ObservedMapping,
}

impl Seen {
    pub(super) fn on_hosts(&mut self, hosts: &[SocketAddr]) {
        self.hosts = hosts.to_vec();
    }

    /// Whether the machine has an address of that family.
    pub(super) fn has_host_like(&self, at: SocketAddr) -> bool {
        self.hosts.iter().any(|host| host.is_ipv4() == at.is_ipv4())
    }

    /// Nothing that was seen counts any more.
    pub(super) fn forget(&mut self) {
        self.all.clear();
        self.before = ObservedMapping::Unknown;
    }

    /// The coordinator's word ends what others said before of that family. Whether it is a new one.
    pub(super) fn on_coordinator(&mut self, observed: SocketAddr) -> bool {
        if self.all.contains(&(Observer::Coordinator, observed)) {
            return false;
        }
        self.before = ObservedMapping::Unknown;
        self.all.retain(|(_, known)| known.is_ipv4() != observed.is_ipv4());
        self.push(Observer::Coordinator, observed);
        true
    }

    pub(super) fn on_observed(&mut self, by: Observer, observed: SocketAddr) -> News {
        let known = self
            .all
            .iter()
            .find(|(observer, known)| *observer == by && known.is_ipv4() == observed.is_ipv4())
            .map(|(_, known)| *known);
        if known == Some(observed) {
            return News::Nothing;
        }
        let depends = self.mapping() == ObservedMapping::EndpointDependent;
        let moved = known.is_some();
        if moved && depends {
            // That one mapping was made anew; the others may live.
            self.all.retain(|(observer, _)| *observer != by);
        } else if moved {
            self.before = self.mapping();
            self.all.retain(|(_, known)| known.is_ipv4() != observed.is_ipv4());
        }
        self.push(by, observed);
        if moved { News::Moved } else { News::More }
    }

    /// One endpoint for each family: where the coordinator saw it, or else who was first to. Where the
    /// endpoint depends on the destination, the newest: the next ones follow it.
    pub(super) fn reflexive(&self) -> Vec<SocketAddr> {
        let depends = self.mapping() == ObservedMapping::EndpointDependent;
        let of = |ipv4: bool| {
            let mut seen = self.all.iter().map(|(_, seen)| *seen).filter(|s| s.is_ipv4() == ipv4);
            if depends { seen.next_back() } else { seen.next() }
        };
        of(true).into_iter().chain(of(false)).collect()
    }

    /// Of IPv4, or of IPv6 where nobody saw an IPv4 address.
    pub(super) fn mapping(&self) -> ObservedMapping {
        let seen = self.family();
        match seen[..] {
            [] => ObservedMapping::Unknown,
            [first, ..] if self.hosts.contains(&first) => ObservedMapping::None,
            [_] => self.before,
            [first, ref others @ ..] if others.iter().all(|other| *other == first) => {
                ObservedMapping::EndpointIndependent
            }
            [..] => ObservedMapping::EndpointDependent,
        }
    }

    /// How ports are chosen, given the socket's own.
    pub(super) fn ports(&self, own: Option<u16>) -> ObservedPorts {
        let ports: Vec<u16> = self.family().iter().map(SocketAddr::port).collect();
        if self.mapping() == ObservedMapping::None || ports.is_empty() {
            return ObservedPorts::Unknown;
        }
        if ports.iter().all(|port| Some(*port) == own) {
            return ObservedPorts::Preserved;
        }
        if self.mapping() != ObservedMapping::EndpointDependent {
            return ObservedPorts::Unknown;
        }
        let steps: Vec<i32> =
            ports.windows(2).map(|pair| i32::from(pair[1]) - i32::from(pair[0])).collect();
        let rises = steps.iter().all(|step| (1..=NEAR).contains(step));
        let falls = steps.iter().all(|step| (-NEAR..=-1).contains(step));
        let smallest = steps.iter().copied().min_by_key(|step| step.abs());
        match smallest.and_then(|step| i8::try_from(step).ok()) {
            Some(step) if rises || falls => ObservedPorts::Sequential(step),
            Some(_) | None => ObservedPorts::Random,
        }
    }

    /// The observations that the mapping is about.
    fn family(&self) -> Vec<SocketAddr> {
        let all = || self.all.iter().map(|(_, seen)| *seen);
        let ipv4: Vec<_> = all().filter(SocketAddr::is_ipv4).collect();
        if ipv4.is_empty() { all().collect() } else { ipv4 }
    }

    fn push(&mut self, by: Observer, observed: SocketAddr) {
        if self.all.len() >= MAX_SEEN {
            self.all.remove(0);
        }
        self.all.push((by, observed));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn relay(number: u8) -> Observer {
        Observer::At(SocketAddr::from(([198, 51, 100, number], 6444)))
    }

    fn seen_at(ports: &[u16]) -> Seen {
        let mut seen = Seen::default();
        seen.on_hosts(&[at("192.168.1.2:4000")]);
        for (number, port) in ports.iter().enumerate() {
            let by = if number == 0 { Observer::Coordinator } else { relay(number as u8) };
            seen.on_observed(by, SocketAddr::from(([203, 0, 113, 1], *port)));
        }
        seen
    }

    #[test]
    fn mapping_and_ports_are_what_the_observers_make_of_them() {
        use ObservedMapping::{EndpointDependent, EndpointIndependent, Unknown};
        let table = [
            (&[4000][..], Unknown, ObservedPorts::Preserved),
            (&[5000], Unknown, ObservedPorts::Unknown),
            (&[4000, 4000], EndpointIndependent, ObservedPorts::Preserved),
            (&[5000, 5000, 5000], EndpointIndependent, ObservedPorts::Unknown),
            (&[5000, 5001, 5003], EndpointDependent, ObservedPorts::Sequential(1)),
            (&[5000, 4998], EndpointDependent, ObservedPorts::Sequential(-2)),
            (&[5000, 5001, 60000], EndpointDependent, ObservedPorts::Random),
            (&[5000, 5001, 5000], EndpointDependent, ObservedPorts::Random),
        ];
        for (seen, mapping, chosen) in table {
            let seen_by_all = seen_at(seen);
            assert_eq!(seen_by_all.mapping(), mapping, "{seen:?}");
            assert_eq!(seen_by_all.ports(Some(4000)), chosen, "{seen:?}");
        }
        let mut public = Seen::default();
        public.on_hosts(&[at("203.0.113.1:4000")]);
        public.on_coordinator(at("203.0.113.1:4000"));
        assert_eq!(public.mapping(), ObservedMapping::None);
    }

    #[test]
    fn one_observer_that_sees_another_address_ends_what_the_others_saw() {
        let mut seen = seen_at(&[4000, 4000, 4000]);
        assert_eq!(seen.on_observed(relay(1), at("203.0.113.9:4000")), News::Moved);
        assert_eq!(seen.reflexive(), [at("203.0.113.9:4000")]);
        assert_eq!(seen.mapping(), ObservedMapping::EndpointIndependent);
        assert_eq!(seen.on_observed(relay(1), at("203.0.113.9:4000")), News::Nothing);
        assert!(seen.on_coordinator(at("203.0.113.10:4000")));
        assert_eq!(seen.mapping(), ObservedMapping::Unknown);
    }

    #[test]
    fn families_are_kept_apart_and_memory_is_bounded() {
        let mut seen = seen_at(&[4000, 4000]);
        seen.on_observed(relay(9), at("[2001:db8::1]:4000"));
        assert_eq!(seen.reflexive(), [at("203.0.113.1:4000"), at("[2001:db8::1]:4000")]);
        assert_eq!(seen.mapping(), ObservedMapping::EndpointIndependent);
        for number in 0..=255 {
            seen.on_observed(relay(number), at("203.0.113.1:4000"));
        }
        assert!(seen.all.len() <= MAX_SEEN);
    }
}
