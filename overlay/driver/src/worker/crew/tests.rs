use std::io::Read as _;

use super::*;

const MESH: MeshId = MeshId { job: 1, generation: 1 };

fn parcel(number: u8, len: usize) -> Parcel {
    let mut parcel = Parcel::default();
    parcel.push(Item::Frame(MESH), &vec![number; len]);
    parcel
}

/// An inbox, and what wakes the first worker.
fn inbox() -> (Arc<Inbox>, UnixStream, UnixStream) {
    let (wake_first, first) = UnixStream::pair().unwrap();
    first.set_nonblocking(true).unwrap();
    let (inbox, woken) = Inbox::new(Arc::new(wake_first)).unwrap();
    (inbox, woken, first)
}

fn is_woken(stream: &UnixStream) -> bool {
    matches!((&*stream).read(&mut [0; 8]), Ok(1..))
}

/// The first byte of every packet that waits, and how many orders do.
fn take(inbox: &Inbox) -> (Vec<u8>, usize) {
    let (mut orders, mut parcels, mut packets) = (VecDeque::new(), VecDeque::new(), Vec::new());
    inbox.take(&mut orders, &mut parcels);
    for mut parcel in parcels {
        parcel.unpack(|item, packet| {
            assert_eq!(item, Item::Frame(MESH));
            packets.push(packet[0]);
        });
        inbox.give_back(parcel);
    }
    (packets, orders.len())
}

#[test]
fn a_parcel_gives_what_was_put_in() {
    let mut parcel = Parcel::default();
    let via = Path::Direct(([192, 0, 2, 1], 9).into());
    let items =
        [Item::Datagram(via, None), Item::Frame(MESH), Item::Initiation(via, MESH, [7; 32])];
    for round in 0..2 {
        for (index, item) in items.into_iter().enumerate() {
            parcel.push(item, &vec![index as u8; index * 100 + round]);
        }
        let mut seen = Vec::new();
        parcel.unpack(|item, packet| {
            seen.push(item);
            assert_eq!(packet, vec![seen.len() as u8 - 1; (seen.len() - 1) * 100 + round]);
        });
        assert_eq!(seen, items);
        assert!(parcel.is_empty() && parcel.fits(1 << 20));
    }
    parcel.push(Item::Frame(MESH), &[0; 100_000]);
    assert!(parcel.fits(30_000) && !parcel.fits(40_000));
}

#[test]
fn what_overflows_is_the_oldest_and_orders_stay() {
    let (inbox, ..) = inbox();
    for number in 0..60 {
        inbox.order(Order::Leave(MESH));
        inbox.put(parcel(number, 100_000));
    }
    assert_eq!(inbox.stats().dropped_packets, 60 - 41);
    assert_eq!(take(&inbox), ((19..60).collect(), 60));
    assert_eq!(take(&inbox), (Vec::new(), 0));
}

#[test]
fn a_hand_that_sleeps_is_woken_and_one_that_works_is_not() {
    let (inbox, woken, _) = inbox();
    inbox.put(parcel(1, 10));
    assert!(!is_woken(&woken) && !inbox.may_sleep(), "something waits already");
    take(&inbox);
    assert!(inbox.may_sleep());
    inbox.put(parcel(2, 10));
    inbox.put(parcel(3, 10));
    assert!(is_woken(&woken) && !is_woken(&woken), "once is enough");
    take(&inbox);
    assert!(inbox.may_sleep());
    inbox.stop();
    assert!(is_woken(&woken) && !inbox.may_sleep());
}

#[test]
fn the_devices_wait_while_a_hand_has_much_to_do() {
    let (inbox, _, first) = inbox();
    for number in 0..5 {
        inbox.put(parcel(number, 100_000));
    }
    assert!(!inbox.is_crowded());
    take(&inbox);
    assert!(!is_woken(&first), "nobody waits for that");
    for number in 0..6 {
        inbox.put(parcel(number, 100_000));
    }
    assert!(inbox.is_crowded());
    take(&inbox);
    assert!(is_woken(&first) && !inbox.is_crowded());
}
