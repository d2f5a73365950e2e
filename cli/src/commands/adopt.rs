//! `highwater adopt`: lets a data directory archive: a restored clone that is to live on, or a cluster whose system
//! identifier is new after `pg_upgrade`.

use std::path::Path;

use highwater_basebackup::advice::ServerSettings;
use highwater_replication::Mode;
use highwater_repository::Repository;
use highwater_repository::marker::Marker;
use serde_json::json;

use crate::args::AdoptArgs;
use crate::context::Context;
use crate::error::Error;
use crate::output;

pub async fn run(context: &Context, args: &AdoptArgs) -> Result<(), Error> {
    let cluster = context.cluster_config()?;
    let mut client = context.connect(Mode::Sql).await?;
    let server = ServerSettings::ask(&mut client).await?;
    client.close().await;
    let data_directory = Path::new(&server.data_directory);
    if !data_directory.join("PG_VERSION").is_file() {
        return Err(Error::usage(format!(
            "the server's data directory {} is not on this machine, or not to be looked into by this user; hint: run \
             adopt on the server's machine, as PostgreSQL's user",
            server.data_directory
        )));
    }
    let marker = Marker::read(data_directory)?.filter(Marker::forbids_archiving);
    let is_its_original = |marker: &&Marker| {
        marker.cluster == cluster.name && marker.system_id == server.system_id && !args.takeover
    };
    if let Some(marker) = marker.as_ref().filter(is_its_original) {
        return Err(Error::usage(format!(
            "this is a clone of cluster {}, and would archive beside its original under the same name; hint: give it a \
             name of its own, [cluster.NEW-NAME] in the configuration, or adopt it with --takeover if the original never \
             starts again",
            marker.cluster
        )));
    }
    let mut client = context.connect(Mode::Replication).await?;
    let timeline = client.identify_system().await?.timeline;
    let mut known_in = Vec::new();
    for config in context.repository_configs()? {
        let repository = Repository::open(&config).await?;
        if !args.dry_run {
            let place = repository.cluster(&cluster.name, server.system_id);
            // What was there before was compared: another segment size or version is an error.
            let _ = place.register(server.segment_size, server.major_version()).await?;
            // The server has archived no history of its timeline: archiving was off when that began.
            highwater_basebackup::put_history(&mut client, timeline, &place).await?;
        }
        known_in.push(repository.url());
    }
    client.close().await;
    if !args.dry_run {
        // Last: until every repository knows the cluster it could archive nothing.
        Marker::remove(data_directory)?;
    }
    let answer =
        Answer { name: cluster.name.to_string(), server: &server, marker, known_in, dry_run: args.dry_run };
    if context.common.json { output::json(&answer.json()) } else { output::print(&answer.text()) }
}

/// What is told at the end.
struct Answer<'a> {
    name: String,
    server: &'a ServerSettings,
    marker: Option<Marker>,
    known_in: Vec<String>,
    dry_run: bool,
}

impl Answer<'_> {
    fn json(&self) -> serde_json::Value {
        json!({
            "cluster": self.name,
            "system_id": self.server.system_id,
            "data_directory": self.server.data_directory,
            "clone_of": self.marker.as_ref().map(|marker| &marker.cluster),
            "repositories": self.known_in,
            "dry_run": self.dry_run,
        })
    }

    fn text(&self) -> String {
        let (will, would) = if self.dry_run { ("would be", "Would remove") } else { ("is", "Removed") };
        let mut text = format!(
            "Cluster {} with system identifier {} {will} known in {}.\n",
            self.name,
            self.server.system_id,
            self.known_in.join(", ")
        );
        if let Some(marker) = &self.marker {
            let folder = &self.server.data_directory;
            // Its restore_command would fetch the original's WAL for every standby that is made from it.
            let resets = ["restore_command"]
                .into_iter()
                .chain(highwater_restore::settings_of_a_clone())
                .chain(highwater_restore::settings_of_a_target())
                .map(|name| format!("    ALTER SYSTEM RESET {name};\n"))
                .collect::<String>();
            text += &format!(
                "{would} {folder}/highwater.clone: the clone of {} may archive.\n\n\
                 The restore has kept it apart by these settings, and told it where to stop; take them back, archive_mode at least, see that\n\
                 archive_command names cluster {}, and restart it:\n\n{resets}",
                marker.cluster, self.name
            );
        }
        text + "\nThen run `highwater check`, and take a base backup: `highwater backup`.\n"
    }
}
