//! The few questions and orders about interfaces that only netlink takes.

use std::io;

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage,
    NetlinkPayload,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::AddressMessage;
use netlink_packet_route::link::{LinkAttribute, LinkMessage};
use netlink_packet_route::route::{
    RouteAttribute, RouteFlags, RouteMessage, RouteProtocol, RouteType,
};
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};

/// Parts of an answer that are taken. Chosen: a namespace of a laboratory has tens of routes; this
/// ends a kernel that never ends.
const MAX_PARTS: usize = 10_000;

/// An interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Its number.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Its hardware address.
    pub hardware: [u8; 6],
    /// The number of the other end of its cable, in the namespace where that is.
    pub peer: Option<u32>,
    /// The number of the bridge that it is a port of.
    pub bridge: Option<u32>,
}

/// What an interface has besides: to be given to the next one of that name.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    addresses: Vec<AddressMessage>,
    routes: Vec<RouteMessage>,
}

/// A connection with the kernel of the network namespace that it was made in.
pub struct Netlink {
    socket: Socket,
}

impl Netlink {
    /// Connects with the calling thread's namespace.
    pub fn new() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        Ok(Self { socket })
    }

    /// The interface of that name.
    pub fn interface(&self, name: &str) -> io::Result<Interface> {
        let found = self.interfaces()?.into_iter().find(|interface| interface.name == name);
        found.ok_or_else(|| io::Error::other(format!("there is no interface {name}")))
    }

    /// The interface of that number.
    pub fn numbered(&self, index: u32) -> io::Result<Interface> {
        let found = self.interfaces()?.into_iter().find(|interface| interface.index == index);
        found.ok_or_else(|| io::Error::other(format!("there is no interface number {index}")))
    }

    fn interfaces(&self) -> io::Result<Vec<Interface>> {
        let messages = self.dump(RouteNetlinkMessage::GetLink(LinkMessage::default()))?;
        Ok(messages.into_iter().filter_map(as_interface).collect())
    }

    /// Addresses and routes of an interface, but for those that the kernel makes by itself.
    pub fn settings(&self, index: u32) -> io::Result<Settings> {
        let mut settings = Settings::default();
        let addresses = self.dump(RouteNetlinkMessage::GetAddress(AddressMessage::default()))?;
        for message in addresses {
            if let Some(address) = as_address(message).filter(|found| found.header.index == index) {
                settings.addresses.push(address);
            }
        }
        for message in self.dump(RouteNetlinkMessage::GetRoute(RouteMessage::default()))? {
            let Some(route) = as_route(message) else { continue };
            let is_own = route.attributes.contains(&RouteAttribute::Oif(index));
            let is_manual = route.header.protocol != RouteProtocol::Kernel
                && route.header.kind == RouteType::Unicast;
            if is_own && is_manual {
                settings.routes.push(route);
            }
        }
        Ok(settings)
    }

    /// Gives an interface, which must be up, what another one had.
    pub fn settle(&self, index: u32, settings: Settings) -> io::Result<()> {
        for mut address in settings.addresses {
            address.header.index = index;
            self.add(RouteNetlinkMessage::NewAddress(address))?;
        }
        for mut route in settings.routes {
            for attribute in &mut route.attributes {
                if let RouteAttribute::Oif(old) = attribute {
                    *old = index;
                }
            }
            // That the carrier was away for a moment is a state, and refused as a setting.
            route.header.flags &= RouteFlags::Onlink;
            // How old a route is cannot be set.
            route.attributes.retain(|attribute| !matches!(attribute, RouteAttribute::CacheInfo(_)));
            self.add(RouteNetlinkMessage::NewRoute(route))?;
        }
        Ok(())
    }

    /// Removes the route by which the kernel takes packets to an address for its own.
    pub fn disown(&self, address: std::net::Ipv4Addr) -> io::Result<()> {
        for message in self.dump(RouteNetlinkMessage::GetRoute(RouteMessage::default()))? {
            let Some(route) = as_route(message) else { continue };
            let to = netlink_packet_route::route::RouteAddress::Inet(address);
            let is_it = route.header.kind == RouteType::Local
                && route.attributes.contains(&RouteAttribute::Destination(to));
            if is_it {
                self.order(RouteNetlinkMessage::DelRoute(route), 0)?;
            }
        }
        Ok(())
    }

    /// Removes an interface, and with it the other end of its cable.
    pub fn remove(&self, index: u32) -> io::Result<()> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        self.order(RouteNetlinkMessage::DelLink(message), 0)
    }

    /// Sets how many packets an interface keeps for who reads them. The older way, an ioctl, is refused to
    /// those who are root in a namespace of users only.
    pub fn set_queue(&self, index: u32, packets: u32) -> io::Result<()> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        message.attributes.push(LinkAttribute::TxQueueLen(packets));
        self.order(RouteNetlinkMessage::SetLink(message), 0)
    }

    /// Makes an interface a port of a bridge.
    pub fn plug(&self, index: u32, bridge: u32) -> io::Result<()> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        message.attributes.push(LinkAttribute::Controller(bridge));
        self.order(RouteNetlinkMessage::SetLink(message), 0)
    }

    fn add(&self, message: RouteNetlinkMessage) -> io::Result<()> {
        match self.order(message, NLM_F_CREATE | NLM_F_EXCL) {
            // The kernel was faster.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            result => result,
        }
    }

    fn order(&self, message: RouteNetlinkMessage, flags: u16) -> io::Result<()> {
        self.send(message, NLM_F_ACK | flags)?;
        self.take(|_| ())
    }

    fn dump(&self, message: RouteNetlinkMessage) -> io::Result<Vec<RouteNetlinkMessage>> {
        self.send(message, NLM_F_DUMP)?;
        let mut found = Vec::new();
        self.take(|message| found.push(message))?;
        Ok(found)
    }

    fn send(&self, message: RouteNetlinkMessage, flags: u16) -> io::Result<()> {
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | flags;
        let mut packet = NetlinkMessage::new(header, NetlinkPayload::from(message));
        packet.finalize();
        let mut bytes = vec![0; packet.buffer_len()];
        packet.serialize(&mut bytes);
        self.socket.send(&bytes, 0).map(drop)
    }

    /// Takes an answer to its end.
    fn take(&self, mut each: impl FnMut(RouteNetlinkMessage)) -> io::Result<()> {
        for _ in 0..MAX_PARTS {
            let (bytes, _) = self.socket.recv_from_full()?;
            let mut rest = bytes.as_slice();
            while !rest.is_empty() {
                let part = NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest)
                    .map_err(io::Error::other)?;
                let length = usize::try_from(part.header.length).map_err(io::Error::other)?;
                match part.payload {
                    NetlinkPayload::Done(_) => return Ok(()),
                    NetlinkPayload::Error(error) => {
                        return match error.code {
                            None => Ok(()),
                            Some(_) => Err(error.to_io()),
                        };
                    }
                    NetlinkPayload::InnerMessage(message) => each(message),
                    NetlinkPayload::Noop | NetlinkPayload::Overrun(_) => {}
                    _ => {}
                }
                // Parts begin at multiples of four.
                rest = rest.get(length.next_multiple_of(4).max(4)..).unwrap_or_default();
            }
        }
        Err(io::Error::other("the kernel's answer has no end"))
    }
}

fn as_interface(message: RouteNetlinkMessage) -> Option<Interface> {
    let RouteNetlinkMessage::NewLink(link) = message else { return None };
    let mut interface = Interface {
        index: link.header.index,
        name: String::new(),
        hardware: [0; 6],
        peer: None,
        bridge: None,
    };
    for attribute in link.attributes {
        if let LinkAttribute::IfName(name) = attribute {
            interface.name = name;
        } else if let LinkAttribute::Address(address) = attribute {
            interface.hardware = address.try_into().unwrap_or_default();
        } else if let LinkAttribute::Link(peer) = attribute {
            interface.peer = Some(peer);
        } else if let LinkAttribute::Controller(bridge) = attribute {
            interface.bridge = Some(bridge);
        }
    }
    Some(interface)
}

fn as_address(message: RouteNetlinkMessage) -> Option<AddressMessage> {
    if let RouteNetlinkMessage::NewAddress(address) = message { Some(address) } else { None }
}

fn as_route(message: RouteNetlinkMessage) -> Option<RouteMessage> {
    if let RouteNetlinkMessage::NewRoute(route) = message { Some(route) } else { None }
}
