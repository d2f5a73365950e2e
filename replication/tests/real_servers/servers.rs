//! Which server is taken when several are named, and what happens when none answers.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::time::{Duration, Instant};

use crate::common::{refusal, replication, sql, value};
use highwater_replication::Error;
use highwater_tests::{Fault, Postgres, Proxy, free_port};

#[tokio::test]
async fn servers_are_tried_in_turn() {
    let server = Postgres::builder().tcp().start();
    let (dead, alive) = (free_port(), server.address().port());
    let text = format!(
        "host=127.0.0.1,/does/not/exist,localhost port={dead},5432,{alive} user=postgres dbname=postgres"
    );
    let mut client = sql(&text).await.unwrap();
    assert_eq!(value(&mut client, "show port").await, alive.to_string());
    let uri = format!(
        "postgresql://postgres@127.0.0.1:{dead},127.0.0.1:{alive}/postgres?application_name=highwater%20test"
    );
    let mut client = sql(&uri).await.unwrap();
    assert_eq!(value(&mut client, "show application_name").await, "highwater test");

    let text = format!("host=127.0.0.1,/does/not/exist,no-such-host.invalid port={dead} user=postgres");
    let error = refusal(sql(&text).await);
    assert!(matches!(&error, Error::Connect { attempts } if attempts.len() == 3), "{error}");
    for word in ["127.0.0.1", "/does/not/exist/.s.PGSQL", "no-such-host.invalid", "listen_addresses"] {
        assert!(error.to_string().contains(word), "{error}");
    }
    // A server that refuses us for good is the last one asked.
    let text = format!("host=127.0.0.1,127.0.0.1 port={alive},{alive} user=stranger dbname=postgres");
    let error = refusal(sql(&text).await);
    assert_eq!(error.sqlstate(), Some("28000"), "{error}");
    assert!(matches!(&error, Error::Connect { attempts } if attempts.len() == 1), "{error}");
}

#[tokio::test]
async fn a_primary_or_a_standby_is_picked() {
    let primary = Postgres::start();
    let standby = primary.standby("one").start();
    let of = |first: &Postgres, second: &Postgres, wanted: &str| {
        format!(
            "host={},{} user=postgres dbname=postgres target_session_attrs={wanted}",
            first.folder().display(),
            second.folder().display()
        )
    };
    for (wanted, is_standby) in
        [("primary", "f"), ("read-write", "f"), ("standby", "t"), ("read-only", "t"), ("prefer-standby", "t")]
    {
        for text in [of(&primary, &standby, wanted), of(&standby, &primary, wanted)] {
            let mut client = sql(&text).await.unwrap();
            assert_eq!(value(&mut client, "select pg_is_in_recovery()").await, is_standby, "{wanted}");
            let client = replication(&text).await.unwrap();
            assert_eq!(
                client.parameter("in_hot_standby"),
                Some(if is_standby == "t" { "on" } else { "off" })
            );
        }
    }
    let error = refusal(sql(&of(&primary, &primary, "standby")).await);
    assert!(error.to_string().contains("a primary"), "{error}");
    let mut client = sql(&of(&primary, &primary, "prefer-standby")).await.unwrap();
    assert_eq!(value(&mut client, "select pg_is_in_recovery()").await, "f");
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_given_up() {
    let server = Postgres::builder().tcp().start();
    let proxy = Proxy::to(server.address());
    proxy.set(Fault::Stall);
    let place = |more: &str| {
        format!("host=127.0.0.1 port={} user=postgres dbname=postgres {more}", proxy.address().port())
    };
    for mode in ["disable", "prefer", "require"] {
        let started = Instant::now();
        let error = refusal(sql(&place(&format!("connect_timeout=1 sslmode={mode}"))).await);
        assert!(error.to_string().contains("connect_timeout gives more time"), "{error}");
        assert!(started.elapsed() < Duration::from_secs(20));
    }
    proxy.set(Fault::None);
    let mut client = sql(&place("")).await.unwrap();
    proxy.set(Fault::Stall);
    client.limits_mut().query = Duration::from_millis(200);
    let error = client.query("select 1").await.unwrap_err();
    assert!(matches!(error, Error::TimedOut { .. }), "{error}");
    proxy.set(Fault::None);
    let mut client = sql(&place("")).await.unwrap();
    proxy.set(Fault::Down);
    let error = client.query("select 1").await.unwrap_err();
    assert!(matches!(error, Error::Lost { .. }), "{error}");
}

#[tokio::test]
async fn a_server_that_ends_our_session_is_quoted() {
    let server = Postgres::start();
    let mut client = sql(&server.connection_string()).await.unwrap();
    server.sql(&format!("select pg_terminate_backend({})", client.process_id().unwrap()));
    let error = client.query("select 1").await.unwrap_err();
    assert_eq!(error.sqlstate(), Some("57P01"), "{error}");
    assert!(matches!(client.query("select 1").await, Err(Error::Closed { .. })));
}

/// CVE-2021-23222: somebody on the way says that the server speaks TLS, and in the same breath lets us in, in the clear.
#[tokio::test]
async fn r22_what_comes_before_the_handshake_is_never_the_servers() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let attacker = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.read_exact(&mut [0; 8]).unwrap();
        let version = b"S\0\0\0\x19server_version\x0015.1\0";
        let lies = [b"S", &b"R\0\0\0\x08\0\0\0\0"[..], version, b"Z\0\0\0\x05I"].concat();
        stream.write_all(&lies).unwrap();
        // Whatever follows is the beginning of a TLS handshake, and no password.
        let mut first = [0];
        stream.read_exact(&mut first).unwrap();
        first[0]
    });
    let text = format!("host=127.0.0.1 port={port} user=postgres password=geheim sslmode=require");
    let error = refusal(sql(&text).await).to_string();
    assert!(error.contains("TLS: ") && !error.contains("geheim"), "{error}");
    assert_eq!(attacker.join().unwrap(), 0x16, "a TLS handshake record");
}
