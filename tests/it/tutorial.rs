//! boto's S3 tutorial as a file system: every step with coreutils and the attr tools on an `s3://` mount, and seen by boto3;
//! and the other way round. On the embedded server and on the real ones.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, Stdio};

use pailfs::base::rng;
use serde_json::Value;

use crate::servers::{self, RealServer};
use crate::support::{Mount, Site, eventually};

/// What a server does not do, by its version: the step and the reason. One that holds after all fails.
const EXCEPTIONS: [(&str, &str, &str); 11] = [
    ("rgw 16.2.15", "restore", "there is no RestoreObject"),
    ("moto 5.2.5", "email grant", "grants that are set one by one are dropped"),
    ("moto 5.2.5", "id grant", "grants that are set one by one are dropped"),
    ("moto 5.2.5", "restore", "a restore may be begun only some time after the PUT: tested apart"),
    ("moto 5.2.5", "a large file is changed", "the list of what was uploaded in parts is a 500: refused, but for --keep-acl no"),
    ("moto 5.2.5", "encoded names", "metadata whose name has a '%' is dropped: EOPNOTSUPP"),
    ("seaweed 4.48", "metadata of a directory", "markers keep none: EOPNOTSUPP"),
    ("seaweed 4.48", "restore", "there is no archive"),
    ("seaweed 4.48", "email grant", "refused"),
    ("seaweed 4.48", "lifecycle", "transitions are not implemented"),
    ("seaweed 4.48", "location", "locations are not kept"),
];

/// boto3 in a process of its own.
struct Boto {
    process: Child,
    answers: BufReader<std::process::ChildStdout>,
}

impl Boto {
    fn start(server: &RealServer) -> Self {
        let mut process = servers::python()
            .arg("tests/it/boto.py")
            .env("S3_ENDPOINT", &server.endpoint)
            .env("S3_REGION", &server.region)
            .env("AWS_ACCESS_KEY_ID", &server.access_key)
            .env("AWS_SECRET_ACCESS_KEY", &server.secret_key)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("boto3 is missing: run ./scripts/test");
        let answers = BufReader::new(process.stdout.take().unwrap());
        Self { process, answers }
    }

    /// What an expression is.
    fn ask(&mut self, expression: &str) -> Result<Value, String> {
        writeln!(self.process.stdin.as_mut().unwrap(), "{expression}").unwrap();
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        let answer: Value = serde_json::from_str(&line).map_err(|error| format!("{expression}: {error}: {line}"))?;
        match answer.get("ok") {
            Some(value) => Ok(value.clone()),
            None => Err(format!("{expression}: {}", answer["error"])),
        }
    }
}

impl Drop for Boto {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        // It ends with its input.
        let _ = self.process.wait();
    }
}

type Verdict = Result<(), String>;

/// A mount of everything, and the other client.
struct Tour {
    mount: Mount,
    boto: Boto,
    version: String,
    bucket: String,
    differences: Vec<String>,
}

impl Tour {
    fn on(server: &RealServer) -> Self {
        let mount = Mount::place();
        let mounted = server.run("s3://", &mount, &["--ttl", "100ms"]);
        assert!(mounted.status.success(), "{mounted:?}");
        let bucket = format!("tutorial-{}", &rng::token()[..12]);
        Self { mount, boto: Boto::start(server), version: server.version.clone(), bucket, differences: Vec::new() }
    }

    fn step(&mut self, name: &str, work: impl FnOnce(&mut Self) -> Verdict) {
        let verdict = work(self);
        let exception = EXCEPTIONS.iter().find(|(of, step, _)| *of == self.version && *step == name);
        match (verdict, exception) {
            (Ok(()), None) | (Err(_), Some(_)) => {}
            (Ok(()), Some((_, _, reason))) => {
                self.differences.push(format!("{}: '{name}' works now, though: {reason}", self.version))
            }
            (Err(why), None) => self.differences.push(format!("{}: '{name}': {why}", self.version)),
        }
    }

    /// Runs a shell command in the bucket's directory; `$B` is the bucket.
    fn sh(&self, command: &str) -> Result<String, String> {
        let output = self.mount.try_sh(&format!("B={}; {command}", self.bucket));
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        if output.status.success() { Ok(out.into_owned()) } else { Err(format!("{command}: {out}{err}")) }
    }

