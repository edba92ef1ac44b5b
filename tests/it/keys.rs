//! Points of the store's contract about keys: how they are listed, what they may hold, how many are deleted at once.

use std::collections::BTreeSet;

use pailfs::store::*;

use crate::conformance::{Bench, Verdict, ok, same};

pub async fn listing<S: ObjectStore + BucketService>(bench: &Bench<S>) -> Verdict {
    for name in ["l/a", "l/b/1", "l/b/2", "l/c", "l/d", "other"] {
        ok(bench.put(name, b"x", Condition::None).await)?;
    }
    let (mut objects, mut prefixes) = (Vec::new(), Vec::new());
    let mut start = ListStart::Beginning;
    loop {
        let page = ok(bench.list("l/", Delimiter::Slash, start, 2).await)?;
        objects.extend(page.objects.into_iter().map(|object| object.key));
        prefixes.extend(page.prefixes);
        match page.next {
            Some(token) => start = ListStart::Token(token),
            None => break,
        }
    }
    same(objects, vec!["l/a".to_owned(), "l/c".into(), "l/d".into()])?;
    same(prefixes, vec!["l/b/".to_owned()])?;
    let after = ok(bench.list("l/", Delimiter::None, ListStart::After("l/b/1".into()), 1000).await)?;
    same(after.objects.into_iter().map(|object| object.key).collect(), vec!["l/b/2".to_owned(), "l/c".into(), "l/d".into()])?;
    same(ok(bench.list("nothing/", Delimiter::None, ListStart::Beginning, 1).await)?, ListPage::default())
}

pub async fn listing_order<S: ObjectStore + BucketService>(bench: &Bench<S>) -> Verdict {
    let names = ["o/a", "o/a-x", "o/a/x", "o/a0", "o/é", "o/Z"];
    for name in names {
        ok(bench.put(name, b"x", Condition::None).await)?;
    }
    let page = ok(bench.list("o/", Delimiter::None, ListStart::Beginning, 1000).await)?;
    let mut sorted = names.map(str::to_owned).to_vec();
    sorted.sort();
    same(page.objects.into_iter().map(|object| object.key).collect(), sorted)
}

pub async fn odd_keys<S: ObjectStore + BucketService>(bench: &Bench<S>) -> Verdict {
    let long = format!("k/{}", "x".repeat(1022));
    let names = [
        "k/sp ace",
        "k/plus+",
        "k/per%cent",
        "k/q'\"",
        "k/new\nline",
        "k/ctl\u{1}x",
        "k/é",
        "k/e\u{301}",
        "k/a//b",
        "k/./x",
        "k/../y",
        "k/b\\s",
        "k/%2F",
        "k/%00",
        "k/&<>",
        "k/?x#y",
        "k/cr\rx",
        "k/日本",
        &long,
    ];
    for name in names {
        ok(bench.put(name, name.as_bytes(), Condition::None).await)?;
    }
    for name in names {
        same(String::from_utf8(ok(bench.read(name, None, None).await)?).unwrap(), name.to_owned())?;
    }
    let page = ok(bench.list("k/", Delimiter::None, ListStart::Beginning, 1000).await)?;
    let listed: BTreeSet<String> = page.objects.into_iter().map(|object| object.key).collect();
    same(listed, names.iter().map(|name| (*name).to_owned()).collect())?;
    for name in names {
        ok(bench.store.delete(&DeleteObject { object: bench.object(name), condition: Condition::None }).await)?;
    }
    same(ok(bench.list("k/", Delimiter::None, ListStart::Beginning, 1000).await)?.objects.len(), 0)
}

pub async fn delete_many<S: ObjectStore + BucketService>(bench: &Bench<S>) -> Verdict {
    let names = ["x/a", "x/b c&d", "x/ctl\u{1}", "x/new\nline"];
    for name in names {
        ok(bench.put(name, b"x", Condition::None).await)?;
    }
    let doomed = |name: &str, etag| DeleteKey { key: Key::new(name).unwrap(), etag };
    let keys: Vec<DeleteKey> = names.iter().chain(["x/absent"].iter()).map(|name| doomed(name, None)).collect();
    for answer in ok(bench.store.delete_many(&bench.bucket, &keys).await)? {
        ok(answer)?;
    }
    same(ok(bench.list("x/", Delimiter::None, ListStart::Beginning, 10).await)?.objects.len(), 0)?;
    let mut keys = Vec::new();
    for name in ["x/a", "x/b", "x/ctl\u{1}"] {
        keys.push(doomed(name, Some(ok(bench.put(name, b"x", Condition::None).await)?.etag)));
    }
    keys.push(doomed("x/absent", keys[0].etag.clone()));
    for answer in ok(bench.store.delete_many(&bench.bucket, &keys).await)? {
        ok(answer)?;
    }
    same(ok(bench.list("x/", Delimiter::None, ListStart::Beginning, 10).await)?.objects.len(), 0)
}

pub async fn conditional_delete_many<S: ObjectStore + BucketService>(bench: &Bench<S>) -> Verdict {
    let mut keys = Vec::new();
    for name in ["y/a", "y/b", "y/c"] {
        keys.push(DeleteKey { key: Key::new(name).unwrap(), etag: Some(ok(bench.put(name, b"x", Condition::None).await)?.etag) });
    }
    ok(bench.put("y/b", b"another", Condition::None).await)?;
    let answers = ok(bench.store.delete_many(&bench.bucket, &keys).await)?;
    let kinds: Vec<_> = answers.iter().map(|answer| answer.as_ref().err().map(Error::kind)).collect();
    same(kinds, vec![None, Some(ErrorKind::Changed), None])?;
    let left = ok(bench.list("y/", Delimiter::None, ListStart::Beginning, 10).await)?.objects;
    same(left.into_iter().map(|object| object.key).collect::<Vec<_>>(), vec!["y/b".to_owned()])
}
