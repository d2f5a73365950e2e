use super::*;

fn parse(text: &str, variables: &[(&str, &str)]) -> Result<Config> {
    Config::parse(
        text,
        "highwater.toml",
        variables.iter().map(|(name, value)| ((*name).into(), (*value).into())),
    )
}

fn refused(text: &str, variables: &[(&str, &str)]) -> String {
    let error = parse(text, variables).unwrap_err();
    assert!(error.is_config(), "{error:?}");
    let text = error.to_string();
    assert!(text.contains("hint: "), "{text}");
    text
}

const WHOLE: &str = r#"
[repository]
url = "s3://backups/prod?region=eu-central-1"
compression = "zstd"
compression-level = 3
threads = 3
encrypt-to = ["age1abc", "age1def"]
identity-file = "/etc/highwater/identity.txt"
endpoint = "https://127.0.0.1:9000"
path-style = true
request-timeout = "5s"
allow-unsafe-store = true

[cluster.main]
connection = "host=/run/postgresql user=backup"
data-directory = "/var/lib/postgresql/15/main"
archive-check = "header"
archive-ahead = 0
restore-ahead = 32
password-file = "/etc/highwater/password"

[cluster.other]
"#;

#[test]
fn a_file_is_read_whole() {
    let config = parse(WHOLE, &[]).unwrap();
    let [repository] = config.repositories.as_slice() else { panic!() };
    assert_eq!(repository.compression(), Compression { codec: Codec::Zstd, level: 3, threads: 3 });
    assert_eq!(repository.encrypt_to, ["age1abc", "age1def"]);
    assert_eq!(repository.identity_file.as_deref(), Some(Path::new("/etc/highwater/identity.txt")));
    assert_eq!(repository.store.endpoint.as_deref(), Some("https://127.0.0.1:9000"));
    assert_eq!(repository.store.path_style, Some(true));
    assert_eq!(repository.store.request_timeout, Some(std::time::Duration::from_secs(5)));
    assert!(repository.allow_unsafe_store);
    assert_eq!(repository.label(), "s3://backups/prod");

    let name = "main".parse().unwrap();
    let cluster = config.cluster(Some(&name)).unwrap();
    assert_eq!(cluster.connection.as_ref().unwrap().expose(), "host=/run/postgresql user=backup");
    assert_eq!(cluster.archive_check, Check::Header);
    assert_eq!(cluster.data_directory.as_deref(), Some(Path::new("/var/lib/postgresql/15/main")));
    assert_eq!((cluster.archive_ahead, cluster.restore_ahead), (0, 32));
    let other = &config.clusters[1];
    assert_eq!((other.archive_check, other.archive_ahead, other.restore_ahead), (Check::Full, 4, 8));
    let error = parse("[repository]\nurl='file:///r'\n[cluster.a]\narchive-ahead = 33", &[]).unwrap_err();
    assert!(error.to_string().contains("33 is not from 0 to 32"), "{error}");
}

#[test]
fn the_only_cluster_needs_no_name() {
    let one = parse("[repository]\nurl='file:///r'\n[cluster.a]", &[]).unwrap();
    assert_eq!(one.cluster(None).unwrap().name.as_str(), "a");
    assert!(one.cluster(Some(&"b".parse().unwrap())).unwrap_err().to_string().contains("--cluster: a"));
    let two = parse("[repository]\nurl='file:///r'\n[cluster.a]\n[cluster.b]", &[]).unwrap();
    assert!(two.cluster(None).unwrap_err().to_string().contains("--cluster: a, b"));
    let none = parse("[repository]\nurl='file:///r'", &[]).unwrap();
    assert!(none.cluster(None).unwrap_err().to_string().contains("[cluster.NAME]"));
}

#[test]
fn each_setting_is_known_to_its_struct_and_has_a_variable() {
    // A name in the lists that the struct does not have would be refused by it as unknown.
    for setting in repository_settings().chain(cluster_settings()) {
        for value in ["1", "true", "file:///r", "lz4", "5s", "static", "full"] {
            let table =
                if cluster_settings().any(|known| known == setting) { "CLUSTER_MAIN" } else { "REPOSITORY" };
            let name = format!("HIGHWATER_{table}_{}", setting.to_uppercase().replace('-', "_"));
            if let Err(error) = parse("[repository]\nurl='file:///r'", &[(&name, value)]) {
                assert!(!error.to_string().contains("unknown field"), "{error}");
            }
        }
    }
}

