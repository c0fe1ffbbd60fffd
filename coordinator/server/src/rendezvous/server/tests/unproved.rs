//! Addresses that nobody has proved yet.

use tokio::time::{Instant, timeout_at};

use super::*;

/// An Initial may come from anywhere, with the address of somebody who is to be flooded.
#[tokio::test]
async fn an_unproved_address_gets_no_more_bytes_than_it_sent() {
    let identity = Identity::new();
    let bench = bench(&[&identity]);
    let trap = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let at = trap.local_addr().unwrap();
    let mut initial = [0; 2048];
    let len = tokio::select! {
        len = trap.recv(&mut initial) => len.unwrap(),
        _ = bench.dial_at(at, "127.0.0.1:0", Some(&identity.0)) => panic!("nobody answers there"),
    };
    assert!(len >= 1200, "{len} bytes are no Initial");
    let victim = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    victim.send_to(&initial[..len], bench.handle.local_addr().unwrap()).await.unwrap();
    let (mut answered, mut answer) = (0, [0; 2048]);
    // What is not acknowledged would be sent again after a second.
    let end = Instant::now() + Duration::from_secs(3);
    while let Ok(received) = timeout_at(end, victim.recv(&mut answer)).await {
        answered += received.unwrap();
    }
    assert!(answered > 0 && answered <= len, "{answered} bytes for {len}");
}
