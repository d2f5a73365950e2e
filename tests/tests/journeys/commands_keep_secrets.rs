//! Secrets stay secret, and files are for whom they are meant, whatever the umask (R21).

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use highwater_tests::{Program, Site, binary};

use crate::commands::{Lab, archive, fetch, fill_segments, small_segments, start_quiet_server};

#[test]
fn r21_objects_have_their_modes_whatever_the_umask() {
    let site = Site::on_folder();
    let server = start_quiet_server(&site, small_segments());
    let names = fill_segments(&server, 2);
    for (umask, name) in ["000", "077"].iter().zip(&names) {
        let script =
            format!("umask {umask} && exec {} pg_wal/{name}", binary("highwater-archive-cmd").display());
        Program::new("sh", ["-c", &script])
            .config(&site.config())
            .in_folder(server.data_dir())
            .run()
            .succeeds();
        let object = site.objects(name).remove(0);
        assert_eq!(mode(&object), 0o640, "umask {umask}: {}", object.display());
        for folder in
            object.ancestors().skip(1).take_while(|folder| folder.starts_with(site.repository_folder()))
        {
            assert_eq!(mode(folder), 0o750, "umask {umask}: {}", folder.display());
        }
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn r21_no_secret_is_printed() {
    const SECRET: &str = "wJalrXUtnFEMIK7MDENG";
    const PASSPHRASE: &str = "correct-horse-battery";
    let site = Site::on_folder();
    let server = start_quiet_server(&site, small_segments());
    let name = fill_segments(&server, 1).remove(0);
    let data = server.data_dir();
    let folder = Lab::empty(&site, "folder", data).0;
    for url in [
        "s3://bucket/prefix?endpoint=http://127.0.0.1:9",
        "s3://b@d",
        "s3://bucket?secret-access-key=x",
        "nonsense",
    ] {
        let with_secrets = |program: Program| {
            program
                .env("HIGHWATER_REPOSITORY_URL", url)
                .env("HIGHWATER_REPOSITORY_REGION", "us-east-1")
                .env("HIGHWATER_REPOSITORY_RETRY_BUDGET", "0")
                .env("HIGHWATER_REPOSITORY_ACCESS_KEY_ID", "AKIAIOSFODNN7")
                .env("HIGHWATER_REPOSITORY_SECRET_ACCESS_KEY", SECRET)
                .env("HIGHWATER_REPOSITORY_PASSPHRASE", PASSPHRASE)
                .args(["--verbose"])
                .run()
        };
        for program in [archive(&site, data, &name), fetch(&site, &folder, &name, "x")] {
            with_secrets(program)
                .fails_clearly()
                .says("hint: ")
                .does_not_say(SECRET)
                .does_not_say(PASSPHRASE);
        }
    }
}
