//! The machines: coordinators, scientists, volunteers.

use std::collections::BTreeMap;

use netsim_sim::topology::{HostSpec, RouterSpec};

use super::churn::Comings;
use super::network::{Network, link_at, own_router, with_firewall, with_ip};
use super::{Clusters, MOST_VOLUNTEERS, mix};
use crate::fault::{Fault, at};
use crate::file::{self, Nat, Scenario, Volunteers};
use crate::folder::Folder;
use crate::preset::Preset;
use crate::resolved::{Coordinator, Relay, Scientist, Volunteer};

/// The most coordinators. Chosen: each is a server with a store of its own.
const MOST_COORDINATORS: usize = 16;

/// The most scientists. Chosen.
const MOST_SCIENTISTS: usize = 16;

/// The most relays that run alone: as many as a coordinator takes beside its own.
const MOST_RELAYS: usize = 15;

/// What one volunteer is behind.
enum Behind {
    /// Routers of its own, its own first.
    Own(String, Option<Preset>, Vec<RouterSpec>),
    /// The named router.
    Named(String),
}

impl Network {
    /// Each stands in the public network, by its name.
    pub(super) fn add_coordinators(
        &mut self,
        scenario: &Scenario,
    ) -> Result<Vec<Coordinator>, Fault> {
        if scenario.coordinators.len() >= MOST_COORDINATORS {
            let message = format!("there can be {MOST_COORDINATORS} coordinators at most");
            return Err(Fault::new(at!["coordinators"], message));
        }
        let mut coordinators = Vec::new();
        self.add_coordinator(&scenario.coordinator, &mut coordinators)
            .map_err(|fault| fault.below(at!["coordinator"]))?;
        for (i, written) in scenario.coordinators.iter().enumerate() {
            self.add_coordinator(written, &mut coordinators)
                .map_err(|fault| fault.below(at!["coordinators", i]))?;
        }
        Ok(coordinators)
    }

    fn add_coordinator(
        &mut self,
        written: &file::Coordinator,
        coordinators: &mut Vec<Coordinator>,
    ) -> Result<(), Fault> {
        let name = &written.name;
        self.check_coordinator(name).map_err(|message| Fault::new(at!["name"], message))?;
        if coordinators.iter().any(|other| other.name == *name) {
            let message = format!("there are two coordinators `{name}`: give each a `name`");
            return Err(Fault::new(at!["name"], message));
        }
        let link = link_at("link", written.link.as_ref())?;
        let region = self.region(written.region.as_ref(), None)?;
        // Everybody reaches it, also those who have IPv6 only.
        let dual = |router| RouterSpec { ipv6: true, ..router };
        let routers = Preset::None.kinds().into_iter().map(dual).collect();
        self.add_behind_own(name, routers, None, region, &link);
        coordinators.push(written.into());
        Ok(())
    }

    /// Each stands in the public network, as `relay-1`, `relay-2`, ...
    pub(super) fn add_relays(
        &mut self,
        written: &[file::Relay],
        clusters: Clusters<'_>,
    ) -> Result<Vec<Relay>, Fault> {
        let mut relays: Vec<Relay> = Vec::new();
        for (i, group) in written.iter().enumerate() {
            let below = |fault: Fault| fault.below(at!["relays", i]);
            let coordinator = clusters.named(group.coordinator.as_ref()).map_err(below)?;
            let link = link_at("link", group.link.as_ref()).map_err(below)?;
            let region = self.region(group.region.as_ref(), None).map_err(below)?;
            for _ in 0..group.count.number() {
                let host = format!("relay-{}", relays.len() + 1);
                self.add_behind_own(&host, Preset::None.kinds(), None, region.clone(), &link);
                relays.push(Relay { host, coordinator: coordinator.clone() });
            }
            let count = relays.iter().filter(|relay| relay.coordinator == coordinator).count();
            if count > MOST_RELAYS {
                let message = format!(
                    "{count} relays: at most {MOST_RELAYS} are possible for one coordinator"
                );
                return Err(below(Fault::new([], message)));
            }
        }
        Ok(relays)
    }

