//! Lines of a file or of standard input, read by a thread of their own: a read that waits for a typist stops nobody.

use crate::error::CliError;
use crate::limits::{INPUT_CHUNK_BYTES, INPUT_CHUNKS_MAX, LINE_BYTES_MAX};
use std::fs::File;
use std::io::{self, IsTerminal, Read};
use std::path::Path;
use tokio::sync::mpsc;

/// An input that is being read.
pub(super) struct Source {
    /// Whole lines, as they come; at most [`INPUT_CHUNKS_MAX`] wait.
    pub(super) chunks: mpsc::Receiver<Result<Chunk, CliError>>,
    /// Length, where it is known.
    pub(super) total_bytes: Option<u64>,
    /// Whether somebody types it.
    pub(super) is_typed: bool,
}

/// Whole lines of input.
#[derive(Debug)]
pub(super) struct Chunk {
    bytes: Vec<u8>,
}

impl Chunk {
    /// The lines, without their ends (LF or CR LF).
    pub(super) fn lines(&self) -> impl Iterator<Item = &[u8]> {
        self.bytes.split_inclusive(|byte| *byte == b'\n').map(|line| {
            let line = line.strip_suffix(b"\n").unwrap_or(line);
            line.strip_suffix(b"\r").unwrap_or(line)
        })
    }

    /// Bytes of input.
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }
}

/// Begins to read a file, or standard input.
pub(super) fn open(file: Option<&Path>) -> Result<Source, CliError> {
    let (name, total_bytes, is_typed, input): (String, _, _, Box<dyn Read + Send>) = match file {
        Some(path) => {
            let name = format!("read {}", path.display());
            let file = File::open(path).map_err(CliError::io(name.clone()))?;
            let metadata = file.metadata().map_err(CliError::io(name.clone()))?;
            (name, metadata.is_file().then_some(metadata.len()), false, Box::new(file))
        }
        None => ("read standard input".to_owned(), None, io::stdin().is_terminal(), Box::new(io::stdin())),
    };
    let (to, chunks) = mpsc::channel(INPUT_CHUNKS_MAX);
    let reading = move || {
        let outcome = read_lines(input, |chunk| to.blocking_send(Ok(chunk)).is_ok());
        if let Err(error) = outcome {
            // Nobody listens any more: then nobody needs to know.
            to.blocking_send(Err(error.into_cli_error(name))).unwrap_or_default();
        }
    };
    let builder = std::thread::Builder::new().name("input".to_owned());
    builder.spawn(reading).map_err(CliError::io("start a thread"))?;
    Ok(Source { chunks, total_bytes, is_typed })
}

#[derive(Debug)]
enum InputError {
    Read(io::Error),
    LineTooLong,
}

impl InputError {
    fn into_cli_error(self, name: String) -> CliError {
        match self {
            Self::Read(source) => CliError::Io { what: name, source },
            Self::LineTooLong => CliError::Input(format!(
                "can't {name}: a line is longer than {LINE_BYTES_MAX} bytes, more than a batch"
            )),
        }
    }
}

/// Hands out whole lines as soon as they are there, until the input ends or `give` says no.
fn read_lines(mut input: impl Read, mut give: impl FnMut(Chunk) -> bool) -> Result<(), InputError> {
    let mut bytes: Vec<u8> = Vec::new();
    loop {
        let begun = bytes.len();
        bytes.resize(begun + INPUT_CHUNK_BYTES, 0);
        let read = match input.read(&mut bytes[begun..]) {
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                bytes.truncate(begun);
                continue;
            }
            Err(error) => return Err(InputError::Read(error)),
        };
        bytes.truncate(begun + read);
        if read == 0 {
            if !bytes.is_empty() {
                give(Chunk { bytes });
            }
            return Ok(());
        }
        let Some(end) = bytes[begun..].iter().rposition(|byte| *byte == b'\n') else {
            if bytes.len() > LINE_BYTES_MAX {
                return Err(InputError::LineTooLong);
            }
            continue;
        };
        let rest = bytes.split_off(begun + end + 1);
        if !give(Chunk { bytes: std::mem::replace(&mut bytes, rest) }) {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::VecDeque;

    /// Gives these pieces, one a read; an empty one is a signal that interrupts the read.
    struct Pieces(VecDeque<Vec<u8>>);

    impl Read for Pieces {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            match self.0.pop_front() {
                None => Ok(0),
                Some(piece) if piece.is_empty() => Err(io::ErrorKind::Interrupted.into()),
                Some(piece) => {
                    buffer[..piece.len()].copy_from_slice(&piece);
                    Ok(piece.len())
                }
            }
        }
    }

    fn chunks(pieces: &[&str]) -> Vec<Vec<String>> {
        let pieces = Pieces(pieces.iter().map(|piece| piece.as_bytes().to_vec()).collect());
        let mut found = Vec::new();
        let text = |line: &[u8]| String::from_utf8(line.to_vec()).unwrap();
        read_lines(pieces, |chunk| {
            found.push(chunk.lines().map(text).collect());
            true
        })
        .unwrap();
        found
    }

    #[test]
    fn lines_come_whole_and_at_once_however_they_are_read() {
        assert_eq!(chunks(&["one\ntwo\n"]), [["one", "two"]]);
        assert_eq!(chunks(&["on", "e\n", "", "\n", "la", "st"]), [vec!["one"], vec![""], vec!["last"]]);
        assert_eq!(chunks(&["a\r\nb\r", "c\n"]), [vec!["a"], vec!["b\rc"]]);
        assert!(chunks(&[]).is_empty());
    }

    #[test]
    fn a_line_without_end_is_refused_before_it_fills_the_memory() {
        let long = io::repeat(b'x').take((LINE_BYTES_MAX + 2 * INPUT_CHUNK_BYTES) as u64);
        let error = read_lines(long, |_| true).unwrap_err().into_cli_error("read it".to_owned());
        assert!(error.to_string().contains("longer than"), "{error}");
    }

    #[test]
    fn reading_stops_when_nobody_wants_more() {
        let mut given = 0;
        read_lines(io::repeat(b'\n'), |_| {
            given += 1;
            given < 3
        })
        .unwrap();
        assert_eq!(given, 3);
    }
}
