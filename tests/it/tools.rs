//! Everyday tools do on a mount what they do on a local disk: the same content, modes and times, and nothing is read or built
//! again that has not changed.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::support::{Mount, Site};

/// All that is below, with types, modes, link targets and sums; and the times of what carries one that was set, but of
/// directories, which show what last happened in them as long as the mount lasts.
fn tree(root: &Mount, directory: &str) -> String {
    root.sh(&format!(
        "cd {directory} && find . -printf '%P %y %m %l\\n' | sort && find . -type f -exec md5sum {{}} + | sort -k 2 && \
         find . ! -type d ! -newermt 2021-01-01 -printf '%P %T@\\n' | sort"
    ))
}

/// A mount, and a directory of the local disk where the same is done.
struct Pair {
    site: Site,
    mount: Mount,
    local: Mount,
}

impl Pair {
    fn start() -> Self {
        let site = Site::start();
        let mount = site.mount(&["--ttl", "60s"]);
        // What the store honours is known then.
        mount.sh("setfattr -n user.s3.object-ownership -v BucketOwnerEnforced . && echo a > a && cp a b && mv b c && chmod 600 c && rm a c");
        Self { site, mount, local: Mount::place() }
    }

    /// Does the same at both places; what it says is the same.
    #[track_caller]
    fn both(&self, command: &str) -> String {
        let said = self.mount.sh(command);
        assert_eq!(self.local.sh(command), said, "{command}");
        said
    }

    #[track_caller]
    fn same(&self, directory: &str, after: &str) {
        let (local, mounted) = (tree(&self.local, directory), tree(&self.mount, directory));
        if local == mounted {
            return;
        }
        let lines = |text: &str| text.lines().map(str::to_owned).collect::<BTreeSet<_>>();
        let (local, mounted) = (lines(&local), lines(&mounted));
        let beyond = |these: &BTreeSet<String>, others| these.difference(others).cloned().collect::<Vec<_>>();
        panic!("{after}: only there: {:?}, only in the mount: {:?}", beyond(&local, &mounted), beyond(&mounted, &local));
    }

    fn remount(&mut self) {
        self.mount.unmount();
        self.mount = self.site.mount(&["--ttl", "60s"]);
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.local.path);
    }
}

/// A source tree: directories, files of several modes and lengths, links; in the year 2020.
const MAKE_TREE: &str = "for d in $(seq DIRECTORIES); do \
     mkdir -p tree/d$d/sub && for f in $(seq 45); do echo \"$d $f\" > tree/d$d/f$f; done && \
     for f in a b c; do head -c $((d * 997)) /dev/zero | tr '\\0' $f > \"tree/d$d/sub/name $f\"; done && \
     ln -s ../f1 tree/d$d/sub/up && ln -s f2 tree/d$d/link && ln -s /nowhere/at/all tree/d$d/dangling; done && \
     chmod 755 tree/d*/f1 && chmod 600 tree/d*/f2 && chmod 444 tree/d*/f3 && chmod 2750 tree/d1 && \
     find tree -exec touch -h -d '2020-02-03 04:05:06.789012345 UTC' {} +";

fn make_tree(pair: &Pair, directories: usize) {
    pair.local.sh(&MAKE_TREE.replace("DIRECTORIES", &directories.to_string()));
}

#[test]
fn a_tree_of_two_thousand_files_comes_out_of_tar_as_it_went_in() {
    let mut pair = Pair::start();
    make_tree(&pair, 40);
    pair.local.sh("tar -cf tree.tar tree && rm -r tree");
    let archive = pair.local.at("tree.tar");
    pair.both(&format!("tar -xpf {}", archive.display()));
    for state in ["tar x", "tar x, and mounted anew"] {
        pair.same("tree", state);
        pair.both("find tree -type d -printf '%p %T@\\n' | sort");
        pair.remount();
    }
    pair.both(
        "cd tree && find . -newermt 2020-02-04 | sort && find . -type f -print0 | sort -z | du -b --files0-from=- | tail -1",
    );
    pair.both("rm -r tree && test ! -e tree");
    assert_eq!(pair.site.keys(), [""; 0]);
}

