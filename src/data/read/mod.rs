//! Reading one object through one open file: pinned to the ETag that was opened, ahead of the reader, in bounded memory.
//!
//! The bytes come from [`fetch::Segment`]s, each one ranged GET with `If-Match`; [`window::Window`] decides which. When this
//! mount commits the object itself (a new header, say), the reader is pinned to the new tag; any other change of the object
//! is [`Error::Stale`], never a mixture.

pub mod fetch;
pub mod window;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};

use self::fetch::Segment;
use self::window::Window;
use crate::base::{clock, tasks};
use crate::data::budget::{Budget, Class, Holder, Permit};
use crate::data::{Error, Result};
use crate::store::{ByteRange, Download, ETag, ErrorKind, GetObject, ObjectRef, ObjectStore};

/// The GET that an open sends brings at most this many bytes: small files whole, large ones enough to start with.
pub const OPEN_BYTES: u64 = window::WHOLE_BYTES;
/// A reader's window is at most this fraction of the memory limit, in quarters.
const WINDOW_QUARTERS: u64 = 2;
/// No reader needs more than this in flight, in bytes: 16 connections of 8 MiB.
const MAX_WINDOW_BYTES: u64 = 128 << 20;

/// A reader whose store did not answer says so again for so long, without asking.
const BROKEN: Duration = Duration::from_secs(5);

/// Reads one object. Shared by the requests of one open file.
#[derive(Debug)]
pub struct Reader<S> {
    store: S,
    budget: Budget,
    size: u64,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    object: ObjectRef,
    etag: ETag,
    window: Window,
    /// Counts how often it was pinned anew.
    pins: u64,
    segments: Vec<Arc<Segment>>,
    used_at: Instant,
    /// The store did not answer: when, and how it failed.
    broken: Option<(Instant, Error)>,
}

impl<S: ObjectStore> Reader<S> {
    /// A reader of `object` as it is under `etag`, `size` bytes long.
    pub fn new(store: S, budget: Budget, object: ObjectRef, etag: ETag, size: u64) -> Arc<Self> {
        let limit = (budget.limit() * WINDOW_QUARTERS / 4).min(MAX_WINDOW_BYTES);
        let window = Window::new(size, limit);
        let state = State { object, etag, window, pins: 0, segments: Vec::new(), used_at: clock::instant(), broken: None };
        let reader = Arc::new(Self { store, budget, size, state: Mutex::new(state) });
        let holder: Weak<dyn Holder> = Arc::<Self>::downgrade(&reader);
        reader.budget.register(holder);
        reader
    }

    /// The size of the object that is read.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// Whether it reads what the store has under `etag`.
    #[must_use]
    pub fn is_of(&self, etag: &ETag) -> bool {
        self.lock().etag == *etag
    }

    /// Takes the body of the GET that the open has sent, so that its bytes are not fetched twice.
    pub fn adopt(self: &Arc<Self>, download: Download, permit: Permit) {
        let Some(range) = download.range else { return };
        let mut state = self.lock();
        let segment = Segment::new(range, state.pins, permit);
        state.window.note_begun(range);
        state.segments.push(Arc::clone(&segment));
        drop(state);
        tasks::spawn(async move { segment.fill(download.body).await });
    }

    /// Pins the reader to what this mount has just made of the object without changing its bytes.
    pub fn repin(&self, object: ObjectRef, etag: ETag) {
        let mut state = self.lock();
        state.object = object;
        state.etag = etag;
        state.pins += 1;
    }

    /// How often it was pinned anew.
    #[must_use]
    pub fn pins(&self) -> u64 {
        self.lock().pins
    }

    /// The bytes at `offset`, when they are in memory: no waiting, for the FUSE thread itself.
    #[must_use]
    pub fn read_now(self: &Arc<Self>, offset: u64, len: u64) -> Option<Bytes> {
        let Some(range) = self.clip(offset, len) else { return Some(Bytes::new()) };
        let segment = self.lock().segments.iter().find(|segment| segment.covers(range.start())).cloned()?;
        if segment.range().end() < range.end() {
            return None;
        }
        let bytes = segment.try_read(range)?;
        // The window moves on as if the read had come the long way.
        self.advance(range, true);
        Some(bytes)
    }

    /// The bytes at `offset`, at most `len`, fewer only at the end of the object.
    ///
    /// # Errors
    /// [`Error::Stale`] when the object was replaced, [`Error::Store`] when it cannot be had.
    pub async fn read(self: &Arc<Self>, offset: u64, len: u64) -> Result<Bytes> {
        let Some(range) = self.clip(offset, len) else { return Ok(Bytes::new()) };
        self.fail_if_broken()?;
        let covered = self.lock().segments.iter().any(|segment| segment.covers(range.start()));
        if let Some(needed) = self.advance(range, covered) {
            let permit = self.budget.acquire(Class::Read, needed.len()).await;
            self.begin(needed, permit);
        }
        let mut parts: Vec<Bytes> = Vec::new();
        let mut next = range;
        loop {
            let segment = self.segment_at(next).await;
            let bytes = match segment.read(next).await {
                Ok(Some(bytes)) => bytes,
                // Dropped since it was found: another one has it, or it is asked for anew.
                Ok(None) => continue,
                // This mount has committed the object meanwhile: the bytes are to be had under its new tag.
                Err(Error::Stale) if self.pins() != segment.pinned() => continue,
                Err(error) => {
                    self.note_broken(&error);
                    return Err(error);
                }
            };
            let start = next.start() + bytes.len() as u64;
            debug_assert!(!bytes.is_empty() && start <= range.end(), "a segment that covers a byte has it");
            parts.push(bytes);
            match ByteRange::new(start, range.end()) {
                Some(rest) => next = rest,
                None => break,
            }
        }
        Ok(join(parts))
    }

