//! A server in memory: it answers each message of the client with what it was given, in pieces as small as wanted.

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::task::JoinHandle;

use crate::auth::Credentials;
use crate::client::Startup;
use crate::config::AuthMethods;
use crate::connection::Wait;
use crate::{ChannelBinding, Client, Limits, Result};

/// What the server does when it has given all its answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// It closes the connection.
    Close,
    /// It says nothing more.
    Silence,
}

/// A server and the client's end of the wire, which takes so many bytes at a time.
pub(super) fn fake(
    answers: Vec<Vec<u8>>,
    width: usize,
    end: End,
) -> (DuplexStream, JoinHandle<Vec<Vec<u8>>>) {
    let (ours, theirs) = duplex(width);
    (ours, tokio::spawn(serve(theirs, answers, end)))
}

/// Gives back the client's messages, when it has gone or all is said.
async fn serve(mut stream: DuplexStream, answers: Vec<Vec<u8>>, end: End) -> Vec<Vec<u8>> {
    let mut heard = Vec::new();
    for answer in answers {
        let Some(message) = hear(&mut stream, heard.is_empty()).await else { return heard };
        heard.push(message);
        if stream.write_all(&answer).await.is_err() {
            return heard;
        }
    }
    if end == End::Silence {
        while let Some(message) = hear(&mut stream, false).await {
            heard.push(message);
        }
    }
    heard
}

/// A message of the client; the first has no tag.
async fn hear(stream: &mut DuplexStream, first: bool) -> Option<Vec<u8>> {
    let mut message = Vec::new();
    if !first {
        message.push(stream.read_u8().await.ok()?);
    }
    let length = stream.read_u32().await.ok()?;
    message.extend(length.to_be_bytes());
    let mut body = vec![0; length as usize - 4];
    stream.read_exact(&mut body).await.ok()?;
    message.extend(body);
    Some(message)
}

/// A client of this server, which trusts it.
pub(super) async fn log_in(stream: DuplexStream, limits: Limits) -> Result<Client<DuplexStream>> {
    let credentials = Credentials {
        user: "me",
        password: None,
        passed_over: None,
        methods: AuthMethods::ANY,
        channel_binding: ChannelBinding::Prefer,
        certificate: None,
    };
    let startup = Startup { parameters: vec![("user", "me"), ("replication", "true")], credentials };
    Client::start(stream, startup, limits, &Wait::to_connect(&limits)).await
}

/// A client of a server that answers like this once it is logged in.
pub(super) async fn client(
    version: &str,
    answers: &[Vec<u8>],
    width: usize,
    end: End,
) -> Client<DuplexStream> {
    let answers = [&[welcome(version)], answers].concat();
    let (stream, _) = fake(answers, width, end);
    log_in(stream, Limits::default()).await.unwrap()
}

pub(super) fn frame(tag: u8, body: impl AsRef<[u8]>) -> Vec<u8> {
    let length = u32::try_from(body.as_ref().len() + 4).unwrap().to_be_bytes();
    [&[tag][..], &length, body.as_ref()].concat()
}

pub(super) fn authenticated() -> Vec<u8> {
    frame(b'R', [0; 4])
}

pub(super) fn parameter(name: &str, value: &str) -> Vec<u8> {
    frame(b'S', format!("{name}\0{value}\0"))
}

pub(super) fn ready() -> Vec<u8> {
    frame(b'Z', b"I")
}

/// What a server says to who has logged in.
pub(super) fn welcome(version: &str) -> Vec<u8> {
    let key = frame(b'K', b"\0\0\0\x2a\0\0\0\x01");
    [authenticated(), parameter("server_version", version), parameter("in_hot_standby", "off"), key, ready()]
        .concat()
}

pub(super) fn columns(names: &[&str]) -> Vec<u8> {
    let mut body = u16::try_from(names.len()).unwrap().to_be_bytes().to_vec();
    for name in names {
        body.extend(name.as_bytes());
        body.extend([0; 19]);
    }
    frame(b'T', body)
}

pub(super) fn row(values: &[Option<&str>]) -> Vec<u8> {
    let mut body = u16::try_from(values.len()).unwrap().to_be_bytes().to_vec();
    for value in values {
        let length = value.map_or(-1, |value| i32::try_from(value.len()).unwrap());
        body.extend(length.to_be_bytes());
        body.extend(value.unwrap_or("").as_bytes());
    }
    frame(b'D', body)
}

pub(super) fn complete(tag: &str) -> Vec<u8> {
    frame(b'C', format!("{tag}\0"))
}

pub(super) fn error(severity: &str, sqlstate: &str, message: &str) -> Vec<u8> {
    frame(b'E', format!("S{severity}\0V{severity}\0C{sqlstate}\0M{message}\0\0"))
}

pub(super) fn notice(message: &str) -> Vec<u8> {
    frame(b'N', format!("SWARNING\0VWARNING\0C01000\0M{message}\0\0"))
}

pub(super) fn copy_out() -> Vec<u8> {
    frame(b'H', [0; 3])
}

pub(super) fn copy_data(body: impl AsRef<[u8]>) -> Vec<u8> {
    frame(b'd', body)
}

pub(super) fn copy_done() -> Vec<u8> {
    frame(b'c', [])
}
