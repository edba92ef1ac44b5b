//! The file system through the kernel, on the embedded server, with a local directory as the oracle where one applies.

use std::fs;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};

use pailfs::store::{Properties, StorageClass};

use crate::support::{Mount, Site, eventually};

#[track_caller]
fn errno(result: std::io::Result<impl std::fmt::Debug>) -> i32 {
    result.unwrap_err().raw_os_error().unwrap()
}

/// Bytes that differ everywhere.
pub fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
}

#[test]
fn a_tree_survives_the_way_in_and_out() {
    let site = Site::start();
    let mount = site.mount(&[]);
    let local = Mount::place();
    for number in 0..300 {
        let directory = local.at(&format!("tree/{}/{}", number % 7, number % 3));
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join(format!("file {number}.txt")), pattern(number * 37)).unwrap();
    }
    let tree = local.at("tree");
    mount.sh(&format!("cp -r {} in && diff -r in {0}", tree.display()));
    mount.unmount();
    let again = site.mount(&[]);
    again.sh(&format!("diff -r in {0} && cp -r in {1} && diff -r {0} {1}", tree.display(), local.at("out").display()));
    again.sh("rm -r in && test ! -e in");
    assert_eq!(site.keys(), Vec::<String>::new());
    fs::remove_dir_all(tree).unwrap();
    fs::remove_dir_all(local.at("out")).unwrap();
}

#[test]
fn a_large_file_streams_out_as_parts() {
    let site = Site::start();
    let mount = site.mount(&["--memory-limit", "64MiB"]);
    let data = pattern(100 * 1000 * 1000 + 7);
    site.server.reset_counters();
    fs::write(mount.at("large"), &data).unwrap();
    assert_eq!((site.count("CreateMultipartUpload"), site.count("CompleteMultipartUpload"), site.count("PutObject")), (1, 1, 0));
    assert!(fs::read(mount.at("large")).unwrap() == data);
    let mut file = fs::File::open(mount.at("large")).unwrap();
    for at in [99_999_999u64, 0, 50_000_001, 8 << 20, (16 << 20) - 1] {
        file.seek(SeekFrom::Start(at)).unwrap();
        let mut some = [0; 7];
        file.read_exact(&mut some).unwrap();
        let at = usize::try_from(at).unwrap();
        assert_eq!(some, data[at..at + 7]);
    }
}

#[test]
fn overwriting_replaces_and_the_old_object_stays_until_then() {
    let site = Site::start();
    let mount = site.mount(&[]);
    fs::write(mount.at("f"), "the old content").unwrap();
    let mut file = fs::OpenOptions::new().write(true).truncate(true).open(mount.at("f")).unwrap();
    file.write_all(b"new").unwrap();
    assert_eq!(site.get("f").unwrap(), b"the old content");
    drop(file);
    assert_eq!(site.get("f").unwrap(), b"new");
    assert_eq!(fs::read(mount.at("f")).unwrap(), b"new");
    // truncate(2) of a file that nobody has open commits before it returns.
    mount.sh("truncate -s 0 f");
    assert_eq!(site.get("f").unwrap(), b"");
}

#[test]
fn what_is_not_supported_changes_nothing() {
    let site = Site::start();
    site.put("f", "content");
    let mount = site.mount(&[]);
    assert_eq!(errno(fs::hard_link(mount.at("f"), mount.at("g"))), libc::EPERM);
    assert_eq!(site.get("f").unwrap(), b"content");
    assert_eq!(fs::read(mount.at("f")).unwrap(), b"content");
}

#[test]
fn directories_follow_posix() {
    let site = Site::start();
    let mount = site.mount(&[]);
    fs::create_dir(mount.at("d")).unwrap();
    assert_eq!(site.keys(), ["d/"]);
    assert_eq!(errno(fs::create_dir(mount.at("d"))), libc::EEXIST);
    fs::write(mount.at("d/f"), "x").unwrap();
    assert_eq!(errno(fs::remove_dir(mount.at("d"))), libc::ENOTEMPTY);
    assert_eq!(errno(fs::remove_file(mount.at("d"))), libc::EISDIR);
    assert_eq!(errno(fs::remove_dir(mount.at("d/f"))), libc::ENOTDIR);
    fs::remove_file(mount.at("d/f")).unwrap();
    fs::remove_dir(mount.at("d")).unwrap();
    assert_eq!(errno(fs::metadata(mount.at("d"))), libc::ENOENT);
    assert_eq!(site.keys(), Vec::<String>::new());
    // Directories that exist by their keys only stay when their last file goes, until rmdir.
    site.put("x/y/z", "1");
    fs::remove_file(mount.at("x/y/z")).unwrap();
    assert!(mount.at("x/y").is_dir());
    mount.sh("rm -r x");
    assert!(!mount.at("x").exists());
}

