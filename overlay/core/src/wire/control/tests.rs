use hex_literal::hex;

use super::*;

const TICKET: Ticket = Ticket {
    version: 1,
    side: 1,
    channel: 0x0a0b_0c0d,
    expires_unix: 0x1122_3344_5566_7788,
    mac: [0xee; 16],
};

const TICKET_HEX: &str = "01010a0b0c0d1122334455667788eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee";

fn frames() -> Vec<(ControlFrame, Vec<u8>)> {
    let nonce = hex!("0102030405060708");
    let cookie = [0xcc; 16];
    vec![
        (
            ControlFrame::ReflectRequest { token: [0xaa; 16], nonce },
            hex!(
                "0b434801 01 aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa 0102030405060708"
                "00000000000000000000000000000000000000"
            )
            .to_vec(),
        ),
        (
            ControlFrame::ReflectElsewhere {
                token: [0xaa; 16],
                nonce,
                port: 0x1234,
                from_other: true,
            },
            hex!(
                "0b434801 07 aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa 0102030405060708 1234 01"
                "00000000000000000000000000000000"
            )
            .to_vec(),
        ),
        (
            ControlFrame::ReflectResponse { nonce, observed: "192.0.2.1:4660".parse().unwrap() },
            hex!("0b434801 02 0102030405060708 04 c0000201000000000000000000000000 1234").to_vec(),
        ),
        (
            ControlFrame::ReflectResponse { nonce, observed: "[2001:db8::1]:1".parse().unwrap() },
            hex!("0b434801 02 0102030405060708 06 20010db8000000000000000000000001 0001").to_vec(),
        ),
        (
            ControlFrame::BindRequest { ticket: TICKET, nonce },
            hex!(
                "0b434801 03 01010a0b0c0d1122334455667788eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee"
                "0102030405060708 000000000000000000000000000000000000000000"
            )
            .to_vec(),
        ),
        (
            ControlFrame::BindChallenge { nonce, cookie },
            hex!("0b434801 04 0102030405060708 cccccccccccccccccccccccccccccccc").to_vec(),
        ),
        (
            ControlFrame::BindAnswer { ticket: TICKET, nonce, cookie },
            hex!(
                "0b434801 05 01010a0b0c0d1122334455667788eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee"
                "0102030405060708 cccccccccccccccccccccccccccccccc 0000000000"
            )
            .to_vec(),
        ),
        (
            ControlFrame::BindAck { nonce, channel: 0x0a0b_0c0d, lifetime_s: 120 },
            hex!("0b434801 06 0102030405060708 0a0b0c0d 0078").to_vec(),
        ),
    ]
}

#[test]
fn frames_have_these_bytes_and_read_back() {
    for (frame, bytes) in frames() {
        assert_eq!(frame.encode(), bytes, "{frame:?}");
        assert_eq!(ControlFrame::decode(&bytes), Ok(frame));
    }
}

#[test]
fn any_other_length_is_refused() {
    for (frame, bytes) in frames() {
        for len in 0..bytes.len() {
            assert!(ControlFrame::decode(&bytes[..len]).is_err(), "{frame:?} of {len} bytes");
        }
        let mut longer = bytes.clone();
        longer.push(0);
        assert!(ControlFrame::decode(&longer).is_err(), "{frame:?} and one byte more");
    }
}

#[test]
fn answers_are_no_longer_than_requests() {
    for (question, answer) in [(1, 2), (7, 2), (3, 4), (5, 6), (8, 9)] {
        assert!(wire_len(answer) <= wire_len(question));
    }
}

#[test]
fn unknown_types_and_families_are_refused() {
    assert_eq!(
        ControlFrame::decode(&hex!("0b434801 0a 00")),
        Err(DecodeControlError::UnknownType(10))
    );
    let mut bytes = frames()[2].1.clone();
    bytes[13] = 5;
    assert_eq!(ControlFrame::decode(&bytes), Err(DecodeControlError::UnknownFamily));
}

#[test]
fn ticket_reads_back_from_its_text() {
    assert_eq!(TICKET.to_hex(), TICKET_HEX);
    assert_eq!(Ticket::from_hex(TICKET_HEX), Ok(TICKET));
    assert!(Ticket::from_hex(&TICKET_HEX[2..]).is_err());
}

#[test]
fn debug_shows_no_secret() {
    assert!(!format!("{TICKET:?}").contains("238"), "the seal's bytes are 0xee = 238");
    let frame = ControlFrame::BindRequest { ticket: TICKET, nonce: [0; 8] };
    assert_eq!(format!("{frame:?}"), "BindRequest");
}