    /// Those that are written, and one more for each coordinator that knows none of them.
    pub(super) fn add_scientists(
        &mut self,
        scenario: &Scenario,
        clusters: Clusters<'_>,
    ) -> Result<Vec<Scientist>, Fault> {
        let many = &scenario.scientists;
        let written = match (&scenario.scientist, many.as_slice()) {
            (Some(_), [_, ..]) => {
                let message = "write [scientist] or [[scientists]], not both";
                return Err(Fault::new(at!["scientists"], message));
            }
            (Some(one), []) => std::slice::from_ref(one),
            (None, many) => many,
        };
        if written.len() > MOST_SCIENTISTS {
            let message = format!("there can be {MOST_SCIENTISTS} scientists at most");
            return Err(Fault::new(at!["scientists"], message));
        }
        let mut scientists = Vec::new();
        for (i, one) in written.iter().enumerate() {
            let added = self.add_scientist(one, clusters, &mut scientists);
            added.map_err(|fault| match many.is_empty() {
                true => fault.below(at!["scientist"]),
                false => fault.below(at!["scientists", i]),
            })?;
        }
        for Coordinator { name, .. } in clusters.0 {
            if !scientists.iter().any(|one| one.coordinator == *name) {
                let one = file::Scientist { coordinator: Some(name.clone()), ..Default::default() };
                self.add_scientist(&one, clusters, &mut scientists)?;
            }
        }
        Ok(scientists)
    }

    fn add_scientist(
        &mut self,
        one: &file::Scientist,
        clusters: Clusters<'_>,
        scientists: &mut Vec<Scientist>,
    ) -> Result<(), Fault> {
        let coordinator = clusters.named(one.coordinator.as_ref())?;
        let is_known = |it: &Scientist| it.user == one.name && it.coordinator == coordinator;
        if scientists.iter().any(is_known) {
            let message = format!("there are two scientists `{}`", one.name);
            return Err(Fault::new(at!["name"], message));
        }
        if !is_login(&one.name) {
            let message = format!(
                "`{}` is no user's name: 1 to 32 letters, digits, dots, dashes and underscores, and \
                 not `oar`",
                one.name.escape_default()
            );
            return Err(Fault::new(at!["name"], message));
        }
        if one.behind == Preset::ProxyOnly {
            let message =
                "the laboratory asks the API from there without a proxy: choose another network";
            return Err(Fault::new(at!["behind"], message));
        }
        let host = match scientists.len() {
            0 => "scientist".to_owned(),
            others => format!("scientist-{}", others + 1),
        };
        let link = link_at("link", one.link.as_ref())?;
        let region = self.region(one.region.as_ref(), None)?;
        self.add_behind_own(&host, one.behind.kinds(), None, region, &link);
        let (user, behind) = (one.name.clone(), one.behind);
        scientists.push(Scientist { user, coordinator, host, behind });
        Ok(())
    }

    pub(super) fn add_volunteers(
        &mut self,
        scenario: &Scenario,
        seed: u64,
        folder: &Folder,
        clusters: Clusters<'_>,
    ) -> Result<Vec<Volunteer>, Fault> {
        if scenario.volunteers.is_empty() {
            let message = "there are no volunteers: add a [[volunteers]] group";
            return Err(Fault::new([], message));
        }
        let sum: u64 = scenario.volunteers.iter().map(|g| u64::from(g.count.number())).sum();
        if sum > MOST_VOLUNTEERS as u64 {
            let message = format!("{sum} volunteers: at most {MOST_VOLUNTEERS} are possible");
            return Err(Fault::new(at!["volunteers"], message));
        }
        let mut volunteers = Vec::new();
        let mut enrolled = BTreeMap::new();
        for (i, group) in scenario.volunteers.iter().enumerate() {
            let below = |fault: Fault| fault.below(at!["volunteers", i]);
            let first = volunteers.len();
            self.add_group(i, group, seed, folder, &mut volunteers).map_err(below)?;
            let coordinator = clusters.named(group.coordinator.as_ref()).map_err(below)?;
            let number: &mut usize = enrolled.entry(coordinator.clone()).or_default();
            for volunteer in &mut volunteers[first..] {
                *number += 1;
                volunteer.coordinator.clone_from(&coordinator);
                volunteer.node = format!("vol-{number}");
            }
        }
        Ok(volunteers)
    }

