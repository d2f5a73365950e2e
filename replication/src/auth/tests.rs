//! The exchange, step by step, with honest servers and others.

use proptest::prelude::*;

use super::*;

fn credentials(password: Option<&Password>) -> Credentials<'_> {
    Credentials {
        user: "md5_user",
        password,
        passed_over: None,
        methods: AuthMethods::ANY,
        channel_binding: ChannelBinding::Prefer,
        certificate: None,
    }
}

fn sasl(mechanisms: &[&str]) -> Authentication {
    Authentication::Sasl { mechanisms: mechanisms.iter().map(|name| (*name).to_owned()).collect() }
}

fn refused(credentials: Credentials<'_>, requests: &[Authentication]) -> String {
    let mut authenticator = Authenticator::new(credentials);
    let (last, first) = requests.split_last().unwrap();
    for request in first {
        authenticator.answer(request.clone()).unwrap();
    }
    let error = authenticator.answer(last.clone()).unwrap_err().to_string();
    assert!(error.contains("hint: "), "{error}");
    error
}

#[test]
fn a_server_that_trusts_us() {
    let mut authenticator = Authenticator::new(credentials(None));
    assert_eq!(authenticator.answer(Authentication::Ok).unwrap(), Reply::Done);
}

#[test]
fn cleartext_and_md5() {
    let password = Password::new("password");
    let salt = [0x2a, 0x3d, 0x8f, 0xe0];
    for (request, answer) in [
        (Authentication::CleartextPassword, &b"p\0\0\0\x0dpassword\0"[..]),
        (Authentication::Md5Password { salt }, b"p\0\0\0\x28md562af4dd09bbb41884907a838a3233294\0"),
    ] {
        let mut authenticator = Authenticator::new(credentials(Some(&password)));
        assert_eq!(authenticator.answer(request).unwrap(), Reply::Send(answer.into()));
        assert_eq!(authenticator.answer(Authentication::Ok).unwrap(), Reply::Done);
    }
}

#[test]
fn the_first_message_says_what_binding_is_possible() {
    let password = Password::new("p");
    for (certificate, wanted, flag) in [
        (None, ChannelBinding::Prefer, "n,,"),
        (Some(&b"der"[..]), ChannelBinding::Prefer, "y,,"),
        (Some(b"der"), ChannelBinding::Disable, "n,,"),
    ] {
        let credentials =
            Credentials { certificate, channel_binding: wanted, ..credentials(Some(&password)) };
        let Reply::Send(message) = Authenticator::new(credentials).answer(sasl(&["SCRAM-SHA-256"])).unwrap()
        else {
            panic!()
        };
        let text = String::from_utf8_lossy(&message).into_owned();
        assert!(text.contains(&format!("SCRAM-SHA-256\0\0\0\0 {flag}n=,r=")), "{text:?}");
    }
}

#[test]
fn r21_what_may_not_be_is_refused_without_the_password() {
    let password = Password::new("geheim");
    let plain = credentials(Some(&password));
    let none = credentials(None);
    let empty = Password::new("");
    let bound = Credentials { channel_binding: ChannelBinding::Require, ..plain };
    let only_scram = Credentials { methods: "scram-sha-256".parse().unwrap(), ..plain };
    let passed_over = Credentials { passed_over: Some("the file was passed over"), ..none };
    let scram = || sasl(&["SCRAM-SHA-256"]);
    let salt = |text: &str| Authentication::SaslContinue(text.as_bytes().to_vec());
    let zero = Password::new("a\0b");
    for (credentials, requests, word) in [
        (none, vec![Authentication::CleartextPassword], "none is known"),
        (passed_over, vec![scram()], "the file was passed over"),
        (Credentials { password: Some(&empty), ..plain }, vec![scram()], "none is known"),
        (
            Credentials { password: Some(&zero), ..plain },
            vec![Authentication::CleartextPassword],
            "zero byte",
        ),
        (plain, vec![Authentication::Unsupported("GSSAPI")], "GSSAPI"),
        (plain, vec![sasl(&["OAUTHBEARER"])], "none of the server's SASL"),
        (plain, vec![sasl(&["SCRAM-SHA-256-PLUS", "SCRAM-SHA-256"])], "without TLS"),
        (plain, vec![Authentication::SaslFinal(Vec::new())], "out of turn"),
        (plain, vec![salt("")], "out of turn"),
        (plain, vec![Authentication::CleartextPassword, Authentication::CleartextPassword], "out of turn"),
        (plain, vec![scram(), Authentication::CleartextPassword], "out of turn"),
        (plain, vec![scram(), Authentication::SaslFinal(Vec::new())], "out of turn"),
        (plain, vec![scram(), Authentication::Ok], "before it proved"),
        (plain, vec![scram(), salt("r=other,s=AAAA,i=4096")], "invalid nonce"),
        (plain, vec![scram(), salt("r=x,s=AAAA,i=100001")], "100001 SCRAM iterations"),
        (bound, vec![Authentication::Ok], "channel binding is required"),
        (bound, vec![Authentication::CleartextPassword], "channel binding is required"),
        (bound, vec![scram()], "channel binding is required"),
        (only_scram, vec![Authentication::Ok], "require_auth"),
        (only_scram, vec![Authentication::Md5Password { salt: [0; 4] }], "require_auth"),
    ] {
        let error = refused(credentials, &requests);
        assert!(error.contains(word) && !error.contains("geheim"), "{word}: {error}");
    }
}

proptest! {
    #[test]
    fn any_server_is_answered_or_refused(first in any::<Vec<u8>>(), second in any::<Vec<u8>>()) {
        let password = Password::new("p");
        let mut authenticator = Authenticator::new(credentials(Some(&password)));
        authenticator.answer(sasl(&["SCRAM-SHA-256"])).unwrap();
        let _ = authenticator.answer(Authentication::SaslContinue(first));
        prop_assert!(authenticator.answer(Authentication::SaslFinal(second)).is_err());
        prop_assert!(authenticator.answer(Authentication::SaslContinue(Vec::new())).is_err());
    }
}
