//! HTTPS client with a pinned root, join tokens and login strings.
//!
//! The coordinator has no public certificate: whoever gives out a [`JoinToken`] or a [`Login`] also gives
//! the SHA-256 of the coordinator's root certificate, and [`Client`] speaks with nobody else.
//!
//! The program must install rustls's ring provider before it makes a [`Client`].

#![forbid(unsafe_code)]

pub mod archive;
pub mod client;
pub mod oar;
pub mod pin;
pub mod proxy;
pub mod tls;
pub mod token;
pub mod transfer;

pub use client::{Client, ClientError};
pub use oar::OarLogin;
pub use pin::RootPin;
pub use tls::{Identity, pinned_tls, pinned_tls_with_identity};
pub use token::{JoinToken, Login};
