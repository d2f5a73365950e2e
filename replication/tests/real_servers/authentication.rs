//! Every way to prove who one is, against a real server.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::common::{config, nowhere, refusal, replication, sql, value};
use highwater_replication::{Config, Environment, Error, Mode, Password, connect};
use highwater_tests::Postgres;

const HBA: [&str; 10] = [
    "local all trusted trust",
    "local all clear password",
    "local all digest md5",
    "local all scram scram-sha-256",
    "local replication scram scram-sha-256",
    "host all clear 127.0.0.1/32 password",
    "host all digest 127.0.0.1/32 md5",
    "host all scram 127.0.0.1/32 scram-sha-256",
    "host replication scram 127.0.0.1/32 scram-sha-256",
    "host all rejected 127.0.0.1/32 reject",
];

/// With passwords that have something to trip over.
const PASSWORD: &str = r#"pass: "wo\rd" 'ü@/"#;

fn server(builder: highwater_tests::postgres::Builder) -> Postgres {
    let server = HBA.iter().fold(builder, |builder, line| builder.hba(line)).start();
    let password = format!("'{}'", PASSWORD.replace('\'', "''"));
    server.sql(&format!(
        "create role trusted login; create role rejected login; set password_encryption = 'md5';
         create role clear login password {password}; create role digest login password {password};
         set password_encryption = 'scram-sha-256'; create role scram login replication password {password}"
    ));
    server
}

fn written(password: &str) -> String {
    format!("'{}'", password.replace('\\', r"\\").replace('\'', r"\'"))
}

#[tokio::test]
async fn each_method_over_socket_tcp_and_tls() {
    let server = server(Postgres::builder().tls());
    let socket = format!("host={} port={}", server.folder().display(), server.address().port());
    let tcp = format!("host=127.0.0.1 port={} sslmode=disable", server.address().port());
    let tls = format!("host=localhost port={} sslmode=require", server.address().port());
    for place in [&socket, &tcp, &tls] {
        for user in ["clear", "digest", "scram"] {
            let given = format!("{place} dbname=postgres user={user} password={}", written(PASSWORD));
            let mut client = sql(&given).await.unwrap_or_else(|error| panic!("{place} {user}: {error}"));
            assert_eq!(value(&mut client, "select current_user").await, user);
            let error = refusal(sql(&format!("{place} dbname=postgres user={user} password=wrong")).await);
            assert_eq!(error.sqlstate(), Some("28P01"), "{error}");
            let error = refusal(sql(&format!("{place} dbname=postgres user={user}")).await).to_string();
            assert!(error.contains("asks for a password") && error.contains(".pgpass"), "{error}");
        }
    }
    let mut client = sql(&format!("{socket} dbname=postgres user=trusted")).await.unwrap();
    assert_eq!(value(&mut client, "select current_user").await, "trusted");
    let error = refusal(sql(&format!("{tcp} dbname=postgres user=rejected")).await);
    assert_eq!(error.sqlstate(), Some("28000"), "{error}");
}

#[tokio::test]
async fn methods_and_channel_binding_are_insisted_on() {
    let server = server(Postgres::builder().tls());
    let with = |user: &str, sslmode: &str, more: &str| {
        let port = server.address().port();
        let password = written(PASSWORD);
        format!(
            "host=localhost port={port} dbname=postgres user={user} password={password} sslmode={sslmode} {more}"
        )
    };
    for more in [
        "channel_binding=require",
        "channel_binding=prefer",
        "channel_binding=disable",
        "require_auth=scram-sha-256",
    ] {
        sql(&with("scram", "require", more)).await.unwrap_or_else(|error| panic!("{more}: {error}"));
        replication(&with("scram", "require", more)).await.unwrap_or_else(|error| panic!("{more}: {error}"));
    }
    for (user, sslmode, more, word) in [
        ("scram", "disable", "channel_binding=require", "channel binding is required"),
        ("digest", "require", "channel_binding=require", "channel binding is required"),
        ("digest", "require", "require_auth=scram-sha-256", "require_auth"),
        ("scram", "require", "require_auth=!scram-sha-256", "require_auth"),
        ("clear", "require", "require_auth=md5", "require_auth"),
    ] {
        let error = refusal(sql(&with(user, sslmode, more)).await).to_string();
        assert!(error.contains(word), "{user} {sslmode} {more}: {error}");
    }
}

