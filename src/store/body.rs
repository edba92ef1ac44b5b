//! The bytes of a GET as a stream: one concrete type, so that wrappers can put a stream around a stream
//! (a permit that is held, a download that is resumed, a fault that cuts).

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt as _};

use super::{ByteRange, ObjectInfo, Result};

/// A stream of chunks. Dropping it ends the transfer.
pub struct Body(Pin<Box<dyn Stream<Item = Result<Bytes>> + Send>>);

impl Body {
    /// Wraps any stream of chunks.
    pub fn new(stream: impl Stream<Item = Result<Bytes>> + Send + 'static) -> Self {
        Self(Box::pin(stream))
    }

    /// A body that is in memory already.
    #[must_use]
    pub fn once(bytes: Bytes) -> Self {
        Self::new(futures_util::stream::iter((!bytes.is_empty()).then_some(Ok(bytes))))
    }

    /// The next chunk; `None` at the end. After an error nothing more comes.
    pub async fn next(&mut self) -> Option<Result<Bytes>> {
        self.0.next().await
    }

    /// The next chunk in poll form: for streams around this one.
    pub fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes>>> {
        self.0.as_mut().poll_next(context)
    }

    /// All chunks in one piece: for small answers and tests.
    ///
    /// # Errors
    /// The first error of the stream.
    pub async fn collect(mut self) -> Result<Bytes> {
        let mut all = BytesMut::new();
        while let Some(chunk) = self.next().await {
            all.extend_from_slice(&chunk?);
        }
        Ok(all.freeze())
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Body")
    }
}

/// The answer to a GET.
#[derive(Debug)]
pub struct Download {
    /// What the headers said; its size is that of the whole object.
    pub info: ObjectInfo,
    /// The bytes that will come; `None` when there are none.
    pub range: Option<ByteRange>,
    /// The bytes, exactly as many as `range` has, or an error.
    pub body: Body,
}
