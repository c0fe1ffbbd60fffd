//! Keyed codes: tickets, reflector tokens and cookies.
//!
//! All of them are keyed BLAKE2s with 16 bytes of output, and compared in constant time. None of
//! them needs a table: the relay recognises what the coordinator issued because both hold the keys.

use std::net::{IpAddr, SocketAddr};

use blake2::Blake2sMac;
use blake2::digest::consts::U16;
use blake2::digest::{KeyInit, Mac};
use overlay_core::NodeId;
use overlay_core::wire::Ticket;
use overlay_core::wire::control::{TICKET_LEN, TICKET_VERSION};
use subtle::ConstantTimeEq;

/// Half of a reflector token: the node's tag, then the code over it.
const TAG_LEN: usize = 8;

/// The secrets that coordinator and relay share. Deliberately without `Debug`.
#[derive(Clone)]
pub struct RelayKeys {
    /// Seals tickets.
    pub ticket_key: [u8; 32],
    /// Makes reflector tokens.
    pub reflector_key: [u8; 32],
}

/// In constant time.
impl PartialEq for RelayKeys {
    fn eq(&self, other: &Self) -> bool {
        let same_tickets = self.ticket_key.ct_eq(&other.ticket_key);
        (same_tickets & self.reflector_key.ct_eq(&other.reflector_key)).into()
    }
}

impl Eq for RelayKeys {}

impl RelayKeys {
    /// Makes random keys from the operating system's generator.
    pub fn generate() -> Self {
        Self { ticket_key: rand::random(), reflector_key: rand::random() }
    }
}

/// Why a ticket was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TicketError {
    /// Not sealed with the relay's key, or not of a version and side that exist.
    #[error("the ticket was not issued for this relay")]
    Forged,
    /// Its time is over.
    #[error("the ticket has expired, ask the coordinator for a new one")]
    Expired,
}

/// Seals a ticket for one `side` of `channel`, valid until `expires_unix`.
///
/// Side 0 is the node with the lower [`NodeId`] of the pair, side 1 the other.
pub fn issue_ticket(
    keys: &RelayKeys,
    channel: u32,
    side: u8,
    expires_unix: u64,
) -> [u8; TICKET_LEN] {
    let mut ticket =
        Ticket { version: TICKET_VERSION, side, channel, expires_unix, mac: Default::default() };
    ticket.mac = code(&keys.ticket_key, &[&ticket.sealed_part()]);
    ticket.to_bytes()
}

/// Checks that the coordinator issued `ticket` and that it has not ended at `unix_s`.
///
/// # Errors
///
/// [`TicketError::Forged`] unless [`issue_ticket`] made it with the same keys,
/// [`TicketError::Expired`] from the second of its expiry on.
pub fn verify_ticket(keys: &RelayKeys, ticket: &Ticket, unix_s: u64) -> Result<(), TicketError> {
    let expected = code(&keys.ticket_key, &[&ticket.sealed_part()]);
    if !bool::from(expected.ct_eq(&ticket.mac)) {
        return Err(TicketError::Forged);
    }
    if ticket.version != TICKET_VERSION || ticket.side > 1 {
        return Err(TicketError::Forged);
    }
    if ticket.expires_unix <= unix_s {
        return Err(TicketError::Expired);
    }
    Ok(())
}

/// What `node` shows the reflector. It says nothing about the node to those who see it pass.
pub fn reflector_token(keys: &RelayKeys, node: NodeId) -> [u8; 16] {
    let mut token = [0; 16];
    token[..TAG_LEN].copy_from_slice(&code(&keys.reflector_key, &[&node.0])[..TAG_LEN]);
    let seal = code(&keys.reflector_key, &[&token[..TAG_LEN]]);
    token[TAG_LEN..].copy_from_slice(&seal[..TAG_LEN]);
    token
}

/// Whether [`reflector_token`] made `token` with the same keys, for whichever node.
pub fn verify_reflector_token(keys: &RelayKeys, token: &[u8; 16]) -> bool {
    let (tag, seal) = token.split_at(TAG_LEN);
    code(&keys.reflector_key, &[tag])[..TAG_LEN].ct_eq(seal).into()
}

