//! The worst keys that others can have made: each is found by one path, copied out and into another bucket by everyday tools,
//! and removed, and no other key comes of it.
//!
//! Each object holds its own key, so that what is read by a path says which object that is.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use bytes::Bytes;
use pailfs::base::rng;
use pailfs::s3::S3Store;
use pailfs::store::*;

use crate::servers::{self, RealServer};
use crate::support::{Mount, Site};

/// Where keys with names lie that no other file system takes.
const LONG: &str = "long/";

/// Keys that some part on the way may take for something else.
#[rustfmt::skip]
const ODD: &[&str] = &[
    // Empty components, and those that mean something in a path.
    "/", "//", "/a", "//a", "///b", "a//b", "a///b", "a//", "a/", "a", "a/b", "b", "b/b", "b/b/b", "c/", ".", "..", "...", "....",
    "./a", "../a", "../../etc/passwd", "a/.", "a/..", "a/./b", "a/../b", "./", "../", "/.", "/..", "/./", ".../x", "..a", ".a",
    // What looks like the names that these are shown by.
    "%", "%%", "%2", "%2F", "%2f", "%2E", "%2e", "%2E%2E", "%252F", "%25252F", "%252E", "%252E%252E", "%00", "x%00", "x%2500",
    "x%252500", "x", "x/%2F", "x/%2F%00", "x%00/y", "%2F/x", "%2F/%2F", "%2E/x", "%2E%2E/x", "%2F%00", ".%00", "..%00", "%25", "%2500",
    "%00/%00", "a%00", "a%00%00", "b%00", "%2F%2F", "x%2Fy", "..%2F..",
    // Escapes of addresses, forms, XML, shells and programs.
    "+", "a+b", "a%2Bb", "%20", "a%20b", "%0A", "%C3%A9", "%FF", "&amp;", "&lt;", "&#0;", "&#x1;", "<a>", "</Key>", "]]>",
    "<![CDATA[x]]>", "<?xml version=\"1.0\"?>", "?acl", "?versionId=null", "a?uploads", "#", "a#b", "a;b", "a=b", "a:b", "host:/x", "$HOME",
    "$(id)", "`id`", "*", "?", "[a]", "{a,b}", "~", "~root", "-", "--", "-rf", "--help", "!", "@", "\\", "a\\b", "\\\\host\\x", "\\n", "'", "\"",
    "'\"'", "\"\"", " ", "  ", " a", "a ", " / ", "a / b", "\t", "\n", "\r\n", "a\n", "\na", "a\n\nb", "\u{7f}",
    // Names that tools use themselves.
    ".git", ".f.X8f2Qz", ".fuse_hidden0001", "lost+found", "x_$folder$", "Icon\r", "_pailfs/counters", "user.s3", "aux.", "NUL",
];

/// Characters outside ASCII that are not what they seem.
#[rustfmt::skip]
const UNICODE: &[&str] = &[
    "é", "e\u{301}", "Å", "A\u{30a}", "\u{212b}", "한", "\u{1112}\u{1161}\u{11ab}", "ß", "ẞ", "İ", "ı", "ﬁ", "日本", "🦀", "👩\u{200d}👩\u{200d}👧",
    "🇪🇺", "\u{feff}", "a\u{202e}b", "\u{200b}", "\u{a0}", "\u{85}", "\u{2028}", "\u{fffd}", "\u{fffe}", "\u{ffff}", "\u{10ffff}",
];

/// Keys that end in a slash and have no content: directories, and no entries.
const MARKERS: &[&str] = &["d/", "d//", "d/./", "d/../", "d/e/", "d/%2F/", "d/%00/", "f/", "d/\u{1}\n/"];

/// All that have a content.
fn keys(server: &RealServer) -> BTreeSet<String> {
    let mut keys: BTreeSet<String> = ODD.iter().chain(UNICODE).map(|key| (*key).to_owned()).collect();
    // A file beside a directory that has no object in it.
    keys.extend(["f".to_owned(), "d/e".to_owned()]);
    for odd in UNICODE {
        keys.insert(format!("unicode/{odd}/{odd}"));
    }
    // The control characters, those that XML 1.0 cannot hold among them, in each place.
    for control in (1..32).map(char::from) {
        keys.extend([format!("control/{control}"), format!("control/a{control}b"), format!("control/{control}a/b{control}")]);
    }
    for mark in (33..127).map(char::from).filter(|mark| !mark.is_alphanumeric() && *mark != '/') {
        keys.insert(format!("marks/{mark}{mark}/{mark}"));
    }
    let deep = "a/".repeat(40);
    keys.extend([
        "n".repeat(255),
        "é".repeat(127),
        format!("{deep}x"),
        format!("{}x", "/".repeat(40)),
        format!("e{}", "%25".repeat(80)),
    ]);
    for (name, length) in [("x", 256), ("y", 1019), ("é", 509), ("%2500", 200), ("\u{1}", 300), ("long/", 200)] {
        keys.insert(format!("{LONG}{}", name.repeat(length)));
    }
    let most = keys.iter().map(String::len).max();
    assert!(keys.len() >= 300 && most == Some(1024), "{} keys, the longest of {most:?} bytes", keys.len());
    // The others are slow, and some of each kind show what they do.
    keys.into_iter().step_by(if server.name == servers::EMBEDDED { 1 } else { 4 }).collect()
}

