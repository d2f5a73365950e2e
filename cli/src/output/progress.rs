//! Progress of long work: a bar on a terminal, nothing anywhere else.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// A bar with bytes, rate and remaining time, or a spinner while the total is not known. It goes away when it is done.
#[derive(Debug)]
pub struct Bar(ProgressBar);

impl Bar {
    /// A bar on standard error, drawn only if that is a terminal and nobody asked for quiet.
    pub fn new(quiet: bool) -> Bar {
        let shown = !quiet && std::io::stderr().is_terminal();
        let target = if shown { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(None, target);
        if shown {
            bar.enable_steady_tick(Duration::from_millis(200));
        }
        Bar(bar)
    }

    /// What is being done, and how far it is: bytes done of so many, or of an unknown number.
    pub fn set(&self, phase: &str, done_bytes: u64, total_bytes: Option<u64>) {
        let template = match total_bytes {
            Some(total) => {
                // More can come than was announced: the server only estimates.
                self.0.set_length(total.max(done_bytes));
                "{msg} [{bar:30}] {bytes}/{total_bytes} {bytes_per_sec} {eta}"
            }
            None => "{spinner} {msg}",
        };
        // The templates are constants of the right form; a default bar would be shown otherwise.
        if let Ok(style) = ProgressStyle::with_template(template) {
            self.0.set_style(style.progress_chars("=> "));
        }
        self.0.set_message(phase.to_owned());
        self.0.set_position(done_bytes);
    }

    /// Lets something else be printed while the bar is out of the way.
    pub fn suspend(&self, print: impl FnOnce()) {
        self.0.suspend(print);
    }

    /// Takes the bar away.
    pub fn clear(&self) {
        self.0.finish_and_clear();
    }
}