#[test]
fn rename_moves_a_file_and_replaces_its_target() {
    let site = Site::start();
    let mount = site.mount(&[]);
    mount.sh("echo a > a && echo b > b && setfattr -n user.s3.meta.k -v v a && mv a b && cat b && test ! -e a");
    assert_eq!(site.keys(), ["b"]);
    assert_eq!(mount.sh("getfattr -n user.s3.meta.k --only-values b"), "v");
    mount.sh("mkdir d && mv b d/c && cat d/c");
    assert_eq!(site.keys(), ["d/", "d/c"]);
    mount.sh("mkdir other");
    assert_eq!(errno(fs::rename(mount.at("d/c"), mount.at("other"))), libc::EISDIR);
    // A file that the store does not have yet moves with no request.
    let mut file = fs::File::create(mount.at("new")).unwrap();
    file.write_all(b"late").unwrap();
    site.server.reset_counters();
    fs::rename(mount.at("new"), mount.at("renamed")).unwrap();
    assert_eq!(site.count("CopyObject") + site.count("PutObject") + site.count("DeleteObject"), 0);
    drop(file);
    eventually("the renamed file is stored", || site.get("renamed").as_deref() == Some(b"late"));
    assert_eq!(site.get("new"), None);
}

#[test]
fn attributes_and_links_survive_a_remount() {
    let site = Site::start();
    let mount = site.mount(&[]);
    mount.sh("echo x > f && chmod 640 f && touch -d '2020-02-02 02:02:02.123456789 UTC' f && chown 7:8 f");
    mount.sh("ln -s 'some/where ü' l && mkfifo p && mkdir -m 700 d");
    mount.unmount();
    let mount = site.mount(&[]);
    let file = fs::metadata(mount.at("f")).unwrap();
    assert_eq!((file.permissions().mode() & 0o7777, file.uid(), file.gid()), (0o640, 7, 8));
    assert_eq!((file.mtime(), file.mtime_nsec()), (1_580_608_922, 123_456_789));
    assert_eq!(fs::read_link(mount.at("l")).unwrap().to_str(), Some("some/where ü"));
    assert!(fs::symlink_metadata(mount.at("p")).unwrap().file_type().is_fifo());
    assert_eq!(fs::metadata(mount.at("d")).unwrap().permissions().mode() & 0o7777, 0o700);
    let listed = mount.sh("ls -l");
    assert!(listed.contains("-rw-r-----") && listed.contains("l -> some/where"), "{listed}");
}

#[test]
fn odd_keys_are_reached_by_exactly_one_path() {
    let site = Site::start();
    let long = "k".repeat(1024);
    let keys = [
        "sp ace",
        "plus+",
        "per%cent",
        "quo'te",
        "dq\"x",
        "new\nline",
        "ctl\u{1}x",
        "é",
        "e\u{301}",
        "a",
        "a/b",
        "c//d",
        "/lead",
        "x/./y",
        "x/../z",
        ".",
        "..",
        "%2F",
        "%00",
        "f%00",
        "back\\slash",
        "%2E",
        "tab\tx",
        "cr\rx",
        "del\u{7f}",
        "日本語",
        "a&b<c>",
        "q?x#y",
        "star*",
        "~t",
        "%25",
        "x%2Fy",
        "full/",
        long.as_str(),
    ];
    for key in keys {
        site.put(key, &format!("body of {key}"));
    }
    let mount = site.mount(&["--ttl", "0s"]);
    let mut bodies = Vec::new();
    let mut paths = Vec::new();
    let mut directories = vec![mount.path.clone()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
            } else {
                bodies.push(String::from_utf8(fs::read(&path).unwrap()).unwrap());
                paths.push(path);
            }
        }
    }
    let mut expected: Vec<String> = keys.iter().map(|key| format!("body of {key}")).collect();
    expected.sort();
    bodies.sort();
    assert_eq!(bodies, expected);
    for path in &paths {
        fs::write(path, "rewritten").unwrap();
    }
    let mut all = site.keys();
    all.sort();
    let mut wanted: Vec<&str> = keys.to_vec();
    wanted.sort_unstable();
    assert_eq!(all, wanted, "no key was harmed, none was made");
    for path in &paths {
        fs::remove_file(path).unwrap();
    }
    assert_eq!(site.keys(), Vec::<String>::new());
}

