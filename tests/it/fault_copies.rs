//! The fault loop over what the store does by itself: copies of files and ranges, new attributes of a stored object, and
//! truncation. What a copy was taken from may be changed or removed before the copy is made.

use bytes::Bytes;

use crate::fault_case::{BOTH, Case, MIB, Name};
use crate::fault_loop::every_fault;
use crate::world::{READ, WRITE, content};

/// Two open files: what is copied from, and the copy.
async fn pair(case: &mut Case, source: &Bytes) -> [(Name, pailfs::fs::handles::HandleId); 2] {
    case.given("f", source).await;
    [("f", case.open("f", BOTH).await), ("g", case.open("g", WRITE).await)]
}

#[tokio::test(start_paused = true)]
async fn copies_survive_every_fault() {
    let (bytes, little, large) = (content(1, 300_000), content(2, 20), content(3, 7 * MIB));
    every_fault("copying a whole file", async |case| {
        case.given("f", &bytes).await;
        let (from, to) = (case.open("f", READ).await, case.open("g", WRITE).await);
        case.copy_range(("f", from), ("g", to), 0..bytes.len()).await;
        case.world.fs.release(from).await.unwrap();
        case.close("g", to).await;
    })
    .await;
    every_fault("copying a whole file that is being changed", async |case| {
        let [from, to] = pair(case, &bytes).await;
        case.write("f", from.1, 100, &little).await;
        case.copy_range(from, to, 0..bytes.len()).await;
        case.append("g", to.1, &little).await;
        case.close("g", to.1).await;
        case.close("f", from.1).await;
    })
    .await;
    every_fault("copying a range", async |case| {
        let [from, to] = pair(case, &large).await;
        case.write("f", from.1, 2 * MIB, &little).await;
        case.copy_range(from, to, MIB..6 * MIB + 5).await;
        case.append("g", to.1, &little).await;
        case.close("g", to.1).await;
        case.close("f", from.1).await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn copies_of_what_changes_meanwhile_survive_every_fault() {
    let (bytes, little, large) = (content(4, 300_000), content(5, 20), content(6, 7 * MIB));
    every_fault("changing what is being copied", async |case| {
        let [from, to] = pair(case, &bytes).await;
        case.copy_range(from, to, 0..bytes.len()).await;
        case.write("f", from.1, 100, &little).await;
        case.close("f", from.1).await;
        case.close("g", to.1).await;
    })
    .await;
    every_fault("changing what a range is copied from", async |case| {
        let [from, to] = pair(case, &large).await;
        case.copy_range(from, to, MIB..6 * MIB).await;
        case.truncate("f", 3 * MIB).await;
        case.close("f", from.1).await;
        case.close("g", to.1).await;
    })
    .await;
    every_fault("removing what is being copied", async |case| {
        let [from, to] = pair(case, &bytes).await;
        case.copy_range(from, to, 0..bytes.len()).await;
        case.world.fs.flush(from.1, |_| false).await.unwrap();
        case.world.fs.release(from.1).await.unwrap();
        case.unlink("f").await;
        case.close("g", to.1).await;
    })
    .await;
    every_fault("changing files that were copied from each other", async |case| {
        case.given("f", &large).await;
        let [from, to] = [("f", case.open("f", BOTH).await), ("g", case.open("g", BOTH).await)];
        case.copy_range(from, to, 0..6 * MIB).await;
        case.copy_range(to, from, 0..6 * MIB).await;
        case.append("g", to.1, &little).await;
        case.close("g", to.1).await;
        case.close("f", from.1).await;
    })
    .await;
    every_fault("moving what is being copied", async |case| {
        let [from, to] = pair(case, &bytes).await;
        case.copy_range(from, to, 0..bytes.len()).await;
        case.rename("f", "h").await;
        case.describe("h", 0o600, "moved").await;
        case.close("h", from.1).await;
        case.close("g", to.1).await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn new_attributes_survive_every_fault() {
    let (bytes, little, large) = (content(7, 300_000), content(8, 20), content(9, 10 * MIB));
    every_fault("describing a file", async |case| {
        case.given("f", &bytes).await;
        case.describe("f", 0o600, "one").await;
        case.is_described("f", 0o600, "one").await;
        case.describe("f", 0o640, "two").await;
        case.is_described("f", 0o640, "two").await;
        case.acknowledged("chmod", "f").await;
    })
    .await;
    every_fault("describing a file that is being changed", async |case| {
        case.given("f", &bytes).await;
        let handle = case.open("f", BOTH).await;
        case.write("f", handle, 10, &little).await;
        case.describe("f", 0o600, "one").await;
        case.close("f", handle).await;
        case.is_described("f", 0o600, "one").await;
    })
    .await;
    every_fault("describing a file of which parts have left", async |case| {
        let handle = case.open("f", BOTH).await;
        case.write("f", handle, 0, &large).await;
        case.describe("f", 0o600, "one").await;
        case.close("f", handle).await;
        case.is_described("f", 0o600, "one").await;
    })
    .await;
    every_fault("describing a file made of parts", async |case| {
        case.given_in_parts("f", &large).await;
        case.describe("f", 0o600, "one").await;
        case.is_described("f", 0o600, "one").await;
        case.acknowledged("chmod", "f").await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn truncation_of_small_files_survives_every_fault() {
    let bytes = content(10, 300_000);
    every_fault("truncate(2) of a small file", async |case| {
        case.given("f", &bytes).await;
        case.truncate("f", 123_456).await;
        case.acknowledged("truncate", "f").await;
        case.truncate("f", 400_000).await;
        case.acknowledged("truncate", "f").await;
    })
    .await;
}
