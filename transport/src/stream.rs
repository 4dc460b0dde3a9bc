//! Streams of whole frames.
//!
//! ```text
//!   Prefix ──16 bytes, limits checked──▶ Header ──▶ Budget ──body bytes taken──▶ Body ──▶ frame
//!     │ end of stream here is a clean end               │ waits: the peer's window fills up, the peer waits
//! ```

use crate::budget::{BudgetPermit, ByteBudget};
use crate::connection::CloseCode;
use crate::error::{ConnectionLost, FramePart, RecvError, SendError};
use crate::limits::{BODY_FIRST_ALLOCATION_BYTES_MAX, BODY_GROWTH_FACTOR_MAX, TransportLimits};
use bytes::{BufMut, Bytes, BytesMut};
use headwater_protocol::frame::{FrameLimits, FramePrefix};
use quinn::{ReadError, WriteError};
use std::io;
use std::mem;
use tokio::io::AsyncReadExt;
use tokio::time::{Instant, timeout_at};

/// A frame as it came. While `permit` lives, the body's bytes count against the budget.
#[derive(Debug)]
pub struct Frame {
    /// What is asked or answered, and the lengths.
    pub prefix: FramePrefix,
    /// The header: one postcard struct.
    pub header: Bytes,
    /// The body. Nothing else refers to its buffer: `Bytes::try_into_mut` succeeds unless it is empty.
    pub body: Bytes,
    /// Holds the body's share of the budget; drop it when the body is no longer kept.
    pub permit: BudgetPermit,
}

/// What a frame to send is: its prefix but for the lengths, which follow from its parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameTag {
    /// Number of an api.
    pub api: u16,
    /// Its version.
    pub version: u16,
    /// Chosen by who asks, repeated by who answers.
    pub correlation: u32,
}

impl From<&FramePrefix> for FrameTag {
    /// The tag of the answer to a request.
    fn from(prefix: &FramePrefix) -> Self {
        Self { api: prefix.api, version: prefix.version, correlation: prefix.correlation }
    }
}

/// The sending half of a stream.
///
/// Dropped inside a frame (a cancelled [`Self::send`]) it resets the stream; dropped between frames it ends it cleanly.
#[derive(Debug)]
pub struct FramedSend {
    stream: quinn::SendStream,
    inside_frame: bool,
    /// Kept between frames so that sending doesn't allocate a list each time.
    chunks: Vec<Bytes>,
}

impl FramedSend {
    pub(crate) fn new(stream: quinn::SendStream) -> Self {
        Self { stream, inside_frame: false, chunks: Vec::new() }
    }

    /// Sends a frame; the body is the chunks of `body` one after another, which are handed on without a copy.
    /// Waits while the peer's window is full. Not cancel-safe: when the future is dropped before it is done, the
    /// stream is at its end.
    ///
    /// # Errors
    /// [`SendError`]; only after [`SendError::TooLarge`] the stream can still be used.
    pub async fn send(&mut self, tag: FrameTag, header: &[u8], body: &[Bytes]) -> Result<(), SendError> {
        if self.inside_frame {
            return Err(SendError::Closed);
        }
        let prefix = FramePrefix {
            api: tag.api,
            version: tag.version,
            correlation: tag.correlation,
            header_bytes: length(FramePart::Header, header.len())?,
            body_bytes: length(FramePart::Body, body.iter().map(Bytes::len).sum())?,
        };
        let mut head = BytesMut::with_capacity(FramePrefix::BYTES + header.len());
        head.put_slice(&prefix.encode());
        head.put_slice(header);
        self.chunks.clear();
        self.chunks.push(head.freeze());
        self.chunks.extend(body.iter().filter(|chunk| !chunk.is_empty()).cloned());

        self.inside_frame = true;
        self.stream.write_all_chunks(&mut self.chunks).await.map_err(SendError::from)?;
        self.inside_frame = false;
        self.chunks.clear();
        Ok(())
    }

    /// Ends the stream in good order: the peer gets every frame and then a clean end.
    pub fn finish(&mut self) {
        // Fails only when the stream is at its end already.
        self.stream.finish().unwrap_or_default();
    }

    /// Gives the stream up: what has not arrived may be lost.
    pub fn reset(&mut self, code: CloseCode) {
        self.stream.reset(code.number()).unwrap_or_default();
    }

