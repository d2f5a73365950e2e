//! A server that gives answers made up by the test, and stores on the servers of the harness.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use highwater_storage::{Key, Secret, StoreConfig};
use highwater_tests::S3;

/// A key from its text.
pub fn key(text: &str) -> Key {
    text.parse().unwrap()
}

/// Settings for a bucket of `server`; a passing error ends a call soon.
pub fn config(server: &S3, bucket: &str) -> StoreConfig {
    let mut config = with_keys(&format!("s3://{bucket}"), &server.endpoint());
    config.access_key_id = Some(server.access_key().to_owned());
    config.secret_access_key = Some(Secret::new(server.secret_key()));
    config
}

/// Settings for `url` at `endpoint` with some keys; nothing is repeated.
pub fn with_keys(url: &str, endpoint: &str) -> StoreConfig {
    let mut config = StoreConfig::from_url(url);
    config.endpoint = Some(endpoint.to_owned());
    config.access_key_id = Some("AKIDTEST".to_owned());
    config.secret_access_key = Some(Secret::new("a secret"));
    config.retry_budget = Some(Duration::ZERO);
    config
}

/// A request that the server was asked.
#[derive(Clone, Debug)]
pub struct Request {
    pub method: String,
    pub target: String,
    /// Lower-case names.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }
}

/// What the server is to answer.
#[derive(Clone, Debug)]
pub struct Response {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub body: Vec<u8>,
    /// Whether the rest of the body never comes, though the connection stays.
    pub stalls: bool,
}

/// An answer with a body.
pub fn answer(status: u16, body: impl Into<Vec<u8>>) -> Response {
    Response { status, headers: Vec::new(), body: body.into(), stalls: false }
}

impl Response {
    pub fn header(mut self, name: &'static str, value: impl ToString) -> Self {
        self.headers.push((name, value.to_string()));
        self
    }
}

/// S3's way to say no.
pub fn refusal(status: u16, code: &str) -> Response {
    let body = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?><Error><Code>{code}</Code><Message>words</Message></Error>"
    );
    answer(status, body).header("content-type", "application/xml")
}

/// An HTTP server on 127.0.0.1 that answers as `answer` says and remembers what it was asked. Its thread ends with
/// the test.
pub struct Answers {
    pub address: SocketAddr,
    asked: Arc<Mutex<Vec<Request>>>,
}

impl Answers {
    pub fn serve(answer: impl Fn(&Request) -> Response + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (answer, remembered) = (Arc::new(answer), Arc::clone(&asked));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (answer, asked) = (Arc::clone(&answer), Arc::clone(&remembered));
                thread::spawn(move || converse(&stream, &*answer, &asked));
            }
        });
        Self { address, asked }
    }

    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn asked(&self) -> Vec<Request> {
        self.asked.lock().unwrap().clone()
    }
}

fn converse(stream: &TcpStream, answer: &dyn Fn(&Request) -> Response, asked: &Mutex<Vec<Request>>) {
    let mut reader = BufReader::new(stream);
    while let Some(request) = read_request(&mut reader) {
        let Response { status, headers, body, stalls } = answer(&request);
        asked.lock().unwrap().push(request.clone());
        let mut head = format!("HTTP/1.1 {status} Words\r\n");
        if !headers.iter().any(|(name, _)| *name == "content-length") && status != 204 {
            head += &format!("content-length: {}\r\n", body.len());
        }
        for (name, value) in headers {
            head += &format!("{name}: {value}\r\n");
        }
        let body = if request.method == "HEAD" { &[] } else { body.as_slice() };
        let mut writer = stream;
        if writer.write_all(format!("{head}\r\n").as_bytes()).and_then(|()| writer.write_all(body)).is_err() {
            return;
        }
        if stalls {
            // Until the client has gone.
            let _ = reader.read(&mut [0]);
            return;
        }
    }
}

fn read_request(reader: &mut impl BufRead) -> Option<Request> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|count| *count > 0)?;
    let mut words = line.split(' ').map(str::to_owned);
    let (method, target) = (words.next()?, words.next()?);
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        headers.push((name.to_ascii_lowercase(), value.to_owned()));
    }
    let mut request = Request { method, target, headers, body: Vec::new() };
    let length = request.header("content-length").map_or(0, |length| length.parse().unwrap());
    request.body.resize(length, 0);
    reader.read_exact(&mut request.body).ok()?;
    Some(request)
}
