//! What cannot be mounted: one line that says what to do, an exit code, nothing left mounted, within 5 s. And what a daemon
//! does at a signal.

use std::time::{Duration, Instant};

use pailfs::devserver::{ACCESS_KEY, SECRET_KEY};

use crate::support::{Mount, Site, eventually};

/// Runs a mount that must be refused; the one line it says.
#[track_caller]
fn refused(endpoint: &str, bucket: &str, secret: &str) -> String {
    let mount = Mount::place();
    let begun = Instant::now();
    let output = mount.run(endpoint, bucket, &[], secret);
    assert!(begun.elapsed() < Duration::from_secs(5), "it took {:?}", begun.elapsed());
    assert!(!output.status.success() && !mount.is_mounted());
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(said.trim_end().lines().count(), 1, "{said}");
    said
}

#[test]
fn each_reason_is_told_in_one_line() {
    let site = Site::start();
    let endpoint = site.server.endpoint();
    assert!(refused(&endpoint, "bucket", "wrong").contains("check access key and secret"));
    assert!(refused(&endpoint, "nosuch", SECRET_KEY).contains("no bucket 'nosuch'"));
    assert!(refused(&endpoint, "Bad_Name", SECRET_KEY).contains("not a bucket name"));
    assert!(refused("nonsense", "bucket", SECRET_KEY).contains("not an endpoint"));
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    assert!(refused(&format!("http://{free}"), "bucket", SECRET_KEY).contains("cannot reach"));
}

#[test]
fn a_profile_that_is_named_wins_over_the_environment() {
    use std::os::unix::fs::PermissionsExt as _;
    let site = Site::start();
    let home = Mount::place();
    let config = home.at("config");
    let keys = |secret: &str| format!("aws_access_key_id = {ACCESS_KEY}\naws_secret_access_key = {secret}\n");
    std::fs::write(&config, format!("[profile right]\n{}[profile empty]\nregion = x\n", keys(SECRET_KEY))).unwrap();
    std::fs::set_permissions(&config, std::fs::Permissions::from_mode(0o600)).unwrap();
    // The environment's keys are wrong.
    let mounted = |profile: &str| {
        let mount = Mount::place();
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_pailfs"))
            .args(["mount", "bucket", mount.path.to_str().unwrap()])
            .args(["--endpoint-url", &site.server.endpoint(), "--profile", profile])
            .env("AWS_ACCESS_KEY_ID", ACCESS_KEY)
            .env("AWS_SECRET_ACCESS_KEY", "wrong")
            .env("AWS_CONFIG_FILE", &config)
            .env("AWS_SHARED_CREDENTIALS_FILE", home.at("none"))
            .output()
            .unwrap();
        let mounted = mount.is_mounted();
        (mounted, output.status.success(), String::from_utf8(output.stderr).unwrap())
    };
    assert_eq!(mounted("right"), (true, true, String::new()));
    for bad in ["empty", "nosuch"] {
        let (mounted, success, said) = mounted(bad);
        assert!(!mounted && !success && said.lines().count() == 1, "{said}");
        assert!(said.contains(&format!("profile '{bad}' gives no credentials")), "{said}");
    }
    std::fs::remove_file(config).unwrap();
}

#[test]
fn a_profile_tells_where_its_store_is() {
    let site = Site::start();
    let home = Mount::place();
    let config = home.at("config");
    let keys = format!("aws_access_key_id = {ACCESS_KEY}\naws_secret_access_key = {SECRET_KEY}\nregion = eu-west-3\n");
    let endpoint = site.server.endpoint();
    let text = format!(
        "[profile plain]\n{keys}endpoint_url = {endpoint}\n\n[profile service]\n{keys}endpoint_url = http://127.0.0.1:9\nservices = here\n\n\
         [services here]\ns3 =\n  endpoint_url = {endpoint}\n"
    );
    std::fs::write(&config, text).unwrap();
    for profile in ["plain", "service"] {
        let mount = Mount::place();
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_pailfs"))
            .args(["mount", "bucket", mount.path.to_str().unwrap()])
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("XDG_CACHE_HOME", home.at("cache"))
            .env("XDG_STATE_HOME", home.at("cache"))
            .env("AWS_PROFILE", profile)
            .env("AWS_CONFIG_FILE", &config)
            .env("AWS_SHARED_CREDENTIALS_FILE", home.at("none"))
            .output()
            .unwrap();
        assert_eq!((mount.is_mounted(), String::from_utf8_lossy(&output.stderr).as_ref()), (true, ""), "{profile}");
    }
    std::fs::remove_file(config).unwrap();
}

