//! The fault loop over what is done to names: rename, unlink, and what has no bytes. What had a name keeps it until the call
//! has succeeded, and a file that is moved is whole under one of its names at every moment.

use crate::fault_case::{BOTH, MIB, WHOLE};
use crate::fault_loop::every_fault;
use crate::world::{READ, WRITE, content};

#[tokio::test(start_paused = true)]
async fn moving_what_is_stored_survives_every_fault() {
    let (bytes, other, large) = (content(1, 300_000), content(2, 20), content(3, 17 * MIB));
    every_fault("moving a file", async |case| {
        case.given("f", &bytes).await;
        case.rename("f", "g").await;
        case.acknowledged("rename", "g").await;
        case.rename("g", "f").await;
        case.acknowledged("rename", "f").await;
    })
    .await;
    every_fault("moving a file over another one", async |case| {
        case.given("f", &bytes).await;
        case.given("g", &other).await;
        case.rename("f", "g").await;
        case.acknowledged("rename", "g").await;
    })
    .await;
    every_fault("moving a large file", async |case| {
        case.given_in_parts("f", &large).await;
        case.rename("f", "g").await;
        case.acknowledged("rename", "g").await;
    })
    .await;
    every_fault("moving and describing", async |case| {
        case.given("f", &bytes).await;
        case.given("g", &other).await;
        case.describe("f", 0o600, "before").await;
        case.rename("f", "g").await;
        case.acknowledged("rename", "g").await;
        case.is_described("g", 0o600, "before").await;
        case.describe("g", 0o640, "after").await;
        case.is_described("g", 0o640, "after").await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn moving_what_is_being_written_survives_every_fault() {
    let (bytes, other, large) = (content(4, 300_000), content(5, 20), content(6, 9 * MIB));
    every_fault("moving a new file over another one", async |case| {
        case.given("g", &other).await;
        let handle = case.open("f", WRITE).await;
        case.write("f", handle, 0, &bytes).await;
        case.rename("f", "g").await;
        case.append("g", handle, &other).await;
        case.close("g", handle).await;
    })
    .await;
    every_fault("moving a changed file", async |case| {
        case.given("f", &bytes).await;
        let handle = case.open("f", BOTH).await;
        case.write("f", handle, 10, &other).await;
        case.rename("f", "g").await;
        case.append("g", handle, &other).await;
        case.close("g", handle).await;
    })
    .await;
    every_fault("moving a file of which parts have left", async |case| {
        case.given("g", &other).await;
        let handle = case.open("f", WRITE).await;
        case.write("f", handle, 0, &large).await;
        case.rename("f", "g").await;
        case.append("g", handle, &other).await;
        case.close("g", handle).await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn moving_what_is_open_survives_every_fault() {
    let (bytes, other) = (content(7, 700_000), content(8, 20));
    every_fault("moving a file that is open and stored", async |case| {
        let handle = case.open("f", BOTH).await;
        case.write("f", handle, 0, &bytes).await;
        case.fsync("f", handle).await;
        case.rename("f", "g").await;
        case.reads(handle, &bytes).await;
        case.append("g", handle, &other).await;
        case.close("g", handle).await;
    })
    .await;
    every_fault("moving a file that is read", async |case| {
        case.given("f", &bytes).await;
        let handle = case.open("f", READ).await;
        case.rename("f", "g").await;
        case.reads(handle, &bytes).await;
        case.world.fs.release(handle).await.unwrap();
        case.acknowledged("rename", "g").await;
    })
    .await;
    every_fault("moving a file over one that is read", async |case| {
        case.given("f", &other).await;
        case.given("g", &bytes).await;
        let handle = case.open("g", READ).await;
        case.rename("f", "g").await;
        case.world.fs.release(handle).await.unwrap();
        case.acknowledged("rename", "g").await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn removing_survives_every_fault() {
    let (bytes, other, large) = (content(9, 300_000), content(10, 20), content(11, 9 * MIB));
    every_fault("removing a file", async |case| {
        case.given("f", &bytes).await;
        case.unlink("f").await;
    })
    .await;
    every_fault("removing a file that is read", async |case| {
        case.given("f", &bytes).await;
        let handle = case.open("f", READ).await;
        case.unlink("f").await;
        case.reads(handle, &bytes).await;
        case.world.fs.release(handle).await.unwrap();
    })
    .await;
    every_fault("removing a file that is being changed", async |case| {
        case.given("f", &bytes).await;
        let handle = case.open("f", BOTH).await;
        case.write("f", handle, 10, &other).await;
        let changed = case.bytes("f");
        case.unlink("f").await;
        case.reads(handle, &changed).await;
        case.world.fs.flush(handle, |_| false).await.unwrap();
        case.world.fs.release(handle).await.unwrap();
    })
    .await;
    every_fault("removing a file that is being written whole", async |case| {
        case.given("f", &bytes).await;
        let handle = case.open("f", WHOLE).await;
        case.write("f", handle, 0, &large).await;
        case.unlink("f").await;
        case.world.fs.flush(handle, |_| false).await.unwrap();
        case.world.fs.release(handle).await.unwrap();
    })
    .await;
    every_fault("removing and making again", async |case| {
        case.given("f", &bytes).await;
        case.unlink("f").await;
        let handle = case.open("f", WRITE).await;
        case.write("f", handle, 0, &other).await;
        case.close("f", handle).await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn directories_and_links_survive_every_fault() {
    every_fault("directories", async |case| {
        case.mkdir("d/").await;
        case.rmdir("d/").await;
        case.mkdir("d/").await;
    })
    .await;
    every_fault("symbolic links", async |case| {
        case.symlink("l", "where/it/leads").await;
        case.rename("l", "m").await;
        case.acknowledged("rename", "m").await;
        case.unlink("m").await;
    })
    .await;
}
