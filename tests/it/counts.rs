//! What a change costs, counted by the server: requests, bytes sent, bytes fetched; in a bucket without access lists, after
//! one change of each kind has shown what the store honours.

use crate::support::{Mount, Site};

/// What headers, XML and listings may bring beside the contents, in bytes.
const BESIDE_BYTES: u64 = 16 << 10;

/// What one command has cost.
#[derive(Debug)]
struct Cost {
    requests: u64,
    sent_bytes: u64,
    fetched_bytes: u64,
    story: String,
}

/// A server of large objects, with its mount.
struct Bench {
    site: Site,
    mount: Mount,
}

impl Bench {
    fn start() -> Self {
        let site = Site::synthetic();
        let mount = site.mount(&["--ttl", "60s"]);
        mount.sh("setfattr -n user.s3.object-ownership -v BucketOwnerEnforced .");
        mount.sh("echo a > a && echo b > a && echo c >> a && cp a b && mv a c && rm c");
        mount.sh("echo x >> 24MiB && cp 24MiB-1 copied && rm copied && head -c 20M /dev/zero > d && rm d");
        Self { site, mount }
    }

    fn cost(&self, command: &str) -> Cost {
        self.site.server.reset_counters();
        self.mount.sh(command);
        let counts = self.site.server.counters();
        let cost = Cost {
            requests: counts.requests(),
            sent_bytes: counts.bytes_in,
            fetched_bytes: counts.bytes_out,
            story: format!("{command}: {counts:?}"),
        };
        println!("{}", cost.story);
        cost
    }

    fn count(&self, operation: &str) -> u64 {
        self.site.count(operation)
    }
}

#[test]
fn a_short_change_of_a_long_file_sends_what_changed_and_reads_nothing() {
    let bench = Bench::start();
    let cost = bench.cost("head -c 4096 /dev/zero >> 256MiB");
    assert!(cost.requests <= 8, "{}", cost.story);
    assert_eq!(bench.count("GetObject"), 0, "{}", cost.story);
    assert!((4096..4096 + BESIDE_BYTES).contains(&cost.sent_bytes), "{}", cost.story);
    assert!(cost.fetched_bytes < BESIDE_BYTES, "{}", cost.story);

    // Names that are asked for one after the other would be listed.
    let bench = Bench::start();
    let cost = bench.cost("dd if=/dev/zero of=1GiB bs=4096 count=1 seek=131072 conv=notrunc status=none");
    assert_eq!(bench.count("UploadPart"), 1, "{}", cost.story);
    assert!(cost.sent_bytes <= (8 << 20) + BESIDE_BYTES, "{}", cost.story);
    assert!(cost.fetched_bytes <= (8 << 20) + BESIDE_BYTES, "{}", cost.story);
    assert!(cost.requests <= 13, "{}", cost.story);
}

#[test]
fn a_copy_inside_the_mount_is_one_request_and_moves_nothing() {
    let bench = Bench::start();
    bench.mount.sh("mkdir copies && ls copies");
    let cost = bench.cost("cp 256MiB copies/other");
    assert_eq!(bench.count("CopyObject"), 1, "{}", cost.story);
    assert_eq!(bench.count("UploadPart") + bench.count("PutObject") + bench.count("UploadPartCopy"), 0, "{}", cost.story);
    assert!(cost.sent_bytes < BESIDE_BYTES, "{}", cost.story);
    assert!(cost.fetched_bytes <= 1 << 20, "{}", cost.story);
    assert!(cost.requests <= 8, "{}", cost.story);
}

#[test]
fn a_long_file_written_in_order_is_its_parts_and_two_requests_more() {
    let bench = Bench::start();
    let cost = bench.cost("head -c 256M /dev/zero > long");
    assert_eq!((bench.count("CreateMultipartUpload"), bench.count("CompleteMultipartUpload")), (1, 1), "{}", cost.story);
    assert_eq!(bench.count("UploadPart"), 32, "{}", cost.story);
    assert_eq!(bench.count("PutObject") + bench.count("GetObject"), 0, "{}", cost.story);
    assert!(cost.sent_bytes < (256 << 20) + BESIDE_BYTES * 34, "{}", cost.story);
    assert!(cost.requests <= 36, "{}", cost.story);
}

