//! Files that another client replaces while this mount knows them, or has them open: who goes by the name gets what is there,
//! and who has the old one open is told.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::time::Duration;

use crate::support::{Mount, Site};

/// A mount that believes names for an hour, and a file that it knows and another client has replaced.
fn known_and_replaced(prepare: &str) -> (Site, Mount) {
    let site = Site::start();
    let mount = site.mount(&["--ttl", "1h"]);
    site.put("f", "old");
    mount.sh(&format!("ls -l > /dev/null && cat f && {prepare}"));
    // Known for longer than it would be believed without asking.
    std::thread::sleep(Duration::from_millis(1100));
    site.put("f", "the new content");
    (site, mount)
}

#[test]
fn a_replaced_file_is_cut_extended_and_written_into() {
    for (command, content) in [
        ("truncate -s 7 f", "the new"),
        ("truncate -s 17 f", "the new content\0\0"),
        // As long as the file was that this mount knew.
        ("truncate -s 3 f", "the"),
        ("python3 -c 'import os; os.truncate(\"f\", 3)'", "the"),
        ("python3 -c 'import os; os.truncate(\"f\", 7)'", "the new"),
        ("printf THE | dd of=f conv=notrunc status=none", "THE new content"),
        ("printf ' more' >> f", "the new content more"),
        ("printf THE 1<> f", "THE new content"),
    ] {
        let (site, mount) = known_and_replaced("true");
        mount.sh(command);
        assert_eq!(String::from_utf8(site.get("f").unwrap()).unwrap(), content, "{command}");
        assert_eq!(mount.sh("cat f"), content, "{command}");
    }
}

#[test]
fn an_open_looks_at_what_is_there_however_recently_it_was_known() {
    let site = Site::start();
    let mount = site.mount(&["--ttl", "1h"]);
    for (command, content) in
        [("truncate -s 7 f", "the new"), ("printf THE 1<> f", "THE new content"), ("cat f", "the new content")]
    {
        mount.sh("echo mine > f && exec 3<> f && printf M >&3 && exec 3>&-");
        site.put("f", "the new content");
        mount.sh(command);
        assert_eq!(String::from_utf8(site.get("f").unwrap()).unwrap(), content, "{command}");
    }
}

#[test]
fn a_name_leads_to_what_replaced_a_file_that_is_open_for_writing() {
    let changes = "chmod 600 f && setfattr -n user.a -v 1 f && touch -d '2020-01-02 03:04:05' f && cat f && mv f g && cat g";
    for written_before in [false, true] {
        let (site, mount) = known_and_replaced("true");
        site.put("f", "old");
        let mut file = OpenOptions::new().write(true).open(mount.at("f")).unwrap();
        if written_before {
            file.write_all(b"new").unwrap();
            file.sync_all().unwrap();
        }
        std::thread::sleep(Duration::from_millis(1100));
        site.put("f", "of others");
        assert_eq!(mount.sh(changes), "of othersof others", "written before: {written_before}");
        let kept = site.metadata("g");
        assert_eq!((kept["a"].as_str(), kept["mode"].as_str()), ("1", "33152"), "written before: {written_before}");
        // Who still has the old one open learns it when he writes on, or at the latest at the close.
        let written = file.write_all(b"lost?").and_then(|()| file.sync_all());
        assert_eq!(written.unwrap_err().raw_os_error(), Some(libc::ESTALE));
        assert_eq!(site.get("g").as_deref(), Some(&b"of others"[..]));
        assert_eq!(site.get("f"), None);
    }
}

#[test]
fn who_appends_follows_what_the_name_has() {
    for written_before in [false, true] {
        let (site, mount) = known_and_replaced("true");
        site.put("f", "old");
        let mut file = OpenOptions::new().append(true).open(mount.at("f")).unwrap();
        if written_before {
            file.write_all(b" 1").unwrap();
            file.sync_all().unwrap();
        }
        for (others, mine) in [("of others", " 2"), ("of others again", " 3")] {
            std::thread::sleep(Duration::from_millis(1100));
            site.put("f", others);
            mount.sh("chmod 600 f && setfattr -n user.a -v 1 f");
            file.write_all(mine.as_bytes()).unwrap();
            file.sync_all().unwrap();
            let content = format!("{others}{mine}");
            assert_eq!(site.get("f").as_deref(), Some(content.as_bytes()), "written before: {written_before}");
            assert_eq!(mount.sh("cat f"), content, "written before: {written_before}");
            let kept = site.metadata("f");
            assert_eq!((kept["a"].as_str(), kept["mode"].as_str()), ("1", "33152"), "written before: {written_before}");
        }
    }
}

#[test]
fn what_was_appended_is_seen_under_the_name_at_once() {
    let (site, mount) = known_and_replaced("true");
    let mut file = OpenOptions::new().append(true).open(mount.at("f")).unwrap();
    std::thread::sleep(Duration::from_millis(1100));
    site.put("f", "theirs");
    mount.sh("chmod 600 f");
    for mine in [" and mine", " and more"] {
        file.write_all(mine.as_bytes()).unwrap();
        file.sync_all().unwrap();
        let content = String::from_utf8(site.get("f").unwrap()).unwrap();
        assert!(content.ends_with(mine), "{content}");
        assert_eq!(mount.sh("cat f && stat -c ' %s' f"), format!("{content} {}\n", content.len()));
    }
}

#[test]
fn a_change_in_place_replaces_nothing_of_others_however_recently_the_file_was_written_whole() {
    let site = Site::start();
    let mount = site.mount(&[]);
    for round in 0..20 {
        std::fs::write(mount.at("f"), "mine").unwrap();
        // The release of the handle that has written it whole may come later.
        let mut file = OpenOptions::new().write(true).open(mount.at("f")).unwrap();
        file.write_all(b"M").unwrap();
        site.put("f", "theirs");
        assert_eq!(file.sync_all().unwrap_err().raw_os_error(), Some(libc::ESTALE), "round {round}");
        drop(file);
        assert_eq!(site.get("f").as_deref(), Some(&b"theirs"[..]), "round {round}");
    }
}

#[test]
fn what_is_removed_while_it_is_open_for_writing_is_gone() {
    let (site, mount) = known_and_replaced("true");
    let file = OpenOptions::new().write(true).open(mount.at("f")).unwrap();
    site.delete("f");
    assert!(mount.sh_fails("chmod 600 f").contains("No such file"));
    assert!(mount.sh_fails("setfattr -n user.a -v 1 f").contains("No such file"));
    mount.sh("echo mine > f && chmod 600 f");
    drop(file);
    assert_eq!(mount.sh("cat f"), "mine\n");
}
