//! Backups of real servers, and what is in them.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::sync::Mutex;

use highwater_basebackup::{Amount, Options, Phase, Progress, Report, Result, run};
use highwater_replication::{Checkpoint, Config as Connection};
use highwater_repository::pack::ExtentReader;
use highwater_repository::{
    ClusterRepository, Config, Item, Label, ManifestHead, ManifestReader, Repository, Run,
};
use highwater_tests::{CLUSTER, Postgres, Site, give_to_server_account};

/// The repository of a site.
pub async fn repository(site: &Site) -> Repository {
    let config = Config::load(Some(&site.config())).expect("the site's configuration is right");
    Repository::open(&config.repositories[0]).await.expect("the site's repository is there")
}

/// A site, its repository, and a server that archives into it.
pub struct Setting {
    pub site: Site,
    pub repository: Repository,
    pub server: Postgres,
}

impl Setting {
    pub async fn new(builder: highwater_tests::postgres::Builder) -> Setting {
        Setting::on(Site::on_folder(), builder).await
    }

    pub async fn on(site: Site, builder: highwater_tests::postgres::Builder) -> Setting {
        let server = site.start_server(builder);
        let repository = repository(&site).await;
        Setting { site, repository, server }
    }

    /// Options for the server, with a checkpoint that is not waited for.
    pub fn options(&self) -> Options {
        options_for(&self.server)
    }

    pub async fn back_up(&self, change: impl FnOnce(&mut Options)) -> Result<Report> {
        let mut options = self.options();
        change(&mut options);
        run(&options, &self.repository, &()).await
    }

    pub async fn cluster(&self) -> ClusterRepository {
        let name = CLUSTER.parse().unwrap();
        let systems = self.repository.systems(&name).await.unwrap();
        self.repository.cluster(&name, systems[0])
    }

    /// The facts of a backup; nothing where it is not complete.
    pub async fn head(&self, label: &str) -> Option<ManifestHead> {
        self.cluster().await.backups().head(&label.parse().unwrap()).await.unwrap()
    }

    /// What the audit trail says of backups, oldest first: outcome and details.
    pub async fn events(&self) -> Vec<(String, serde_json::Value)> {
        let (names, _) = self.repository.event_names(None).await.unwrap();
        let mut events = Vec::new();
        for name in names {
            let event = self.repository.event(&name).await.unwrap();
            if event.action == "backup" {
                events.push((format!("{:?}", event.outcome), event.details.into()));
            }
        }
        events
    }

    /// Starts a server from the backup that recovers to the end of the archive.
    pub async fn recover(&self, label: &Label) -> Postgres {
        let data = self.site.path(&format!("restored-{label}"));
        self.unpack(label, &data).await;
        // A backup of a standby says that it is one.
        let _ = fs::remove_file(data.join("standby.signal"));
        fs::write(data.join("recovery.signal"), "").unwrap();
        // A backup of a standby brings its own.
        if data.join("standby.signal").exists() {
            fs::remove_file(data.join("standby.signal")).unwrap();
        }
        give_to_server_account(&data.join("recovery.signal"));
        let identity = self.repository.config().identity_file.as_ref();
        let identity = identity.map(|file| format!("HIGHWATER_REPOSITORY_IDENTITY_FILE={} ", file.display()));
        let command = identity.unwrap_or_default() + &self.site.restore_command();
        Postgres::from_data_dir(&data)
            .setting("archive_mode", "off")
            .setting("restore_command", &command)
            .try_recover()
            .unwrap_or_else(|failure| panic!("{failure}"))
    }

    /// Writes what a backup holds into `data`; tablespaces go beside it.
    pub async fn unpack(&self, label: &Label, data: &Path) {
        let backups = self.cluster().await.backups();
        let mut manifest = ManifestReader::open(&backups, label).await.unwrap();
        let reader = ExtentReader::new(&backups);
        make_folder(data, 0o700);
        for tablespace in &manifest.head().postgres.as_ref().unwrap().tablespaces {
            let place = data.with_extension(tablespace.oid.to_string());
            make_folder(&place, 0o700);
            let link = data.join(format!("pg_tblspc/{}", tablespace.oid));
            make_folder(link.parent().unwrap(), 0o700);
            symlink(&place, &link).unwrap();
        }
        let mut open = None;
        while let Some(item) = manifest.next().await.unwrap() {
            match item {
                Item::Folder(folder) => make_folder(&data.join(folder.path.as_path()), folder.mode),
                Item::Link(link) => panic!("{} is a link", link.path),
                Item::File(file) => {
                    let path = data.join(file.path.as_path());
                    fs::write(&path, "").unwrap();
                    fs::set_permissions(&path, fs::Permissions::from_mode(file.mode.into())).unwrap();
                    give_to_server_account(&path);
                    open = Some(path);
                }
                Item::Runs(runs) => append(open.as_ref().unwrap(), &reader, runs).await,
            }
        }
        // The server would lead the links back to the original's tablespaces.
        let _ = fs::remove_file(data.join("tablespace_map"));
    }
}

fn make_folder(path: &Path, mode: u16) {
    if !path.exists() {
        fs::create_dir(path).unwrap();
    }
    fs::set_permissions(path, fs::Permissions::from_mode(mode.into())).unwrap();
    give_to_server_account(path);
}

async fn append(path: &Path, reader: &ExtentReader, runs: Vec<Run>) {
    use std::io::Write;
    let mut file = fs::OpenOptions::new().append(true).open(path).unwrap();
    for run in runs {
        match run {
            Run::Zeros(length) => file.write_all(&vec![0; length as usize]).unwrap(),
            Run::Extents(extents) => {
                let fetched = reader.fetch(&extents).await.unwrap();
                let write =
                    |_: &_, plain: &[u8]| file.write_all(plain).map_err(highwater_repository::Error::Sink);
                fetched.each(&mut Vec::new(), write).unwrap();
            }
        }
    }
}

pub fn options_for(server: &Postgres) -> Options {
    let connection = Connection::parse(&server.connection_string()).unwrap();
    Options { checkpoint: Checkpoint::Fast, ..Options::new(connection, CLUSTER.parse().unwrap()) }
}

/// Keeps what it is told.
#[derive(Default)]
pub struct Told {
    pub phases: Mutex<Vec<Phase>>,
    pub notes: Mutex<Vec<String>>,
    pub amounts: Mutex<Vec<Amount>>,
}

impl Progress for Told {
    fn phase(&self, phase: &Phase) {
        self.phases.lock().unwrap().push(phase.clone());
    }

    fn advanced(&self, amount: &Amount) {
        self.amounts.lock().unwrap().push(*amount);
    }

    fn note(&self, text: &str) {
        self.notes.lock().unwrap().push(text.to_owned());
    }
}