    /// A command that must fail, saying something.
    fn refuses(&self, command: &str, words: &str) -> Verdict {
        match self.sh(command) {
            Err(said) if said.contains(words) => Ok(()),
            other => Err(format!("{command}: wanted '{words}', got {other:?}")),
        }
    }

    fn attribute(&self, name: &str, path: &str) -> Result<String, String> {
        self.sh(&format!("getfattr -n {name} --only-values {path}"))
    }

    /// What boto3 makes of an expression in which `{B}` is the bucket's name.
    fn boto(&mut self, expression: &str) -> Result<Value, String> {
        let expression = expression.replace("{B}", &format!("'{}'", self.bucket));
        self.boto.ask(&expression)
    }
}

fn same<T: PartialEq + std::fmt::Debug>(got: &T, wanted: &T) -> Verdict {
    if got == wanted { Ok(()) } else { Err(format!("got {got:?}, wanted {wanted:?}")) }
}

fn has(text: &str, part: &str) -> Verdict {
    if text.contains(part) { Ok(()) } else { Err(format!("'{text}' has no '{part}'")) }
}

/// Buckets: create, find, list, and what is refused.
fn buckets(tour: &mut Tour) {
    tour.step("create_bucket", |tour| {
        tour.sh("mkdir $B")?;
        tour.boto("s3.head_bucket(Bucket={B})['ResponseMetadata']['HTTPStatusCode']").map(drop)
    });
    tour.step("a bucket of mine exists", |tour| {
        tour.refuses("mkdir $B", "File exists")?;
        let why = tour.mount.why(&tour.bucket);
        has(&why, "own")?;
        tour.sh("mkdir -p $B").map(drop)
    });
    tour.step("lookup", |tour| {
        tour.refuses("ls no-such-bucket-here-at-all", "No such file")?;
        has(&tour.sh("ls")?, &tour.bucket)
    });
    tour.step("location", |tour| {
        tour.sh("setfattr -n user.s3.location -v EU . && mkdir $B-eu && setfattr -x user.s3.location .")?;
        let eu = tour.boto("s3.get_bucket_location(Bucket={B} + '-eu')['LocationConstraint']")?;
        let known = eu == "EU" || eu == "eu-west-1";
        let shown = tour.attribute("user.s3.location", "$B-eu");
        tour.sh("rmdir $B-eu")?;
        if !known {
            return Err(format!("it lies in {eu}"));
        }
        has("eu-west-1 EU", &shown?)
    });
}

