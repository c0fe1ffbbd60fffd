//! A descriptor at the side of a line, over a unix socket (SCM_RIGHTS).

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use tokio::io::Interest;
use tokio::net::UnixStream;

use super::protocol::MAX_LINE;

/// Sends `line` with its end, and `descriptor` with its first byte.
pub(super) async fn send_line(
    stream: &UnixStream,
    mut line: Vec<u8>,
    descriptor: Option<BorrowedFd<'_>>,
) -> io::Result<()> {
    line.push(b'\n');
    let mut sent = 0;
    while sent < line.len() {
        let rest = &line[sent..];
        let with = descriptor.filter(|_| sent == 0);
        sent += stream
            .async_io(Interest::WRITABLE, || {
                let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
                let mut control = SendAncillaryBuffer::new(&mut space);
                let descriptors = with.map(|fd| [fd]);
                if let Some(descriptors) = &descriptors {
                    control.push(SendAncillaryMessage::ScmRights(descriptors));
                }
                Ok(sendmsg(stream, &[IoSlice::new(rest)], &mut control, SendFlags::NOSIGNAL)?)
            })
            .await?;
    }
    Ok(())
}

/// Receives one line (without its end), and the descriptor that came with it.
///
/// # Errors
/// `UnexpectedEof` when the other side ends before a line has; `InvalidData` when the line is longer than
/// [`MAX_LINE`].
pub(super) async fn receive_line(stream: &UnixStream) -> io::Result<(Vec<u8>, Option<OwnedFd>)> {
    let mut line = Vec::new();
    let mut descriptor = None;
    loop {
        let mut chunk = [0u8; 4096];
        let count = stream
            .async_io(Interest::READABLE, || {
                let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
                let mut control = RecvAncillaryBuffer::new(&mut space);
                let mut buffers = [IoSliceMut::new(&mut chunk)];
                let message = recvmsg(stream, &mut buffers, &mut control, RecvFlags::CMSG_CLOEXEC)?;
                for item in control.drain() {
                    if let RecvAncillaryMessage::ScmRights(mut descriptors) = item {
                        descriptor = descriptors.next();
                    }
                }
                Ok(message.bytes)
            })
            .await?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        line.extend_from_slice(&chunk[..count]);
        if line.last() == Some(&b'\n') {
            line.pop();
            return Ok((line, descriptor));
        }
        if line.len() > MAX_LINE {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the line is too long"));
        }
    }
}
