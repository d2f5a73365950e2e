//! One file for each verb.

mod adopt;
mod backup;
mod check;
pub mod expire;
#[cfg(test)]
mod golden;
pub mod hold;
mod index;
mod init;
mod list;
mod log;
pub mod names;
mod plan;
mod receive;
mod restore;
mod status;
pub mod verify;
mod window;

use clap::CommandFactory;
pub use receive::ReceiveArgs;

pub use log::LogArgs;

use crate::args::{Cli, Command};
use crate::context::Context;
use crate::error::Error;
use crate::output;

/// Does what was asked for.
pub async fn run(cli: &Cli) -> Result<(), Error> {
    if let Command::Init(args) = &cli.command {
        return init::run(&cli.common, args).await;
    }
    if let Command::Completions { shell } = &cli.command {
        let mut script = Vec::new();
        clap_complete::generate(*shell, &mut Cli::command(), "highwater", &mut script);
        return output::print(&String::from_utf8_lossy(&script));
    }
    let context = Context::load(&cli.common)?;
    match &cli.command {
        Command::Check(args) => check::run(&context, args).await,
        Command::Backup(args) => backup::run(&context, args).await,
        Command::List => list::run(&context).await,
        Command::Names(args) => names::run(&context, args).await,
        Command::Window => window::run(&context).await,
        Command::Index => index::run(&context).await,
        Command::Log(args) => log::run(&context, args).await,
        Command::Plan(args) => plan::run(&context, args).await,
        Command::Restore(args) => restore::run(&context, args).await,
        Command::Verify(args) => verify::run(&context, args).await,
        Command::Receive(args) => receive::run(&context, args).await,
        Command::Status => status::run(&context).await,
        Command::Expire(args) => expire::run(&context, args).await,
        Command::Hold(args) => hold::run(&context, args).await,
        Command::Adopt(args) => adopt::run(&context, args).await,
        // Done above.
        Command::Init(_) | Command::Completions { .. } => Ok(()),
    }
}