#[test]
fn another_clients_change_is_seen_at_open_and_never_mixed() {
    let site = Site::start();
    let mount = site.mount(&["--ttl", "60s"]);
    let old = "old".repeat(1_000_000);
    site.put("f", &old);
    let mut reader = fs::File::open(mount.at("f")).unwrap();
    let mut first = vec![0; 3000];
    reader.read_exact(&mut first).unwrap();
    site.put("f", &"NEW".repeat(1_000_000));
    // Opened anew: the new content, whatever the TTL.
    assert!(fs::read_to_string(mount.at("f")).unwrap() == "NEW".repeat(1_000_000));
    // The open reader: what it has of the old one, then ESTALE.
    let mut rest = Vec::new();
    match reader.read_to_end(&mut rest) {
        Ok(_) => assert!(rest == old.as_bytes()[3000..]),
        Err(error) => {
            assert_eq!(error.raw_os_error(), Some(libc::ESTALE));
            assert!(old.as_bytes()[3000..].starts_with(&rest));
        }
    }
    site.block_on(async {
        use pailfs::store::{BucketName, Condition, DeleteObject, Key, ObjectRef, ObjectStore as _};
        let object = ObjectRef::current(BucketName::new("bucket").unwrap(), Key::new("f").unwrap());
        site.server.memory().delete(&DeleteObject { object, condition: Condition::None }).await.unwrap();
    });
    assert_eq!(errno(fs::read(mount.at("f"))), libc::ENOENT);
}

#[test]
fn a_file_beside_a_directory_of_its_name_has_a_name_of_its_own() {
    let site = Site::start();
    site.put("a", "object");
    site.put("a/b", "below");
    let mount = site.mount(&[]);
    assert_eq!(mount.sh("ls"), "a\na%00\n");
    assert_eq!((mount.sh("cat a%00"), mount.sh("cat a/b")), ("object".into(), "below".into()));
    assert_eq!(errno(fs::read(mount.at("nothing%00"))), libc::ENOENT);
    assert_eq!(errno(fs::write(mount.at("nothing%00"), "x")), libc::EINVAL);
    fs::remove_file(mount.at("a%00")).unwrap();
    assert_eq!(site.keys(), ["a/b"]);
}

#[test]
fn rm_r_removes_a_file_beside_a_directory_of_its_name_too() {
    let site = Site::start();
    for key in ["odd/dir", "odd/dir/f", "odd/.", "odd/./f", "odd/plain"] {
        site.put(key, "x");
    }
    let mount = site.mount(&[]);
    mount.sh("rm -r odd");
    assert_eq!(site.keys(), Vec::<String>::new());
}

#[test]
fn an_archived_object_refuses_until_it_is_restored() {
    let site = Site::start();
    let class = Properties { storage_class: Some(StorageClass::new("GLACIER")), ..Properties::default() };
    site.put_with("ice", "from the ice", class);
    site.put("plain", "x");
    let mount = site.mount(&["--ttl", "100ms"]);
    let get = |name: &str| mount.sh(&format!("getfattr -n user.s3.{name} --only-values ice"));
    assert_eq!(get("storage-class"), "GLACIER");
    assert_eq!(get("restore"), "none");
    assert_eq!(errno(fs::read(mount.at("ice"))), libc::EREMOTE);
    let why = mount.pailfs(&["why", mount.at("ice").to_str().unwrap()]);
    assert!(String::from_utf8_lossy(&why.stdout).contains("setfattr -n user.s3.restore"), "{why:?}");
    for bad in ["0", "-1", "5,Fast", "x"] {
        assert!(mount.sh_fails(&format!("setfattr -n user.s3.restore -v {bad} ice")).contains("Invalid argument"));
    }
    assert!(mount.sh_fails("setfattr -n user.s3.restore -v 5 plain").contains("Invalid argument"));
    mount.sh("setfattr -n user.s3.restore -v 5 ice");
    assert_eq!(get("restore"), "ongoing");
    assert!(mount.sh_fails("setfattr -n user.s3.restore -v 5 ice").contains("already in progress"));
    eventually("the restore ends", || get("restore").starts_with("until "));
    assert_eq!(fs::read_to_string(mount.at("ice")).unwrap(), "from the ice");
}