#[test]
fn variables_win_over_the_file_and_can_stand_alone() {
    let config = parse(
        WHOLE,
        &[
            ("HIGHWATER_REPOSITORY_COMPRESSION", "lz4"),
            ("HIGHWATER_REPOSITORY_ENCRYPT_TO", "age1x, age1y,"),
            ("HIGHWATER_REPOSITORY_THREADS", " 2 "),
            ("HIGHWATER_REPOSITORY_PATH_STYLE", "false"),
            ("HIGHWATER_CLUSTER_MAIN_ARCHIVE_CHECK", "full"),
            ("HIGHWATER_CLUSTER_MAIN_PASSWORD", "secret"),
            ("HIGHWATER_CLUSTER_NEW_ONE_DATA_DIRECTORY", "/new"),
            ("HIGHWATER_CONFIG", "/elsewhere"),
            ("HIGHWATER_SERVICE_HOST", "10.0.0.1"),
            ("PATH", "/bin"),
        ],
    )
    .unwrap();
    let repository = &config.repositories[0];
    assert_eq!(repository.compression(), Compression { codec: Codec::Lz4, level: 3, threads: 2 });
    assert_eq!(repository.encrypt_to, ["age1x", "age1y"]);
    assert_eq!(repository.store.path_style, Some(false));
    let names: Vec<_> = config.clusters.iter().map(|cluster| cluster.name.as_str()).collect();
    assert_eq!(names, ["main", "new_one", "other"]);
    assert_eq!(config.clusters[0].archive_check, Check::Full);
    assert_eq!(config.clusters[1].data_directory.as_deref(), Some(Path::new("/new")));

    let alone =
        parse("", &[("HIGHWATER_REPOSITORY_URL", "file:///r"), ("HIGHWATER_CLUSTER_DB_CONNECTION", "")])
            .unwrap();
    assert_eq!(alone.repositories[0].label(), "file:///r");
    assert_eq!(alone.cluster(None).unwrap().name.as_str(), "db");
}

#[test]
fn several_repositories_have_names_and_variables_of_their_own() {
    let text =
        "[[repository]]\nname='on-site'\nurl='file:///a'\n[[repository]]\nname='off-site'\nurl='file:///b'\n";
    let config = parse(text, &[("HIGHWATER_REPOSITORY_OFF_SITE_COMPRESSION", "zstd")]).unwrap();
    let codecs: Vec<_> = config.repositories.iter().map(|repository| repository.compression).collect();
    assert_eq!(codecs, [Codec::Lz4, Codec::Zstd]);
    assert_eq!(config.repositories[1].label(), "off-site");

    assert!(
        refused(text, &[("HIGHWATER_REPOSITORY_URL", "file:///c")]).contains("HIGHWATER_REPOSITORY_NAME_URL")
    );
    assert!(
        refused("[[repository]]\nurl='file:///a'\n[[repository]]\nurl='file:///b'", &[])
            .contains("file:///a has no name")
    );
    let twice = "[[repository]]\nname='a'\nurl='file:///a'\n[[repository]]\nname='a'\nurl='file:///b'";
    assert!(refused(twice, &[]).contains("two repositories are named a"));
}

#[test]
fn r22_what_is_not_known_is_named_with_its_line_and_the_nearest() {
    for (text, variables, expected) in [
        (
            "[repository]\nurl='file:///r'\nencrypt_too=[]\n",
            vec![],
            "highwater.toml line 3: the setting encrypt_too is not known; hint: did you mean encrypt-to?",
        ),
        (
            "\n[repositry]\nurl='file:///r'\n",
            vec![],
            "highwater.toml line 2: the setting repositry is not known; hint: did you mean repository?",
        ),
        (
            "[repository]\nurl='file:///r'\n[cluster.main]\ndata_directory='/x'",
            vec![],
            "line 4: the setting data_directory is not known; hint: did you mean data-directory?",
        ),
        (
            "[repository]\nurl='file:///r'\n[cluster.main]\nzzzzzzzzzzzz=1",
            vec![],
            "hint: a cluster has these: connection,",
        ),
        (
            "",
            vec![("HIGHWATER_REPOSITORY_ENCRYPT_TOO", "x")],
            "environment variable HIGHWATER_REPOSITORY_ENCRYPT_TOO: the setting encrypt-too is not known; hint: did you mean encrypt-to?",
        ),
        ("", vec![("HIGHWATER_CLUSTER_MAIN_DATADIRECTORY", "x")], "did you mean data-directory?"),
        ("", vec![], "no repository is configured"),
        ("[repository]\n", vec![], "highwater.toml line 1: the setting url is missing"),
        ("[repository]\nurl=1\n", vec![], "highwater.toml line 2: url: invalid type"),
        (
            "[repository]\nurl='file:///r'\ncompression='lzma'",
            vec![],
            "line 3: compression: unknown variant `lzma`",
        ),
        (
            "[repository]\nurl='file:///r'\ncompression-level=20",
            vec![],
            "compression-level: 20 is not from 1 to 19",
        ),
        ("[repository]\nurl='file:///r'\nthreads=0", vec![], "threads: 0 is not from 1 to 16"),
        (
            "[repository]\nurl='file:///r'",
            vec![("HIGHWATER_REPOSITORY_THREADS", "many")],
            "HIGHWATER_REPOSITORY_THREADS: threads: \"many\" is not a whole number",
        ),
        ("[repository]\nurl='file:///r'\n[cluster.\"a/b\"]", vec![], "line 3: the cluster's name"),
        ("[repository\nurl='file:///r'", vec![], "highwater.toml line 1"),
        ("repository='file:///r'", vec![], "repository is not a table"),
        ("cluster=1", vec![], "cluster is not a table"),
        ("[repository]\nurl='file:///r'\n[cluster]\nmain=1", vec![], "[cluster.NAME]"),
        ("repository=[1]", vec![], "repository is not a table"),
    ] {
        let message = refused(text, &variables);
        assert!(message.contains(expected), "{message}\nlacks\n{expected}");
    }
}