#[test]
fn trees_are_copied_moved_and_removed_as_on_a_disk() {
    let mut pair = Pair::start();
    make_tree(&pair, 4);
    let source = pair.local.at("tree").display().to_string();
    pair.mount.sh(&format!("rsync -a {source}/ tree/"));
    pair.same("tree", "rsync -a");
    for mounted_anew in [false, true] {
        pair.site.server.reset_counters();
        assert_eq!(pair.mount.sh(&format!("rsync -ai {source}/ tree/")), "", "nothing is left to do");
        let counts = pair.site.server.counters();
        let data = ["GetObject", "PutObject", "CopyObject", "DeleteObject"].map(|operation| counts.of(operation));
        assert_eq!(data, [0; 4], "mounted anew: {mounted_anew}: {counts:?}");
        pair.remount();
    }
    pair.both("cp -a tree copy && cp -a copy/d1 copy/again && mv copy/d2 moved && mv moved/f1 moved/f2 && mv moved/f3 moved/new");
    pair.same(".", "cp -a and mv");
    pair.both("touch -d 2020-06-01 mark && find tree -newer mark && touch -d 2020-07-01 tree/d1/f4 && find tree -newer mark");
    pair.both("rm -r copy/d1 moved/sub && rm copy/d3/link && rmdir copy/d4/sub 2> /dev/null; test -e copy/d4/sub");
    pair.same(".", "rm");
    pair.remount();
    pair.same(".", "mounted anew");
    pair.both("rm -r tree copy moved mark && ls -A");
}

#[test]
fn editors_and_databases_leave_what_they_leave_on_a_disk() {
    let mut pair = Pair::start();
    pair.both("printf 'one\\ntwo\\n' > text && chmod 640 text && cp text other");
    pair.both("vim -Nu NONE -es +'%s/one/1/' +'$put =\"three\"' +wq text && cat text");
    pair.both("vim -Nu NONE -es +'set backup' +'%s/two/2/' +wq other && cat other && ls");
    pair.both("sed -i -e s/three/3/ -e '$a four' text && sed -i.bak s/2/zwei/ other && cat text other other.bak");
    pair.both("sort -o text text && tee -a text < other && cat text");
    pair.both(
        "sqlite3 db 'create table t (n integer primary key, text); begin; with recursive c(n) as (select 1 union all select n + 1 from c where n < 3000) \
         insert into t select n, hex(n) || hex(zeroblob(100)) from c; commit; create index i on t (text); delete from t where n % 7 = 0; vacuum'",
    );
    pair.both("sqlite3 db 'pragma journal_mode = truncate; update t set text = n where n % 3 = 0; begin; delete from t; rollback; pragma integrity_check'");
    pair.both("sqlite3 db 'select count(*), sum(n), max(text), sum(length(text)) from t' && ls");
    pair.same(".", "all");
    pair.remount();
    pair.both("sqlite3 db 'pragma integrity_check; select count(*), sum(n) from t; insert into t values (0, 0); select * from t limit 2'");
    pair.same(".", "mounted anew");
}

#[test]
fn make_builds_nothing_twice() {
    let mut pair = Pair::start();
    let makefile = "all: $(patsubst %.c,%.o,$(wildcard src/*.c)) prog\n\
                    src/%.o: src/%.c src/all.h\n\tcat $^ > $@\n\
                    prog: $(patsubst %.c,%.o,$(wildcard src/*.c))\n\tcat $^ > $@.tmp && chmod 755 $@.tmp && mv $@.tmp $@\n";
    for place in [&pair.mount, &pair.local] {
        place.sh("mkdir src && echo h > src/all.h && for n in $(seq 20); do echo $n > src/f$n.c; done");
        std::fs::write(place.at("Makefile"), makefile).unwrap();
    }
    pair.both("make -s && make -q && make");
    pair.same(".", "make");
    pair.remount();
    pair.site.server.reset_counters();
    pair.both("make -q");
    assert!(pair.site.count("GetObject") <= 1, "the makefile alone is read: {:?}", pair.site.server.counters());
    std::thread::sleep(Duration::from_millis(1100));
    pair.both("echo changed > src/f7.c && make -n | sort");
    pair.both("make -s && make -q && cat prog | head -20");
    pair.same(".", "make after a change");
}

