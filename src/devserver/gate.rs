//! Who may come in, and what shall happen to him: credentials, counts, and the faults that refuse.
//! S3's own checks (signature, clock) are done by then.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use s3s::access::{S3Access, S3AccessContext};
use s3s::auth::{S3Auth, SecretKey};
use s3s::{S3Error, S3ErrorCode, S3Result};

use super::faults::{Action, Refusal};
use super::state::State;

/// Whether requests without a signature are served.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Anonymous {
    /// `AccessDenied`.
    #[default]
    Refused,
    /// They may do anything.
    Allowed,
}

/// Travels with one request to learn its fate.
#[derive(Debug, Clone, Default)]
pub(super) struct Ticket(Arc<OnceLock<Option<Action>>>);

impl Ticket {
    /// Whether the request got as far as being an operation.
    pub(super) fn was_let_in(&self) -> bool {
        self.0.get().is_some()
    }

    /// What shall happen to it.
    pub(super) fn action(&self) -> Option<Action> {
        self.0.get().copied().flatten()
    }
}

/// The keys that may sign.
pub(super) struct Keys(pub(super) BTreeMap<String, SecretKey>);

#[async_trait::async_trait]
impl S3Auth for Keys {
    async fn get_secret_key(&self, access_key: &str) -> S3Result<SecretKey> {
        let unknown = || {
            let message = "The AWS Access Key Id you provided does not exist in our records.";
            S3Error::with_message(S3ErrorCode::InvalidAccessKeyId, message)
        };
        self.0.get(access_key).cloned().ok_or_else(unknown)
    }
}

/// Counts and refuses.
pub(super) struct Gate {
    pub(super) state: Arc<State>,
    pub(super) anonymous: Anonymous,
}

#[async_trait::async_trait]
impl S3Access for Gate {
    async fn check(&self, cx: &mut S3AccessContext<'_>) -> S3Result<()> {
        let (operation, key) = (cx.s3_op().name().to_owned(), cx.s3_path().get_object_key().map(str::to_owned));
        let signed = cx.credentials().is_some();
        admit(&self.state, self.anonymous, signed, &operation, key.as_deref(), cx.extensions_mut())
    }
}

/// Counts a request, and refuses it where that is its fate.
pub(super) fn admit(
    state: &State,
    anonymous: Anonymous,
    signed: bool,
    operation: &str,
    key: Option<&str>,
    extensions: &mut http::Extensions,
) -> S3Result<()> {
    if !signed && anonymous == Anonymous::Refused {
        return Err(S3Error::with_message(S3ErrorCode::AccessDenied, "Access Denied"));
    }
    let action = state.admit(operation, key);
    if let Some(ticket) = extensions.get::<Ticket>() {
        // A request is let in once.
        let _ = ticket.0.set(action);
    }
    match action {
        Some(Action::Refuse(refusal)) => Err(refused(refusal)),
        // The connection is closed in place of this answer.
        Some(Action::Drop) => Err(refused(Refusal::InternalError)),
        _ => Ok(()),
    }
}

/// The error that S3 would give.
pub(super) fn refused(refusal: Refusal) -> S3Error {
    let (code, message) = match refusal {
        Refusal::SlowDown => (S3ErrorCode::SlowDown, "Please reduce your request rate."),
        Refusal::InternalError => (S3ErrorCode::InternalError, "We encountered an internal error. Please try again."),
        Refusal::Denied => (S3ErrorCode::AccessDenied, "Access Denied"),
        Refusal::Expired => (S3ErrorCode::ExpiredToken, "The provided token has expired."),
        Refusal::NotImplemented => {
            (S3ErrorCode::NotImplemented, "A header you provided implies functionality that is not implemented.")
        }
    };
    S3Error::with_message(code, message)
}
