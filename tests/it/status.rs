//! `pailfs status` of a mount: what people and programs are told, and the exit code.

use std::fs::{self, File};
use std::io::Write as _;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::support::{Mount, Site, eventually};

fn asked(mount: &Mount) -> (Option<i32>, serde_json::Value, String) {
    let path = mount.path.to_str().unwrap();
    let json = mount.pailfs(&["status", path, "--json"]);
    let words = mount.pailfs(&["status", path]);
    assert_eq!(json.status.code(), words.status.code());
    (words.status.code(), serde_json::from_slice(&json.stdout).unwrap(), String::from_utf8(words.stdout).unwrap())
}

#[test]
fn a_mount_tells_what_goes_on() {
    let site = Site::start();
    let mount = site.mount(&[]);
    mount.sh("echo x > f && getfattr -n user.s3.versioning . > /dev/null");
    let (code, status, words) = asked(&mount);
    assert!(code == Some(0) && words.contains("nothing dirty, failed or kept"), "{words}");
    assert_eq!((status["source"].as_str(), status["mount"].as_str()), (Some("s3://bucket"), mount.path.to_str()));
    assert_eq!(status["pid"].to_string(), mount.daemon());
    assert_eq!(status["counters"]["requests.PutObject"], 1);
    assert!(status["counters"]["requests.GetBucketVersioning"].as_u64() > Some(0), "{}", status["counters"]);
    let all = mount.pailfs(&["status"]);
    assert!(String::from_utf8(all.stdout).unwrap().contains(mount.path.to_str().unwrap()));
    // Under way.
    let mut file = File::create(mount.at("big")).unwrap();
    file.write_all(&vec![1; 40 << 20]).unwrap();
    eventually("a part is sent", || asked(&mount).1["uploads"][0]["parts"].as_u64() > Some(0));
    let (code, status, words) = asked(&mount);
    assert!(
        code == Some(0) && words.contains("dirty     /big (40.0 MiB)") && words.contains("upload    s3://bucket/big"),
        "{words}"
    );
    assert_eq!((status["uploads"][0]["key"].as_str(), status["open"]["files"].as_u64()), (Some("big"), Some(1)));
    drop(file);
    eventually("it is stored", || asked(&mount).1["pending"].as_array().unwrap().is_empty());
    assert!(asked(&mount).1["uploads"].as_array().unwrap().is_empty());
}

#[test]
fn a_mount_that_hangs_keeps_nobody_from_the_answers_of_others() {
    let site = Site::start();
    let (hung, other) = (site.mount(&[]), site.mount(&[]));
    let daemon = hung.daemon();
    let signal = |name: &str| assert!(Command::new("kill").args([name, &daemon]).status().unwrap().success());
    signal("-STOP");
    let begun = Instant::now();
    let all = hung.pailfs(&["status"]);
    let took = begun.elapsed();
    let alone = hung.pailfs(&["status", hung.path.to_str().unwrap()]);
    signal("-CONT");
    let (words, errors) = (String::from_utf8(all.stdout).unwrap(), String::from_utf8(all.stderr).unwrap());
    assert!(words.contains(other.path.to_str().unwrap()) && !words.contains(hung.path.to_str().unwrap()), "{words}");
    assert!(errors.contains(&format!("no answer from '{}'", hung.path.display())), "{errors}");
    assert_eq!((all.status.code(), alone.status.code()), (Some(1), Some(1)));
    assert!(took < Duration::from_secs(20), "{took:?}");
    assert_eq!(asked(&hung).0, Some(0));
}

#[test]
fn what_failed_and_what_is_kept_is_told() {
    let site = Site::start();
    let mount = site.mount(&[]);
    site.server.set_faults("PutObject:*=denied".parse().unwrap());
    mount.sh_fails("cp /etc/passwd f");
    let bytes = fs::metadata("/etc/passwd").unwrap().len();
    let (code, status, words) = asked(&mount);
    assert!(code == Some(1) && words.contains("failed    /f ("), "{words}");
    assert!(status["pending"][0]["error"].as_str().unwrap().contains("PutObject"), "{status}");
    assert!(!mount.pailfs(&["umount", "--force", mount.path.to_str().unwrap()]).status.success());
    let no_mount = mount.pailfs(&["status", mount.path.to_str().unwrap()]);
    assert_eq!(no_mount.status.code(), Some(2), "{no_mount:?}");
    site.server.set_faults("".parse().unwrap());
    assert!(mount.run(&site.server.endpoint(), "bucket", &[], pailfs::devserver::SECRET_KEY).status.success());
    let (code, status, words) = asked(&mount);
    assert!(code == Some(1) && words.contains("kept ") && words.contains("of /f: "), "{words}");
    assert_eq!((status["kept"][0]["path"].as_str(), status["kept"][0]["bytes"].as_u64()), (Some("/f"), Some(bytes)));
    fs::remove_dir_all(mount.cache().join("pailfs/kept")).unwrap();
    assert_eq!(asked(&mount).0, Some(0));
}

#[test]
fn a_store_that_cannot_copy_ranges_is_told_and_gets_them_sent() {
    let site = Site::start();
    let mount = site.mount(&[]);
    site.server.set_faults("UploadPartCopy:*=missing".parse().unwrap());
    let local = Mount::place();
    let change =
        "dd if=/dev/zero of=f bs=4096 count=1 seek=2500 conv=notrunc status=none && echo more >> f && truncate -s 30000000 f";
    local.sh(&format!("head -c 30M /dev/urandom > f && cp f '{}' && {change}", mount.path.display()));
    mount.sh(&format!("{change} && cmp f '{}'", local.at("f").display()));
    assert_eq!(site.get("f").unwrap(), fs::read(local.at("f")).unwrap());
    let refused = site.count("UploadPartCopy");
    mount.sh("echo even more >> f");
    assert_eq!(site.count("UploadPartCopy"), refused, "it is known by now");
    let (_, status, words) = asked(&mount);
    assert!(
        words.contains("has no UploadPartCopy") && status["store"]["differs"].to_string().contains("UploadPartCopy"),
        "{words}"
    );
    local.sh("rm f");
}
