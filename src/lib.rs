//! pailfs mounts S3 buckets as directories: key = path, and what S3 knows of an object is an extended attribute.
//!
//! # Layers
//!
//! A module imports only from a lower number, or from its own folder; `tests/it/tidy.rs` enforces it.
//!
//! ```text
//!       argv, environment, fstab                     kernel (/dev/fuse)
//!                 |                                        |
//!     6  cli -----+----------->  5  mount   attach, adapter, dispatch, the errno table
//!           \     |                    |
//!            \    |            4  fs        names, inodes, handles, operations, attributes, xattrs
//!             \   | demo               |
//!              \  v            3  data      read path, write path, one memory budget
//!     3  devserver                     |
//!                \             2  store  <------ 3  s3     sign, request, response, xml, credentials, transport
//!                 `------------>   traits, types, wrappers, the store in memory
//!                                      |
//!     1                           telemetry   counters, subscriber
//!     0                             base      clock, randomness, tasks, codecs: no domain knowledge
//! ```
//!
//! The waist is [`store`]: two traits ([`store::ObjectStore`] for the data, [`store::BucketService`] for the rest) whose doc
//! comments are the contract. [`fs`] and [`data`] never see [`s3`]. The wrappers compose as
//! `Retry<Limit<Recorded<Traced<S3Store>>>>`: Retry outermost, so that back-off holds no permit; Recorded below it, so that each
//! attempt to begin an upload is on the disk (`store::uploads`); Traced innermost, so that each attempt is one span and one
//! count, and is signed afresh.
//!
//! # Flows
//!
//! **Place.** What is mounted is a bucket, a prefix of one, or the account, whose buckets are the directories below the root. One
//! function (`Fs::locate`) walks up from an inode and tells its bucket and key; who asks the store for something takes both from
//! there. The root of an account is no place in S3: its names are looked up, listed, made and removed in `fs::ops::buckets`.
//!
//! **Open.** A name becomes a key ([`fs::name`]), and a HEAD beside a LIST says what is there, or a listing young enough
//! has said it. A listing is believed for what it has, never for what it has not: that may have been made since. Every open
//! for reading sends the GET that it needs anyway, under `If-Match`, and waits for its headers. When another client has
//! replaced the object, open answers ESTALE; the kernel then looks the name up anew by itself and opens the new inode. So
//! an inode number stands for one object, and old and new bytes never share a page cache.
//!
//! **List.** A directory is a stream of pages (`fs::tree::stream`): each is read and shown while the next one is on its way, a name
//! only when the listing has passed `name/`. What was shown keeps its place. What is known of the entries stays until it is too
//! much; of larger directories only the names stay, as long as they are open. A stream that ends becomes the listing. Names that
//! are looked up in the order of a large directory are told by the page behind the last one.
//!
//! **Read.** A window per open object ([`data::read`]) decides what is needed and what is fetched ahead, in a growing run of
//! parallel ranged GETs pinned to the tag (fewer and larger ones where the store is slow to answer), each under a permit of the memory budget, copied once into its pages. A cut body
//! goes on at the missing byte. A read whose bytes are in memory is answered on the FUSE thread itself. Memory that an idle
//! reader holds is taken from it when somebody waits for some; it fetches again when it goes on.
//!
//! **Write.** Where each byte of a changed file lies is said by its extents: in an object that the store has, here, in a part
//! that was sent, or nowhere, being zero. The kernel's buffer is copied once, into a page that the budget paid for
//! ([`data::write`]). Bytes that are written in order leave as parts meanwhile; what must come back out of a part, or change
//! there, has the file committed as it stands first. Without memory the writer waits; what cannot leave goes to the staging
//! directory, or the file is committed. Flush and fsync commit: a pure plan turns the extents into one PUT, one copy, or an
//! upload in which unchanged ranges are copied inside the store; the request that makes the object carries a condition on what
//! this mount believes is there. What was sent and not answered is settled by looking for the commit token, never guessed; a
//! later try knows the tokens of earlier ones. What the parts add up to is compared with what the store has made of them: what
//! is wrong is never taken for done (`data::write::damage`), nor is what was fetched to be sent again (`data::write::fetch`).
//! After a failure the bytes stay and the error goes to the call that caused it. What was only appended is appended anew to
//! what another client has made meanwhile, but for what is in it already (`data::write::append`): until then it stays here,
//! also what has left as parts. A close stores what its own handle has changed, unless a further close of that handle certainly
//! comes (`fs::tree::closing`, `mount::fdinfo`). What lost its name to another client, or cannot be stored before the mount
//! ends, goes to `kept/` in the cache directory. The uploads that a killed mount leaves are aborted by the next one: their ids
//! are in the state directory before a part is sent (`store::uploads`).
//!
//! **Copy.** `copy_file_range` makes extents of the source's object; the copy is made at the commit, or before this mount
//! changes or removes the source (`fs::ops::ranges`): who has its gate alone has seen to it, and a copy becomes known while its
//! source's gate is shared. A file that refers to others' objects is stored before it is copied from, so that copies never wait
//! for each other in a ring.
//!
//! **Rename of a file.** A copy and a DELETE, each on the condition that what is there is what was seen (`fs::ops::rename`). Who
//! finds the old object certainly gone has lost it to another client, and takes his copy back: only then, since after a request
//! that may have been carried out the copy may be the only one.
//!
//! **Rename of a directory.** All keys are listed (what cannot be copied refuses the whole), copied in parallel under a token of
//! this rename, then the directory gets its new place in the tree, which moves everything known below it, and its readers; then
//! each page of a fresh listing is deleted as far as it shows what was copied (`fs::ops::{rename_directory, carry, clear}`),
//! several pages at once. As many copies are remembered as the memory budget allows; of the others their tokens tell what they
//! were made of. This mount's own operations below it are kept out meanwhile, or for the moment of the change of the tree
//! (`fs::tree::moves`). What is under way is recorded in the state directory (`fs::intents`).
//!
//! **Attributes.** Mode, owner, times and link targets are user metadata ([`fs::meta`]), sent with the pending upload when
//! there is one, else by one conditional self-copy. The copy asks that the object was not written since it was last seen, so
//! that nothing is looked at first, and nothing of others taken back; when it was, the change is begun anew on what is there.
//! Who asks about one file after the other in the order of a listing (`fs::tree::walk`) finds the next answers on their way.
//! A listing does not tell them, and a HEAD of each object is too much: so a directory has a *since* (`fs::tree::since`), and
//! only what was last modified later is asked for. It is in the marker's metadata, written before the first object that needs
//! it (`fs::ops::marker`), or learnt of a sample of each page (`fs::tree::attributes`). What HEAD said of attributes is
//! remembered on disk (`fs::remembered`, on top of `base::hoard`) by key, tag and date, so that a second look costs no HEAD.
//! What is set on a new file of rsync's waits for its rename (`fs::ops::unsent`). Copies keep the time that their source shows.
//! Special bits and devices that only a stranger's metadata says are kept, and not shown (`meta::posix::shown`).
//!
//! **Documents.** Access lists, tags and the configurations of a bucket are documents of their own (`store::documents`), read
//! and set by name (`fs::ops::documents`). What replaces an object asks for its list and tags first and sends them along
//! (`fs::ops::keeping`), since S3 resets them; what a store drops all the same is put back (`fs::ops::put_back`). They are set
//! under the gate alone, on the object and in what is about to replace it. A store is never sent a PUT or DELETE of a document
//! that it has not shown to know: one that ignores the query would take it for the object's, or the bucket's.
//!
//! # Invariants
//!
//! 1. No acknowledged byte is lost: `close` and `fsync` return success only after the store has the data.
//! 2. No bytes of two objects are ever mixed: every GET is pinned to a tag, and the answer's tag is compared too.
//! 3. Every request that replaces or removes carries a condition; where a store ignores it, it is looked at just before.
//! 4. Only a 404 that S3 itself gave for the key is "not there". A page of a listing that fails is an error, never a shorter
//!    directory.
//! 5. Lookup counts are exact: an inode lives until the kernel forgets it and nothing here holds it.
//! 6. A request whose path is not the signed one is never sent (`s3::transport`).
//! 7. Memory for data is taken from [`data::budget`] before it is used, and given back by drop.
//! 8. A handler never blocks a FUSE thread, and a panic answers EIO for its own request alone.
//!
//! # Locks
//!
//! | rank | lock | kind | guards | across await |
//! |---|---|---|---|---|
//! | 1 | `Fs::rename_lock` | tokio Mutex | the shape of the tree during renames | yes |
//! | 2 | `Inode::gate` | tokio `RwLock` | writers share it; commit, truncate, attributes, unlink take it alone; clean reads never touch it | yes |
//! | 2b | `Fs::markers` | tokio Mutex | who replaces a directory's marker | yes |
//! | 3 | `Inode::lock` | std Mutex | attributes, content, counts | never |
//! | 4 | `Table`, `Copies` | std | numbers, names, lookup counts; which file is a copy of which object | never |
//! | 5 | handles, read windows, writers, the budget, the account | std Mutex | themselves | never |
//!
//! Before all of them each operation enters `fs::tree::moves` once, at the outermost layer; renames and rmdir take the rename lock
//! in its place.
//!
//! Acquired only towards a higher rank. Two gates only by one function, in the order of the inode numbers, under the rename
//! lock; two inode states never.
//!
//! # Errors
//!
//! HTTP status and S3 code become a [`store::ErrorKind`] (`s3::error`), that a situation of a file system in words
//! ([`fs::error`]), that an errno ([`mount::errno`], the only place that knows numbers). Each is an exhaustive match. Every
//! failure is kept with its story for `pailfs why`.
//!
//! # Words
//!
//! bucket, key, prefix, object, part, upload, tag (ETag): as in S3. inode, handle: as in FUSE. component: what is between
//! two `/` of a key; address: a bucket and a key in it; shown name: its form as a file name. role: whether a name is the
//! object's or the directory's. marker: the zero-byte object `dir/`. location: where a bucket lies, by S3's name for it.
//! window: the part of an object that is in memory or asked for. commit: the request that makes a new content the object.
//! base: what the object was when a content began. extent: bytes of a file that lie in one place. source: an object that
//! bytes of a content are taken from. gate: an inode's tokio lock. orphan: the content of an open file that
//! has no name any more.

pub mod base;
pub mod cli;
pub mod data;
#[cfg(feature = "demo")]
pub mod devserver;
pub mod fs;
pub mod mount;
pub mod s3;
pub mod store;
pub mod telemetry;
