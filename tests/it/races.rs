//! Requests of one mount that meet: whichever comes first, each answer is one that some order of them gives.

use std::sync::Arc;

use pailfs::fs::attr::Ino;
use pailfs::fs::handles::OpenMode;
use pailfs::store::RetryPolicy;

use crate::world::{READ, WRITE, World, content};

/// So often two requests are sent at the same time.
const MEETINGS: usize = 3000;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn who_reads_a_removed_file_reads_it_all_while_its_writer_is_released() {
    let world = World::new(RetryPolicy::once());
    let bytes = content(1, 10);
    for round in 0..MEETINGS {
        let writer = world.open("f", OpenMode { truncate: true, ..WRITE }).await.unwrap();
        world.fs.write(writer, 0, bytes.clone(), crate::world::CALLER).await.unwrap();
        world.fs.flush(writer, |_| false).await.unwrap();
        let reader = world.open("f", READ).await.unwrap();
        world.fs.unlink(Ino::ROOT, b"f").await.unwrap();
        let (releasing, reading) = (Arc::clone(&world.fs), Arc::clone(&world.fs));
        let released = tokio::spawn(async move { releasing.release(writer).await });
        let read = tokio::spawn(async move { reading.read(reader, 0, 100).await });
        assert_eq!(read.await.unwrap().unwrap(), bytes, "round {round}");
        released.await.unwrap().unwrap();
        world.fs.release(reader).await.unwrap();
    }
    world.settle("all is closed", None).await;
}
