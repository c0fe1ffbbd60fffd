use std::net::UdpSocket;
use std::time::Duration;

use super::*;

struct Peer {
    socket: UdpSocket,
    path: Path,
}

fn peer() -> Peer {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let path = Path::Direct(socket.local_addr().unwrap());
    Peer { socket, path }
}

impl Peer {
    fn receive(&self) -> Vec<u8> {
        let mut buffer = [0u8; 2048];
        let len = self.socket.recv(&mut buffer).unwrap();
        buffer[..len].to_vec()
    }
}

fn sender() -> (Socket, Outbox, Stats) {
    (Socket::bind("[::]:0".parse().unwrap()).unwrap(), Outbox::new(), Stats::default())
}

#[test]
fn datagrams_keep_their_bounds_and_their_order() {
    let (socket, mut outbox, mut stats) = sender();
    let peer = peer();
    let sizes = [100, 100, 40, 100, 300, 300, 1];
    for (index, size) in sizes.into_iter().enumerate() {
        outbox.push(&socket, &mut stats, (peer.path, None), size, |slot| slot.fill(index as u8));
    }
    outbox.flush(&socket, &mut stats);
    for (index, size) in sizes.into_iter().enumerate() {
        assert_eq!(peer.receive(), vec![index as u8; size]);
    }
    assert_eq!(stats.udp_sent_datagrams, 7);
    assert_eq!(stats.udp_send_errors, 0);
}

#[test]
fn a_batch_has_one_mark_and_the_order_stays() {
    let (socket, mut outbox, mut stats) = sender();
    let receiver = Socket::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let path = Path::Direct(receiver.local_addr());
    let [ect, ce] = [Some(EcnCodepoint::Ect0), Some(EcnCodepoint::Ce)];
    let marks = [ect, ect, ect, ce, ect, None, None, ect];
    for (index, mark) in marks.into_iter().enumerate() {
        outbox.push(&socket, &mut stats, (path, mark), 100, |slot| slot.fill(index as u8));
    }
    outbox.flush(&socket, &mut stats);
    let mut buffers = vec![vec![0u8; 65_535]; marks.len()];
    let mut arrived = Vec::new();
    while arrived.len() < marks.len() {
        poll(&mut [PollFd::new(receiver.as_fd(), PollFlags::POLLIN)], 10_000u16).unwrap();
        let mut slices: Vec<_> = buffers.iter_mut().map(|b| io::IoSliceMut::new(b)).collect();
        let mut meta = [quinn_udp::RecvMeta::default(); 8];
        let count = receiver.receive(&mut slices, &mut meta).unwrap();
        for (buffer, meta) in buffers.iter().zip(&meta).take(count) {
            let datagrams = buffer[..meta.len].chunks(meta.stride);
            arrived.extend(datagrams.map(|datagram| (usize::from(datagram[0]), meta.ecn)));
        }
    }
    assert_eq!(arrived, marks.into_iter().enumerate().collect::<Vec<_>>());
}

#[test]
fn more_endpoints_than_batches_all_get_theirs() {
    let (socket, mut outbox, mut stats) = sender();
    let peers: Vec<Peer> = (0..BATCHES + 3).map(|_| peer()).collect();
    for round in 0..2 {
        for peer in &peers {
            outbox.push(&socket, &mut stats, (peer.path, None), 64, |slot| slot.fill(round));
        }
    }
    outbox.flush(&socket, &mut stats);
    for peer in &peers {
        assert_eq!([peer.receive(), peer.receive()], [vec![0; 64], vec![1; 64]]);
    }
}

#[test]
fn a_large_run_is_sent_in_several_calls() {
    let (socket, mut outbox, mut stats) = sender();
    let peer = peer();
    for index in 0..120u8 {
        outbox.push(&socket, &mut stats, (peer.path, None), 1452, |slot| slot.fill(index));
        if index % 30 == 29 {
            outbox.flush(&socket, &mut stats);
            for earlier in index - 29..=index {
                assert_eq!(peer.receive(), vec![earlier; 1452]);
            }
        }
    }
}

#[test]
fn relayed_packets_carry_the_channel() {
    let (socket, mut outbox, mut stats) = sender();
    let peer = peer();
    let Path::Direct(relay) = peer.path else { unreachable!() };
    let path = Path::Relayed { relay, channel: 7 };
    outbox.push(&socket, &mut stats, (path, None), 3, |slot| slot.copy_from_slice(b"abc"));
    outbox.flush(&socket, &mut stats);
    assert_eq!(relay::parse(&peer.receive()), Some((7, &b"abc"[..])));
}

#[test]
fn long_packets_travel_in_two_parts_until_the_way_is_known_to_be_wide() {
    let (socket, mut outbox, mut stats) = sender();
    let peer = peer();
    let Path::Direct(relay) = peer.path else { unreachable!() };
    let path = Path::Relayed { relay, channel: 7 };
    let packet: Vec<u8> = (0..1444).map(|byte| byte as u8).collect();
    let mut joiner = relay::Joiner::default();
    let now = std::time::Instant::now();
    for _ in 0..2 {
        let filled = |slot: &mut [u8]| slot.copy_from_slice(&packet);
        outbox.push(&socket, &mut stats, (path, None), packet.len(), filled);
        outbox.flush(&socket, &mut stats);
        let mut take = || {
            let datagram = peer.receive();
            assert!(datagram.len() <= ALWAYS_PASSES);
            joiner.take(now, relay, &relay::parse_part(&datagram).unwrap())
        };
        assert_eq!((take(), take()), (None, Some(packet.clone())));
    }
    outbox.push(&socket, &mut stats, (path, None), 1224, |slot| slot.fill(1));
    outbox.set_whole(path, true);
    outbox.push(&socket, &mut stats, (path, None), 1444, |slot| slot.fill(2));
    outbox.flush(&socket, &mut stats);
    assert_eq!([peer.receive().len(), peer.receive().len()], [1232, 1452]);
    outbox.set_whole(path, false);
    outbox.push(&socket, &mut stats, (path, None), 1225, |slot| slot.fill(3));
    outbox.flush(&socket, &mut stats);
    assert_eq!([peer.receive().len(), peer.receive().len()], [625, 624]);
}
