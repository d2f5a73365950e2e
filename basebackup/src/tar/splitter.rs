//! From pieces of an archive to members.

use bytes::{Buf, Bytes};

use super::header::{BLOCK, Kind, Member};
use super::{Fault, header};

/// What comes out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// A member begins. Of a regular file, also of an empty one, content and [`Piece::End`] follow.
    Begin(Member),
    /// Content of the file that was begun: never empty.
    Content(Bytes),
    /// The file has all its content.
    End,
}

/// Takes one archive apart.
///
/// ```
/// use highwater_basebackup::tar::Splitter;
/// let mut splitter = Splitter::new();
/// splitter.push(vec![0; 1024].into());
/// assert_eq!(splitter.next()?, None);
/// splitter.finish()?;
/// # Ok::<(), highwater_basebackup::tar::Fault>(())
/// ```
#[derive(Debug)]
pub struct Splitter {
    input: Bytes,
    state: State,
}

#[derive(Debug)]
enum State {
    /// Within a header, of which so many bytes are there.
    Header { block: Box<[u8; BLOCK]>, filled: usize },
    /// Within a file: so many bytes of content, then so many of padding.
    Content { remaining: u64, padding: u64 },
    /// Behind a file's content.
    Padding { remaining: u64 },
    /// Behind the first block of zeros: only zeros may follow.
    Closed,
}

impl State {
    fn header() -> State {
        State::Header { block: Box::new([0; BLOCK]), filled: 0 }
    }
}

impl Default for Splitter {
    fn default() -> Splitter {
        Splitter::new()
    }
}

impl Splitter {
    /// For an archive from its beginning.
    pub fn new() -> Splitter {
        Splitter { input: Bytes::new(), state: State::header() }
    }

    /// Hands in the next bytes, of any number. [`Splitter::next`] must have answered `None` before.
    pub fn push(&mut self, bytes: Bytes) {
        debug_assert!(self.input.is_empty(), "what was pushed before is taken out first");
        self.input = bytes;
    }

    /// What the bytes pushed so far hold next; `None` when more are needed.
    ///
    /// # Errors
    /// [`Fault`]; the splitter is of no further use then.
    #[expect(
        clippy::should_implement_trait,
        reason = "an iterator's None would mean the end and not \"push more\""
    )]
    pub fn next(&mut self) -> Result<Option<Piece>, Fault> {
        while !self.input.is_empty() {
            let piece = match &mut self.state {
                State::Header { block, filled } => {
                    let count = self.input.len().min(BLOCK - *filled);
                    self.input.copy_to_slice(&mut block[*filled..*filled + count]);
                    *filled += count;
                    if *filled < BLOCK { None } else { self.begin()? }
                }
                State::Content { remaining: 0, padding } => {
                    self.state = State::Padding { remaining: *padding };
                    Some(Piece::End)
                }
                State::Content { remaining, .. } => {
                    let count = cut(*remaining, self.input.len());
                    *remaining -= count as u64;
                    Some(Piece::Content(self.input.split_to(count)))
                }
                State::Padding { remaining: 0 } => {
                    self.state = State::header();
                    None
                }
                State::Padding { remaining } => {
                    let count = cut(*remaining, self.input.len());
                    *remaining -= count as u64;
                    self.input.advance(count);
                    None
                }
                State::Closed => {
                    if self.input.iter().any(|byte| *byte != 0) {
                        return Err(Fault::Trailing);
                    }
                    self.input.clear();
                    None
                }
            };
            if piece.is_some() {
                return Ok(piece);
            }
        }
        // The end of a file is told as soon as it is known, not with the next one's first byte.
        if let State::Content { remaining: 0, padding } = self.state {
            self.state = State::Padding { remaining: padding };
            return Ok(Some(Piece::End));
        }
        Ok(None)
    }

    fn begin(&mut self) -> Result<Option<Piece>, Fault> {
        let State::Header { block, .. } = &self.state else { return Ok(None) };
        let Some(member) = Member::parse(block)? else {
            self.state = State::Closed;
            return Ok(None);
        };
        self.state = match member.kind {
            Kind::File { size } => {
                let padding = size.next_multiple_of(header::BLOCK as u64) - size;
                State::Content { remaining: size, padding }
            }
            Kind::Folder | Kind::Link { .. } => State::header(),
        };
        Ok(Some(Piece::Begin(member)))
    }

    /// Says that the archive has ended. PostgreSQL 14 leaves out the two blocks of zeros that should end it, so that
    /// an archive is whole wherever a header could follow.
    ///
    /// # Errors
    /// [`Fault::Truncated`].
    pub fn finish(self) -> Result<(), Fault> {
        let missing = match self.state {
            State::Closed => 0,
            State::Header { filled: 0, .. } => 0,
            State::Header { filled, .. } => (BLOCK - filled) as u64,
            State::Content { remaining, padding } => remaining + padding,
            State::Padding { remaining } => remaining,
        };
        match missing {
            0 => Ok(()),
            missing => Err(Fault::Truncated { missing }),
        }
    }
}

fn cut(remaining: u64, available: usize) -> usize {
    usize::try_from(remaining).map_or(available, |remaining| remaining.min(available))
}

#[cfg(test)]
mod tests;
