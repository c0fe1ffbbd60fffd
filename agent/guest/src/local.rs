//! The owner's questions to a running agent: a unix socket in its state directory.
//!
//! ```text
//!   agent status, ping, netcheck, explain, metrics ──one JSON line──▶ agent run
//!                                                  ◀─one JSON line───
//! ```
//!
//! A connection carries one question. Only the agent's user and root are answered: the socket is 0600,
//! and the kernel says who asks.

pub mod client;
pub mod protocol;
pub mod server;

/// The socket, in the state directory.
pub const SOCKET: &str = "agent.sock";