#[test]
fn metadata_is_extended_attributes() {
    let site = Site::start();
    let mount = site.mount(&[]);
    mount.sh("echo x > f.txt && setfattr -n user.s3.meta.a -v 'grüß' f.txt && setfattr -n user.s3.content-type -v text/x f.txt");
    assert_eq!(mount.sh("getfattr -n user.s3.meta.a --only-values f.txt"), "grüß");
    assert_eq!(mount.sh("getfattr -n user.s3.content-type --only-values f.txt"), "text/x");
    let all = mount.sh("getfattr -n user.s3 --only-values f.txt");
    assert!(all.contains("meta.a=grüß") && all.contains("size=2") && all.contains("storage-class=STANDARD"), "{all}");
    mount.sh("setfattr -x user.s3.meta.a f.txt");
    assert!(mount.sh_fails("getfattr -n user.s3.meta.a f.txt").contains("No such attribute"));
    assert!(mount.sh_fails("setfattr -n user.s3.etag -v x f.txt").contains("not permitted"));
    assert!(mount.sh_fails("setfattr -n user.s3.meta.mode -v 1 f.txt").contains("not permitted"));
    let large = "v".repeat(2100);
    assert!(mount.sh_fails(&format!("setfattr -n user.s3.meta.big -v {large} f.txt")).contains("No space left"));
    assert_eq!(mount.sh("cat f.txt"), "x\n");
    // Set while the file is written: it travels with the upload.
    let mut file = fs::File::create(mount.at("g")).unwrap();
    file.write_all(b"g").unwrap();
    site.server.reset_counters();
    rustix::fs::setxattr(mount.at("g"), "user.s3.meta.k", b"v", rustix::fs::XattrFlags::empty()).unwrap();
    drop(file);
    eventually("the file is stored", || site.get("g").is_some());
    assert_eq!(site.count("CopyObject"), 0);
    assert_eq!(mount.sh("getfattr -n user.s3.meta.k --only-values g"), "v");
}

#[test]
fn a_killed_daemon_leaves_the_old_object_whole_and_its_mount_is_cleaned_up() {
    let site = Site::start();
    let mount = site.mount(&[]);
    fs::write(mount.at("f"), "old").unwrap();
    let daemon = mount.daemon();
    let mut file = fs::File::create(mount.at("f")).unwrap();
    file.write_all(&pattern(30 << 20)).unwrap();
    eventually("a part has left", || site.count("UploadPart") > 0);
    std::process::Command::new("kill").args(["-9", &daemon]).status().unwrap();
    eventually("the daemon is gone", || fs::read_dir(&mount.path).is_err());
    drop(file);
    assert_eq!(site.get("f").unwrap(), b"old");
    // A dead mount is taken away by the next one.
    let output = mount.run(&site.server.endpoint(), "bucket", &[], pailfs::devserver::SECRET_KEY);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(fs::read(mount.at("f")).unwrap(), b"old");
}

#[test]
fn readers_and_writers_at_once_do_not_disturb_each_other() {
    let site = Site::start();
    let mount = site.mount(&["--memory-limit", "64MiB"]);
    let data = pattern(9 << 20);
    for number in 0..8 {
        fs::write(mount.at(&format!("r{number}")), &data).unwrap();
    }
    std::thread::scope(|scope| {
        for number in 0..8 {
            let (mount, data) = (&mount, &data);
            scope.spawn(move || fs::write(mount.at(&format!("w{number}")), data).unwrap());
            scope.spawn(move || assert!(fs::read(mount.at(&format!("r{number}"))).unwrap() == *data));
        }
    });
    for number in 0..8 {
        assert!(site.get(&format!("w{number}")).unwrap() == data);
    }
}