    /// Waits until the peer has everything after [`Self::finish`], or wants no more of the stream. Cancel-safe.
    ///
    /// # Errors
    /// [`SendError::Stopped`] or [`SendError::Lost`].
    pub async fn delivered(&mut self) -> Result<(), SendError> {
        match self.stream.stopped().await {
            Ok(None) => Ok(()),
            Ok(Some(code)) => Err(SendError::Stopped { code: code.into_inner() }),
            Err(quinn::StoppedError::ConnectionLost(lost)) => Err(SendError::Lost(lost.into())),
            Err(quinn::StoppedError::ZeroRttRejected) => Err(SendError::Closed),
        }
    }
}

impl Drop for FramedSend {
    fn drop(&mut self) {
        if self.inside_frame {
            self.reset(CloseCode::InternalError);
        }
    }
}

fn length(part: FramePart, bytes: usize) -> Result<u32, SendError> {
    u32::try_from(bytes).map_err(|_| SendError::TooLarge { part, bytes })
}

impl From<WriteError> for SendError {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::Stopped(code) => Self::Stopped { code: code.into_inner() },
            WriteError::ConnectionLost(lost) => Self::Lost(lost.into()),
            WriteError::ClosedStream | WriteError::ZeroRttRejected => Self::Closed,
        }
    }
}

/// The receiving half of a stream. Dropped before its end it tells the peer to stop.
#[derive(Debug)]
pub struct FramedRecv {
    stream: quinn::RecvStream,
    limits: TransportLimits,
    /// How far the current frame has come. It lives here, so that [`Self::next`] can be cancelled at any point.
    stage: Stage,
    /// When the current part must be there; `None` between frames. Says nothing while we wait for the budget.
    deadline: Option<Instant>,
}

#[derive(Debug)]
enum Stage {
    Prefix { bytes: [u8; FramePrefix::BYTES], filled: usize },
    Header { prefix: FramePrefix, header: BytesMut },
    Budget { prefix: FramePrefix, header: Bytes },
    Body { prefix: FramePrefix, header: Bytes, body: BytesMut, permit: BudgetPermit },
    Ended,
}

impl Stage {
    const START: Self = Self::Prefix { bytes: [0; FramePrefix::BYTES], filled: 0 };
}

impl FramedRecv {
    pub(crate) fn new(stream: quinn::RecvStream, limits: TransportLimits) -> Self {
        Self { stream, limits, stage: Stage::START, deadline: None }
    }

    /// The next frame, or `None` when the peer has ended the stream between two frames. Also `None` ever after an
    /// error or the end.
    ///
    /// The lengths are checked against `frame_limits` before anything is allocated. The body's bytes are taken from
    /// `budget` before the body is read: while the budget is used up nothing is read, and so the peer has to wait.
    /// Waits for ever between frames; inside one the peer has to keep up (see [`TransportLimits`]). Cancel-safe.
    ///
    /// # Errors
    /// [`RecvError`] tells a peer that misbehaves from a connection that is gone.
    pub async fn next(&mut self, frame_limits: &FrameLimits, budget: &ByteBudget) -> Result<Option<Frame>, RecvError> {
        let outcome = self.advance(frame_limits, budget).await;
        match outcome {
            Ok(Some(_)) => {}
            Ok(None) | Err(_) => self.stage = Stage::Ended,
        }
        outcome
    }

    /// Tells the peer that nothing more of this stream is wanted.
    pub fn stop(&mut self, code: CloseCode) {
        self.stage = Stage::Ended;
        // Fails only when the stream is at its end already.
        self.stream.stop(code.number()).unwrap_or_default();
    }

    async fn advance(&mut self, limits: &FrameLimits, budget: &ByteBudget) -> Result<Option<Frame>, RecvError> {
        loop {
            match &mut self.stage {
                Stage::Prefix { .. } => {
                    let Some(prefix) = self.read_prefix().await? else { return Ok(None) };
                    prefix.check(limits)?;
                    self.stage = Stage::Header { prefix, header: BytesMut::new() };
                }
                Stage::Header { prefix, header } => {
                    fill(&mut self.stream, FramePart::Header, header, prefix.header_bytes, self.deadline).await?;
                    let header = mem::take(header).freeze();
                    self.stage = Stage::Budget { prefix: *prefix, header };
                }
                Stage::Budget { prefix, header } => {
                    let permit = budget.take(prefix.body_bytes).await?;
                    self.deadline = Some(Instant::now() + self.limits.body_time_max(prefix.body_bytes));
                    let (prefix, header) = (*prefix, mem::take(header));
                    self.stage = Stage::Body { prefix, header, body: BytesMut::new(), permit };
                }
                Stage::Body { prefix, body, .. } => {
                    fill(&mut self.stream, FramePart::Body, body, prefix.body_bytes, self.deadline).await?;
                    self.deadline = None;
                    if let Stage::Body { prefix, header, body, permit } = mem::replace(&mut self.stage, Stage::START) {
                        return Ok(Some(Frame { prefix, header, body: body.freeze(), permit }));
                    }
                }
                Stage::Ended => return Ok(None),
            }
        }
    }