/// The cookie that proves that a requester receives at `from`.
pub(crate) fn cookie(
    secret: &[u8; 32],
    ticket: &Ticket,
    nonce: &[u8; 8],
    from: SocketAddr,
) -> [u8; 16] {
    let ip = match from.ip() {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    };
    code(secret, &[&ticket.to_bytes(), nonce, &ip.octets(), &from.port().to_be_bytes()])
}

/// Keyed BLAKE2s-128 over the concatenation of `parts` (callers keep their lengths fixed).
fn code(key: &[u8; 32], parts: &[&[u8]]) -> [u8; 16] {
    let mut mac = <Blake2sMac<U16> as KeyInit>::new(key.into());
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use hex_literal::hex;

    use super::*;

    fn keys() -> RelayKeys {
        RelayKeys { ticket_key: [1; 32], reflector_key: [2; 32] }
    }

    #[test]
    fn a_ticket_has_the_documented_bytes() {
        let ticket = issue_ticket(&keys(), 0xa1b2_c3d4, 1, 0x0102_0304);
        assert_eq!(ticket[..14], hex!("01 01 a1b2c3d4 0000000001020304"));
    }

    fn ticket(side: u8, expires_unix: u64) -> Ticket {
        Ticket::from_bytes(&issue_ticket(&keys(), 7, side, expires_unix))
    }

    #[test]
    fn a_ticket_is_valid_until_it_expires() {
        assert_eq!(verify_ticket(&keys(), &ticket(0, 1000), 999), Ok(()));
        assert_eq!(verify_ticket(&keys(), &ticket(0, 1000), 1000), Err(TicketError::Expired));
    }

    #[test]
    fn a_ticket_with_any_bit_changed_is_forged() {
        let bytes = ticket(0, 1000).to_bytes();
        for bit in 0..TICKET_LEN * 8 {
            let mut forged = bytes;
            forged[bit / 8] ^= 1 << (bit % 8);
            let forged = Ticket::from_bytes(&forged);
            assert_eq!(verify_ticket(&keys(), &forged, 0), Err(TicketError::Forged), "bit {bit}");
        }
        let other = RelayKeys { ticket_key: [9; 32], ..keys() };
        assert_eq!(verify_ticket(&other, &ticket(0, 1000), 0), Err(TicketError::Forged));
    }

    #[test]
    fn a_ticket_for_a_side_that_does_not_exist_is_refused() {
        assert_eq!(verify_ticket(&keys(), &ticket(2, 1000), 0), Err(TicketError::Forged));
    }

    #[test]
    fn reflector_tokens_are_recognised_and_differ_by_node() {
        let token = reflector_token(&keys(), NodeId([5; 32]));
        assert!(verify_reflector_token(&keys(), &token));
        assert_ne!(token, reflector_token(&keys(), NodeId([6; 32])));
        for bit in 0..128 {
            let mut forged = token;
            forged[bit / 8] ^= 1 << (bit % 8);
            assert!(!verify_reflector_token(&keys(), &forged), "bit {bit}");
        }
    }

    #[test]
    fn a_cookie_belongs_to_one_ticket_nonce_and_source() {
        let from: SocketAddr = "192.0.2.1:7".parse().unwrap();
        let ticket = ticket(0, 1000);
        let other = Ticket { expires_unix: 1001, ..ticket };
        let made = cookie(&[3; 32], &ticket, &[0; 8], from);
        assert_eq!(made, cookie(&[3; 32], &ticket, &[0; 8], from));
        assert_ne!(made, cookie(&[4; 32], &ticket, &[0; 8], from));
        assert_ne!(made, cookie(&[3; 32], &other, &[0; 8], from));
        assert_ne!(made, cookie(&[3; 32], &ticket, &[1; 8], from));
        assert_ne!(made, cookie(&[3; 32], &ticket, &[0; 8], "192.0.2.1:8".parse().unwrap()));
        assert_ne!(made, cookie(&[3; 32], &ticket, &[0; 8], "192.0.2.2:7".parse().unwrap()));
    }
}
