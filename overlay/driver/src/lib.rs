//! The overlay's shell: UDP socket, TUN, WireGuard sessions, QUIC control channel.
