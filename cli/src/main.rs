//! The `highwater` command: every verb, thin. What a verb does is in the crates below; here are its arguments, its output and its
//! exit status.

mod archive_command;
mod args;
mod commands;
mod context;
mod error;
mod exit;
mod output;

use std::process::ExitCode;

use clap::Parser;

use args::Cli;
use error::Error;
use exit::Exit;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are what was asked for; everything else is bad usage. clap's own statuses are the same two.
            let exit = if error.use_stderr() { Exit::Usage } else { Exit::Done };
            // Nothing can be done about a terminal that cannot be written to.
            let _ = error.print();
            return exit.into();
        }
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(source) => return end(&Error::Io { what: "start threads".to_owned(), source }),
    };
    let result = runtime.block_on(async {
        // It ends in order by itself.
        if let args::Command::Receive(_) = &cli.command {
            return commands::run(&cli).await;
        }
        tokio::select! {
            result = commands::run(&cli) => result,
            signal = signalled() => Err(Error::Interrupted { signal, hint: cli.command.when_interrupted() }),
        }
    });
    // A thread that hangs on a dead network file system must not keep the program from ending.
    runtime.shutdown_timeout(std::time::Duration::from_secs(2));
    match result {
        Ok(()) => Exit::Done.into(),
        Err(error) => end(&error),
    }
}

fn end(error: &Error) -> ExitCode {
    if !matches!(error, Error::Told(_)) {
        eprintln!("highwater: {}", output::printable(&error.to_string()));
    }
    error.exit().into()
}

/// Waits for the signal to stop.
async fn signalled() -> &'static str {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut interrupt), Ok(mut terminate)) =
        (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        // Without handlers the system ends the program, which is as good: nothing half done counts.
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => "SIGINT",
        _ = terminate.recv() => "SIGTERM",
    }
}