#[test]
fn something_that_is_no_s3_store_is_told_apart() {
    use std::io::{Read as _, Write as _};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let served = std::thread::spawn(move || {
        for answer in ["HTTP/1.1 200 OK", "HTTP/1.1 404 Not Found"] {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 4096];
            let _ = stream.read(&mut request).unwrap();
            write!(stream, "{answer}\r\ncontent-type: text/html\r\ncontent-length: 13\r\nconnection: close\r\n\r\n<html></html>")
                .unwrap();
        }
    });
    for _ in 0..2 {
        assert!(refused(&format!("http://{address}"), "bucket", SECRET_KEY).contains("not an S3 store"));
    }
    served.join().unwrap();
}

#[test]
fn an_endpoint_that_speaks_no_http_is_told_by_its_address() {
    use std::io::{Read as _, Write as _};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let served = std::thread::spawn(move || {
        for answer in ["SSH-2.0-OpenSSH_9.6\r\n", ""] {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.read(&mut [0; 4096]).unwrap();
            // The client may have gone already.
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    for _ in 0..2 {
        let said = refused(&format!("http://{address}"), "bucket", SECRET_KEY);
        assert!(said.contains("answers nothing that is HTTP: check --endpoint-url"), "{said}");
    }
    served.join().unwrap();
}

#[test]
fn an_endpoint_that_never_answers_is_given_up() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    assert!(refused(&format!("http://{address}"), "bucket", SECRET_KEY).contains("does not answer"));
}

#[test]
fn a_directory_that_is_mounted_already_is_refused() {
    let site = Site::start();
    let mount = site.mount(&[]);
    let output = mount.run(&site.server.endpoint(), "bucket", &[], SECRET_KEY);
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("mounted there already"), "{output:?}");
    assert!(mount.is_mounted());
}

/// Runs the program under another name, with the server's keys.
fn called(name: &str, arguments: &[&str]) -> std::process::Output {
    use std::os::unix::process::CommandExt as _;
    std::process::Command::new(env!("CARGO_BIN_EXE_pailfs"))
        .arg0(name)
        .args(arguments)
        .env("AWS_ACCESS_KEY_ID", ACCESS_KEY)
        .env("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
        .output()
        .unwrap()
}

#[test]
fn mount_8_calls_it_in_its_own_words() {
    let site = Site::start();
    let mount = Mount::place();
    let place = mount.path.to_str().unwrap();
    let store = format!("endpoint_url={},region=us-east-1", site.server.endpoint());
    let fake = called("/sbin/mount.pailfs", &["bucket", place, "-f", "-o", &store]);
    assert!(fake.status.success() && !mount.is_mounted(), "{fake:?}");
    let options = format!("noatime,_netdev,user=x,{store}");
    let read_only = called("/sbin/mount.pailfs", &["bucket", place, "-s", "-n", "-v", "-r", "-o", &options]);
    assert!(read_only.status.success(), "{read_only:?}");
    assert_eq!(std::fs::write(mount.at("f"), "x").unwrap_err().raw_os_error(), Some(libc::EROFS));
    mount.unmount();
    // As mount.fuse3 does.
    let bare = called("pailfs", &["bucket", place, "-o", &format!("rw,{store},dev,suid")]);
    assert!(bare.status.success(), "{bare:?}");
    std::fs::write(mount.at("f"), "x").unwrap();
}

#[test]
fn somebody_else_is_told_who_may_unmount() {
    use std::os::unix::process::CommandExt as _;
    assert!(rustix::process::geteuid().is_root(), "only root can be somebody else: run the tests as root");
    let site = Site::start();
    for extra in [&["--allow-other"][..], &[]] {
        let mount = site.mount(extra);
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_pailfs"))
            .arg("umount")
            .arg(&mount.path)
            .uid(65534)
            .gid(65534)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && mount.is_mounted() && said.trim_end().lines().count() == 1, "{said}");
        assert!(said.contains("only root and the user who mounted it may") && !said.contains("mtab"), "{said}");
    }
}

fn kill(signal: &str, process: &str) {
    assert!(std::process::Command::new("kill").args([signal, process]).status().unwrap().success());
}

#[test]
fn sighup_looks_afresh_and_sigusr1_changes_the_log() {
    let site = Site::start();
    let log = Mount::place();
    let file = log.at("log");
    let mount = site.mount(&["--ttl", "1h", "--log-file", file.to_str().unwrap()]);
    let daemon = mount.daemon();
    site.put("a", "1");
    site.put("d/f", "grows");
    assert_eq!(mount.sh("ls"), "a\nd\n");
    site.put("b", "2");
    assert_eq!(mount.sh("ls"), "a\nd\n");
    kill("-HUP", &daemon);
    eventually("the directory is listed again", || mount.sh("ls") == "a\nb\nd\n");
    let look = "stat -c %s d/f; ls missing; cd d && pwd";
    let before = mount.sh(&format!("({look}) 2>&1; true"));
    assert!(before.starts_with("5\n") && before.contains("No such file"), "{before}");
    site.put("d/f", "has grown");
    site.put("missing", "is there");
    site.delete("a");
    assert_eq!(mount.sh("stat -c %s d/f a"), "5\n1\n");
    // Who is in a directory that was looked for before it was made stays there.
    let stays = "! ls own 2>/dev/null && mkdir own && cd own && kill -HUP $0 && sleep 0.3 && readlink /proc/self/cwd";
    let place = mount.sh(&format!("sh -c '{stays}' {daemon}"));
    assert!(place.ends_with("/own\n"), "{place}");
    kill("-HUP", &daemon);
    eventually("it has its new length", || mount.sh("stat -c %s d/f") == "9\n");
    eventually("it is there", || mount.sh("cat missing || true") == "is there");
    eventually("it is gone", || mount.sh("test -e a || echo gone") == "gone\n");
    let logged = || std::fs::read_to_string(&file).unwrap();
    assert_eq!(logged(), "");
    kill("-USR1", &daemon);
    eventually("the log tells more", || logged().contains("filter was changed"));
    std::fs::write(mount.at("f"), "x").unwrap();
    eventually("requests are logged", || logged().contains("PutObject"));
    kill("-USR1", &daemon);
    eventually("the log is as it was", || {
        let before = logged().len();
        std::fs::write(mount.at("f"), "y").unwrap();
        logged().len() == before
    });
    assert_eq!(mount.daemon(), daemon);
    mount.unmount();
    std::fs::remove_file(file).unwrap();
}

#[test]
fn a_daemon_whose_parent_is_gone_leaves_no_dead_mount() {
    let site = Site::start();
    let mount = Mount::place();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let status = std::process::Command::new(env!("CARGO_BIN_EXE_pailfs"))
        .args(["mount", "--report-to-parent", "bucket", mount.path.to_str().unwrap()])
        .args(["--endpoint-url", &site.server.endpoint(), "--region", "us-east-1"])
        .env("AWS_ACCESS_KEY_ID", ACCESS_KEY)
        .env("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
        .stdout(writer)
        .stderr(std::process::Stdio::null())
        .status()
        .unwrap();
    assert!(!status.success() && !mount.is_mounted());
}

#[test]
fn a_second_signal_stops_at_once_and_leaves_no_dead_mount() {
    use std::io::Write as _;
    let site = Site::start();
    let mount = Mount::place();
    let mut daemon = std::process::Command::new(env!("CARGO_BIN_EXE_pailfs"))
        .args(["mount", "--foreground", "bucket", mount.path.to_str().unwrap()])
        .args(["--endpoint-url", &site.server.endpoint(), "--region", "us-east-1"])
        .env("AWS_ACCESS_KEY_ID", ACCESS_KEY)
        .env("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let process = daemon.id().to_string();
    eventually("it is mounted", || mount.is_mounted());
    let mut file = std::fs::File::create(mount.at("f")).unwrap();
    file.write_all(b"on its way").unwrap();
    site.server.set_faults("PutObject:*=delay@20000".parse().unwrap());
    kill("-TERM", &process);
    eventually("the upload is under way", || site.count("PutObject") > 0);
    let begun = Instant::now();
    kill("-TERM", &process);
    assert!(!daemon.wait().unwrap().success());
    assert!(begun.elapsed() < Duration::from_secs(5), "it took {:?}", begun.elapsed());
    assert!(!mount.is_mounted());
    let said = std::io::read_to_string(daemon.stderr.take().unwrap()).unwrap();
    assert!(said.contains("second signal: 1 file was not uploaded"), "{said}");
    drop(file);
}
