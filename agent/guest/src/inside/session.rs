//! One session: what the client asks for before its program starts, and what passes between the two.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;

use nix::sys::signal::Signal;
use russh::server::{Handle, Msg};
use russh::{Channel, ChannelId, ChannelMsg, Sig};

use super::backlog::Backlog;
use super::program::{End, Program, Start, Terminal};

/// The most variables that a client may set, and the most bytes in them. Chosen: what `mpirun` and people set is
/// some dozens of short ones.
const MAX_VARIABLES: usize = 256;
const MAX_VARIABLE_BYTES: usize = 128 << 10;

/// The longest command: the kernel's bound on one argument (MAX_ARG_STRLEN, 128 KiB) with its final zero.
const MAX_COMMAND_BYTES: usize = (128 << 10) - 1;

/// The programs that may serve the subsystem `sftp`, which `scp` needs, too.
pub const SFTP_SERVERS: [&str; 3] = [
    "/usr/lib/openssh/sftp-server",
    "/usr/libexec/openssh/sftp-server",
    "/usr/lib/ssh/sftp-server",
];

/// Serves the session to its end.
pub(super) async fn serve(mut channel: Channel<Msg>, handle: Handle, backlog: Backlog) {
    let id = channel.id();
    let mut wishes = Wishes::default();
    // Until a program is asked for, everything is small and answered at once.
    let started = loop {
        let Some(message) = channel.wait().await else { return };
        match wishes.take(message) {
            Wish::Noted { reply } => answer(&handle, id, reply, true).await,
            Wish::Refused { reply } => answer(&handle, id, reply, false).await,
            Wish::Over => return,
            Wish::Start { reply, start } => {
                let (stdout, stderr) = (channel.make_writer(), channel.make_writer_ext(Some(1)));
                let started = Program::start(start, stdout, stderr, backlog.clone());
                answer(&handle, id, reply, started.is_ok()).await;
                if let Ok(program) = started {
                    break program;
                }
            }
        }
    };
    let mut program = started;
    let end = loop {
        tokio::select! {
            end = program.ended() => break end,
            message = channel.wait() => match message {
                Some(ChannelMsg::Data { data }) => program.input(data),
                Some(ChannelMsg::Eof) => program.close_input(),
                Some(ChannelMsg::Signal { signal }) => {
                    if let Some(signal) = signal_of(&signal) {
                        program.signal(signal);
                    }
                }
                Some(ChannelMsg::WindowChange { col_width, row_height, pix_width, pix_height }) => {
                    program.resize(Terminal::size(row_height, col_width, pix_width, pix_height));
                }
                // The client has gone: its program sees its terminal or its pipes close.
                Some(ChannelMsg::Close) | None => return,
                Some(other) => answer(&handle, id, wants_reply(&other), false).await,
            },
        }
    };
    // Whoever does not hear of it has gone.
    let _ = match end {
        End::Exited(code) => handle.exit_status_request(id, code).await,
        End::Killed(signal) => {
            let name = sig_of(signal);
            handle.exit_signal_request(id, name, false, String::new(), String::new()).await
        }
    };
    let _ = handle.eof(id).await;
    let _ = handle.close(id).await;
}

async fn answer(handle: &Handle, id: ChannelId, wanted: bool, success: bool) {
    let _ = match (wanted, success) {
        (false, _) => Ok(()),
        (true, true) => handle.channel_success(id).await,
        (true, false) => handle.channel_failure(id).await,
    };
}

/// What a client has asked for so far.
#[derive(Default)]
struct Wishes {
    variables: Vec<(String, String)>,
    bytes: usize,
    terminal: Option<Terminal>,
}

/// What a message means before the program runs.
enum Wish {
    Noted { reply: bool },
    Refused { reply: bool },
    Start { reply: bool, start: Start },
    Over,
}

