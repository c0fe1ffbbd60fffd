//! What a run shows while it works: a moving line on a terminal, plain lines otherwise.

use std::io::{self, IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

/// Between two lines about one step, without a terminal.
const NOW_AND_THEN: Duration = Duration::from_secs(5);

/// A step of a run that has ended.
#[derive(Clone, Debug, Serialize)]
pub struct Step {
    /// What was done.
    pub name: String,
    /// How long it took.
    pub seconds: f64,
}

/// The display. One step is under way at a time.
pub struct Progress {
    bar: Option<ProgressBar>,
    started: Instant,
    current: Option<(String, Instant)>,
    /// When it was said last how far the step is, without a terminal.
    said: Option<Instant>,
    done: Vec<Step>,
}

impl Progress {
    /// A display on standard error.
    pub fn new() -> Self {
        let bar = io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new_spinner();
            if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} {elapsed}") {
                bar.set_style(style);
            }
            bar.enable_steady_tick(Duration::from_millis(100));
            bar
        });
        Self { bar, started: Instant::now(), current: None, said: None, done: Vec::new() }
    }

    /// Ends the step under way and begins another.
    pub fn begin(&mut self, name: impl Into<String>) {
        self.end_step();
        let name = name.into();
        match &self.bar {
            Some(bar) => {
                bar.set_message(name.clone());
                bar.reset_elapsed();
            }
            None => self.line(&name),
        }
        self.current = Some((name, Instant::now()));
    }

    /// Says something about the step under way.
    pub fn note(&self, text: &str) {
        self.line(&format!("  {text}"));
    }

    /// Says how far the step under way is; without a terminal only now and then.
    pub fn now(&mut self, text: &str) {
        let Some((name, _)) = &self.current else { return };
        match &self.bar {
            Some(bar) => bar.set_message(format!("{name}: {text}")),
            None if self.said.is_none_or(|at| at.elapsed() >= NOW_AND_THEN) => {
                self.said = Some(Instant::now());
                self.line(&format!("  {text}"));
            }
            None => {}
        }
    }

    /// Ends the display and returns the steps.
    pub fn finish(mut self) -> Vec<Step> {
        self.end_step();
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        self.done
    }

    /// The name of the step under way.
    pub fn current(&self) -> Option<&str> {
        self.current.as_ref().map(|(name, _)| name.as_str())
    }

    fn end_step(&mut self) {
        let Some((name, since)) = self.current.take() else { return };
        let seconds = since.elapsed().as_secs_f64();
        if self.bar.is_some() {
            self.line(&format!("✓ {name} ({seconds:.1} s)"));
        }
        self.done.push(Step { name, seconds });
    }

    fn line(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.println(text),
            None => {
                let at = self.started.elapsed().as_secs_f64();
                let _ = writeln!(io::stderr(), "[{at:5.1} s] {text}");
            }
        }
    }
}

impl Default for Progress {
    fn default() -> Self {
        Self::new()
    }
}
