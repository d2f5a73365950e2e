//! Logging in, queries, and what can go wrong with them.

use std::time::Duration;

use super::fake::*;
use crate::message::DataRow;
use crate::{Error, Limits, Result, ServerVersion};

fn one_row() -> Vec<u8> {
    [columns(&["a", "b"]), row(&[Some("1"), None]), complete("SELECT 1"), ready()].concat()
}

#[tokio::test]
async fn a_session_cut_at_every_byte() {
    for width in [1, 2, 3, 5, 8, 13, 64, 4096] {
        let answers = vec![
            [notice("hello"), welcome("15.6 (Debian)")].concat(),
            [notice("careful"), parameter("in_hot_standby", "on"), one_row()].concat(),
        ];
        let (stream, server) = fake(answers, width, End::Silence);
        let mut client = log_in(stream, Limits::default()).await.unwrap();
        assert_eq!((client.server_version(), client.process_id()), (ServerVersion(150_006), Some(42)));
        assert_eq!(client.parameter("in_hot_standby"), Some("off"));
        let rows = client.query("select 1 as a, null as b").await.unwrap();
        assert_eq!((rows.columns.join(","), rows.tag.as_str()), ("a,b".to_owned(), "SELECT 1"));
        assert_eq!(rows.single().unwrap().values, [Some("1".into()), None]);
        assert_eq!(client.parameter("in_hot_standby"), Some("on"));
        let notices: Vec<_> = client.take_notices().into_iter().map(|notice| notice.message).collect();
        assert_eq!(notices, ["hello", "careful"]);
        client.close().await;
        let heard = server.await.unwrap();
        assert_eq!(heard[0], b"\0\0\0\x22\0\x03\0\0user\0me\0replication\0true\0\0");
        assert_eq!(heard[1], frame(b'Q', b"select 1 as a, null as b\0"));
        assert_eq!(heard[2], frame(b'X', []));
    }
}

#[tokio::test]
async fn the_notices_kept_are_bounded() {
    let many: Vec<u8> = (0..1000).flat_map(|number| notice(&number.to_string())).collect();
    let mut client = client("15.1", &[[many, one_row()].concat()], 4096, End::Silence).await;
    client.query("select 1").await.unwrap();
    let notices = client.take_notices();
    assert_eq!((notices.len(), notices[0].message.as_str()), (100, "900"));
    assert!(client.take_notices().is_empty());
}

#[tokio::test]
async fn a_refused_login_says_why() {
    for (answer, word) in [
        (
            error("FATAL", "28P01", "password authentication failed"),
            "password authentication failed (SQLSTATE 28P01)",
        ),
        ([authenticated(), error("FATAL", "53300", "too many")].concat(), "raise max_connections"),
        (ready(), "ReadyForQuery before authentication"),
        ([authenticated(), one_row()].concat(), "RowDescription at the start"),
        ([authenticated(), ready()].concat(), "server_version"),
        (vec![b'?', 0, 0, 0, 4], "broke the protocol"),
        (frame(b'v', [0; 8]), "broke the protocol"),
        (Vec::new(), "the server closed it"),
        (vec![b'R', 0, 0], "the server closed it"),
    ] {
        let (stream, _) = fake(vec![answer], 64, End::Close);
        let error = log_in(stream, Limits::default()).await.map(drop).unwrap_err().to_string();
        assert!(error.contains(word) && error.contains("hint: "), "{word}: {error}");
    }
}

#[tokio::test(start_paused = true)]
async fn every_wait_has_a_limit() {
    let (stream, _) = fake(Vec::new(), 64, End::Silence);
    let limits = Limits { connect: Duration::from_secs(3), ..Limits::default() };
    let error = log_in(stream, limits).await.map(drop).unwrap_err();
    assert!(matches!(error, Error::TimedOut { limit, .. } if limit == Duration::from_secs(3)), "{error}");

    let mut client = client("15.1", &[], 64, End::Silence).await;
    client.limits_mut().query = Duration::from_secs(5);
    let error = client.query("select pg_sleep(1000)").await.unwrap_err();
    assert!(matches!(error, Error::TimedOut { .. }), "{error}");
    assert_eq!(
        error.to_string(),
        "no answer within 5 s while running a query; hint: look at what the server is doing (pg_stat_activity)"
    );
    let error = client.query("select 1").await.unwrap_err();
    assert!(matches!(error, Error::Closed { .. }), "{error}");

    // A wire that takes nothing more: the command cannot even be sent.
    let (stream, server) = fake(vec![welcome("15.1")], 4096, End::Close);
    let mut client = log_in(stream, Limits::default()).await.unwrap();
    drop(server.await);
    let error = client.query(&"x".repeat(10_000)).await.unwrap_err();
    assert!(matches!(error, Error::Lost { .. }), "{error}");
}

#[tokio::test]
async fn a_failed_command_leaves_the_connection_usable() {
    let failed =
        [columns(&["a"]), row(&[Some("1")]), error("ERROR", "22012", "division by zero"), ready()].concat();
    let mut client = client("15.1", &[failed, one_row()], 16, End::Silence).await;
    let error = client.query("select 1/0").await.unwrap_err();
    assert_eq!(error.sqlstate(), Some("22012"));
    assert_eq!(client.query("select 1").await.unwrap().rows.len(), 1);
}