/// Objects: put and get, both ways, with their types, metadata and sizes.
fn objects(tour: &mut Tour) {
    tour.step("set_contents_from_string", |tour| {
        tour.sh("echo 'This is a test of S3' > $B/foobar.txt && cp $B/foobar.txt $B/copy.html")?;
        same(
            &tour.boto("s3.get_object(Bucket={B}, Key='foobar.txt')['Body'].read().decode()")?,
            &"This is a test of S3\n".into(),
        )?;
        same(&tour.boto("s3.head_object(Bucket={B}, Key='foobar.txt')['ContentType']")?, &"text/plain".into())?;
        same(&tour.boto("s3.head_object(Bucket={B}, Key='copy.html')['ContentType']")?, &"text/html".into())
    });
    tour.step("get_contents_as_string", |tour| {
        tour.boto("s3.put_object(Bucket={B}, Key='boto.txt', Body=b'by boto', ContentType='text/x-boto', Metadata={'meta1': 'one'}) and 1")?;
        same(&tour.sh("cat $B/boto.txt")?, &"by boto".to_owned())?;
        same(&tour.attribute("user.s3.content-type", "$B/boto.txt")?, &"text/x-boto".to_owned())?;
        same(&tour.attribute("user.meta1", "$B/boto.txt")?, &"one".to_owned())
    });
    tour.step("set_metadata", |tour| {
        tour.sh("setfattr -n user.meta1 -v 'This is the first metadata value' $B/foobar.txt")?;
        tour.sh(
            "setfattr -n user.s3.meta.meta2 -v second $B/foobar.txt && setfattr -n user.s3.content-type -v text/x $B/foobar.txt",
        )?;
        let head = tour.boto("s3.head_object(Bucket={B}, Key='foobar.txt')")?;
        same(&head["Metadata"]["meta1"], &"This is the first metadata value".into())?;
        same(&head["Metadata"]["meta2"], &"second".into())?;
        same(&head["ContentType"], &"text/x".into())?;
        same(&tour.sh("cat $B/foobar.txt")?, &"This is a test of S3\n".to_owned())
    });
    tour.step("multipart upload", |tour| {
        tour.sh("head -c 20000000 /dev/urandom > $B/big && test $(stat -c %s $B/big) = 20000000")?;
        same(&tour.boto("s3.head_object(Bucket={B}, Key='big')['ContentLength']")?, &20_000_000.into())
    });
    tour.step("lost uploads", |tour| {
        tour.boto("s3.create_multipart_upload(Bucket={B}, Key='lost/x y') and 1")?;
        has(&tour.attribute("user.s3.uploads", "$B")?, " lost/x y")?;
        let id = tour.boto("s3.list_multipart_uploads(Bucket={B}, Prefix='lost')['Uploads'][0]['UploadId']")?;
        has(&tour.attribute("user.s3.uploads", "$B")?, id.as_str().unwrap_or("?"))?;
        tour.boto("s3.abort_multipart_upload(Bucket={B}, Key='lost/x y', UploadId=s3.list_multipart_uploads(Bucket={B}, Prefix='lost')['Uploads'][0]['UploadId']) and 1")?;
        tour.refuses("getfattr -n user.s3.uploads $B", "No such attribute")
    });
    tour.step("a large file is changed", |tour| {
        let begun = std::time::Instant::now();
        let changed = tour.sh("chmod 640 $B/big && echo small > $B/big");
        if changed.is_err() {
            has(&tour.mount.why(&format!("{}/big", tour.bucket)), "--keep-acl no").expect("it says what to do");
            assert!(begun.elapsed().as_secs() < 5, "it is told soon");
        }
        changed.map(drop)
    });
    tour.step("encoded names", |tour| {
        if let Err(refused) = tour.sh("setfattr -n user.Upper -v x $B/boto.txt") {
            has(&refused, "not supported").expect("what is dropped is not acknowledged");
            has(&tour.mount.why(&format!("{}/boto.txt", tour.bucket)), "does not keep").expect("it says so");
            return Err(refused);
        }
        same(&tour.boto("s3.head_object(Bucket={B}, Key='boto.txt')['Metadata'].get('%55pper')")?, &"x".into())
    });
    tour.step("metadata of a directory", |tour| {
        tour.sh("mkdir $B/dx")?;
        if let Err(refused) = tour.sh("setfattr -n user.k -v v $B/dx") {
            has(&refused, "not supported").expect("what is dropped is not acknowledged");
            return Err(refused);
        }
        same(&tour.boto("s3.head_object(Bucket={B}, Key='dx/')['Metadata'].get('k')")?, &"v".into())
    });
    tour.step("presigned url and versions", |tour| {
        let url = tour.attribute("user.s3.presigned-url", "$B/boto.txt")?;
        same(&tour.sh(&format!("curl -sf '{url}'"))?, &"by boto".to_owned())?;
        has(&tour.attribute("user.s3.versions", "$B/boto.txt")?, " 7 latest")
    });
    tour.step("tags", |tour| {
        tour.sh("setfattr -n user.s3.tag.team -v red $B/foobar.txt")?;
        same(&tour.boto("s3.get_object_tagging(Bucket={B}, Key='foobar.txt')['TagSet'][0]['Value']")?, &"red".into())?;
        tour.boto(
            "s3.put_object_tagging(Bucket={B}, Key='foobar.txt', Tagging={'TagSet': [{'Key': 'team', 'Value': 'blue'}]}) and 1",
        )?;
        same(&tour.attribute("user.s3.tags", "$B/foobar.txt")?, &"team=blue".to_owned())
    });
}

