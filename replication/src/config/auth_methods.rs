//! Which ways to prove who one is may be used (`require_auth`).

use std::str::FromStr;

/// A way in which a server may ask a client who it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Method {
    /// The password as it is.
    Password,
    /// A digest of it.
    Md5,
    /// SCRAM-SHA-256 with or without channel binding.
    Scram,
    /// Nothing is asked.
    None,
}

impl Method {
    pub(crate) const ALL: [Method; 4] = [Method::Password, Method::Md5, Method::Scram, Method::None];

    /// libpq's word for it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Method::Password => "password",
            Method::Md5 => "md5",
            Method::Scram => "scram-sha-256",
            Method::None => "none",
        }
    }
}

/// libpq's words for what this client cannot do: they may be forbidden, and allowing them changes nothing.
const OTHERS: [&str; 3] = ["gss", "sspi", "oauth"];

/// The methods that may be used: all, unless `require_auth` says otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AuthMethods {
    /// By position in [`Method::ALL`].
    allowed: [bool; Method::ALL.len()],
}

impl AuthMethods {
    /// Whatever the server asks for.
    pub const ANY: AuthMethods = AuthMethods { allowed: [true; Method::ALL.len()] };

    pub(crate) fn allow(self, method: Method) -> bool {
        self.allowed[method as usize]
    }
}

impl FromStr for AuthMethods {
    type Err = String;

    /// `password,md5` allows these; `!none,!md5` allows all others.
    fn from_str(text: &str) -> Result<AuthMethods, String> {
        let mut negated = None;
        let mut allowed = [false; Method::ALL.len()];
        for word in text.split(',').map(str::trim) {
            let (not, word) = word.strip_prefix('!').map_or((false, word), |word| (true, word));
            if *negated.get_or_insert(not) != not {
                return Err("methods with and without ! cannot be mixed".to_owned());
            }
            match Method::ALL.iter().find(|method| method.name() == word) {
                Some(method) => allowed[*method as usize] = true,
                None if OTHERS.contains(&word) => {}
                None => return Err("a word in it is no authentication method".to_owned()),
            }
        }
        if negated == Some(true) {
            allowed = allowed.map(|named| !named);
        }
        Ok(AuthMethods { allowed })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_methods() {
        use Method::{Md5, None, Password, Scram};
        let table: &[(&str, &[Method])] = &[
            ("scram-sha-256", &[Scram]),
            ("password, md5", &[Password, Md5]),
            ("!none", &[Password, Md5, Scram]),
            ("!password,!md5,!none", &[Scram]),
            ("gss", &[]),
            ("!oauth", &[Password, Md5, Scram, None]),
        ];
        for (text, allowed) in table {
            let methods: AuthMethods = text.parse().unwrap();
            for method in Method::ALL {
                assert_eq!(methods.allow(method), allowed.contains(&method), "{text}: {}", method.name());
            }
        }
        assert!("md5,!none".parse::<AuthMethods>().unwrap_err().contains("mixed"));
        assert!("md6".parse::<AuthMethods>().unwrap_err().contains("no authentication method"));
    }
}