    async fn read_prefix(&mut self) -> Result<Option<FramePrefix>, RecvError> {
        let Stage::Prefix { bytes, filled } = &mut self.stage else { return Ok(None) };
        while *filled < bytes.len() {
            let reading = self.stream.read(&mut bytes[*filled..]);
            let read = match self.deadline {
                None => reading.await,
                Some(deadline) => timeout_at(deadline, reading).await.map_err(|_| RecvError::TooSlow {
                    part: FramePart::Prefix,
                    received_bytes: *filled,
                    expected_bytes: FramePrefix::BYTES,
                })?,
            };
            match read? {
                Some(count) => *filled += count,
                None if *filled == 0 => return Ok(None),
                None => {
                    let (received_bytes, expected_bytes) = (*filled, FramePrefix::BYTES);
                    return Err(RecvError::Truncated { part: FramePart::Prefix, received_bytes, expected_bytes });
                }
            }
            if self.deadline.is_none() {
                self.deadline = Some(Instant::now() + self.limits.partial_frame_time_max());
            }
        }
        Ok(Some(FramePrefix::decode(bytes)))
    }
}

/// Reads until `buffer` has `expected_bytes`. What was read stays in `buffer` when the future is dropped.
async fn fill(
    stream: &mut quinn::RecvStream,
    part: FramePart,
    buffer: &mut BytesMut,
    expected_bytes: u32,
    deadline: Option<Instant>,
) -> Result<(), RecvError> {
    let expected_bytes = expected_bytes as usize;
    while buffer.len() < expected_bytes {
        if buffer.len() == buffer.capacity() {
            grow(buffer, expected_bytes);
        }
        let room = buffer.capacity().min(expected_bytes) - buffer.len();
        let mut target = (&mut *buffer).limit(room);
        let reading = stream.read_buf(&mut target);
        let read = match deadline {
            None => Ok(reading.await),
            Some(deadline) => timeout_at(deadline, reading).await,
        };
        let received_bytes = buffer.len();
        match read {
            Err(_) => return Err(RecvError::TooSlow { part, received_bytes, expected_bytes }),
            Ok(Err(error)) => return Err(error.into()),
            Ok(Ok(0)) => return Err(RecvError::Truncated { part, received_bytes, expected_bytes }),
            Ok(Ok(_)) => {}
        }
    }
    Ok(())
}

/// Makes room by a factor of what has arrived, never past `expected_bytes`. Exact, unlike `reserve`: what a body
/// occupies is what the budget was asked for.
fn grow(buffer: &mut BytesMut, expected_bytes: usize) {
    let capacity = (buffer.len() * BODY_GROWTH_FACTOR_MAX).max(BODY_FIRST_ALLOCATION_BYTES_MAX).min(expected_bytes);
    let mut larger = BytesMut::with_capacity(capacity);
    larger.extend_from_slice(buffer);
    *buffer = larger;
}

impl From<ReadError> for RecvError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Reset(code) => Self::Reset { code: code.into_inner() },
            ReadError::ConnectionLost(lost) => Self::Lost(lost.into()),
            // Only after `stop`, which ends the stages too.
            ReadError::ClosedStream | ReadError::IllegalOrderedRead | ReadError::ZeroRttRejected => {
                Self::Lost(ConnectionLost::ClosedHere)
            }
        }
    }
}

impl From<io::Error> for RecvError {
    /// `AsyncRead` wraps quinn's own error; this takes it out again.
    fn from(error: io::Error) -> Self {
        match error.get_ref().and_then(|inner| inner.downcast_ref::<ReadError>()) {
            Some(inner) => inner.clone().into(),
            None => Self::Lost(ConnectionLost::Broken(error.to_string())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_for_a_body_follows_what_has_arrived() {
        let mut buffer = BytesMut::new();
        let expected = 10 << 20;
        let mut capacities = Vec::new();
        while buffer.len() < expected {
            grow(&mut buffer, expected);
            assert!(buffer.capacity() <= (buffer.len() * BODY_GROWTH_FACTOR_MAX).max(BODY_FIRST_ALLOCATION_BYTES_MAX));
            capacities.push(buffer.capacity());
            buffer.resize(buffer.capacity(), 0);
        }
        assert_eq!(capacities, [256 << 10, 1 << 20, 4 << 20, 10 << 20]);
    }
}