impl Wishes {
    fn take(&mut self, message: ChannelMsg) -> Wish {
        #[expect(clippy::wildcard_enum_match_arm, reason = "the rest is refused, whatever it is")]
        match message {
            ChannelMsg::SetEnv { want_reply: reply, variable_name, variable_value } => {
                self.bytes += variable_name.len() + variable_value.len();
                let is_sound = !variable_name.is_empty()
                    && !variable_name.contains(['=', '\0'])
                    && !variable_value.contains('\0');
                if !is_sound
                    || self.variables.len() == MAX_VARIABLES
                    || self.bytes > MAX_VARIABLE_BYTES
                {
                    return Wish::Refused { reply };
                }
                self.variables.push((variable_name, variable_value));
                Wish::Noted { reply }
            }
            ChannelMsg::RequestPty {
                want_reply: reply,
                term,
                col_width,
                row_height,
                pix_width,
                pix_height,
                ..
            } => {
                if term.len() > 64 || term.contains('\0') {
                    return Wish::Refused { reply };
                }
                let size = Terminal::size(row_height, col_width, pix_width, pix_height);
                self.terminal = Some(Terminal { name: term, size });
                Wish::Noted { reply }
            }
            // Its size, should it be told before the program starts, is the terminal's next anyway.
            ChannelMsg::WindowChange { .. } => Wish::Noted { reply: false },
            ChannelMsg::Exec { want_reply: reply, command } => {
                if command.len() > MAX_COMMAND_BYTES || command.contains(&0) {
                    return Wish::Refused { reply };
                }
                let words = vec!["/bin/sh".into(), "-c".into(), OsString::from_vec(command)];
                Wish::Start { reply, start: self.start(words) }
            }
            ChannelMsg::RequestShell { want_reply: reply } => {
                let shell = ["/bin/bash", "/bin/sh"].into_iter().find(|shell| is_file(shell));
                let words = vec![shell.unwrap_or("/bin/sh").into(), "-l".into()];
                Wish::Start { reply, start: self.start(words) }
            }
            ChannelMsg::RequestSubsystem { want_reply: reply, name } => {
                let server = SFTP_SERVERS.into_iter().find(|program| is_file(program));
                match server.filter(|_| name == "sftp") {
                    Some(server) => {
                        self.terminal = None;
                        Wish::Start { reply, start: self.start(vec![server.into()]) }
                    }
                    None => Wish::Refused { reply },
                }
            }
            ChannelMsg::Close => Wish::Over,
            other => Wish::Refused { reply: wants_reply(&other) },
        }
    }

    fn start(&mut self, words: Vec<OsString>) -> Start {
        let variables = std::mem::take(&mut self.variables);
        Start { words, variables, terminal: self.terminal.take() }
    }
}

fn is_file(path: &str) -> bool {
    Path::new(path).is_file()
}

/// Whether the client waits for an answer to a message that is not served.
fn wants_reply(message: &ChannelMsg) -> bool {
    #[expect(clippy::wildcard_enum_match_arm, reason = "the others ask for nothing")]
    match message {
        ChannelMsg::RequestPty { want_reply, .. }
        | ChannelMsg::RequestShell { want_reply }
        | ChannelMsg::Exec { want_reply, .. }
        | ChannelMsg::RequestSubsystem { want_reply, .. }
        | ChannelMsg::RequestX11 { want_reply, .. }
        | ChannelMsg::SetEnv { want_reply, .. }
        | ChannelMsg::AgentForward { want_reply } => *want_reply,
        _ => false,
    }
}

/// The kernel's name of a signal of RFC 4254 §6.10; OpenSSH's clients send others by their names, too.
fn signal_of(signal: &Sig) -> Option<Signal> {
    Some(match signal {
        Sig::ABRT => Signal::SIGABRT,
        Sig::ALRM => Signal::SIGALRM,
        Sig::FPE => Signal::SIGFPE,
        Sig::HUP => Signal::SIGHUP,
        Sig::ILL => Signal::SIGILL,
        Sig::INT => Signal::SIGINT,
        Sig::KILL => Signal::SIGKILL,
        Sig::PIPE => Signal::SIGPIPE,
        Sig::QUIT => Signal::SIGQUIT,
        Sig::SEGV => Signal::SIGSEGV,
        Sig::TERM => Signal::SIGTERM,
        Sig::USR1 => Signal::SIGUSR1,
        Sig::Custom(name) => format!("SIG{name}").parse().ok()?,
    })
}

fn sig_of(signal: i32) -> Sig {
    let Ok(signal) = Signal::try_from(signal) else { return Sig::Custom(signal.to_string()) };
    #[expect(clippy::wildcard_enum_match_arm, reason = "the others go by their names")]
    match signal {
        Signal::SIGABRT => Sig::ABRT,
        Signal::SIGALRM => Sig::ALRM,
        Signal::SIGFPE => Sig::FPE,
        Signal::SIGHUP => Sig::HUP,
        Signal::SIGILL => Sig::ILL,
        Signal::SIGINT => Sig::INT,
        Signal::SIGKILL => Sig::KILL,
        Signal::SIGPIPE => Sig::PIPE,
        Signal::SIGQUIT => Sig::QUIT,
        Signal::SIGSEGV => Sig::SEGV,
        Signal::SIGTERM => Sig::TERM,
        Signal::SIGUSR1 => Sig::USR1,
        other => Sig::Custom(other.as_str().trim_start_matches("SIG").to_owned()),
    }
}
