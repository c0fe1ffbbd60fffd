//! A router's rules, as text for `nft`.
//!
//! Three things that plain rules get wrong are mended here. A packet from outside that no mapping
//! wants would reach the router itself and leave an entry in its connection table; the machine's own
//! packet to that sender would then get another port, and the mapping would not be
//! endpoint-independent any more: such packets are dropped. A map of mappings that is filled in a nat
//! chain would expire while its flow lives, since such a chain sees the first packet only: it is
//! filled while forwarding. And rules name interfaces, not their numbers, because an emulated link
//! puts another interface under the name.

use std::fmt::Write as _;
use std::net::IpAddr;

use netsim_sim::{
    Filtering, Firewall, Mapping, NatProfile, PortAllocation, Refresh, Stateful, WhenFull,
};

/// The map of the mappings that the inside has opened.
pub(super) const MAPPINGS: &str = "fullcone";

/// What the kernel's NAT cannot do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Beyond(pub &'static str);

/// Whether the kernel's NAT, with the rules that are made here, behaves like that; otherwise on which
/// axis it does not.
///
/// Conflicts are left out: where two machines use the same port, the kernel gives the second
/// any free one, and not the next.
pub fn kernel_can(profile: &NatProfile) -> Result<(), Beyond> {
    let NatProfile { mapping, filtering, port, hairpin, refresh, when_full, table_size, .. } =
        *profile;
    let preserves = matches!(port, PortAllocation::Preserving | PortAllocation::PreservingOrRandom);
    match mapping {
        Mapping::EndpointIndependent if !preserves => Err(Beyond("ports")),
        Mapping::EndpointIndependent => Ok(()),
        Mapping::AddressDependent => Err(Beyond("mapping")),
        Mapping::AddressAndPortDependent if port != PortAllocation::Random => Err(Beyond("ports")),
        Mapping::AddressAndPortDependent if filtering != Filtering::AddressAndPortDependent => {
            Err(Beyond("filtering"))
        }
        Mapping::AddressAndPortDependent => Ok(()),
    }?;
    if hairpin {
        return Err(Beyond("hairpin"));
    }
    if refresh != Refresh::Both {
        return Err(Beyond("refresh"));
    }
    // The kernel's table is the machine's, not the namespace's.
    let is_default = (table_size, when_full) == (NatProfile::HOME.table_size, WhenFull::Refuse);
    if is_default { Ok(()) } else { Err(Beyond("table")) }
}

/// All that the rules depend on.
#[derive(Clone, Copy, Debug)]
pub struct Ruled<'a> {
    /// The outer interface.
    pub wan: &'a str,
    /// The translation that the kernel does.
    pub nat: Option<NatProfile>,
    /// The filter where nothing is translated, and for IPv6.
    pub stateful: Option<Stateful>,
    /// What is let through at all.
    pub firewall: Firewall,
    /// Whom [`Firewall::ProxyOnly`] lets through.
    pub proxy: Option<IpAddr>,
}