/// Access lists, on buckets and keys.
fn access(tour: &mut Tour) {
    const GROUPS: &str = "[g['Grantee'].get('URI', '').split('/')[-1] + ' ' + g['Permission'] for g in s3.get_";
    tour.step("canned acl of a bucket", |tour| {
        if tour.version.starts_with("seaweed") {
            // As on Amazon's S3 of today, a new bucket's access lists do not count there before it is told so.
            tour.sh("setfattr -n user.s3.object-ownership -v ObjectWriter $B")?;
        }
        tour.sh("setfattr -n user.s3.acl -v public-read $B")?;
        let grants = tour.boto(&format!("{GROUPS}bucket_acl(Bucket={{B}})['Grants']]"))?;
        has(&grants.to_string(), "AllUsers READ")?;
        has(&tour.attribute("user.s3.acl", "$B")?, "READ group=AllUsers")
    });
    tour.step("canned acl of a key", |tour| {
        tour.sh("setfattr -n user.s3.acl -v public-read $B/foobar.txt")?;
        let grants = tour.boto(&format!("{GROUPS}object_acl(Bucket={{B}}, Key='foobar.txt')['Grants']]"))?;
        has(&grants.to_string(), "AllUsers READ")?;
        tour.boto("s3.put_object_acl(Bucket={B}, Key='foobar.txt', ACL='private') and 1")?;
        let lines = tour.attribute("user.s3.acl", "$B/foobar.txt")?;
        if lines.contains("AllUsers") { Err(lines) } else { has(&lines, "FULL_CONTROL id=") }
    });
    tour.step("email grant", |tour| {
        tour.sh("setfattr -n user.s3.acl.grant -v 'READ email=alt@example.com' $B/foobar.txt")?;
        let grants = "[g for g in s3.get_object_acl(Bucket={B}, Key='foobar.txt')['Grants'] if g['Permission'] == 'READ' and not g['Grantee'].get('URI')]";
        let count = tour.boto(&format!("len({grants})"))?;
        same(&count, &1.into())
    });
    tour.step("id grant", |tour| {
        let owner = tour.boto("s3.get_bucket_acl(Bucket={B})['Owner']['ID']")?;
        let owner = owner.as_str().unwrap_or_default().to_owned();
        tour.sh("setfattr -n user.s3.acl -v private $B/boto.txt")?;
        tour.sh(&format!("setfattr -n user.s3.acl.grant -v 'READ_ACP id={owner}' $B/boto.txt"))?;
        let grants = tour.boto("sorted(g['Permission'] for g in s3.get_object_acl(Bucket={B}, Key='boto.txt')['Grants'])")?;
        same(&grants, &serde_json::json!(["FULL_CONTROL", "READ_ACP"]))
    });
    tour.step("an overwrite keeps the list", |tour| {
        tour.sh("setfattr -n user.s3.acl -v public-read $B/foobar.txt && echo again > $B/foobar.txt && setfattr -n user.x -v y $B/foobar.txt")?;
        let grants = tour.boto(&format!("{GROUPS}object_acl(Bucket={{B}}, Key='foobar.txt')['Grants']]"))?;
        has(&grants.to_string(), "AllUsers READ")
    });
}

