//! Every upload is completed or aborted, also those of a mount that was killed; those of others are never touched.

use std::path::PathBuf;

use pailfs::base::rng::{self, Rng};
use pailfs::store::fault::{Fault, Toxic};
use pailfs::store::memory::Memory;
use pailfs::store::*;

type Stack = Retry<Limit<Recorded<Fault<Memory>>>>;

/// A directory that goes with the test.
struct State(PathBuf);

impl State {
    fn new() -> Self {
        Self(std::env::temp_dir().join(format!("pailfs-state-{}", rng::token())))
    }

    fn place(&self) -> Place {
        Place { directory: self.0.clone(), endpoint: "memory".to_owned(), kept: Some(self.0.join("kept")) }
    }

    /// A mount's store with a bottom of its own kind.
    fn mount(&self, memory: &Memory) -> (Stack, Fault<Memory>, Uploads) {
        let (uploads, fault) = (Uploads::recorded_in(self.place()), Fault::new(memory.clone()));
        let recorded = Recorded::new(fault.clone(), uploads.clone());
        (Retry::new(Limit::new(recorded), RetryPolicy::default(), Rng::from_os()), fault, uploads)
    }

    fn files(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.0.join("uploads")).into_iter().flatten();
        entries.map(|entry| entry.unwrap().path()).collect()
    }

    fn text(&self) -> String {
        self.files().iter().map(|path| std::fs::read_to_string(path).unwrap()).collect()
    }
}

