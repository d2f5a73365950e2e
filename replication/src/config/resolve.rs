//! From settings to a [`Config`]: defaults and what does not go together.
//!
//! The rules are those of `pqConnectOptions2` in `fe-connect.c` (PostgreSQL 18).

use std::path::PathBuf;
use std::time::Duration;

use super::parameters::Parameters;
use super::{
    AuthMethods, ChannelBinding, Config, Environment, Host, Keepalive, Limits, RootCertificates, Server,
    SslMode, SslNegotiation, TargetSession, TlsSettings, TlsVersions,
};
use crate::{Error, Password, Result};

const DEFAULT_PORT: u16 = 5432;

pub(super) fn resolve(connection: &str, environment: &Environment) -> Result<Config> {
    let given = Parameters::gather(connection, environment)?;
    let user = match given.owned("user").or_else(|| environment.os_user.clone()) {
        Some(user) => user,
        None => {
            let reason = "the operating system has no name for the user of this process".to_owned();
            let hint = "write user=NAME into the connection string, or set PGUSER";
            return Err(Error::Setting { setting: "user".to_owned(), reason, hint });
        }
    };
    let tls = tls(&given, environment)?;
    Ok(Config {
        servers: servers(&given)?,
        database: given.owned("dbname").unwrap_or_else(|| user.clone()),
        user,
        password: given.text("password").map(Password::new),
        passfile: given.text("passfile").map(PathBuf::from).or_else(|| environment.in_home(".pgpass")),
        auth_methods: given
            .parse(
                "require_auth",
                "write password, md5, scram-sha-256, none, or each of them with ! in front",
            )?
            .unwrap_or(AuthMethods::ANY),
        channel_binding: given
            .choose(
                "channel_binding",
                &[
                    ("disable", ChannelBinding::Disable),
                    ("prefer", ChannelBinding::Prefer),
                    ("require", ChannelBinding::Require),
                ],
            )?
            .unwrap_or(ChannelBinding::Prefer),
        application_name: given
            .owned("application_name")
            .or_else(|| given.owned("fallback_application_name")),
        options: given.owned("options"),
        target_session: target_session(&given)?,
        require_peer: given.owned("requirepeer"),
        tls,
        keepalive: keepalive(&given)?,
        limits: limits(&given)?,
    })
}

/// Hosts, addresses and ports go together by their place in the lists.
fn servers(given: &Parameters) -> Result<Vec<Server>> {
    let list = |name| given.text(name).map(|text| text.split(',').map(str::trim).collect::<Vec<_>>());
    let hosts = list("host");
    let addresses = list("hostaddr");
    let ports = ports(given)?;
    let count = addresses.as_ref().or(hosts.as_ref()).map_or(1, Vec::len);
    if hosts.as_ref().is_some_and(|hosts| hosts.len() != count) {
        let reason = "there are not as many hosts as addresses in hostaddr";
        return Err(given.wrong("host", reason, "give one address for each host, or no hostaddr"));
    }
    if ports.len() > 1 && ports.len() != count {
        let reason = "there are not as many ports as hosts";
        return Err(given.wrong("port", reason, "give one port for all hosts, or one for each"));
    }
    let at = |list: &Option<Vec<&str>>, place: usize| {
        list.as_ref()
            .and_then(|list| list.get(place).copied())
            .filter(|entry| !entry.is_empty())
            .map(str::to_owned)
    };
    let mut servers = Vec::with_capacity(count);
    for place in 0..count {
        let port = ports.get(place).or(ports.first()).copied().unwrap_or(DEFAULT_PORT);
        match (at(&hosts, place), at(&addresses, place)) {
            (None, None) => servers.extend(Host::DEFAULT_FOLDERS.map(|folder| Server {
                host: Host::new(folder),
                address: None,
                port,
            })),
            (Some(host), None) => servers.push(Server { host: Host::new(&host), address: None, port }),
            // With an address the host is only a name, to be matched.
            (host, address) => {
                servers.push(Server { host: Host::Name(host.unwrap_or_default()), address, port });
            }
        }
    }
    Ok(servers)
}

fn ports(given: &Parameters) -> Result<Vec<u16>> {
    let Some(list) = given.text("port") else { return Ok(Vec::new()) };
    let port = |text: &str| match text.trim() {
        "" => Ok(DEFAULT_PORT),
        text => text.parse().ok().filter(|port| *port != 0).ok_or_else(|| {
            given.wrong("port", "it is not a port number", "a port is a number from 1 to 65535")
        }),
    };
    list.split(',').map(port).collect()
}

