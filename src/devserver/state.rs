//! What all connections of a server share and its control can change.

use std::sync::{Arc, Mutex, PoisonError};

use super::counters::Counters;
use super::faults::{Action, Faults};
use super::pace::Shape;

/// Counters, shape and faults.
#[derive(Debug)]
pub(super) struct State {
    pub(super) counters: Arc<Counters>,
    pub(super) shape: Arc<Shape>,
    faults: Mutex<Faults>,
}

impl State {
    pub(super) fn new(shape: Shape, faults: Faults) -> Self {
        Self { counters: Arc::default(), shape: Arc::new(shape), faults: Mutex::new(faults) }
    }

    /// Counts a request and tells what shall happen to it.
    pub(super) fn admit(&self, operation: &str, key: Option<&str>) -> Option<Action> {
        self.counters.request(operation);
        let action = self.faults.lock().unwrap_or_else(PoisonError::into_inner).next(operation, key);
        if action.is_some() {
            self.counters.fault();
        }
        action
    }

    pub(super) fn faults(&self) -> Faults {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn set_faults(&self, faults: Faults) {
        *self.faults.lock().unwrap_or_else(PoisonError::into_inner) = faults;
    }
}
