//! A put's body on its way: piece by piece, without being copied together, with its SHA-256 in the signature.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use aws_runtime::auth::PayloadSigningOverride;
use aws_sdk_s3::config::interceptors::BeforeTransmitInterceptorContextMut;
use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::error::BoxError;
use aws_sdk_s3::primitives::{ByteStream, SdkBody};
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use ring::digest::{Context as Hasher, Digest, SHA256};

use crate::body::Body;

/// Longest body that is hashed in place (about 1 ms) rather than on a blocking thread.
const SHORT_BODY_BYTES: u64 = 512 * 1024;

/// SHA-256 of the body.
pub(super) async fn sha256(body: &Body) -> Digest {
    if body.len() <= SHORT_BODY_BYTES {
        return hash(body);
    }
    let moved = body.clone();
    // Should the thread be lost, the work is done here.
    tokio::task::spawn_blocking(move || hash(&moved)).await.unwrap_or_else(|_| hash(body))
}

fn hash(body: &Body) -> Digest {
    let mut hasher = Hasher::new(&SHA256);
    body.pieces().iter().for_each(|piece| hasher.update(piece));
    hasher.finish()
}

/// The body as the SDK sends it.
pub(super) fn stream(body: &Body) -> ByteStream {
    let gate = body.gate().cloned().map(|gate| {
        let opened: Opened = Box::pin(async move { gate.opened().await });
        Mutex::new(opened)
    });
    let pieces = Pieces { left: body.pieces().to_vec().into_iter(), length: body.len(), gate };
    ByteStream::new(SdkBody::from_body_1_x(pieces))
}

/// Ends when the object may come to be.
type Opened = Pin<Box<dyn Future<Output = ()> + Send>>;

struct Pieces {
    left: std::vec::IntoIter<Bytes>,
    length: u64,
    /// What the last piece waits for: without it the server has no object yet, and with it at once.
    gate: Option<Mutex<Opened>>,
}

impl http_body::Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.left.len() == 1
            && let Some(gate) = &mut self.gate
        {
            ready!(gate.get_mut().unwrap_or_else(PoisonError::into_inner).as_mut().poll(context));
            self.gate = None;
        }
        let piece = self.left.next();
        self.length -= piece.as_ref().map_or(0, |piece| piece.len() as u64);
        Poll::Ready(piece.map(|piece| Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.length == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.length)
    }
}

/// Signs a request with the body's hash: the server compares, so what it keeps is what was sent. For a body that
/// isn't in one piece the SDK would leave it out.
#[derive(Debug)]
pub(super) struct SignedWith(pub String);

impl Intercept for SignedWith {
    fn name(&self) -> &'static str {
        "SignedWith"
    }

    fn modify_before_signing(
        &self,
        _: &mut BeforeTransmitInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        config.interceptor_state().store_put(PayloadSigningOverride::Precomputed(self.0.clone()));
        Ok(())
    }
}

/// Lower-case hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
