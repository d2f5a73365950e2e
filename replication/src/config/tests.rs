//! Connection strings with their surroundings, against what libpq's documentation says.

use std::time::Duration;

use proptest::prelude::*;

use super::auth_methods::Method;
use super::*;

fn environment(variables: &[(&str, &str)]) -> Environment {
    Environment {
        variables: variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        home: Some("/home/me".into()),
        os_user: Some("me".to_owned()),
        system_folders: Vec::new(),
    }
}

fn config(text: &str) -> Config {
    in_environment(text, &[])
}

fn in_environment(text: &str, variables: &[(&str, &str)]) -> Config {
    Config::in_environment(text, &environment(variables)).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn refused(text: &str) -> String {
    let error = Config::in_environment(text, &environment(&[])).map(drop).unwrap_err().to_string();
    assert!(error.contains("hint: "), "{error}");
    error
}

fn servers(text: &str) -> String {
    config(text).servers.iter().map(Server::to_string).collect::<Vec<_>>().join("; ")
}

#[test]
fn nothing_at_all_means_the_local_server() {
    let config = config("");
    let sockets = ["/var/run/postgresql/.s.PGSQL.5432", "/tmp/.s.PGSQL.5432"];
    assert_eq!(config.servers.len(), 2);
    for (server, socket) in config.servers.iter().zip(sockets) {
        assert_eq!(server.host.socket_path(server.port), socket);
    }
    assert_eq!((config.user.as_str(), config.database.as_str()), ("me", "me"));
    assert_eq!(config.password, None);
    assert_eq!(config.passfile, Some("/home/me/.pgpass".into()));
    assert_eq!(config.tls.mode, SslMode::Prefer);
    assert_eq!(config.tls.root, RootCertificates::IfThere(Some("/home/me/.postgresql/root.crt".into())));
    assert_eq!(config.channel_binding, ChannelBinding::Prefer);
    assert_eq!(config.target_session, TargetSession::Any);
    assert_eq!(config.limits, Limits::default());
    assert!(config.keepalive.enabled && config.auth_methods == AuthMethods::ANY);
}

#[test]
fn hosts_and_ports_go_together() {
    for (text, expected) in [
        ("host=a", "host \"a\" port 5432"),
        ("host=a port=1", "host \"a\" port 1"),
        ("host=a,b port=1", "host \"a\" port 1; host \"b\" port 1"),
        ("host=a,b port=1,2", "host \"a\" port 1; host \"b\" port 2"),
        ("host=a,b port=,2", "host \"a\" port 5432; host \"b\" port 2"),
        ("host=/srv/run port=7", "socket \"/srv/run/.s.PGSQL.7\""),
        ("host=/srv/run/", "socket \"/srv/run/.s.PGSQL.5432\""),
        ("host=@name", "socket \"@name/.s.PGSQL.5432\""),
        ("hostaddr=10.0.0.1", "address 10.0.0.1 port 5432"),
        ("host=a hostaddr=10.0.0.1", "host \"a\" (10.0.0.1) port 5432"),
        ("host=a,b hostaddr=10.0.0.1,", "host \"a\" (10.0.0.1) port 5432; host \"b\" port 5432"),
        ("host=::1", "host \"::1\" port 5432"),
        ("postgresql://[::1]:1,b:2/d", "host \"::1\" port 1; host \"b\" port 2"),
        ("postgresql:///d?host=/srv/run", "socket \"/srv/run/.s.PGSQL.5432\""),
        ("postgresql://%2Fsrv%2Frun:7/", "socket \"/srv/run/.s.PGSQL.7\""),
        (
            "host=,b",
            "socket \"/var/run/postgresql/.s.PGSQL.5432\"; socket \"/tmp/.s.PGSQL.5432\"; host \"b\" port 5432",
        ),
    ] {
        assert_eq!(servers(text), expected, "{text}");
    }
    for (text, word) in [
        ("host=a,b port=1,2,3", "as many ports as hosts"),
        ("host=a port=1,2", "as many ports as hosts"),
        ("host=a,b hostaddr=10.0.0.1", "as many hosts as addresses"),
        ("port=0", "not a port number"),
        ("port=65536", "not a port number"),
        ("port=a", "not a port number"),
    ] {
        assert!(refused(text).contains(word), "{text}: {}", refused(text));
    }
}

#[test]
fn the_string_comes_before_the_environment_and_the_last_of_a_name_counts() {
    let variables = [
        ("PGHOST", "envhost"),
        ("PGPORT", "1"),
        ("PGUSER", "envuser"),
        ("PGDATABASE", "envdb"),
        ("PGPASSWORD", "envpass"),
        ("PGPASSFILE", "/env/pass"),
        ("PGAPPNAME", "envapp"),
        ("PGOPTIONS", "-c a=b"),
        ("PGSSLMODE", "require"),
        ("PGSSLROOTCERT", "/env/root"),
        ("PGSSLCERT", "/env/cert"),
        ("PGSSLKEY", "/env/key"),
        ("PGCONNECT_TIMEOUT", "7"),
        ("PGCHANNELBINDING", "require"),
        ("PGTARGETSESSIONATTRS", "primary"),
        ("PGREQUIREAUTH", "scram-sha-256"),
    ];
    let from_environment = in_environment("", &variables);
    assert_eq!(from_environment.servers[0].to_string(), "host \"envhost\" port 1");
    assert_eq!((from_environment.user.as_str(), from_environment.database.as_str()), ("envuser", "envdb"));
    assert_eq!(from_environment.password, Some(Password::new("envpass")));
    assert_eq!(from_environment.passfile, Some("/env/pass".into()));
    assert_eq!(from_environment.application_name.as_deref(), Some("envapp"));
    assert_eq!(from_environment.options.as_deref(), Some("-c a=b"));
    assert_eq!(from_environment.tls.mode, SslMode::Require);
    assert_eq!(from_environment.tls.root, RootCertificates::File("/env/root".into()));
    assert_eq!(from_environment.tls.certificate, Some("/env/cert".into()));
    assert!(from_environment.tls.certificate_is_named);
    assert_eq!(from_environment.tls.key, Some("/env/key".into()));
    assert_eq!(from_environment.limits.connect, Duration::from_secs(7));
    assert_eq!(from_environment.channel_binding, ChannelBinding::Require);
    assert_eq!(from_environment.target_session, TargetSession::Primary);
    assert!(!from_environment.auth_methods.allow(Method::Md5));

    let text =
        "host=x host=h port=2 user=u dbname=d password=p passfile=/f sslmode=disable connect_timeout=3";
    let from_string = in_environment(text, &variables);
    assert_eq!(from_string.servers[0].to_string(), "host \"h\" port 2");
    assert_eq!((from_string.user.as_str(), from_string.database.as_str()), ("u", "d"));
    assert_eq!(from_string.password, Some(Password::new("p")));
    assert_eq!(from_string.passfile, Some("/f".into()));
    assert_eq!(from_string.tls.mode, SslMode::Disable);
    assert_eq!(from_string.limits.connect, Duration::from_secs(3));

    assert_eq!(in_environment("user=''", &variables).user, "me", "an empty one hides the environment's");
}

#[test]
fn settings_have_libpqs_values() {
    for (text, limit) in [("connect_timeout=0", 30), ("connect_timeout=-1", 30), ("connect_timeout=' 5 '", 5)]
    {
        assert_eq!(config(text).limits.connect, Duration::from_secs(limit), "{text}");
    }
    for (word, mode) in SslMode::WORDS {
        assert_eq!(config(&format!("sslmode={word}")).tls.mode, mode);
    }
    assert_eq!(config("sslrootcert=system").tls.mode, SslMode::VerifyFull);
    assert_eq!(config("fallback_application_name=f").application_name.as_deref(), Some("f"));
    assert_eq!(
        config("fallback_application_name=f application_name=a").application_name.as_deref(),
        Some("a")
    );
    assert_eq!(config("sslcertmode=disable").tls.certificate, None);
    let versions = |text| config(text).tls.versions;
    assert_eq!(versions(""), TlsVersions { v12: true, v13: true });
    assert_eq!(versions("ssl_min_protocol_version=TLSv1.3"), TlsVersions { v12: false, v13: true });
    assert!(!versions("ssl_min_protocol_version=TLSv1 ssl_max_protocol_version=TLSv1.2").v13);
    let keepalive =
        config("keepalives=1 keepalives_idle=60 keepalives_count=0 tcp_user_timeout=500").keepalive;
    assert_eq!((keepalive.idle, keepalive.count), (Some(Duration::from_secs(60)), None));
    assert_eq!(keepalive.user_timeout, Some(Duration::from_millis(500)));
    assert!(!config("keepalives=0").keepalive.enabled);
    // What changes nothing is passed over.
    config(
        "gssencmode=prefer client_encoding=latin1 krbsrvname=x sslcompression=1 load_balance_hosts=disable",
    );
}

#[test]
fn what_cannot_be_is_refused_with_its_name() {
    for (text, words) in [
        ("hots=a", &["\"hots\"", "\"host\""][..]),
        ("sslmode=maybe", &["sslmode", "verify-full"]),
        ("channel_binding=x", &["channel_binding"]),
        ("target_session_attrs=master", &["target_session_attrs", "primary"]),
        ("connect_timeout=soon", &["connect_timeout", "whole number"]),
        ("require_auth=md6", &["require_auth"]),
        ("sslrootcert=system sslmode=require", &["sslmode", "verify-full"]),
        ("sslnegotiation=direct sslmode=prefer", &["sslnegotiation", "sslmode=require"]),
        ("ssl_max_protocol_version=TLSv1.1", &["ssl_max_protocol_version"]),
        ("gssencmode=require", &["gssencmode", "disable, prefer"]),
        ("load_balance_hosts=random", &["load_balance_hosts"]),
        ("sslpassword=x", &["sslpassword", "openssl pkey"]),
        ("replication=database", &["replication"]),
        ("service=none", &["no service \"none\""]),
    ] {
        let error = refused(text);
        for word in words {
            assert!(error.contains(word), "{text}: {error}");
        }
    }
    let error =
        Config::in_environment("", &environment(&[("PGPORT", "x")])).map(drop).unwrap_err().to_string();
    assert!(error.starts_with("PGPORT: "), "{error}");
    let nobody = Environment { os_user: None, ..environment(&[]) };
    assert!(Config::in_environment("", &nobody).map(drop).unwrap_err().to_string().contains("PGUSER"));
    assert_eq!(Config::in_environment("user=u", &nobody).unwrap().user, "u");
}

#[test]
fn a_service_stands_between_string_and_environment() {
    let home = tempfile::tempdir().unwrap();
    std::fs::write(home.path().join(".pg_service.conf"), "[main]\nhost=s\nport=2\nuser=su\nsslmode=bad\n")
        .unwrap();
    let surroundings = Environment {
        home: Some(home.path().to_owned()),
        ..environment(&[("PGSERVICE", "main"), ("PGHOST", "e")])
    };
    let config = Config::in_environment("user=u sslmode=require", &surroundings).unwrap();
    assert_eq!(config.servers[0].to_string(), "host \"s\" port 2");
    assert_eq!(config.user, "u");
    let error = Config::in_environment("", &surroundings).map(drop).unwrap_err().to_string();
    assert!(error.starts_with("sslmode (service file): "), "{error}");
}

#[test]
fn r21_no_slip_of_the_pen_shows_a_password() {
    for text in [
        "password=my geheim",
        "password=my geheim=1",
        "user=u password='my geheim",
        "password=x port=geheim",
        "postgresql://u:p/geheim@h/d",
        "postgresql://u:geheim/x@h/d",
        "postgresql://u:p@geheim@h/d",
        "postgresql://u:p/x?geheim=x@h/d",
        "postgresql://u:12/a?geheim=x@h",
        "postgresql://u:gehe%im@h/d",
        "postgresql://u:p%/geheim@h",
        "sslmode=geheim",
        "port=geheim",
    ] {
        let error = Config::in_environment(text, &environment(&[])).map(drop).unwrap_err();
        assert!(
            !error.to_string().contains("gehei") && !format!("{error:?}").contains("gehei"),
            "{text}: {error}"
        );
    }
    let config = config("password=geheim");
    let surroundings = environment(&[("PGPASSWORD", "geheim")]);
    assert!(!format!("{config:?} {config:#?} {surroundings:?}").contains("geheim"));
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in ".*") {
        let _ = Config::in_environment(&text, &environment(&[]));
    }

    #[test]
    fn r21_a_password_never_comes_out(password in "[a-zA-Z0-9@:/?#%&=' ]{12,20}", form in 0..3u8) {
        let text = match form {
            0 => format!("user=u password={password} host=h"),
            1 => format!("postgresql://u:{password}@h/d"),
            _ => format!("password='{password}'"),
        };
        let shown = match Config::in_environment(&text, &environment(&[])) {
            Ok(config) => format!("{:?}", Config { servers: Vec::new(), ..config }),
            Err(error) => format!("{error} {error:?}"),
        };
        prop_assert!(!shown.contains(&password), "{}", shown);
    }
}