#[test]
fn a_small_file_is_one_put() {
    let bench = Bench::start();
    bench.mount.sh("mkdir d && echo x > d/first && ls d");
    for command in ["head -c 4096 /dev/zero > d/new", "echo x > d/f", "touch d/t"] {
        let cost = bench.cost(command);
        assert_eq!((bench.count("PutObject"), cost.requests), (1, 1), "{}", cost.story);
    }
    let cost =
        bench.cost("mkdir made && for name in x y z; do echo x > made/$name; done && mkdir made/below && echo x > made/below/f");
    assert_eq!((bench.count("PutObject"), bench.count("HeadObject") + bench.count("ListObjectsV2")), (6, 2), "{}", cost.story);
    for command in ["head -c 5000 /dev/zero > d/new", "echo y > d/f"] {
        let cost = bench.cost(command);
        assert_eq!((bench.count("PutObject"), cost.requests), (1, 1), "{}", cost.story);
    }
}

#[test]
fn many_new_files_in_a_large_directory_cost_few_listings() {
    let site = Site::start();
    site.put_all((0..2500).map(|number| format!("d/old{number}")));
    let mount = site.mount(&["--ttl", "60s"]);
    site.server.reset_counters();
    mount.sh("for n in $(seq 100); do echo x > d/new$n; done");
    // Three names are asked for alone, then three pages tell of all others; eight objects of each page are looked at.
    let (puts, lists, heads) = (site.count("PutObject"), site.count("ListObjectsV2"), site.count("HeadObject"));
    assert!(puts == 100 && lists <= 10 && heads <= 32, "{puts} PUT, {lists} LIST, {heads} HEAD");
}

/// Whoever works on the files of a large directory in its order, for longer than the TTL: a page tells of the next thousand names.
#[test]
fn names_in_order_in_a_very_large_directory_cost_a_listing_a_page() {
    let site = Site::start();
    site.put_all((0..9500).map(|number| format!("d/{number:04}")));
    site.put("d/1500/below", "x");
    let mount = site.mount(&["--ttl", "3s"]);
    mount.sh("ls d > /dev/null");
    std::thread::sleep(std::time::Duration::from_millis(3100));
    site.server.reset_counters();
    assert_eq!(mount.sh("cd d && cat $(seq 1001 1499) 1500%00 1500/below $(seq 1501 1700) | wc -c"), "701\n");
    let (lists, heads) = (site.count("ListObjectsV2"), site.count("HeadObject"));
    assert!(lists <= 30 && heads <= 60, "{lists} LIST, {heads} HEAD");
    std::thread::sleep(std::time::Duration::from_millis(3100));
    site.server.reset_counters();
    assert_eq!(mount.sh("cd d && cat $(seq 1001 1400 | shuf) | wc -c"), "400\n");
    let (lists, heads) = (site.count("ListObjectsV2"), site.count("HeadObject"));
    assert!(lists <= 480 && heads <= 480, "no order is no walk: {lists} LIST, {heads} HEAD");
}

#[test]
fn many_names_that_are_looked_up_in_a_large_directory_cost_few_listings() {
    let site = Site::start();
    site.put_all((0..2500).map(|number| format!("d/old{number:04}")));
    let mount = site.mount(&["--ttl", "60s"]);
    site.server.reset_counters();
    mount.sh("for n in $(seq 1100 1499); do stat -c %s d/old$n; done");
    // Some are asked for alone, each with a HEAD and a LIST, then the pages tell of all others.
    let (lists, heads) = (site.count("ListObjectsV2"), site.count("HeadObject"));
    assert!(lists <= 35 && heads <= 60, "{lists} LIST, {heads} HEAD");
}