/// Two buckets, and the client that has made what is in them.
struct Buckets<'a> {
    server: &'a RealServer,
    runtime: tokio::runtime::Runtime,
    store: S3Store,
    names: [BucketName; 2],
}

impl<'a> Buckets<'a> {
    fn on(server: &'a RealServer) -> Self {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let names = ["one", "two"].map(|name| BucketName::new(&format!("worst-{name}-{}", &rng::token()[..12])).unwrap());
        let store = runtime.block_on(async {
            let store = servers::client(&server.endpoint, &server.region, &server.access_key, &server.secret_key).await;
            for name in &names {
                store.create_bucket(name, NewBucket::default()).await.unwrap();
            }
            store
        });
        Self { server, runtime, store, names }
    }

    fn object(&self, key: &str) -> ObjectRef {
        ObjectRef::current(self.names[0].clone(), Key::new(key).unwrap())
    }

    /// Puts an object into the first bucket; whether the server takes it.
    fn put(&self, key: &str, body: &str) -> bool {
        let payload = Payload::from(Bytes::copy_from_slice(body.as_bytes()));
        let (bucket, key) = (self.names[0].clone(), Key::new(key).unwrap());
        let put = PutObject { bucket, key, payload, properties: Properties::default(), condition: Condition::None };
        self.runtime.block_on(self.store.put(&put)).is_ok()
    }

    /// Whether an object holds its own key.
    fn is_itself(&self, key: &str) -> bool {
        let request = GetObject { object: self.object(key), range: None, if_match: None };
        let read = async { self.store.get(&request).await.ok()?.body.collect().await.ok() };
        self.runtime.block_on(read).is_some_and(|stored| stored == key.as_bytes())
    }

    fn delete(&self, key: &str) {
        let request = DeleteObject { object: self.object(key), condition: Condition::None };
        let _ = self.runtime.block_on(self.store.delete(&request));
    }

    fn keys(&self, bucket: usize) -> BTreeSet<String> {
        let (mut keys, mut next) = (BTreeSet::new(), Some(ListStart::Beginning));
        while let Some(start) = next {
            let (bucket, prefix) = (self.names[bucket].clone(), Prefix::new(""));
            let request = ListObjects { bucket, prefix, delimiter: Delimiter::None, start, max_keys: 1000 };
            let page = self.runtime.block_on(self.store.list(&request)).unwrap().read().unwrap();
            for object in page.objects {
                assert!(keys.insert(object.key.clone()), "{:?} is listed twice", object.key);
            }
            next = page.next.map(ListStart::Token);
        }
        keys
    }

    fn mount(&self, bucket: usize) -> Mount {
        let mount = Mount::place();
        let mounted = self.server.run(self.names[bucket].as_str(), &mount, &[]);
        assert!(mounted.status.success(), "{mounted:?}");
        mount
    }
}

/// What the files of a tree hold, sorted: the keys of the objects that they are, with those that are there twice.
fn contents(tree: &Path, paths: &[u8]) -> Vec<String> {
    let read = |path: &[u8]| {
        let path = tree.join(OsStr::from_bytes(path));
        let bytes = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        String::from_utf8(bytes).unwrap()
    };
    let mut contents: Vec<String> = paths.split(|byte| *byte == 0).filter(|path| !path.is_empty()).map(read).collect();
    contents.sort();
    contents
}