#[tokio::test]
async fn the_password_comes_from_wherever_libpq_takes_it() {
    let server = server(Postgres::builder());
    let place = format!("host={} dbname=postgres user=scram", server.folder().display());
    let variables = [("PGPASSWORD".to_owned(), PASSWORD.to_owned())].into();
    let environment = Environment { variables, ..nowhere() };
    connect(&Config::in_environment(&place, &environment).unwrap(), Mode::Sql).await.unwrap();

    let home = tempfile::tempdir().unwrap();
    let file = home.path().join(".pgpass");
    let escaped = PASSWORD.replace('\\', r"\\").replace(':', r"\:");
    let lines = format!(
        "# a comment\nelsewhere:*:*:*:wrong\n{folder}:5432:replication:scram:{escaped}\n{folder}:*:*:*:wrong\n",
        folder = server.folder().display()
    );
    fs::write(&file, lines).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    let at_home = Environment { home: Some(home.path().to_owned()), ..nowhere() };
    let at_home = Config::in_environment(&place, &at_home).unwrap();
    let client = connect(&at_home, Mode::Replication).await.unwrap();
    assert!(client.warnings().is_empty());
    assert_eq!(
        refusal(connect(&at_home, Mode::Sql).await).sqlstate(),
        Some("28P01"),
        "the line for replication is not for SQL"
    );

    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    let error = refusal(connect(&at_home, Mode::Replication).await).to_string();
    assert!(error.contains(".pgpass was passed over") && error.contains("0600"), "{error}");
    let trusted = Config { user: "trusted".to_owned(), ..at_home };
    let client = connect(&trusted, Mode::Sql).await.unwrap();
    assert!(client.warnings()[0].contains(".pgpass was passed over"), "{:?}", client.warnings());

    let file = home.path().join("password");
    fs::write(&file, format!("{PASSWORD}\n")).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o440)).unwrap();
    let by_file = Config { password: Some(Password::read(&file).unwrap()), ..config(&place) };
    connect(&by_file, Mode::Replication).await.unwrap();
}

#[tokio::test]
async fn a_password_with_too_many_iterations_is_explained() {
    let server = server(Postgres::builder().version(16));
    let sql_text = "set scram_iterations = 100001; alter role scram password 'many'";
    server.sql(sql_text);
    let place = format!("host={} dbname=postgres user=scram password=many", server.folder().display());
    let error = refusal(sql(&place).await);
    assert!(error.to_string().contains("100001 SCRAM iterations"), "{error}");
    server.sql(&sql_text.replace("100001", "100000"));
    sql(&place).await.unwrap();
}

#[tokio::test]
async fn r21_no_error_and_no_log_shows_the_password() {
    let server = server(Postgres::builder());
    let place = format!("host={} dbname=postgres user=scram password=geheimnis", server.folder().display());
    let error = refusal(sql(&place).await);
    for shown in [format!("{error}"), format!("{error:?}"), format!("{:?}", config(&place)), server.log()] {
        assert!(!shown.contains("geheimnis"), "{shown}");
    }
}

#[tokio::test]
async fn who_serves_the_socket_is_looked_at() {
    let server = Postgres::start();
    let owner = if highwater_tests::is_root() {
        "postgres".to_owned()
    } else {
        Environment::of_this_process().unwrap().os_user.unwrap()
    };
    sql(&format!("{} requirepeer={owner}", server.connection_string())).await.unwrap();
    let error = refusal(sql(&format!("{} requirepeer=somebody", server.connection_string())).await);
    assert!(matches!(&error, Error::Connect { attempts } if attempts.len() == 1), "{error}");
    assert!(error.to_string().contains(&format!("runs as \"{owner}\"")), "{error}");
}
