//! The manifest's text in a temporary file.

use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::Path;

use sha2::{Digest, Sha256};

use super::{Fault, FileFacts, Summary, read};

/// The server writes a line for each file, with a path of at most 1 KiB, perhaps in hexadecimal digits.
const MAX_LINE_BYTES: u64 = 8 << 10;
/// What else is in it.
const MAX_REST_BYTES: u64 = 1 << 20;
/// Where the last line is looked for: it has less than 100 bytes.
const TAIL_BYTES: u64 = 4 << 10;
/// Bytes that are read or written at a time.
const BUFFER_BYTES: usize = 64 << 10;

/// A manifest that is arriving.
#[derive(Debug)]
pub struct Spool {
    file: BufWriter<File>,
    length: u64,
    line: u64,
    limit: u64,
}

impl Spool {
    /// An empty one in a file without a name below `folder`. `files` have been sent before it.
    pub fn new(folder: &Path, files: u64) -> Result<Spool, Fault> {
        let file = BufWriter::with_capacity(BUFFER_BYTES, tempfile::tempfile_in(folder)?);
        let limit = files.saturating_mul(MAX_LINE_BYTES).saturating_add(MAX_REST_BYTES);
        Ok(Spool { file, length: 0, line: 0, limit })
    }

    /// Takes the next bytes.
    ///
    /// # Errors
    /// [`Fault::TooLong`] for what cannot be a manifest of so many files: the reader's memory must not depend on it.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.line += part.len() as u64;
            if self.line > MAX_LINE_BYTES {
                return Err(Fault::TooLong("a line has more than 8 KiB"));
            }
            if part.ends_with(b"\n") {
                self.line = 0;
            }
        }
        self.length += bytes.len() as u64;
        if self.length > self.limit {
            return Err(Fault::TooLong("it has more lines than files were sent"));
        }
        Ok(self.file.write_all(bytes)?)
    }

    /// No more bytes come.
    pub fn finish(self) -> Result<Spooled, Fault> {
        let file = self.file.into_inner().map_err(|error| error.into_error())?;
        Ok(Spooled { file, length: self.length })
    }
}

/// A manifest that has arrived.
#[derive(Debug)]
pub struct Spooled {
    file: File,
    length: u64,
}

impl Spooled {
    /// Reads it and calls `file` for each file it lists.
    pub fn read(&mut self, file: impl FnMut(FileFacts)) -> Result<Summary, Fault> {
        self.file.rewind()?;
        read(BufReader::with_capacity(BUFFER_BYTES, &self.file), file)
    }

    /// Reads it as [`Spooled::read`] and compares its own checksum: SHA-256 of all lines but the last, which names it.
    pub fn verify(&mut self, file: impl FnMut(FileFacts)) -> Result<Summary, Fault> {
        let summary = self.read(file)?;
        let end = self.start_of_last_line()?;
        self.file.rewind()?;
        let mut hasher = Sha256::new();
        let mut buffer = vec![0; BUFFER_BYTES];
        let mut text = (&self.file).take(end);
        loop {
            let count = text.read(&mut buffer)?;
            if count == 0 {
                break;
            }
            hasher.update(&buffer[..count]);
        }
        let found: String = hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        if found != summary.checksum.to_ascii_lowercase() {
            return Err(Fault::Checksum { written: summary.checksum, found });
        }
        Ok(summary)
    }

    fn start_of_last_line(&mut self) -> Result<u64, Fault> {
        let start = self.length.saturating_sub(TAIL_BYTES);
        self.file.seek(SeekFrom::Start(start))?;
        let mut tail = Vec::new();
        (&self.file).take(TAIL_BYTES).read_to_end(&mut tail)?;
        let line = tail.strip_suffix(b"\n").unwrap_or(&tail);
        let before = line.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        Ok(start + before as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What PostgreSQL 15 wrote for a backup whose list of files was cut down to none, with the checksum of that.
    fn manifest() -> String {
        let text = "{ \"PostgreSQL-Backup-Manifest-Version\": 1,\n\"Files\": [\n],\n\"WAL-Ranges\": [\n{ \"Timeline\": 1, \
                    \"Start-LSN\": \"0/2000028\", \"End-LSN\": \"0/2000100\" }\n],\n";
        let checksum: String =
            Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{text}\"Manifest-Checksum\": \"{checksum}\"}}\n")
    }

    fn spool(text: &[u8], files: u64) -> Result<Spooled, Fault> {
        let mut spool = Spool::new(&std::env::temp_dir(), files)?;
        text.chunks(7).try_for_each(|piece| spool.push(piece))?;
        spool.finish()
    }

    #[test]
    fn r09_a_manifest_that_was_changed_on_the_way_is_refused() {
        let text = manifest();
        spool(text.as_bytes(), 0).unwrap().verify(|_| {}).unwrap();
        let changed = text.replace("0/2000100", "0/2000101");
        let error = spool(changed.as_bytes(), 0).unwrap().verify(|_| {}).unwrap_err();
        assert!(matches!(error, Fault::Checksum { .. }), "{error}");
        let cut = &text[..text.len() - 4];
        assert!(matches!(spool(cut.as_bytes(), 0).unwrap().verify(|_| {}), Err(Fault::Syntax(_))));
        assert!(matches!(spool(b"", 0).unwrap().verify(|_| {}), Err(Fault::Syntax(_))));
    }

    #[test]
    fn r11_what_no_server_writes_does_not_fill_memory_or_disk() {
        let line = vec![b'x'; MAX_LINE_BYTES as usize + 1];
        assert!(matches!(spool(&line, 1), Err(Fault::TooLong(_))));
        let lines = b"x\n".repeat(MAX_REST_BYTES as usize / 2 + 1);
        assert!(matches!(spool(&lines, 0), Err(Fault::TooLong(_))));
        spool(&lines, 1).unwrap();
    }
}
