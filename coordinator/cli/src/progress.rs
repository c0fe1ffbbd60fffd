//! How far a transfer is: a bar on a terminal, two lines elsewhere.

use std::io::{IsTerminal, stderr};

use coordinator_client::transfer::Progress;
use indicatif::{HumanBytes, ProgressBar, ProgressStyle};

/// Shows one transfer on the standard error.
pub(crate) struct Display {
    what: &'static str,
    bar: Option<ProgressBar>,
    begun: bool,
}

impl Display {
    /// For a transfer that is called `what`, such as "stage-in".
    pub(crate) fn new(what: &'static str) -> Self {
        let bar = stderr().is_terminal().then(|| {
            let style = "{msg} {bar:30} {bytes}/{total_bytes} {bytes_per_sec} {eta}";
            let style = ProgressStyle::with_template(style);
            ProgressBar::new(0)
                .with_message(what)
                .with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
        });
        Self { what, bar, begun: false }
    }

    /// The transfer is that far.
    pub(crate) fn show(&mut self, progress: Progress) {
        if let Some(bar) = &self.bar {
            bar.set_length(progress.total);
            bar.set_position(progress.done);
        } else if !self.begun {
            let (what, total) = (self.what, HumanBytes(progress.total));
            if progress.done == progress.total {
                eprintln!("{what}: {total}, nothing to send");
            } else if progress.done > 0 {
                eprintln!("{what}: {total}, going on at {}", HumanBytes(progress.done));
            } else {
                eprintln!("{what}: {total}");
            }
        }
        self.begun = true;
    }

    /// The transfer has ended, one way or the other.
    pub(crate) fn finish(self) {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
    }
}