fn target_session(given: &Parameters) -> Result<TargetSession> {
    let words = [
        ("any", TargetSession::Any),
        ("read-write", TargetSession::ReadWrite),
        ("read-only", TargetSession::ReadOnly),
        ("primary", TargetSession::Primary),
        ("standby", TargetSession::Standby),
        ("prefer-standby", TargetSession::PreferStandby),
    ];
    Ok(given.choose("target_session_attrs", &words)?.unwrap_or_default())
}

fn tls(given: &Parameters, environment: &Environment) -> Result<TlsSettings> {
    let in_folder = |name: &str| environment.in_home(&format!(".postgresql/{name}"));
    let root = match given.text("sslrootcert") {
        Some("system") => RootCertificates::System,
        Some(path) => RootCertificates::File(path.into()),
        None => RootCertificates::IfThere(in_folder("root.crt")),
    };
    let system = root == RootCertificates::System;
    let default = if system { SslMode::VerifyFull } else { SslMode::Prefer };
    let mode = given.choose("sslmode", &SslMode::WORDS)?.unwrap_or(default);
    if system && mode != SslMode::VerifyFull {
        let reason = "with the system's root certificates anybody can have a certificate for some name";
        return Err(given.wrong("sslmode", reason, "with sslrootcert=system use sslmode=verify-full"));
    }
    let negotiation = [("postgres", SslNegotiation::Postgres), ("direct", SslNegotiation::Direct)];
    let negotiation = given.choose("sslnegotiation", &negotiation)?.unwrap_or(SslNegotiation::Postgres);
    if negotiation == SslNegotiation::Direct && mode < SslMode::Require {
        let reason = "direct TLS leaves the server no choice";
        return Err(given.wrong(
            "sslnegotiation",
            reason,
            "with sslnegotiation=direct use sslmode=require or stronger",
        ));
    }
    let certificate = given.text("sslcert").map(PathBuf::from);
    let send_certificate = given.text("sslcertmode") != Some("disable");
    let flags = [("0", false), ("1", true)];
    Ok(TlsSettings {
        mode,
        negotiation,
        root,
        revoked: given
            .text("sslcrl")
            .map(PathBuf::from)
            .or_else(|| in_folder("root.crl").filter(|path| path.exists())),
        certificate_is_named: certificate.is_some(),
        certificate: certificate.or_else(|| in_folder("postgresql.crt")).filter(|_| send_certificate),
        key: given.text("sslkey").map(PathBuf::from).or_else(|| in_folder("postgresql.key")),
        server_name: given.choose("sslsni", &flags)?.unwrap_or(true),
        versions: tls_versions(given)?,
    })
}

fn tls_versions(given: &Parameters) -> Result<TlsVersions> {
    let words = [("TLSv1", 10), ("TLSv1.1", 11), ("TLSv1.2", 12), ("TLSv1.3", 13)];
    let minimum = given.choose("ssl_min_protocol_version", &words)?.unwrap_or(12);
    let maximum = given.choose("ssl_max_protocol_version", &words)?.unwrap_or(13);
    let may = |version| minimum <= version && version <= maximum;
    let versions = TlsVersions { v12: may(12), v13: may(13) };
    if !versions.v12 && !versions.v13 {
        let reason = "it leaves no version of TLS that is safe";
        return Err(given.wrong("ssl_max_protocol_version", reason, "TLS 1.2 and 1.3 are supported"));
    }
    Ok(versions)
}

fn keepalive(given: &Parameters) -> Result<Keepalive> {
    let positive =
        |name| Ok::<_, Error>(given.integer(name)?.and_then(|n| u32::try_from(n).ok()).filter(|n| *n > 0));
    let seconds = |name| Ok::<_, Error>(positive(name)?.map(|n| Duration::from_secs(n.into())));
    Ok(Keepalive {
        enabled: given.integer("keepalives")? != Some(0),
        idle: seconds("keepalives_idle")?,
        interval: seconds("keepalives_interval")?,
        count: positive("keepalives_count")?,
        user_timeout: positive("tcp_user_timeout")?.map(|n| Duration::from_millis(n.into())),
    })
}

fn limits(given: &Parameters) -> Result<Limits> {
    let mut limits = Limits::default();
    // Zero or less means "for ever" to libpq; there is no "for ever" here.
    if let Some(seconds) =
        given.integer("connect_timeout")?.and_then(|n| u64::try_from(n).ok()).filter(|n| *n > 0)
    {
        limits.connect = Duration::from_secs(seconds);
    }
    Ok(limits)
}