impl Ruled<'_> {
    /// The rules; none are needed when it is empty.
    pub fn text(&self) -> String {
        let mut text = String::new();
        self.firewall(&mut text);
        match &self.nat {
            Some(nat) => self.translation(nat, &mut text),
            None if self.stateful.is_some() => self.stateful_filter("inet", &mut text),
            None => {}
        }
        if self.nat.is_some() && self.stateful.is_some() {
            self.stateful_filter("ip6", &mut text);
        }
        text
    }

    /// Kernel settings, as files below `/proc/sys` and their values.
    pub fn settings(&self) -> Vec<(&'static str, String)> {
        let lifetime = match (self.nat, self.stateful) {
            (Some(nat), _) => nat.lifetime,
            (None, Some(stateful)) => stateful.lifetime,
            (None, None) => return Vec::new(),
        };
        let seconds = lifetime.as_secs().max(1).to_string();
        vec![
            ("net/netfilter/nf_conntrack_udp_timeout", seconds.clone()),
            ("net/netfilter/nf_conntrack_udp_timeout_stream", seconds),
        ]
    }

    /// Whether there is a map of mappings, which has to be emptied with the connection table.
    pub fn has_map(&self) -> bool {
        self.nat.is_some_and(|nat| {
            nat.mapping == Mapping::EndpointIndependent
                && nat.filtering != Filtering::AddressAndPortDependent
        })
    }

    fn translation(&self, nat: &NatProfile, text: &mut String) {
        let (wan, lifetime) = (self.wan, nat.lifetime.as_secs().max(1));
        let how = match nat.port {
            PortAllocation::Random | PortAllocation::Sequential => " random,fully-random",
            PortAllocation::Preserving | PortAllocation::PreservingOrRandom => "",
        };
        let mapped = if self.has_map() {
            let (set, admit, learn, refresh) = match nat.filtering {
                Filtering::AddressDependent => (
                    format!(
                        "set contacted {{ type inet_service . ipv4_addr; flags dynamic,timeout; \
                         timeout {lifetime}s; size 65535; }}"
                    ),
                    "udp dport . ip saddr @contacted ",
                    format!(
                        "oifname \"{wan}\" meta l4proto udp update @contacted \
                         {{ udp sport . ip daddr timeout {lifetime}s }}"
                    ),
                    format!(
                        "iifname \"{wan}\" meta l4proto udp update @contacted \
                         {{ udp dport . ip saddr timeout {lifetime}s }}"
                    ),
                ),
                Filtering::EndpointIndependent | Filtering::AddressAndPortDependent => {
                    (String::new(), "", String::new(), String::new())
                }
            };
            let _ = writeln!(
                text,
                r#"table ip nat {{
  map {MAPPINGS} {{ type inet_service : ipv4_addr . inet_service; flags dynamic,timeout; timeout {lifetime}s; size 65535; }}
  {set}
  chain pre {{
    type nat hook prerouting priority dstnat; policy accept;
    iifname "{wan}" meta l4proto udp {admit}dnat ip to udp dport map @{MAPPINGS}
  }}
  chain learn {{
    type filter hook forward priority 30; policy accept;
    oifname "{wan}" meta l4proto udp update @{MAPPINGS} {{ udp sport timeout {lifetime}s : ip saddr . udp sport }}
    {learn}
    iifname "{wan}" meta l4proto udp update @{MAPPINGS} {{ udp dport timeout {lifetime}s : ip daddr . udp dport }}
    {refresh}
  }}
}}"#
            );
            format!("iifname \"{wan}\" ct status dnat accept")
        } else {
            String::new()
        };
        let _ = writeln!(
            text,
            r#"table ip nat {{
  chain post {{
    type nat hook postrouting priority srcnat; policy accept;
    oifname "{wan}" masquerade{how}
  }}
}}
table ip guard {{
  counter opened_from_outside {{ }}
  chain input {{
    type filter hook input priority 0; policy accept;
    iifname "{wan}" ct state established,related accept
    iifname "{wan}" drop
  }}
  chain inwards {{
    type filter hook forward priority 20; policy accept;
    iifname "{wan}" ct state established,related accept
    {mapped}
    iifname "{wan}" drop
  }}
  chain audit {{
    type filter hook forward priority 300; policy accept;
    iifname "{wan}" ct state new counter name opened_from_outside
  }}
}}"#
        );
    }

    /// Lets in what belongs to what went out. The router's own answers to its neighbours pass.
    fn stateful_filter(&self, family: &str, text: &mut String) {
        let wan = self.wan;
        let _ = writeln!(
            text,
            r#"table {family} stateful {{
  chain inwards {{
    type filter hook forward priority 20; policy accept;
    iifname "{wan}" ct state established,related accept
    iifname "{wan}" drop
  }}
}}"#
        );
    }

    fn firewall(&self, text: &mut String) {
        let wan = self.wan;
        let rejected = "reject with icmpx admin-prohibited";
        let rules = match self.firewall {
            Firewall::None => return,
            Firewall::UdpBlocked => "meta l4proto udp drop".to_owned(),
            Firewall::Tcp80443Only => format!(
                "ct state established,related accept\n    \
                 oifname \"{wan}\" tcp dport {{ 80, 443 }} accept\n    {rejected}"
            ),
            Firewall::ProxyOnly => {
                let proxy = self.proxy.map_or(String::new(), |proxy| {
                    let ip = if proxy.is_ipv4() { "ip" } else { "ip6" };
                    format!(
                        "{ip} daddr {proxy} meta l4proto tcp accept\n    \
                         {ip} saddr {proxy} meta l4proto tcp accept\n    "
                    )
                });
                format!("ct state established,related accept\n    {proxy}{rejected}")
            }
        };
        let _ = writeln!(
            text,
            r#"table inet firewall {{
  chain between {{
    type filter hook forward priority 10; policy accept;
    iifname != "{wan}" oifname != "{wan}" accept
    {rules}
  }}
}}"#
        );
    }
}
