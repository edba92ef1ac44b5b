//! Renames of directories that dead mounts have left half done: taken back where nothing can have been deleted, else finished.
//!
//! Key by key it is looked first: a copy is taken away only while its source is there, a source only while its copy is.

use std::sync::Arc;

use super::haul::Haul;
use crate::base::tasks;
use crate::fs::Fs;
use crate::fs::intents::{Intent, Left};
use crate::store::{BucketService, ObjectStore};

impl<S: ObjectStore + BucketService> Fs<S> {
    /// Takes back or finishes what dead mounts have begun. What fails is logged and stays recorded for the next mount.
    pub async fn finish_renames(&self) {
        let Some(place) = self.config.renames.clone() else { return };
        let left = match tasks::blocking(move || Intent::left(&place)).await {
            Ok(left) => left,
            Err(error) => {
                tracing::warn!(%error, "the renames that dead mounts have recorded cannot be read");
                return;
            }
        };
        for Left { intent, begun, copied, is_deleting } in left {
            let memory = self.memory_for(copied.len() as u64);
            let Some(haul) = Haul::left(&begun, copied, memory).map(Arc::new) else { continue };
            self.hauls().push(Arc::clone(&haul));
            haul.advance(|progress| progress.is_deleting = is_deleting);
            let done = match is_deleting {
                true => self.clear_old(&haul).await.map_err(|left| left.error),
                false => self.take_back(&haul).await,
            };
            self.hauls().retain(|under_way| !Arc::ptr_eq(under_way, &haul));
            let (from, to) = (&haul.from, &haul.to);
            match done {
                Ok(()) => {
                    tracing::info!(%from, %to, is_deleting, "a rename that a dead mount has begun was finished, or taken back");
                    haul.keep_intent(intent);
                    haul.end().await;
                }
                Err(error) => tracing::warn!(%error, %from, %to, "a rename that a dead mount has begun stays as it is"),
            }
        }
        self.look_afresh();
    }
}
