//! The contract of documents beside the bytes, on every backend: access lists, tags, configurations of a bucket.

use pailfs::store::*;

use crate::conformance::{Bench, Verdict, kind, ok, same};

fn config(kind: ConfigKind, text: &str) -> ConfigDocument {
    ConfigDocument::parse(kind, text).unwrap()
}

async fn get<S: BucketService>(store: &S, resource: &Resource, subresource: Subresource) -> Result<Option<Document>> {
    store.get_document(resource, subresource).await
}

fn acl(document: Option<Document>) -> std::result::Result<Acl, String> {
    match document {
        Some(Document::Acl(acl)) => Ok(acl),
        other => Err(format!("got {other:?}, wanted an access list")),
    }
}

fn has(list: &Acl, group: &str, permission: Permission) -> Verdict {
    let there = list.grants.iter().any(|grant| grant.grantee.is(&Grantee::group(group)) && grant.permission == permission);
    if there { Ok(()) } else { Err(format!("{list:?} has no {permission:?} for {group}")) }
}

async fn access_list<S: ObjectStore + BucketService>(bench: &Bench<S>, resource: Resource) -> Verdict {
    let before = acl(ok(get(&bench.store, &resource, Subresource::Acl).await)?)?;
    same((before.is_private(), before.owner.id.is_empty()), (true, false))?;
    ok(bench.store.put_document(&resource, &Document::CannedAcl(CannedAcl::PublicRead)).await)?;
    let mut list = acl(ok(get(&bench.store, &resource, Subresource::Acl).await)?)?;
    has(&list, "AllUsers", Permission::Read)?;
    list.add(Grant { grantee: Grantee::group("AuthenticatedUsers"), permission: Permission::ReadAcp });
    ok(bench.store.put_document(&resource, &Document::Acl(list)).await)?;
    let list = acl(ok(get(&bench.store, &resource, Subresource::Acl).await)?)?;
    has(&list, "AllUsers", Permission::Read)?;
    has(&list, "AuthenticatedUsers", Permission::ReadAcp)?;
    ok(bench.store.put_document(&resource, &Document::CannedAcl(CannedAcl::Private)).await)?;
    same(acl(ok(get(&bench.store, &resource, Subresource::Acl).await)?)?.is_private(), true)
}

pub async fn object_acl<S: ObjectStore + BucketService>(bench: &Bench<S>) -> Verdict {
    ok(bench.put("acl", b"x", Condition::None).await)?;
    access_list(bench, bench.object("acl").into()).await
}

pub async fn bucket_acl<S: ObjectStore + BucketService>(bench: &Bench<S>) -> Verdict {
    access_list(bench, bench.bucket.clone().into()).await
}

pub async fn acl_of_a_new_object<S: ObjectStore + BucketService>(bench: &Bench<S>) -> Verdict {
    ok(bench.put("granted", b"x", Condition::None).await)?;
    let owner = acl(ok(get(&bench.store, &bench.object("granted").into(), Subresource::Acl).await)?)?.owner;
    let grants = AclChange::Grants(CannedAcl::PublicRead.grants(&owner));
    let properties = Properties { acl: Some(grants), ..Properties::default() };
    ok(bench.put_with("granted", b"y", Condition::None, properties).await)?;
    let list = acl(ok(get(&bench.store, &bench.object("granted").into(), Subresource::Acl).await)?)?;
    has(&list, "AllUsers", Permission::Read)
}

pub async fn email_grant<S: ObjectStore + BucketService>(bench: &Bench<S>, email: &str) -> Verdict {
    ok(bench.put("mail", b"x", Condition::None).await)?;
    let resource = Resource::from(bench.object("mail"));
    let mut list = acl(ok(get(&bench.store, &resource, Subresource::Acl).await)?)?;
    let count = list.grants.len();
    list.add(Grant { grantee: Grantee::Email(email.to_owned()), permission: Permission::Read });
    ok(bench.store.put_document(&resource, &Document::Acl(list)).await)?;
    let list = acl(ok(get(&bench.store, &resource, Subresource::Acl).await)?)?;
    same(list.grants.len(), count + 1)
}

async fn tags<S: ObjectStore + BucketService>(bench: &Bench<S>, resource: Resource) -> Verdict {
    let mut set = Tags::default();
    set.set("colour", "blue + green");
    set.set("size", "");
    ok(bench.store.put_document(&resource, &Document::Tags(set.clone())).await)?;
    let read = ok(get(&bench.store, &resource, Subresource::Tagging).await)?;
    let Some(Document::Tags(read)) = read else { return Err(format!("got {read:?}")) };
    let sorted = |tags: &Tags| {
        tags.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect::<std::collections::BTreeMap<_, _>>()
    };
    same(sorted(&read), sorted(&set))?;
    ok(bench.store.delete_document(&resource, Subresource::Tagging).await)?;
    match ok(get(&bench.store, &resource, Subresource::Tagging).await)? {
        None => Ok(()),
        Some(Document::Tags(tags)) if tags.is_empty() => Ok(()),
        other => Err(format!("got {other:?}, wanted no tags")),
    }
}

pub async fn object_tags<S: ObjectStore + BucketService>(bench: &Bench<S>) -> Verdict {
    ok(bench.put("tags", b"x", Condition::None).await)?;
    tags(bench, bench.object("tags").into()).await?;
    let mut set = Tags::default();
    set.set("a", "1");
    let properties = Properties { tags: Some(set.clone()), ..Properties::default() };
    ok(bench.put_with("tags", b"y", Condition::None, properties).await)?;
    same(ok(get(&bench.store, &bench.object("tags").into(), Subresource::Tagging).await)?, Some(Document::Tags(set)))
}

