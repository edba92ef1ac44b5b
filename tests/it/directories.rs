//! Large directories, read as a stream: whole, each name once, in bounded memory, whatever happens meanwhile.

use std::collections::BTreeSet;
use std::fs::{self, DirEntry};

use crate::support::Site;

/// What is read of the directory, from its first name on.
fn names(entries: impl Iterator<Item = std::io::Result<DirEntry>>) -> std::io::Result<Vec<String>> {
    entries.map(|entry| Ok(entry?.file_name().into_string().unwrap())).collect()
}

fn fill(site: &Site, directory: &str, count: usize) -> BTreeSet<String> {
    let names: BTreeSet<String> = (0..count).map(|number| format!("name{number:06}")).collect();
    site.put_all(names.iter().map(|name| format!("{directory}/{name}")));
    names
}

#[test]
fn more_names_than_are_kept_are_read_whole_in_any_order() {
    let site = Site::start();
    // More than 64 MiB allow to keep.
    let expected = fill(&site, "d", 34_000);
    let mount = site.mount(&["--memory-limit", "64MiB", "--ttl", "60s"]);
    assert_eq!(mount.sh("ls -f d | sort | uniq | wc -l && find d -type f | wc -l").trim(), "34002\n34000");
    assert_eq!(names(fs::read_dir(mount.at("d")).unwrap()).unwrap().into_iter().collect::<BTreeSet<_>>(), expected);
    // Every place is the same entry's again, far back too; from the start again all are there.
    mount.sh(
        r#"perl -e 'opendir(my $d, "d") or die;
my (@at, @name);
while (1) { my $at = telldir $d; my $name = readdir $d; last unless defined $name; push @at, $at; push @name, $name }
for my $n (33_000, 17, 9_500, 34_001, 0, 1) { seekdir $d, $at[$n]; my $name = readdir $d; die "$n: $name, not $name[$n]" if $name ne $name[$n] }
rewinddir $d;
my $count = () = readdir $d;
die "$count" if $count != 34_002'"#,
    );
}

#[test]
fn a_directory_is_shown_while_it_is_read() {
    let site = Site::start();
    let throughout = fill(&site, "d", 6000);
    let mount = site.mount(&[]);
    site.server.reset_counters();
    let mut entries = fs::read_dir(mount.at("d")).unwrap();
    let first = entries.next().unwrap().unwrap().file_name().into_string().unwrap();
    assert!(site.count("ListObjectsV2") <= 4, "{} pages before the first name", site.count("ListObjectsV2"));
    // Another client and this mount make and remove names at both ends.
    site.put("d/aaa", "theirs");
    site.put("d/zzz", "theirs");
    fs::write(mount.at("d/name002500x"), "own").unwrap();
    fs::write(mount.at("d/aab"), "own").unwrap();
    fs::write(mount.at("d/name003000"), "overwritten").unwrap();
    fs::remove_file(mount.at("d/name003999")).unwrap();
    fs::create_dir(mount.at("d/name003500x")).unwrap();
    let mut read = names(entries).unwrap();
    read.push(first);
    let once: BTreeSet<String> = read.iter().cloned().collect();
    assert_eq!(read.len(), once.len(), "a name came twice");
    assert!(throughout.iter().filter(|name| *name != "name003999").all(|name| once.contains(name)), "a name is lost");
    // What this mount did is seen at once by who comes now.
    let now: BTreeSet<String> = names(fs::read_dir(mount.at("d")).unwrap()).unwrap().into_iter().collect();
    assert!(["name002500x", "aab", "name003500x"].iter().all(|name| now.contains(*name)) && !now.contains("name003999"));
}

