//! What a close owes: which of a file's handles have changed it since the store had all of it, and which are closed already.
//!
//! FLUSH comes whenever a descriptor is closed, also those that a child process inherits and closes at its execve(2), and
//! RELEASE comes late. Who closes a descriptor must wait for what was written through that one; the content that another handle
//! has emptied, and is about to write, is none of his business.

use crate::fs::handles::HandleId;

/// What is known about the handles of one file that may write.
#[derive(Debug, Default)]
pub struct Closing {
    /// They have changed the bytes since the store had them all.
    unsaved: Vec<HandleId>,
    /// Nobody knows which of them has: a mapping was written, or the path was truncated.
    unsaved_by_any: bool,
    /// The last descriptor is closed; RELEASE has not been carried out yet.
    parting: Vec<HandleId>,
}

impl Closing {
    /// The bytes were changed by a handle, or nobody knows by which.
    pub fn changed(&mut self, by: Option<HandleId>) {
        let Some(by) = by else {
            self.unsaved_by_any = true;
            return;
        };
        self.parting.retain(|parting| *parting != by);
        if !self.unsaved.contains(&by) {
            self.unsaved.push(by);
        }
    }

    /// The store has everything.
    pub fn saved(&mut self) {
        self.unsaved.clear();
        self.unsaved_by_any = false;
    }

    /// Whether closing that handle means storing the content.
    #[must_use]
    pub fn owes(&self, handle: HandleId) -> bool {
        self.unsaved_by_any || self.unsaved.contains(&handle)
    }

    /// The last descriptor of the handle is closed.
    pub fn part(&mut self, handle: HandleId) {
        if !self.parting.contains(&handle) {
            self.parting.push(handle);
        }
    }

    /// The handle is none of this file's any more.
    pub fn leave(&mut self, handle: HandleId) {
        self.parting.retain(|parting| *parting != handle);
        self.unsaved.retain(|unsaved| *unsaved != handle);
    }

    /// How many handles are closed and count as open still.
    #[must_use]
    pub const fn parting(&self) -> usize {
        self.parting.len()
    }

    /// Whether that handle is closed and counts as open still.
    #[must_use]
    pub fn is_parting(&self, handle: HandleId) -> bool {
        self.parting.contains(&handle)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: HandleId = HandleId(1);
    const B: HandleId = HandleId(2);

    #[test]
    fn who_has_changed_nothing_owes_nothing() {
        let mut closing = Closing::default();
        assert!(!closing.owes(A));
        closing.changed(Some(B));
        closing.changed(Some(B));
        assert!(closing.owes(B) && !closing.owes(A));
        closing.changed(None);
        assert!(closing.owes(B) && closing.owes(A));
        closing.saved();
        assert!(!closing.owes(B) && !closing.owes(A));
    }

    #[test]
    fn who_writes_on_was_not_closed() {
        let mut closing = Closing::default();
        closing.part(A);
        closing.part(A);
        closing.part(B);
        assert_eq!(closing.parting(), 2);
        closing.changed(Some(A));
        assert!(closing.is_parting(B) && !closing.is_parting(A));
        closing.leave(B);
        closing.leave(A);
        assert!(closing.parting() == 0 && !closing.owes(A));
    }
}
