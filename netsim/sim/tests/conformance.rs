//! Every NAT of the simulator behaves as its profile says, as far as probes can see.

use std::time::Duration;

use netsim_sim::conformance::{Lifetime, Observed, Plan, SimulatedNat, observe};
use netsim_sim::{
    Filtering, Firewall, Mapping, NatProfile, PortAllocation, Preset, Refresh, RouterProfile,
    Stateful, WhenFull,
};

const SECOND: Duration = Duration::from_secs(1);

/// Longer than the longest preset's lifetime.
const PLAN: Plan = Plan { longest: Duration::from_secs(320), resolution: Duration::from_secs(2) };

fn router(nat: Option<NatProfile>) -> RouterProfile {
    RouterProfile { nat, ..RouterProfile::default() }
}

fn seen(chain: &[RouterProfile]) -> Option<Observed> {
    let Ok(observed) = observe(&mut SimulatedNat::new(chain, 7), PLAN);
    observed
}

#[test]
fn every_preset_is_seen_as_it_is() {
    for preset in Preset::ALL {
        let profile = preset.profile();
        let observed = seen(&[router(profile)]).unwrap();
        assert_eq!(observed.differences(profile.as_ref()), [], "{preset:?}: {observed:?}");
        let lifetime = observed.lifetime.unwrap();
        let measured = lifetime.dead.map(|dead| dead - lifetime.alive);
        assert_eq!(measured, profile.map(|_| PLAN.resolution), "{preset:?}");
    }
}

#[test]
fn every_point_of_the_axes_is_seen_as_it_is() {
    let mappings =
        [Mapping::EndpointIndependent, Mapping::AddressDependent, Mapping::AddressAndPortDependent];
    let filterings = [
        Filtering::EndpointIndependent,
        Filtering::AddressDependent,
        Filtering::AddressAndPortDependent,
    ];
    let ports = [
        PortAllocation::Preserving,
        PortAllocation::PreservingOrRandom,
        PortAllocation::Sequential,
        PortAllocation::Random,
    ];
    let plan = Plan { longest: SECOND * 40, resolution: SECOND };
    let mut points = 0;
    for mapping in mappings {
        for filtering in filterings {
            for port in ports {
                for refresh in [Refresh::Outbound, Refresh::Inbound, Refresh::Both] {
                    let lifetime = SECOND * 25;
                    let axes = NatProfile { mapping, filtering, port, ..NatProfile::HOME };
                    let profile = NatProfile { refresh, lifetime, ..axes };
                    let mut nat = SimulatedNat::new(&[router(Some(profile))], 3);
                    let Ok(observed) = observe(&mut nat, plan);
                    let differences = observed.unwrap().differences(Some(&profile));
                    assert_eq!(differences, [], "{profile:?}");
                    points += 1;
                }
            }
        }
    }
    assert_eq!(points, 108);
}

#[test]
fn hairpin_is_seen_where_it_can_be_used() {
    for filtering in [
        Filtering::EndpointIndependent,
        Filtering::AddressDependent,
        Filtering::AddressAndPortDependent,
    ] {
        for hairpin in [false, true] {
            let profile = NatProfile { hairpin, filtering, ..NatProfile::HOME };
            let observed = seen(&[router(Some(profile))]).unwrap();
            assert_eq!(observed.differences(Some(&profile)), []);
        }
    }
}

#[test]
fn two_in_a_row_are_seen_as_the_worse_of_both_axes() {
    let inner = NatProfile { lifetime: SECOND * 30, ..NatProfile::RESTRICTED };
    let observed = seen(&[router(Some(inner)), router(Some(NatProfile::SYMMETRIC))]).unwrap();
    assert_eq!(observed.mapping, Mapping::AddressAndPortDependent);
    assert_eq!(observed.filtering, Filtering::AddressAndPortDependent);
    let measured = Lifetime { alive: SECOND * 28, dead: Some(SECOND * 30) };
    assert_eq!(observed.lifetime, Some(measured));
}

#[test]
fn wrong_profile_is_told_on_each_axis_that_differs() {
    let observed = seen(&[router(Some(NatProfile::SHORT_LIVED))]).unwrap();
    let axes = |profile: &NatProfile| {
        let differences = observed.differences(Some(profile));
        differences.iter().map(|difference| difference.axis).collect::<Vec<_>>()
    };
    assert_eq!(axes(&NatProfile::HOME), ["lifetime", "refresh"]);
    let all = ["mapping", "filtering", "hairpin", "port allocation", "port conflict"];
    let profile = NatProfile {
        mapping: Mapping::AddressDependent,
        filtering: Filtering::EndpointIndependent,
        hairpin: true,
        port: PortAllocation::Random,
        when_full: WhenFull::Refuse,
        ..NatProfile::SHORT_LIVED
    };
    assert_eq!(axes(&profile), all);
    assert_eq!(observed.differences(None)[0].axis, "translation");
}

#[test]
fn firewalls_without_nat_filter_and_blocked_udp_shows_nothing() {
    let stateful = Some(Stateful { lifetime: SECOND * 60, ..Stateful::default() });
    let observed = seen(&[RouterProfile { stateful, ..router(None) }]).unwrap();
    assert!(!observed.translates);
    assert_eq!(observed.filtering, Filtering::AddressAndPortDependent);
    let measured = Lifetime { alive: SECOND * 58, dead: Some(SECOND * 60) };
    assert_eq!(observed.lifetime, Some(measured));
    assert_eq!(observed.refresh, Some(Refresh::Both));
    let firewall = Firewall::UdpBlocked;
    assert_eq!(seen(&[RouterProfile { firewall, ..router(Some(NatProfile::HOME)) }]), None);
}
