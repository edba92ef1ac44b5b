//! The bodies as they pass: counted, paced, and damaged where a fault says so. No byte is copied but the one that is altered.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use s3s::StdError;

use super::counters::Counters;
use super::faults::Action;
use super::pace::Pacer;
use crate::base::clock;

/// How long a cut waits, so that what came before it leaves first.
const FLUSH_BEFORE_CUT: Duration = Duration::from_millis(10);
/// How much of a request that was refused is still read, in bytes: closing a connection with unread data resets it, and the
/// client would never see the answer.
const MAX_DRAIN_BYTES: u64 = 64 << 20;

type Timer = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What both bodies of a request share.
#[derive(Debug, Clone)]
pub(super) struct Line {
    pub(super) counters: Arc<Counters>,
    pub(super) pacer: Arc<Pacer>,
}

/// The body of a request. A clone is the same body: so what its reader left can still be drained.
#[derive(Clone)]
pub(super) struct Intake(Arc<Mutex<IntakeState>>);

struct IntakeState {
    body: Incoming,
    line: Line,
    wait: Option<Timer>,
}

impl Intake {
    pub(super) fn new(body: Incoming, line: Line) -> Self {
        Self(Arc::new(Mutex::new(IntakeState { body, line, wait: None })))
    }

    fn state(&self) -> MutexGuard<'_, IntakeState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads what is left of it.
    pub(super) async fn drain(mut self) {
        let mut left = MAX_DRAIN_BYTES;
        while !self.is_end_stream() && left > 0 {
            match self.frame().await {
                Some(Ok(frame)) => left = left.saturating_sub(frame.data_ref().map_or(0, Bytes::len) as u64),
                Some(Err(_)) | None => return,
            }
        }
    }
}

impl Body for Intake {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let state = &mut *self.state();
        if let Some(wait) = &mut state.wait {
            ready!(wait.as_mut().poll(cx));
            state.wait = None;
        }
        let frame = ready!(Pin::new(&mut state.body).poll_frame(cx));
        if let Some(Ok(frame)) = &frame
            && let Some(data) = frame.data_ref()
        {
            state.line.counters.received(data.len());
            state.wait = state.line.pacer.incoming.pass(data.len()).map(timer);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.state().body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.state().body.size_hint()
    }
}

/// What is done to an answer's body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Damage {
    None,
    Cut {
        at: u64,
    },
    /// The bytes before the cut are leaving.
    Cutting,
    Flip {
        at: u64,
    },
    Stall {
        at: u64,
        time: Duration,
    },
}

impl Damage {
    /// What an action means for a body of `len` bytes.
    const fn of(action: Option<Action>, len: u64) -> Self {
        match action {
            Some(Action::Cut(at)) if at < len => Self::Cut { at },
            Some(Action::Flip(at)) if at < len => Self::Flip { at },
            Some(Action::Stall(time)) if len > 0 => Self::Stall { at: len / 2, time },
            _ => Self::None,
        }
    }
}

/// The body of an answer.
pub(super) struct Outgoing {
    inner: s3s::Body,
    line: Line,
    held: Bytes,
    sent: u64,
    damage: Damage,
    wait: Option<Timer>,
}

/// A body was cut on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("cut by a fault rule")]
struct WasCut;

impl Outgoing {
    /// `len` is the length of the body where it is known.
    pub(super) fn new(inner: s3s::Body, line: Line, action: Option<Action>) -> Self {
        let len = inner.size_hint().exact().unwrap_or(0);
        Self { inner, line, held: Bytes::new(), sent: 0, damage: Damage::of(action, len), wait: None }
    }

    /// Begins what is due at this place of the body; `Err` ends it.
    fn arrive(&mut self) -> Result<(), WasCut> {
        match self.damage {
            Damage::Cut { at } if at == self.sent => {
                self.damage = Damage::Cutting;
                self.wait = Some(timer(FLUSH_BEFORE_CUT));
            }
            Damage::Cutting => return Err(WasCut),
            Damage::Stall { at, time } if at == self.sent => {
                self.damage = Damage::None;
                self.wait = Some(timer(time));
            }
            _ => {}
        }
        Ok(())
    }

    /// How many of the next bytes may go at once.
    fn limit(&self) -> u64 {
        let piece = self.line.pacer.outgoing.piece().unwrap_or(u64::MAX);
        match self.damage {
            Damage::Cut { at } | Damage::Stall { at, .. } => piece.min(at - self.sent),
            _ => piece,
        }
    }

    /// Takes the next piece out of what is held.
    fn piece(&mut self) -> Bytes {
        let limit = self.limit();
        let len = if limit < self.held.len() as u64 { limit as usize } else { self.held.len() };
        let mut piece = self.held.split_to(len);
        if let Damage::Flip { at } = self.damage
            && let Some(index) = at.checked_sub(self.sent).filter(|index| *index < piece.len() as u64)
        {
            let mut altered = BytesMut::from(&piece[..]);
            altered[index as usize] ^= 1;
            piece = altered.freeze();
        }
        self.sent += piece.len() as u64;
        self.line.counters.sent(piece.len());
        self.wait = self.line.pacer.outgoing.pass(piece.len()).map(timer);
        piece
    }
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = StdError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, StdError>>> {
        loop {
            if let Some(wait) = &mut self.wait {
                ready!(wait.as_mut().poll(cx));
                self.wait = None;
            }
            if let Err(cut) = self.arrive() {
                return Poll::Ready(Some(Err(cut.into())));
            }
            if self.wait.is_some() {
                continue;
            }
            if !self.held.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(self.piece()))));
            }
            match ready!(Pin::new(&mut self.inner).poll_frame(cx)) {
                None => return Poll::Ready(None),
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                // S3 answers have no trailers.
                Some(Ok(frame)) => self.held = frame.into_data().unwrap_or_default(),
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.held.is_empty() && self.wait.is_none() && self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let held = self.held.len() as u64;
        self.inner.size_hint().exact().map_or_else(SizeHint::default, |left| SizeHint::with_exact(left + held))
    }
}

impl fmt::Debug for Outgoing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outgoing").field("sent", &self.sent).field("damage", &self.damage).finish_non_exhaustive()
    }
}

fn timer(duration: Duration) -> Timer {
    Box::pin(clock::sleep(duration))
}