impl Drop for State {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn bucket() -> BucketName {
    BucketName::new("bucket").unwrap()
}

fn memory() -> Memory {
    let memory = Memory::new();
    memory.ensure_bucket(&bucket());
    memory
}

fn create(key: &str) -> CreateUpload {
    CreateUpload { bucket: bucket(), key: Key::new(key).unwrap(), properties: Properties::default() }
}

async fn send(store: &impl ObjectStore, upload: &Upload) -> Part {
    let payload = Payload::from("x");
    store.upload_part(&UploadPart { upload: upload.clone(), number: PartNumber::new(1).unwrap(), payload }).await.unwrap()
}

async fn there(memory: &Memory) -> Vec<UploadId> {
    let page = memory.list_uploads(&bucket(), &Prefix::new(""), None).await.unwrap();
    page.uploads.into_iter().map(|(upload, _)| upload.id).collect()
}

#[tokio::test]
async fn an_upload_is_recorded_before_its_first_part_and_forgotten_at_its_end() {
    let (state, memory) = (State::new(), memory());
    let (store, _, uploads) = state.mount(&memory);
    assert!(state.files().is_empty(), "who uploads nothing writes nothing");
    let one = store.create_upload(&create("one")).await.unwrap();
    assert!(state.text().contains(one.id.as_str()), "{}", state.text());
    let part = send(&store, &one).await;
    let two = store.create_upload(&create("two")).await.unwrap();
    send(&store, &two).await;
    let shown: Vec<(String, usize, u64)> =
        store.report().uploads.iter().map(|open| (open.key.as_str().to_owned(), open.parts, open.bytes)).collect();
    assert_eq!(shown, [("one".to_owned(), 1, 1), ("two".to_owned(), 1, 1)]);
    store.complete_upload(&CompleteUpload { upload: one, parts: vec![part], condition: Condition::None }).await.unwrap();
    store.abort_upload(&two).await.unwrap();
    assert_eq!((state.text().as_str(), store.report()), ("", Report::default()));
    drop((store, uploads));
    assert!(state.files().is_empty(), "a mount that ends leaves no file");
}

#[tokio::test]
async fn what_a_dead_mount_has_left_is_aborted_and_nothing_else() {
    let (state, memory) = (State::new(), memory());
    // One that will die, one that lives, and another client on the same key.
    let (dying, _, _uploads) = state.mount(&memory);
    let left = dying.create_upload(&create("key")).await.unwrap();
    send(&dying, &left).await;
    let (living, _, of_living) = state.mount(&memory);
    let own = living.create_upload(&create("key")).await.unwrap();
    send(&living, &own).await;
    let others = memory.create_upload(&create("key")).await.unwrap();
    assert_eq!(of_living.sweep(&living).await, Swept::default(), "both live");
    assert_eq!(there(&memory).await.len(), 3);
    drop((dying, _uploads));
    let elsewhere = Place { endpoint: "another".to_owned(), ..state.place() };
    assert_eq!(Uploads::recorded_in(elsewhere).sweep(&living).await, Swept::default(), "another store's");
    assert_eq!(of_living.sweep(&living).await, Swept { ended: 1, ..Swept::default() });
    let mut expected = [own.id.clone(), others.id.clone()];
    expected.sort_by(|one, other| one.as_str().cmp(other.as_str()));
    let mut now = there(&memory).await;
    now.sort_by(|one, other| one.as_str().cmp(other.as_str()));
    assert_eq!(now, expected);
    assert_eq!(state.files().len(), 1, "the dead mount's file is gone");
    assert_eq!(of_living.sweep(&living).await, Swept::default());
}

#[tokio::test]
async fn what_cannot_be_aborted_stays_recorded() {
    let (state, memory) = (State::new(), memory());
    let (dying, fault, _uploads) = state.mount(&memory);
    let left = dying.create_upload(&create("key")).await.unwrap();
    fault.inject(fault.calls().len(), Toxic::Refused(ErrorKind::Denied));
    dying.abort_upload(&left).await.unwrap_err();
    let strays = dying.report().strays;
    assert!(strays.len() == 1 && strays[0].id.as_ref() == Some(&left.id), "{strays:?}");
    drop((dying, _uploads));
    let (store, fault, uploads) = state.mount(&memory);
    fault.inject(fault.calls().len(), Toxic::Refused(ErrorKind::Denied));
    assert_eq!(uploads.sweep(&store).await, Swept { failed: 1, ..Swept::default() });
    assert_eq!(uploads.sweep(&store).await, Swept { ended: 1, ..Swept::default() });
    assert!(there(&memory).await.is_empty());
    // One that this mount could not abort is tried again when it ends.
    let again = store.create_upload(&create("key")).await.unwrap();
    fault.inject(fault.calls().len(), Toxic::Refused(ErrorKind::Denied));
    store.abort_upload(&again).await.unwrap_err();
    uploads.abort_abandoned(&store).await;
    assert!(there(&memory).await.is_empty() && store.report() == Report::default());
}

#[tokio::test]
async fn what_a_kept_content_needs_stays() {
    let (state, memory) = (State::new(), memory());
    let (dying, _, _uploads) = state.mount(&memory);
    let needed = dying.create_upload(&create("key")).await.unwrap();
    let left = dying.create_upload(&create("key")).await.unwrap();
    drop((dying, _uploads));
    let kept = state.0.join("kept");
    std::fs::create_dir_all(&kept).unwrap();
    let note = serde_json::json!({ "key": "key", "upload": needed.id.as_str() });
    std::fs::write(kept.join("key.json"), note.to_string()).unwrap();
    let (store, _, uploads) = state.mount(&memory);
    assert_eq!(uploads.sweep(&store).await, Swept { ended: 1, needed: 1, ..Swept::default() });
    assert!(there(&memory).await == [needed.id.clone()] && left.id != needed.id);
    std::fs::remove_file(kept.join("key.json")).unwrap();
    assert_eq!(uploads.sweep(&store).await, Swept { ended: 1, ..Swept::default() });
    assert!(there(&memory).await.is_empty() && state.files().is_empty());
}

/// Its id is known to nobody, and another client may have begun one at the same time.
#[tokio::test(start_paused = true)]
async fn what_was_not_answered_is_named_and_never_aborted() {
    let (state, memory) = (State::new(), memory());
    let (dying, fault, _uploads) = state.mount(&memory);
    fault.inject(0, Toxic::Lost);
    let known = dying.create_upload(&create("key")).await.unwrap();
    assert_eq!(dying.report().strays.len(), 1, "the first attempt is known, too");
    let with_part = memory.create_upload(&create("key")).await.unwrap();
    send(&memory, &with_part).await;
    let other_key = memory.create_upload(&create("key2")).await.unwrap();
    drop((dying, _uploads));
    let (store, _, uploads) = state.mount(&memory);
    let swept = uploads.sweep(&store).await;
    let named: Vec<UploadId> = swept.strays.iter().filter_map(|stray| stray.id.clone()).collect();
    assert!(swept.ended == 1 && named.len() == 1, "{swept:?}");
    assert!(![&known.id, &with_part.id, &other_key.id].contains(&&named[0]));
    assert_eq!(there(&memory).await.len(), 3, "only the one whose id was known is gone");
    assert_eq!(store.report().strays, swept.strays);
    // Somebody has seen to it.
    let stray = Upload { id: named[0].clone(), ..with_part.clone() };
    memory.abort_upload(&stray).await.unwrap();
    assert_eq!(uploads.sweep(&store).await, Swept { ended: 1, ..Swept::default() });
    assert!(state.files().is_empty() && store.report().strays.is_empty());
}

#[tokio::test]
async fn a_request_that_was_refused_leaves_no_record() {
    let (state, memory) = (State::new(), memory());
    let (store, fault, _) = state.mount(&memory);
    fault.inject(0, Toxic::Refused(ErrorKind::Denied));
    store.create_upload(&create("key")).await.unwrap_err();
    assert_eq!((state.text().as_str(), store.report()), ("", Report::default()));
}

#[tokio::test]
async fn a_state_directory_that_cannot_be_written_stops_no_upload() {
    let (state, memory) = (State::new(), memory());
    std::fs::write(&state.0, "a file in the way").unwrap();
    let (store, _, _) = state.mount(&memory);
    let upload = store.create_upload(&create("key")).await.unwrap();
    assert!(store.report().unrecorded.is_some());
    store.abort_upload(&upload).await.unwrap();
    std::fs::remove_file(&state.0).unwrap();
}