pub async fn counted_tags<S: ObjectStore + BucketService>(bench: &Bench<S>) -> Verdict {
    let mut set = Tags::default();
    set.set("a", "1");
    let properties = Properties { tags: Some(set), ..Properties::default() };
    ok(bench.put_with("counted", b"y", Condition::None, properties).await)?;
    same(ok(bench.head("counted").await)?.facts.tag_count, 1)
}

pub async fn bucket_tags<S: ObjectStore + BucketService>(bench: &Bench<S>) -> Verdict {
    tags(bench, bench.bucket.clone().into()).await
}

/// A configuration comes back, and is gone when it was dropped.
pub async fn configuration<S: ObjectStore + BucketService>(bench: &Bench<S>, document: ConfigDocument) -> Verdict {
    let resource = Resource::from(bench.bucket.clone());
    let subresource = Subresource::Config(document.kind());
    ok(bench.store.put_document(&resource, &Document::Config(document.clone())).await)?;
    let Some(Document::Config(read)) = ok(get(&bench.store, &resource, subresource).await)? else {
        return Err("it is not there".to_owned());
    };
    holds(document.value(), read.value())
        .then_some(())
        .ok_or_else(|| format!("got {}, wanted {}", read.value(), document.value()))?;
    if document.kind() == ConfigKind::Versioning {
        return Ok(());
    }
    ok(bench.store.delete_document(&resource, subresource).await)?;
    ok(bench.store.delete_document(&resource, subresource).await)?;
    same(ok(get(&bench.store, &resource, subresource).await)?, None)
}

/// Whether `read` has everything that was `sent`; stores add ids and fill in defaults, and order lists as they like.
fn holds(sent: &serde_json::Value, read: &serde_json::Value) -> bool {
    use serde_json::Value;
    match (sent, read) {
        (Value::Object(sent), Value::Object(read)) => {
            sent.iter().all(|(name, value)| read.get(name).is_some_and(|read| holds(value, read)))
        }
        (Value::Array(sent), Value::Array(read)) => {
            sent.len() == read.len() && sent.iter().all(|value| read.iter().any(|read| holds(value, read)))
        }
        (sent, read) => sent == read,
    }
}

pub fn cors() -> ConfigDocument {
    config(
        ConfigKind::Cors,
        r#"{"CORSRules":[{"AllowedMethods":["PUT","GET"],"AllowedOrigins":["https://a.example.com"],"AllowedHeaders":["*"],
            "ExposeHeaders":["etag"],"MaxAgeSeconds":3000},{"AllowedMethods":["GET"],"AllowedOrigins":["*"]}]}"#,
    )
}

pub fn lifecycle() -> ConfigDocument {
    config(
        ConfigKind::Lifecycle,
        r#"{"Rules":[{"ID":"to-glacier","Filter":{"Prefix":"logs/"},"Status":"Enabled",
            "Transitions":[{"Days":30,"StorageClass":"GLACIER"}],"Expiration":{"Days":365}}]}"#,
    )
}

pub fn expiry() -> ConfigDocument {
    config(
        ConfigKind::Lifecycle,
        r#"{"Rules":[{"ID":"away","Filter":{"Prefix":"tmp/"},"Status":"Enabled","Expiration":{"Days":3}}]}"#,
    )
}

pub fn policy(bucket: &BucketName) -> ConfigDocument {
    let text = format!(
        r#"{{"Version":"2012-10-17","Statement":[{{"Sid":"r","Effect":"Allow","Principal":{{"AWS":["*"]}},"Action":["s3:GetObject"],
            "Resource":["arn:aws:s3:::{bucket}/*"]}}]}}"#
    );
    config(ConfigKind::Policy, &text)
}

pub fn versioning() -> ConfigDocument {
    config(ConfigKind::Versioning, r#"{"Status":"Suspended"}"#)
}

pub fn public_access_block() -> ConfigDocument {
    config(
        ConfigKind::PublicAccessBlock,
        r#"{"BlockPublicAcls":true,"IgnorePublicAcls":true,"BlockPublicPolicy":false,"RestrictPublicBuckets":false}"#,
    )
}

/// A bucket that disables access lists refuses them, and says so.
pub async fn ownership<S: ObjectStore + BucketService>(bench: &Bench<S>) -> Verdict {
    let resource = Resource::from(bench.bucket.clone());
    ok(bench.put("owned", b"x", Condition::None).await)?;
    let enforced = config(ConfigKind::OwnershipControls, r#"{"Rules":[{"ObjectOwnership":"BucketOwnerEnforced"}]}"#);
    ok(bench.store.put_document(&resource, &Document::Config(enforced.clone())).await)?;
    same(
        ok(get(&bench.store, &resource, Subresource::Config(ConfigKind::OwnershipControls)).await)?,
        Some(Document::Config(enforced)),
    )?;
    let refused = bench.store.put_document(&bench.object("owned").into(), &Document::CannedAcl(CannedAcl::PublicRead)).await;
    let told = kind(refused, ErrorKind::Unsupported);
    ok(bench.store.delete_document(&resource, Subresource::Config(ConfigKind::OwnershipControls)).await)?;
    told
}