#[test]
fn who_reads_along_sees_what_this_mount_has_done_before() {
    let site = Site::start();
    fill(&site, "d", 4000);
    let mount = site.mount(&["--ttl", "60s"]);
    let mut early = fs::read_dir(mount.at("d")).unwrap();
    early.next().unwrap().unwrap();
    fs::remove_file(mount.at("d/name000000")).unwrap();
    fs::remove_file(mount.at("d/name000001")).unwrap();
    fs::write(mount.at("d/name000001"), "anew").unwrap();
    fs::write(mount.at("d/a"), "new").unwrap();
    fs::create_dir(mount.at("d/name000000")).unwrap();
    let late = names(fs::read_dir(mount.at("d")).unwrap()).unwrap();
    let count = |name: &str| late.iter().filter(|other| *other == name).count();
    assert_eq!((late.len(), count("name000000"), count("name000001"), count("a")), (4001, 1, 1, 1));
    // The directory has the name of a file that was shown before, and then removed.
    assert!((3999..=4001).contains(&names(early).unwrap().len()));
}

#[test]
fn a_page_that_fails_is_an_error_and_no_shorter_directory() {
    let site = Site::start();
    fill(&site, "d", 3500);
    let mount = site.mount(&["--ttl", "0s"]);
    for page in 1..=4 {
        let entries = fs::read_dir(mount.at("d")).unwrap();
        site.server.set_faults(format!("ListObjectsV2:{page}=denied").parse().unwrap());
        assert!(names(entries).is_err(), "page {page}");
        site.server.set_faults("".parse().unwrap());
        assert_eq!(names(fs::read_dir(mount.at("d")).unwrap()).unwrap().len(), 3500);
    }
}

#[test]
fn a_file_and_a_directory_of_one_name_meet_across_pages() {
    let site = Site::start();
    site.put("d/a", "file");
    site.put_all((0..1500).map(|number| format!("d/a-{number:04}")));
    site.put("d/a/below", "x");
    let mount = site.mount(&["--ttl", "0s"]);
    let read: BTreeSet<String> = names(fs::read_dir(mount.at("d")).unwrap()).unwrap().into_iter().collect();
    assert!(read.len() == 1502 && read.contains("a") && read.contains("a%00"));
    assert_eq!(mount.sh("find d -name 'a*' | wc -l && cat d/a%00 && ls d/a").trim(), "1502\nfilebelow");
}

#[test]
fn an_object_beside_a_directory_of_its_name_can_be_made() {
    let site = Site::start();
    let mount = site.mount(&[]);
    fs::create_dir(mount.at("d")).unwrap();
    fs::write(mount.at("d/f"), "below").unwrap();
    fs::write(mount.at("d%00"), "beside").unwrap();
    mount.sh("mkdir e; ln -s target e%00; echo moved > f; mkdir g; mv f g%00");
    for (key, content) in [("d", "beside"), ("d/f", "below"), ("g", "moved\n")] {
        assert_eq!(site.get(key).as_deref(), Some(content.as_bytes()), "{key}");
    }
    assert_eq!(mount.sh("cat d%00; readlink e%00; ls"), "besidetarget\nd\nd%00\ne\ne%00\ng\ng%00\n");
    assert_eq!(fs::write(mount.at("d%00%00"), "").unwrap_err().raw_os_error(), Some(libc::EINVAL));
    assert_eq!(fs::create_dir(mount.at("d%00")).unwrap_err().raw_os_error(), Some(libc::EEXIST));
}

#[test]
fn what_is_made_beside_a_directory_that_was_shown_has_the_other_name() {
    let site = Site::start();
    fill(&site, "d", 3000);
    site.put("d/name000001a/x", "x");
    let mount = site.mount(&["--ttl", "0"]);
    let mut entries = fs::read_dir(mount.at("d")).unwrap();
    let mut read = names(entries.by_ref().take(20)).unwrap();
    assert!(read.iter().any(|name| name == "name000001a"), "{read:?}");
    fs::write(mount.at("d/name000001a%00"), "beside").unwrap();
    read.extend(names(entries).unwrap());
    let count = |name: &str| read.iter().filter(|there| *there == name).count();
    assert_eq!((count("name000001a"), count("name000001a%00"), read.len()), (1, 1, 3002));
}