    /// After a failure that took its whole deadline, what the kernel asks for next fails at once for a while: it repeats a
    /// read that has failed page by page, and each page would take the deadline again.
    fn fail_if_broken(&self) -> Result<()> {
        let now = clock::instant();
        match &self.lock().broken {
            Some((at, error)) if now.saturating_duration_since(*at) < BROKEN => Err(error.clone()),
            _ => Ok(()),
        }
    }

    fn note_broken(&self, error: &Error) {
        // What is damaged, too: the smaller ranges of such a repetition could not be checked.
        if matches!(
            error.kind(),
            Some(ErrorKind::Corrupt | ErrorKind::TimedOut | ErrorKind::Unavailable | ErrorKind::Unreachable | ErrorKind::Busy)
        ) {
            self.lock().broken = Some((clock::instant(), error.clone()));
        }
    }

    fn clip(&self, offset: u64, len: u64) -> Option<ByteRange> {
        ByteRange::new(offset, offset.saturating_add(len).min(self.size))
    }

    /// Tells the window of a read, begins what it wants ahead and drops what it is done with.
    fn advance(self: &Arc<Self>, range: ByteRange, covered: bool) -> Option<ByteRange> {
        let mut state = self.lock();
        state.used_at = clock::instant();
        let plan = state.window.on_read(range, covered);
        if plan.jumped {
            state.segments.retain(|segment| {
                let wanted = segment.covers(range.start());
                if !wanted {
                    segment.evict();
                }
                wanted
            });
        }
        for segment in &state.segments {
            segment.drop_before(plan.drop_before);
        }
        state.segments.retain(|segment| !segment.is_spent());
        drop(state);
        for ahead in plan.ahead {
            if let Some(permit) = self.budget.try_spare(Class::Read, ahead.len()) {
                self.begin(ahead, permit);
            } else {
                self.lock().window.unschedule(ahead);
                break;
            }
        }
        plan.needed
    }

    /// The segment that has or will have the first byte of `range`; begun now when nobody has.
    async fn segment_at(self: &Arc<Self>, range: ByteRange) -> Arc<Segment> {
        let found = self.lock().segments.iter().find(|segment| segment.covers(range.start())).cloned();
        match found {
            Some(segment) => segment,
            None => {
                let permit = self.budget.acquire(Class::Read, range.len()).await;
                self.begin(range, permit)
            }
        }
    }

    /// Sends one GET for `range`.
    fn begin(self: &Arc<Self>, range: ByteRange, permit: Permit) -> Arc<Segment> {
        let (segment, mut pin, mut pins) = {
            let mut state = self.lock();
            let segment = Segment::new(range, state.pins, permit);
            state.segments.push(Arc::clone(&segment));
            (segment, (state.object.clone(), state.etag.clone()), state.pins)
        };
        let (reader, filling) = (Arc::downgrade(self), Arc::clone(&segment));
        let store = self.store.clone();
        tasks::spawn(async move {
            loop {
                let request = GetObject { object: pin.0.clone(), range: Some(range), if_match: Some(pin.1.clone()) };
                let sent = clock::instant();
                let error = match store.get(&request).await {
                    Ok(download) => {
                        if let Some(reader) = reader.upgrade() {
                            reader.lock().window.note_answer(clock::instant().saturating_duration_since(sent));
                        }
                        return filling.fill(download.body).await;
                    }
                    Err(error) => error,
                };
                // This mount may have committed the object meanwhile: then its new tag is as good.
                match reader.upgrade().filter(|reader| reader.pins() != pins) {
                    Some(reader) => (pin, pins) = reader.pin(),
                    None => return filling.fail(Error::of_reading(error)),
                }
            }
        });
        segment
    }

    /// What it reads now, and how often that has changed.
    fn pin(&self) -> ((ObjectRef, ETag), u64) {
        let state = self.lock();
        ((state.object.clone(), state.etag.clone()), state.pins)
    }
}

impl<S> Reader<S> {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S> Drop for Reader<S> {
    /// Ends what is still fetched ahead.
    fn drop(&mut self) {
        for segment in &self.lock().segments {
            segment.evict();
        }
    }
}

impl<S: ObjectStore> Holder for Reader<S> {
    fn used_at(&self) -> Instant {
        self.lock().used_at
    }

    fn give_up(&self) -> u64 {
        let mut state = self.lock();
        let freed = state.segments.iter().map(|segment| segment.evict()).sum();
        state.segments.retain(|segment| !segment.is_spent());
        // What was fetched ahead will have to be asked for again.
        let held = state.segments.iter().map(|segment| segment.range().end()).max();
        state.window.forget_ahead(held.unwrap_or(0));
        freed
    }
}

fn join(mut parts: Vec<Bytes>) -> Bytes {
    if parts.len() == 1 {
        return parts.pop().unwrap_or_default();
    }
    let mut all = BytesMut::with_capacity(parts.iter().map(Bytes::len).sum());
    for part in parts {
        all.extend_from_slice(&part);
    }
    all.freeze()
}