/// Configurations of a bucket.
fn configurations(tour: &mut Tour) {
    tour.step("cors", |tour| {
        let rule = r#"{"CORSRules":[{"AllowedMethods":["PUT","POST","DELETE"],"AllowedOrigins":["https://www.example.com"],"AllowedHeaders":["*"],"MaxAgeSeconds":3000,"ExposeHeaders":["x-amz-server-side-encryption"]}]}"#;
        tour.sh(&format!("setfattr -n user.s3.cors -v '{rule}' $B"))?;
        let seen = tour.boto("s3.get_bucket_cors(Bucket={B})['CORSRules'][0]['MaxAgeSeconds']")?;
        same(&seen, &3000.into())?;
        tour.boto("s3.put_bucket_cors(Bucket={B}, CORSConfiguration={'CORSRules': [{'AllowedMethods': ['GET'], 'AllowedOrigins': ['*']}]}) and 1")?;
        has(&tour.attribute("user.s3.cors", "$B")?, "\"GET\"")?;
        tour.sh("setfattr -x user.s3.cors $B")?;
        match tour.boto("s3.get_bucket_cors(Bucket={B})") {
            Err(code) if code.contains("NoSuchCORS") => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
    tour.step("lifecycle", |tour| {
        let rule = r#"{"Rules":[{"ID":"ruleid","Filter":{"Prefix":"logs/"},"Status":"Enabled","Transitions":[{"Days":30,"StorageClass":"GLACIER"}]}]}"#;
        tour.sh(&format!("setfattr -n user.s3.lifecycle -v '{rule}' $B"))?;
        let seen = tour.boto("s3.get_bucket_lifecycle_configuration(Bucket={B})['Rules'][0]['Transitions'][0]['StorageClass']")?;
        same(&seen, &"GLACIER".into())?;
        tour.boto("s3.put_bucket_lifecycle_configuration(Bucket={B}, LifecycleConfiguration={'Rules': [{'ID': 'away', 'Filter': {'Prefix': 'tmp/'}, 'Status': 'Enabled', 'Expiration': {'Days': 3}}]}) and 1")?;
        has(&tour.attribute("user.s3.lifecycle", "$B")?, "\"away\"")?;
        tour.sh("setfattr -x user.s3.lifecycle $B")?;
        tour.refuses("getfattr -n user.s3.lifecycle $B", "No such attribute")
    });
}

/// Storage classes, archives, and the end.
fn archives(tour: &mut Tour, class: &str) {
    tour.step("storage class", |tour| {
        tour.sh(&format!("setfattr -n user.s3.storage-class -v {class} $B/copy.html"))?;
        same(&tour.boto("s3.head_object(Bucket={B}, Key='copy.html')['StorageClass']")?, &class.into())?;
        tour.sh("ls -l $B > /dev/null")?;
        same(&tour.attribute("user.s3.storage-class", "$B/copy.html")?, &class.to_owned())
    });
    tour.step("restore", |tour| {
        tour.boto("s3.put_object(Bucket={B}, Key='ice', Body=b'from the ice', StorageClass='GLACIER') and 1")?;
        // A listing that was read just before may lack it for a part of the TTL.
        tour.sh("sleep 0.2")?;
        tour.refuses("cat $B/ice", "remote")?;
        same(&tour.attribute("user.s3.restore", "$B/ice")?, &"none".to_owned())?;
        tour.sh("setfattr -n user.s3.restore -v 5 $B/ice")?;
        has(&tour.boto("s3.head_object(Bucket={B}, Key='ice')['Restore']")?.to_string(), "true")?;
        same(&tour.attribute("user.s3.restore", "$B/ice")?, &"ongoing".to_owned())?;
        let restored = |tour: &Tour| tour.attribute("user.s3.restore", "$B/ice").is_ok_and(|state| state.starts_with("until"));
        eventually("the restore ends", || restored(tour));
        same(&tour.sh("cp $B/ice $B/thawed && cat $B/thawed")?, &"from the ice".to_owned())
    });
    tour.step("delete_bucket", |tour| {
        tour.refuses("rmdir $B", "not empty")?;
        // What the other client has just made is in the listing after its TTL.
        tour.sh("sleep 0.3 && rm -r $B && test ! -e $B")?;
        match tour.boto("s3.head_bucket(Bucket={B})") {
            Err(code) if code.contains("404") || code.contains("NoSuchBucket") => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
}

fn tutorial(server: &RealServer) {
    let mut tour = Tour::on(server);
    buckets(&mut tour);
    objects(&mut tour);
    access(&mut tour);
    configurations(&mut tour);
    archives(&mut tour, "STANDARD_IA");
    tour.mount.unmount();
    assert!(tour.differences.is_empty(), "{}", tour.differences.join("\n"));
}

fn real(name: &str) {
    tutorial(&servers::all().into_iter().find(|server| server.name == name).unwrap());
}

#[test]
fn the_tutorial_on_the_embedded_server() {
    let site = Site::start();
    tutorial(&RealServer::embedded(&site));
}

#[test]
fn the_tutorial_on_radosgw() {
    real("rgw");
}

#[test]
fn the_tutorial_on_moto() {
    real("moto");
}

#[test]
fn the_tutorial_on_seaweedfs() {
    real("seaweed");
}