#[tokio::test]
async fn a_server_that_goes_says_why() {
    let farewell = error("FATAL", "57P01", "terminating connection due to administrator command");
    let as_an_answer = vec![welcome("15.1"), farewell.clone()];
    let unasked = vec![[welcome("15.1"), farewell].concat()];
    for answers in [as_an_answer, unasked] {
        let (stream, _) = fake(answers, 512, End::Close);
        let mut client = log_in(stream, Limits::default()).await.unwrap();
        let error = client.query("select 1").await.unwrap_err();
        assert_eq!(error.sqlstate(), Some("57P01"), "{error}");
        assert!(matches!(client.query("select 1").await, Err(Error::Closed { .. })));
    }
}

#[tokio::test]
async fn a_command_given_up_ends_the_connections_use() {
    let mut client = client("15.1", &[], 512, End::Silence).await;
    let given_up = tokio::time::timeout(Duration::from_millis(1), client.query("select 1")).await;
    assert!(given_up.is_err());
    let error = client.query("select 1").await.unwrap_err().to_string();
    assert!(error.contains("given up half-way"), "{error}");
}

#[tokio::test]
async fn results_are_bounded() {
    let rows: Vec<u8> = (0..11).flat_map(|_| row(&[Some("0123456789")])).collect();
    let answer = || [columns(&["a"]), rows.clone(), complete("SELECT 11"), ready()].concat();
    for (limits, unit) in [
        (Limits { rows: 10, ..Limits::default() }, "10 rows"),
        (Limits { result_bytes: 109, ..Limits::default() }, "109 bytes"),
        (Limits { message_bytes: 24, ..Limits::default() }, "and 24 is the limit"),
    ] {
        let mut client = client("15.1", &[answer()], 512, End::Silence).await;
        *client.limits_mut() = limits;
        let error = client.query("select").await.unwrap_err().to_string();
        assert!(error.contains(unit), "{error}");
        assert!(matches!(client.query("select").await, Err(Error::Closed { .. })));
    }
    let mut client = client("15.1", &[answer()], 512, End::Silence).await;
    *client.limits_mut() = Limits { rows: 11, result_bytes: 110, ..Limits::default() };
    assert_eq!(client.query("select").await.unwrap().rows.len(), 11);
}

#[tokio::test]
async fn r22_an_answer_out_of_order_is_refused() {
    for answer in [
        row(&[Some("1")]),
        [columns(&["a"]), row(&[Some("1"), Some("2")])].concat(),
        [one_row(), one_row()].concat()[..one_row().len() - 6].to_vec(),
        [complete("A"), columns(&["a"])].concat(),
        [complete("A"), complete("B"), ready()].concat(),
        ready(),
        copy_out(),
        frame(b'G', [0; 3]),
        frame(b'W', [0; 3]),
        copy_data("x"),
        authenticated(),
        frame(b'K', [0; 8]),
    ] {
        let mut client = client("15.1", std::slice::from_ref(&answer), 512, End::Close).await;
        let error = client.query("select").await.unwrap_err();
        let lost_at_the_end = answer.ends_with(&complete("SELECT 1"));
        assert!(matches!(error, Error::Protocol { .. }) || lost_at_the_end, "{error}");
        assert!(matches!(client.query("select").await, Err(Error::Closed { .. })));
    }
    let mut client = client("15.1", &[], 512, End::Silence).await;
    assert!(matches!(client.query("a\0b").await, Err(Error::Unsendable { .. })));
}

#[tokio::test]
async fn empty_and_rowless_commands() {
    let answers = [[frame(b'I', []), ready()].concat(), [complete("SET"), ready()].concat()];
    let mut client = client("15.1", &answers, 512, End::Silence).await;
    assert_eq!(client.query("").await.unwrap(), crate::Rows::default());
    let rows = client.query("set a = b").await.unwrap();
    assert_eq!((rows.tag.as_str(), rows.rows.len()), ("SET", 0));
    assert!(matches!(rows.single(), Err(Error::Protocol { .. })));
}

#[test]
fn connections_can_move_between_threads() {
    fn can_move<T: Send>(_: &T) {}
    fn check(config: &crate::Config, client: crate::Client, backup: &mut crate::BackupStream) {
        can_move(&crate::connect(config, crate::Mode::Sql));
        can_move(&backup.next());
        can_move(&client.base_backup(&crate::BaseBackup::new("b")));
    }
    let _ = check;
}

#[test]
fn values_are_read_from_their_text() {
    let row = DataRow { values: vec![Some("7".into()), None, Some(bytes::Bytes::from_static(b"\xff"))] };
    assert_eq!(row.parse::<u32>(0).unwrap(), 7);
    assert_eq!(row.text(1).unwrap(), None);
    let wrong: [Result<()>; 4] = [
        row.parse::<u32>(1).map(drop),
        row.text(2).map(drop),
        row.bytes(3).map(drop),
        row.parse::<bool>(0).map(drop),
    ];
    for result in wrong {
        assert!(matches!(result, Err(Error::Protocol { .. })));
    }
}
