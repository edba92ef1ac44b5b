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
    /// How many there have been so far.
    opened: u64,
    /// Their RELEASE was asked for, and has not been carried out yet.
    parting: Vec<HandleId>,
}

impl Closing {
    /// There is one more.
    pub const fn open(&mut self) {
        self.opened += 1;
    }

    /// How many there have been so far.
    #[must_use]
    pub const fn opened(&self) -> u64 {
        self.opened
    }

    /// Whether somebody's changes are not in the store.
    #[must_use]
    pub fn has_unsaved(&self) -> bool {
        self.unsaved_by_any || !self.unsaved.is_empty()
    }

    /// The bytes were changed by a handle, or nobody knows by which.
    pub fn changed(&mut self, by: Option<HandleId>) {
        match by {
            None => self.unsaved_by_any = true,
            Some(by) if !self.unsaved.contains(&by) => self.unsaved.push(by),
            Some(_) => {}
        }
    }

    /// The store has everything.
    pub fn saved(&mut self) {
        self.unsaved.clear();
        self.unsaved_by_any = false;
    }

    /// Whether the content is another handle's to store, which is open still.
    #[must_use]
    pub fn is_anothers(&self, handle: HandleId) -> bool {
        let may_be_his = self.unsaved_by_any || self.unsaved.contains(&handle);
        !may_be_his && self.unsaved.iter().any(|unsaved| !self.parting.contains(unsaved))
    }

    /// The last descriptor of the handle is closed: nothing is changed by it any more.
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
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: HandleId = HandleId(1);
    const B: HandleId = HandleId(2);

    #[test]
    fn who_has_changed_nothing_stores_nothing_of_anothers() {
        let mut closing = Closing::default();
        assert!(!closing.is_anothers(A), "nobody's");
        closing.changed(Some(B));
        closing.changed(Some(B));
        assert!(closing.is_anothers(A) && !closing.is_anothers(B));
        closing.changed(None);
        assert!(!closing.is_anothers(A), "a page may be his");
        closing.saved();
        closing.changed(Some(B));
        assert!(closing.is_anothers(A));
        closing.part(B);
        assert!(!closing.is_anothers(A), "no close of the other one comes");
    }

    #[test]
    fn who_is_released_counts_until_he_has_left() {
        let mut closing = Closing::default();
        closing.changed(Some(A));
        closing.part(A);
        closing.part(A);
        closing.part(B);
        assert_eq!(closing.parting(), 2);
        closing.leave(B);
        closing.leave(A);
        assert!(closing.parting() == 0 && !closing.is_anothers(B));
    }
}
