//! What is put into an object.

use bytes::Bytes;

use crate::gate::Gate;

/// The content of an object to be put: pieces that are written one behind the other, without being copied together.
///
/// Cloning is cheap, so a retry needs no second copy of the data.
///
/// ```
/// use highwater_storage::Body;
///
/// let body: Body = [b"summary".to_vec(), b"segment".to_vec()].into_iter().collect();
/// assert_eq!(body.len(), 14);
/// ```
#[derive(Clone, Debug, Default)]
pub struct Body {
    pieces: Vec<Bytes>,
    gate: Option<Gate>,
}

impl Body {
    /// The same, but its object must not come to be before `gate` opens. A store may take all of it but the last piece
    /// before.
    #[must_use]
    pub fn behind(mut self, gate: Gate) -> Body {
        self.gate = Some(gate);
        self
    }

    /// What its object has to wait for.
    pub fn gate(&self) -> Option<&Gate> {
        self.gate.as_ref()
    }

    /// Waits until its object may come to be.
    pub async fn may_be_put(&self) {
        if let Some(gate) = &self.gate {
            gate.opened().await;
        }
    }

    /// Length of the whole in bytes.
    pub fn len(&self) -> u64 {
        self.pieces.iter().map(|piece| piece.len() as u64).sum()
    }

    /// Whether there is no byte in it.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The pieces, in order. None of them is empty.
    pub fn pieces(&self) -> &[Bytes] {
        &self.pieces
    }

    /// The whole as one piece; copies unless there is only one.
    pub fn to_bytes(&self) -> Bytes {
        match self.pieces.as_slice() {
            [one] => one.clone(),
            pieces => pieces.concat().into(),
        }
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        [bytes].into_iter().collect()
    }
}

impl From<Vec<u8>> for Body {
    fn from(bytes: Vec<u8>) -> Self {
        Bytes::from(bytes).into()
    }
}

impl From<&'static [u8]> for Body {
    fn from(bytes: &'static [u8]) -> Self {
        Bytes::from_static(bytes).into()
    }
}

impl<B: Into<Bytes>> FromIterator<B> for Body {
    fn from_iter<I: IntoIterator<Item = B>>(pieces: I) -> Self {
        let pieces = pieces.into_iter().map(Into::into).filter(|piece: &Bytes| !piece.is_empty());
        Self { pieces: pieces.collect(), gate: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_counted_and_joined_and_empty_ones_dropped() {
        let body: Body = [&b"ab"[..], b"", b"cde"].into_iter().collect();
        assert_eq!((body.len(), body.pieces().len(), body.is_empty()), (5, 2, false));
        assert_eq!(body.to_bytes(), &b"abcde"[..]);
        assert!(Body::from(Vec::new()).is_empty());
        assert_eq!(Body::default().to_bytes(), Bytes::new());
    }
}
