//! Whether a certificate is for the host we asked for.
//!
//! The rules are libpq's (`pgtls_verify_peer_name_matches_certificate_guts` in `fe-secure-openssl.c`, PostgreSQL 18): the
//! alternative names count; only where there is none of the host's kind (name or IP address) does the common name.

use std::net::IpAddr;

use super::certificate::{AlternativeName, Certificate};

/// Whether the certificate is for this host name or IP address.
pub(super) fn matches(certificate: &Certificate<'_>, host: &str) -> der::Result<bool> {
    let address: Option<IpAddr> = host.parse().ok();
    let mut common_name_counts = true;
    for name in certificate.alternative_names()? {
        let (is_of_hosts_kind, is_match) = match name {
            AlternativeName::Dns(name) => (address.is_none(), name_matches(name, host)),
            AlternativeName::Ip(bytes) => (address.is_some(), address_matches(bytes, address)),
        };
        if is_match {
            return Ok(true);
        }
        common_name_counts &= !is_of_hosts_kind;
    }
    Ok(common_name_counts && certificate.common_name()?.is_some_and(|name| name_matches(name, host)))
}

fn address_matches(bytes: &[u8], address: Option<IpAddr>) -> bool {
    match address {
        Some(IpAddr::V4(address)) => address.octets() == bytes,
        Some(IpAddr::V6(address)) => address.octets() == bytes,
        None => false,
    }
}

/// A name, or `*.` and a name, which stands for exactly one label more.
fn name_matches(pattern: &[u8], host: &str) -> bool {
    let host = host.as_bytes();
    if pattern.is_empty() || host.is_empty() {
        return false;
    }
    if pattern.eq_ignore_ascii_case(host) {
        return true;
    }
    let Some(parent) =
        pattern.strip_prefix(b"*").filter(|parent| parent.starts_with(b".") && parent.len() > 1)
    else {
        return false;
    };
    let first_dot = host.iter().position(|byte| *byte == b'.');
    first_dot.is_some_and(|dot| dot > 0 && host[dot..].eq_ignore_ascii_case(parent))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_match_as_they_do_for_libpq() {
        for (pattern, host, expected) in [
            ("db.example.com", "db.example.com", true),
            ("DB.Example.com", "db.example.COM", true),
            ("db.example.com", "example.com", false),
            ("*.example.com", "db.example.com", true),
            ("*.example.com", "DB.EXAMPLE.COM", true),
            ("*.example.com", "a.db.example.com", false),
            ("*.example.com", "example.com", false),
            ("*.example.com", ".example.com", false),
            ("*example.com", "db.example.com", false),
            ("d*.example.com", "db.example.com", false),
            ("*", "db", false),
            ("*.", "db.", false),
            ("", "", false),
            ("db\0.example.com", "db", false),
            ("10.0.0.1", "10.0.0.1", true),
        ] {
            assert_eq!(name_matches(pattern.as_bytes(), host), expected, "{pattern} {host}");
        }
        assert!(address_matches(&[10, 0, 0, 1], "10.0.0.1".parse().ok()));
        assert!(
            !address_matches(&[10, 0, 0, 1], "::1".parse().ok()) && !address_matches(&[10, 0, 0, 1], None)
        );
    }
}