#[test]
fn a_removed_file_can_be_read_on() {
    let site = Site::start();
    let mount = site.mount(&[]);
    fs::write(mount.at("f"), "still here").unwrap();
    let mut file = fs::File::open(mount.at("f")).unwrap();
    fs::remove_file(mount.at("f")).unwrap();
    assert_eq!(site.get("f"), None);
    let mut text = String::new();
    file.read_to_string(&mut text).unwrap();
    assert_eq!(text, "still here");
}

#[test]
fn a_prefix_is_mounted_as_a_root() {
    let site = Site::start();
    site.put("p/q/f", "x");
    site.put("other", "y");
    let mount = Mount::place();
    let output = mount.run(&site.server.endpoint(), "s3://bucket/p", &["--read-only"], pailfs::devserver::SECRET_KEY);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(mount.sh("find . -type f"), "./q/f\n");
    assert_eq!(errno(fs::write(mount.at("new"), "x")), libc::EROFS);
}

#[test]
fn a_busy_mount_stays_and_says_who_uses_it() {
    let site = Site::start();
    let mount = site.mount(&[]);
    fs::write(mount.at("f"), "x").unwrap();
    let file = fs::File::open(mount.at("f")).unwrap();
    let output = mount.pailfs(&["umount", mount.path.to_str().unwrap()]);
    assert!(!output.status.success() && mount.is_mounted());
    assert!(String::from_utf8_lossy(&output.stderr).contains(&std::process::id().to_string()), "{output:?}");
    drop(file);
    eventually("the file is closed", || mount.pailfs(&["umount", mount.path.to_str().unwrap()]).status.success());
    assert!(!mount.is_mounted());
}

#[test]
fn umount_by_force_keeps_what_cannot_be_uploaded_and_says_where() {
    let site = Site::start();
    let mount = site.mount(&[]);
    site.server.set_faults("PutObject:*=denied".parse().unwrap());
    assert!(mount.sh_fails("cp /etc/hostname f").contains("Permission denied"));
    let path = mount.path.to_str().unwrap();
    assert!(!mount.pailfs(&["umount", path]).status.success());
    assert!(mount.is_mounted(), "without force it stays");
    let forced = mount.pailfs(&["umount", "--force", path]);
    let said = String::from_utf8_lossy(&forced.stderr).into_owned();
    assert!(!forced.status.success(), "{said}");
    assert!(!mount.is_mounted());
    let kept = said.lines().last().unwrap();
    assert_eq!(fs::read(kept).unwrap(), fs::read("/etc/hostname").unwrap(), "{said}");
    let note = fs::read_to_string(format!("{kept}.json")).unwrap();
    assert!(note.contains("\"path\": \"/f\"") && note.contains("\"key\": \"f\""), "{note}");
    assert_eq!(fs::metadata(kept).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn a_mapping_writes_through() {
    let site = Site::start();
    site.put("f", "1234567890");
    let mount = site.mount(&[]);
    let change = "import mmap, os\nfd = os.open('f', os.O_RDWR)\nm = mmap.mmap(fd, 10)\nm[0] = ord('Q')\nm.flush()\n\
                  print(open('f').read())";
    assert_eq!(mount.sh(&format!("python3 -c \"{change}\"")).trim(), "Q234567890");
    assert_eq!(site.get("f").unwrap(), b"Q234567890");
}

#[test]
fn sigterm_uploads_and_unmounts() {
    let site = Site::start();
    let mount = site.mount(&[]);
    let mut file = fs::File::create(mount.at("f")).unwrap();
    file.write_all(b"not closed yet").unwrap();
    let daemon = mount.daemon();
    std::process::Command::new("kill").arg(&daemon).status().unwrap();
    eventually("the daemon has ended", || !std::path::Path::new("/proc").join(&daemon).exists());
    assert!(!mount.is_mounted());
    assert_eq!(site.get("f").unwrap(), b"not closed yet");
    drop(file);
}
