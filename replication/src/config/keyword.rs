//! The connection settings that libpq knows, and what each means here.
//!
//! <https://www.postgresql.org/docs/18/libpq-connect.html#LIBPQ-PARAMKEYWORDS>

/// What becomes of a setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Support {
    /// It means what it means to libpq.
    Used,
    /// It changes nothing that this client does, so it is passed over.
    PassedOver,
    /// Only these values are what this client does anyway; any other is refused.
    Only(&'static [&'static str]),
    /// It would be a lie to pass over it. The hint says what to do instead.
    Refused(&'static str),
}

/// One setting.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Keyword {
    /// Its name in a connection string.
    pub(crate) name: &'static str,
    /// The environment variable that sets it where the connection string does not.
    pub(crate) variable: Option<&'static str>,
    /// What becomes of it.
    pub(crate) support: Support,
}

const fn keyword(name: &'static str, variable: &'static str, support: Support) -> Keyword {
    Keyword { name, variable: Some(variable), support }
}

const fn without_variable(name: &'static str, support: Support) -> Keyword {
    Keyword { name, variable: None, support }
}

const NO_OAUTH: Support = Support::Refused("OAuth is not supported; use SCRAM or a client certificate");
const NO_SCRAM_KEYS: Support =
    Support::Refused("pass-through SCRAM keys are not supported; give the password");

/// Every setting of libpq 18.
pub(crate) const KEYWORDS: &[Keyword] = {
    use Support::{Only, PassedOver, Refused, Used};
    &[
        keyword("application_name", "PGAPPNAME", Used),
        keyword("channel_binding", "PGCHANNELBINDING", Used),
        // The server is always asked for UTF-8.
        keyword("client_encoding", "PGCLIENTENCODING", PassedOver),
        keyword("connect_timeout", "PGCONNECT_TIMEOUT", Used),
        keyword("dbname", "PGDATABASE", Used),
        without_variable("fallback_application_name", Used),
        without_variable("gssdelegation", PassedOver),
        keyword("gssencmode", "PGGSSENCMODE", Only(&["disable", "prefer"])),
        keyword("gsslib", "PGGSSLIB", PassedOver),
        keyword("host", "PGHOST", Used),
        keyword("hostaddr", "PGHOSTADDR", Used),
        without_variable("keepalives", Used),
        without_variable("keepalives_count", Used),
        without_variable("keepalives_idle", Used),
        without_variable("keepalives_interval", Used),
        keyword("krbsrvname", "PGKRBSRVNAME", PassedOver),
        keyword("load_balance_hosts", "PGLOADBALANCEHOSTS", Only(&["disable"])),
        keyword("max_protocol_version", "PGMAXPROTOCOLVERSION", Only(&["3.0", "3.2", "latest"])),
        keyword("min_protocol_version", "PGMINPROTOCOLVERSION", Only(&["3.0"])),
        without_variable("oauth_client_id", NO_OAUTH),
        without_variable("oauth_client_secret", NO_OAUTH),
        without_variable("oauth_issuer", NO_OAUTH),
        without_variable("oauth_scope", NO_OAUTH),
        keyword("options", "PGOPTIONS", Used),
        keyword("passfile", "PGPASSFILE", Used),
        keyword("password", "PGPASSWORD", Used),
        keyword("port", "PGPORT", Used),
        without_variable("replication", Refused("leave it out: each command chooses it for itself")),
        keyword("require_auth", "PGREQUIREAUTH", Used),
        keyword("requirepeer", "PGREQUIREPEER", Used),
        without_variable("scram_client_key", NO_SCRAM_KEYS),
        without_variable("scram_server_key", NO_SCRAM_KEYS),
        keyword("service", "PGSERVICE", Used),
        keyword("servicefile", "PGSERVICEFILE", Used),
        keyword("ssl_max_protocol_version", "PGSSLMAXPROTOCOLVERSION", Used),
        keyword("ssl_min_protocol_version", "PGSSLMINPROTOCOLVERSION", Used),
        keyword("sslcert", "PGSSLCERT", Used),
        keyword("sslcertmode", "PGSSLCERTMODE", Only(&["allow", "disable"])),
        without_variable("sslcompression", PassedOver),
        keyword("sslcrl", "PGSSLCRL", Used),
        keyword(
            "sslcrldir",
            "PGSSLCRLDIR",
            Refused("put the revocation lists into one file and name it by sslcrl"),
        ),
        keyword("sslkey", "PGSSLKEY", Used),
        without_variable("sslkeylogfile", Refused("session keys are never written to a file")),
        keyword("sslmode", "PGSSLMODE", Used),
        keyword("sslnegotiation", "PGSSLNEGOTIATION", Used),
        without_variable(
            "sslpassword",
            Refused("write the key without a passphrase (openssl pkey) and chmod 0600 it"),
        ),
        keyword("sslrootcert", "PGSSLROOTCERT", Used),
        keyword("sslsni", "PGSSLSNI", Used),
        keyword("target_session_attrs", "PGTARGETSESSIONATTRS", Used),
        without_variable("tcp_user_timeout", Used),
        keyword("user", "PGUSER", Used),
    ]
};

/// The setting of this name.
pub(crate) fn find(name: &str) -> Option<&'static Keyword> {
    KEYWORDS.iter().find(|keyword| keyword.name == name)
}

/// The setting whose name is most like this one.
pub(crate) fn nearest(name: &str) -> &'static str {
    let distance = |keyword: &&Keyword| strsim::damerau_levenshtein(name, keyword.name);
    KEYWORDS.iter().min_by_key(distance).map_or("host", |keyword| keyword.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_and_misspellings_lead_to_the_nearest() {
        assert!(KEYWORDS.is_sorted_by_key(|keyword| keyword.name));
        assert_eq!(find("port").unwrap().variable, Some("PGPORT"));
        assert_eq!(find("Port"), None, "libpq's names are in small letters");
        for (wrong, right) in [
            ("hots", "host"),
            ("pasword", "password"),
            ("sslmod", "sslmode"),
            ("ssl_mode", "sslmode"),
            ("connect_timout", "connect_timeout"),
            ("dbnam", "dbname"),
        ] {
            assert_eq!(nearest(wrong), right);
        }
    }
}