/// Every tool that walks, and what comes of it. `refused` is how many keys the server may not take.
fn every_key_is_one_path(server: &RealServer, refused: usize) {
    let buckets = Buckets::on(server);
    let mut keys = keys(server);
    let all = keys.len();
    if server.name == "seaweed" {
        // Its keys are paths of a file system: nothing can be copied to an object that is beside a directory of its name, and a
        // backslash is a slash, whose directory stays.
        keys.retain(|key| !key.contains('\\'));
        let others: Vec<String> = keys.iter().cloned().chain(MARKERS.iter().map(|key| (*key).to_owned())).collect();
        keys.retain(|key| !others.iter().any(|other| other.strip_prefix(key.as_str()).is_some_and(|rest| rest.starts_with('/'))));
    }
    keys.retain(|key| buckets.put(key, key));
    let mut markers: BTreeSet<String> = MARKERS.iter().map(|key| (*key).to_owned()).filter(|key| buckets.put(key, "")).collect();
    // Some servers make another key of it, or lose one by the next; what they have then counts.
    keys.retain(|key| buckets.is_itself(key));
    let expected = |keys: &BTreeSet<String>, markers: &BTreeSet<String>| keys.union(markers).cloned().collect::<BTreeSet<_>>();
    for stray in buckets.keys(0).difference(&expected(&keys, &markers)) {
        buckets.delete(stray);
    }
    let listed = buckets.keys(0);
    keys.retain(|key| listed.contains(key));
    markers.retain(|key| listed.contains(key));
    println!("{}: {} of {all} keys", server.name, keys.len());
    assert!(all - keys.len() <= refused, "{}: only {keys:?}", server.name);
    assert_eq!(expected(&keys, &markers), listed);

    let (mount, local) = (buckets.mount(0), Mount::place());
    let files =
        |tree: &Mount, copy: &str| contents(&tree.at(copy), tree.sh(&format!("cd {copy} && find . -type f -print0")).as_bytes());
    assert_eq!(files(&mount, "."), keys.iter().cloned().collect::<Vec<_>>(), "each has one path");
    let long: usize = keys.iter().filter(|key| key.starts_with(LONG)).map(String::len).sum();
    if long > 0 {
        assert_eq!(mount.sh("tar -cf - long | tar -xOf -").len(), long);
    }
    keys.retain(|key| !key.starts_with(LONG));
    let expected: Vec<String> = keys.iter().cloned().collect();
    let paths = mount.sh("find . -path ./long -prune -o -print0 | sort -z");
    let from = mount.path.display();
    local.sh(&format!(
        "mkdir tar rsync && tar -C {from} --exclude=./long -cf - . | tar -C tar -xpf - && rsync -a --exclude=/long {from}/ rsync/"
    ));
    for tool in ["tar", "rsync"] {
        assert_eq!(files(&local, tool), expected, "{tool}");
        assert_eq!(local.sh(&format!("cd {tool} && find . -print0 | sort -z")), paths, "{tool}");
    }

    // Elsewhere it would take minutes, and pailfs asks for nothing else.
    if server.name == servers::EMBEDDED {
        every_key_goes_into_another_bucket(server, &buckets, &mount, &expected, &markers);
        assert_eq!(buckets.keys(0), listed, "copying has changed nothing");
    }
    remove_all(server, &buckets, (0, &mount));
    local.sh("rm -r tar rsync");
}

/// Into a second bucket: what is there is the same.
fn every_key_goes_into_another_bucket(
    server: &RealServer,
    buckets: &Buckets,
    mount: &Mount,
    keys: &[String],
    markers: &BTreeSet<String>,
) {
    // A name with %00 is there beside its directory alone, and the content of a marker cannot be created.
    let other = buckets.mount(1);
    let rsync = |more: &str| mount.sh(&format!("rsync -a --exclude=/long {more} ./ {}/", other.path.display()));
    rsync("--include='*/' --exclude='*'");
    rsync("--include='%2F/' --exclude='%2F' --exclude='%2F%00'");
    let files: Vec<&String> = keys.iter().filter(|key| !key.ends_with('/')).collect();
    let directories = |key: &String| key.match_indices('/').map(|(at, _)| key[..=at].to_owned()).collect::<Vec<_>>();
    let expected_there: BTreeSet<String> =
        files.iter().copied().cloned().chain(keys.iter().chain(markers).flat_map(directories)).collect();
    let there = buckets.keys(1);
    let wrong: Vec<&String> = there.symmetric_difference(&expected_there).collect();
    assert!(wrong.is_empty(), "{} keys, there or not: {wrong:?}", server.name);
    let there = contents(&other.path, other.sh("find . -type f -print0").as_bytes());
    assert!(there.iter().eq(files), "{}: {there:?}", server.name);
    remove_all(server, buckets, (1, &other));
}

fn remove_all(server: &RealServer, buckets: &Buckets, (bucket, mount): (usize, &Mount)) {
    mount.sh("find . -mindepth 1 -maxdepth 1 -exec rm -r -- {} +");
    assert_eq!(buckets.keys(bucket), BTreeSet::new());
    // SeaweedFS lists directories in which nothing is any more.
    assert!(server.name == "seaweed" || mount.sh("ls -A").is_empty());
    mount.unmount();
}

#[test]
fn every_key_is_one_path_on_the_embedded_server() {
    let site = Site::start();
    every_key_is_one_path(&RealServer::embedded(&site), 0);
}

fn on(name: &str, refused: usize) {
    let server = servers::all().into_iter().find(|server| server.name == name).unwrap();
    every_key_is_one_path(&server, refused);
}

#[test]
fn every_key_is_one_path_on_the_servers_radosgw() {
    on("rgw", 0);
}

/// It does not find keys with newlines.
#[test]
fn every_key_is_one_path_on_the_servers_moto() {
    on("moto", 20);
}

#[test]
fn every_key_is_one_path_on_the_servers_seaweedfs() {
    on("seaweed", 100);
}