/// Of the files that git has in its index, those that it must read to know that they have not changed: the seconds of their
/// times are others now (a file is stored after git has looked at it, so another second may have begun), or not before the
/// index was written.
fn unsure(mount: &Mount) -> BTreeSet<String> {
    let (index, files) =
        (mount.sh("cd repo && git ls-files --debug"), mount.sh("cd repo && git ls-files -z | xargs -0 stat -c '%n %Z %Y'"));
    let written: u64 = mount.sh("stat -c %Y repo/.git/index").trim().parse().unwrap();
    let mut known = BTreeSet::new();
    let mut lines = index.lines();
    while let Some(name) = lines.next() {
        let seconds = |line: &str| line.split(':').nth(1).unwrap().trim().to_owned();
        let (changed, modified) = (seconds(lines.next().unwrap()), seconds(lines.next().unwrap()));
        lines.nth(2);
        if modified.parse::<u64>().unwrap() < written {
            known.insert(format!("{name} {changed} {modified}"));
        }
    }
    files.lines().filter(|line| !known.contains(*line)).map(str::to_owned).collect()
}

#[test]
fn git_works_and_reads_no_file_to_know_that_it_has_not_changed() {
    let mut pair = Pair::start();
    let git = "export GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_NOSYSTEM=1 GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@b GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@b \
               GIT_AUTHOR_DATE='2020-02-02T02:02:02Z' GIT_COMMITTER_DATE='2020-02-02T02:02:02Z'";
    let origin = Mount::place();
    origin.sh(&format!(
        "{git}; git init -q -b main . && mkdir -p src/deep && for n in $(seq 60); do echo $n > src/f$n; echo $n > src/deep/g$n; done && \
         ln -s src/f1 link && chmod 755 src/f2 && git add . && git commit -qm one && git mv src/f3 src/moved && echo new > src/f4 && git rm -q src/f5 && \
         git commit -qam two && git tag v2"
    ));
    let files = "find . -name .git -prune -o -type f -printf '%P %m\\n' | sort && cat src/f* src/deep/*";
    pair.both(&format!(
        "{git}; git clone -q {} repo && cd repo && git log --format=%H && git status --porcelain && {files}",
        origin.path.display()
    ));
    pair.both(&format!("{git}; cd repo && git checkout -q -b work v2~1 && {files} && git status --porcelain && git checkout -q main && git status --porcelain"));
    pair.both(&format!(
        "{git}; cd repo && git gc -q --prune=now && git fsck --strict 2>&1 && git repack -qad && git count-objects"
    ));
    std::thread::sleep(Duration::from_millis(1100));
    pair.both(&format!("{git}; cd repo && echo more >> src/f9 && git add . && git commit -qm three && git log --format=%H && git stash list && git diff HEAD~1"));
    pair.remount();
    let unsure = unsure(&pair.mount);
    assert!(unsure.len() <= 20, "{unsure:?}");
    pair.site.server.set_faults("GetObject[repo/src/*]:*=delay@0".parse().unwrap());
    pair.site.server.reset_counters();
    pair.both(&format!("{git}; cd repo && git status --porcelain"));
    let counts = pair.site.server.counters();
    println!("{unsure:?} {counts:?}");
    assert!(counts.faults <= unsure.len() as u64, "{} files are read, not {unsure:?}: {counts:?}", counts.faults);
    pair.site.server.set_faults("".parse().unwrap());
    pair.both(&format!("{git}; cd repo && git checkout -q v2~1 && {files} && git checkout -q main && git branch -D work -q && git status --porcelain"));
    origin.sh("rm -rf .git src link");
}