    fn add_group(
        &mut self,
        index: usize,
        group: &Volunteers,
        seed: u64,
        folder: &Folder,
        volunteers: &mut Vec<Volunteer>,
    ) -> Result<(), Fault> {
        let behind = self.behind(index, group, seed)?;
        let link = link_at("link", group.link.as_ref())?;
        let outside = group.via.as_ref().or(group.router.as_ref());
        let region = self.region(group.region.as_ref(), outside)?;
        let comings = group.churn.as_ref().map(|churn| Comings::new(churn, folder));
        let comings = comings.transpose().map_err(|fault| fault.below(at!["churn"]))?;
        for (i, behind) in behind.into_iter().enumerate() {
            let host = format!("vol-{}", volunteers.len() + 1);
            let cores = group.cores.number();
            let mut volunteer = Volunteer {
                host,
                coordinator: String::new(),
                node: String::new(),
                cores,
                behind: String::new(),
                preset: None,
                group: index,
            };
            let added = match behind {
                Behind::Own(label, preset, routers) => {
                    (volunteer.behind, volunteer.preset) = (label, preset);
                    let via = group.via.as_deref();
                    self.add_behind_own(&volunteer.host, routers, via, region.clone(), &link)
                }
                Behind::Named(router) => {
                    volunteer.behind = router.clone();
                    let (name, behind, link) = (volunteer.host.clone(), Some(router), link.clone());
                    self.add_host(HostSpec { name, behind, link, ..HostSpec::default() })
                }
            };
            if let Some(comings) = &comings {
                let churn = comings.of_machine(i);
                added.churn = Some(churn.map_err(|fault| fault.below(at!["churn"]))?);
            }
            volunteers.push(volunteer);
        }
        Ok(())
    }

    /// What each of a group is behind.
    fn behind(&self, index: usize, group: &Volunteers, seed: u64) -> Result<Vec<Behind>, Fault> {
        let given: Vec<&str> = [
            group.behind.map(|_| "behind"),
            group.mix.as_ref().map(|_| "mix"),
            group.nat.map(|_| "nat"),
            group.router.as_ref().map(|_| "router"),
        ]
        .into_iter()
        .flatten()
        .collect();
        let count = group.count.number();
        let several =
            |make: &dyn Fn() -> Result<Behind, Fault>| (0..count).map(|_| make()).collect();
        if let (Some(router), [_]) = (&group.router, given.as_slice()) {
            self.check_named(router).map_err(|message| Fault::new(at!["router"], message))?;
            let own = [
                ("firewall", group.firewall.is_some()),
                ("ipv6", group.ipv6.is_some()),
                ("via", group.via.is_some()),
            ];
            if let Some((key, _)) = own.into_iter().find(|(_, is_given)| *is_given) {
                let message = format!(
                    "`{key}` is for routers of their own; these are behind `{router}`: say it there"
                );
                return Err(Fault::new(at![key], message));
            }
            return several(&|| Ok(Behind::Named(router.clone())));
        }
        if let Some(via) = &group.via {
            self.check_named(via).map_err(|message| Fault::new(at!["via"], message))?;
        }
        match (group.behind, &group.mix, &group.nat, given.as_slice()) {
            (Some(preset), _, _, [_]) => several(&|| Ok(own(group, preset))),
            (_, Some(mix), _, [_]) if mix.is_empty() => {
                Err(Fault::new(at!["mix"], "a mix of nothing: write { home = 6, symmetric = 1 }"))
            }
            (_, Some(mix), _, [_]) => {
                let presets = mix::share_out(mix, count, seed, index);
                Ok(presets.into_iter().map(|preset| own(group, preset)).collect())
            }
            (_, _, Some(nat), [_]) => several(&|| {
                let (firewall, ip) = (group.firewall.unwrap_or_default(), group.ipv6);
                let router = own_router(nat, firewall, ip.unwrap_or_default())?;
                let label = match nat {
                    Nat::Preset(preset) => serde_json::to_string(preset).unwrap_or_default(),
                    Nat::Axes(_) => "axes".to_owned(),
                };
                let label = label.trim_matches('"').to_owned();
                Ok(Behind::Own(label, None, vec![router]))
            }),
            (_, _, _, []) => {
                let message = "what are they behind? Write behind = \"home\", or `mix`, `nat` or \
                               `router`";
                Err(Fault::new([], message))
            }
            (_, _, _, [.., last]) => {
                let message = format!("{}: one of them only", given.join(" and "));
                let key = if *last == "router" { "router" } else { "behind" };
                Err(Fault::new(at![key], message))
            }
        }
    }
}

/// As the coordinator has it.
fn is_login(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    (1..=32).contains(&name.len()) && name.chars().all(allowed) && name != "oar"
}

/// A preset, with what the group says of firewalls and IPv6.
fn own(group: &Volunteers, preset: Preset) -> Behind {
    let adapt = |router| with_ip(with_firewall(router, group.firewall), group.ipv6);
    let is_plain = group.firewall.is_none() && group.ipv6.is_none();
    let routers: Vec<RouterSpec> = preset.kinds().into_iter().map(adapt).collect();
    Behind::Own(preset.name().to_owned(), is_plain.then_some(preset), routers)
}