#[test]
fn r21_secrets_are_never_printed() {
    let secrets = [
        ("HIGHWATER_REPOSITORY_PASSPHRASE", "hunter2"),
        ("HIGHWATER_REPOSITORY_SECRET_ACCESS_KEY", "hunter2"),
        ("HIGHWATER_REPOSITORY_SESSION_TOKEN", "hunter2"),
        ("HIGHWATER_CLUSTER_MAIN_PASSWORD", "hunter2"),
        ("HIGHWATER_CLUSTER_MAIN_CONNECTION", "password=hunter2"),
    ];
    let config = parse(WHOLE, &secrets).unwrap();
    assert!(!format!("{config:?}").contains("hunter2"), "{config:?}");
    for wrong in [
        "[repository]\nurl='file:///r'\npassphrase=12345",
        "[repository]\nurl='file:///r'\n[cluster.a]\npassword=12345",
    ] {
        assert!(!refused(wrong, &[]).contains("12345"));
    }
    assert!(!refused("[repository]\nurl='file:///r'\npassphrase='hunter2", &[]).contains("hunter2"));
}

#[test]
fn secrets_come_from_files_too() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("secret");
    let config = |extra: &str| {
        let text = format!("[repository]\nurl='file:///r'\npassphrase-file='{}'\n{extra}", path.display());
        parse(&text, &[]).unwrap().repositories.remove(0)
    };
    assert!(config("").passphrase().unwrap_err().to_string().contains("hint: "), "there is no such file");
    for (content, expected) in [("abc\n", "abc"), ("abc\r\n", "abc"), (" a b ", " a b ")] {
        fs::write(&path, content).unwrap();
        assert_eq!(config("").passphrase().unwrap().unwrap().expose(), expected);
    }
    assert!(config("passphrase='x'").passphrase().unwrap_err().to_string().contains("both set"));
    fs::write(&path, "\n").unwrap();
    assert!(config("").passphrase().unwrap_err().to_string().contains("empty"));
}

#[test]
fn a_file_that_was_named_must_be_there() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("highwater.toml");
    let error = Config::load(Some(&path)).unwrap_err();
    assert!(error.is_config() && error.to_string().contains("hint: "), "{error}");
    fs::write(&path, WHOLE).unwrap();
    assert_eq!(Config::load(Some(&path)).unwrap().clusters.len(), 2);
    fs::write(&path, vec![b'#'; 2 << 20]).unwrap();
    assert!(Config::load(Some(&path)).is_err());
}

#[test]
fn r22_the_document_lists_every_setting() {
    let document = include_str!("../../../docs/OPERATIONS.md");
    let rows: String = document.lines().filter(|line| line.starts_with("| `")).collect();
    for setting in repository_settings().chain(cluster_settings()) {
        assert!(rows.contains(&format!("`{setting}`")), "docs/OPERATIONS.md has no row for {setting}");
    }
}

#[test]
fn retention_is_set_for_all_and_for_one_cluster() {
    let text = "[repository]\nurl = 'file:///r'\n[retention]\nwindow = '14d'\nbackups = 3\nutc-offset = '+01:00'\n\
        [cluster.main]\n[cluster.main.retention]\nbackups = 5\n[cluster.other]\n";
    let variables =
        [("HIGHWATER_RETENTION_WEEKLY", "4"), ("HIGHWATER_CLUSTER_OTHER_RETENTION_MINIMUM_AGE", "36h")];
    let config = parse(text, &variables).unwrap();
    let of = |name: &str| config.retention(&name.parse().unwrap());
    let day = std::time::Duration::from_secs(86_400);
    assert_eq!(
        (of("main").window, of("main").backups, of("main").weekly),
        (Some(14 * day), Some(5), Some(4))
    );
    assert_eq!((of("other").backups, of("other").minimum_age), (Some(3), Some(day * 3 / 2)));
    assert_eq!(of("main").utc_offset.map(|offset| offset.whole_hours()), Some(1));
    assert_eq!(of("main").minimum_age, None);
    assert_eq!(of("a-third"), config.retention);

    for (line, told) in [
        ("[retention]\nwindows = '1d'", "did you mean window?"),
        ("[retention]\nwindow = '14 days'", "write it as 14d"),
        ("[retention]\nutc-offset = 'CET'", "write it as +01:00"),
        ("[retention]\nbackups = -1", "backups"),
        ("retention = 3", "[retention]"),
        ("[cluster.main]\nretention = 3", "[cluster.NAME.retention]"),
        ("[cluster.main.retention]\ndayly = 3", "did you mean daily?"),
    ] {
        let text = format!("{line}\n[repository]\nurl = 'file:///r'\n");
        let message = refused(&text, &[]);
        assert!(message.contains(told), "{message}");
    }
    assert!(
        refused("[repository]\nurl = 'file:///r'", &[("HIGHWATER_RETENTION_DAYS", "3")]).contains("hint")
    );
}
