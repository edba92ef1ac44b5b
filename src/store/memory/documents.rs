//! Documents of buckets and objects: kept as they were put, access lists with their names resolved.

use std::sync::Arc;

use super::Memory;
use super::failure::{ACL_DISABLED, MALFORMED, NO_OPERATION, Outcome, PUBLIC_ACL, UNKNOWN_EMAIL, UNKNOWN_GROUP};
use super::object::{MAX_BUCKET_TAGS, MAX_OBJECT_TAGS, check_tags};
use crate::base::encode;
use crate::store::{
    Acl, AclChange, CannedAcl, ConfigDocument, ConfigKind, Document, Grant, Grantee, Owner, Resource, Result, Subresource, Tags,
    Verb, operation,
};

/// The account.
pub const OWNER: &str = "pailfs";

/// The groups that S3 knows.
const GROUPS: [&str; 3] = ["AllUsers", "AuthenticatedUsers", "LogDelivery"];
/// Who is in them is anybody.
const PUBLIC_GROUPS: [&str; 2] = ["AllUsers", "AuthenticatedUsers"];

fn owner() -> Owner {
    Owner { id: OWNER.to_owned(), display_name: Some(OWNER.to_owned()) }
}

/// Whether a grantee that is a group is one of those that S3 knows.
pub(super) fn check_group(grantee: &Grantee) -> Outcome<()> {
    let known = GROUPS.into_iter().any(|group| Grantee::group(group) == *grantee);
    if known || !matches!(grantee, Grantee::Group(_)) { Ok(()) } else { Err(UNKNOWN_GROUP) }
}

/// Whether a list opens its resource to anybody.
fn is_public(grants: &[Grant]) -> bool {
    grants.iter().any(|grant| PUBLIC_GROUPS.into_iter().any(|group| Grantee::group(group) == grant.grantee))
}

/// Users are known by their ids; an address that could be one is somebody's.
fn resolved(grant: &Grant) -> Outcome<Grant> {
    check_group(&grant.grantee)?;
    let Grantee::Email(email) = &grant.grantee else { return Ok(grant.clone()) };
    let (name, host) = email.split_once('@').ok_or(UNKNOWN_EMAIL)?;
    if name.is_empty() || !host.contains('.') || email.contains(char::is_whitespace) {
        return Err(UNKNOWN_EMAIL);
    }
    let grantee = Grantee::Id { id: encode::hex(email.as_bytes()), display_name: Some(email.clone()) };
    Ok(Grant { grantee, ..grant.clone() })
}

/// A change with what it stands for.
fn spelled_out(change: &AclChange) -> Outcome<Acl> {
    let owner = owner();
    let grants = match change {
        AclChange::Canned(canned) => canned.grants(&owner),
        AclChange::Grants(grants) => grants.iter().map(resolved).collect::<Outcome<_>>()?,
    };
    Ok(Acl { owner, grants })
}

fn private() -> Acl {
    Acl { grants: CannedAcl::Private.grants(&owner()), owner: owner() }
}

impl Memory {
    /// As [`crate::store::BucketService::get_document`].
    ///
    /// # Errors
    /// As there.
    pub fn document_now(&self, resource: &Resource, subresource: Subresource) -> Result<Option<Document>> {
        let found = self.try_document(resource, subresource);
        found.map_err(|failure| failure.of(operation(subresource, Verb::Get, resource), resource))
    }

    fn try_document(&self, resource: &Resource, subresource: Subresource) -> Outcome<Option<Document>> {
        subresource.operation(Verb::Get, resource.level()).ok_or(NO_OPERATION)?;
        let account = self.account();
        let bucket = account.bucket(resource.bucket.as_str())?;
        let Some(key) = &resource.key else {
            let stored = bucket.documents.get(&subresource).cloned();
            return Ok(match subresource {
                Subresource::Acl => Some(stored.unwrap_or_else(|| Document::Acl(private()))),
                Subresource::Config(kind @ ConfigKind::Versioning) => {
                    stored.or_else(|| ConfigDocument::from_body(kind, b"<VersioningConfiguration/>").map(Document::Config))
                }
                _ => stored,
            });
        };
        let object =
            crate::store::ObjectRef { bucket: resource.bucket.clone(), key: key.clone(), version: resource.version.clone() };
        let properties = &account.object(&object)?.properties;
        Ok(match subresource {
            Subresource::Acl => Some(Document::Acl(properties.acl.as_ref().map_or_else(|| Ok(private()), spelled_out)?)),
            _ => properties.tags.clone().filter(|tags| !tags.is_empty()).map(Document::Tags),
        })
    }

    /// As [`crate::store::BucketService::put_document`].
    ///
    /// # Errors
    /// As there.
    pub fn put_document_now(&self, resource: &Resource, document: &Document) -> Result<()> {
        let put = self.try_put_document(resource, document);
        put.map_err(|failure| failure.of(operation(document.subresource(), Verb::Put, resource), resource))
    }

    fn try_put_document(&self, resource: &Resource, document: &Document) -> Outcome<()> {
        document.subresource().operation(Verb::Put, resource.level()).ok_or(NO_OPERATION)?;
        let acl = match document {
            Document::CannedAcl(canned) => Some(AclChange::Canned(*canned)),
            Document::Acl(acl) => Some(AclChange::Grants(acl.grants.clone())),
            _ => None,
        };
        let acl = acl.as_ref().map(spelled_out).transpose()?;
        match document {
            Document::Tags(tags) => {
                let most = if resource.key.is_some() { MAX_OBJECT_TAGS } else { MAX_BUCKET_TAGS };
                check_tags(tags, most)?;
            }
            Document::Config(config) if config.check().is_err() => return Err(MALFORMED),
            _ => {}
        }
        let mut account = self.account();
        let bucket = account.bucket_mut(resource.bucket.as_str())?;
        if acl.is_some() && bucket.disables_acls() {
            return Err(ACL_DISABLED);
        }
        if acl.as_ref().is_some_and(|acl| is_public(&acl.grants)) && bucket.blocks_public_acls() {
            return Err(PUBLIC_ACL);
        }
        match (&resource.key, acl, document) {
            (None, Some(acl), _) => drop(bucket.documents.insert(Subresource::Acl, Document::Acl(acl))),
            (None, None, document) => drop(bucket.documents.insert(document.subresource(), document.clone())),
            (Some(key), Some(acl), _) => {
                bucket.dress(key.as_str(), |properties| properties.acl = Some(AclChange::Grants(acl.grants)))?
            }
            (Some(key), None, Document::Tags(tags)) => {
                bucket.dress(key.as_str(), |properties| properties.tags = Some(tags.clone()))?
            }
            (Some(_), None, _) => return Err(NO_OPERATION),
        }
        Ok(())
    }

    /// As [`crate::store::BucketService::delete_document`].
    ///
    /// # Errors
    /// As there.
    pub fn delete_document_now(&self, resource: &Resource, subresource: Subresource) -> Result<()> {
        let deleted = self.try_delete_document(resource, subresource);
        deleted.map_err(|failure| failure.of(operation(subresource, Verb::Delete, resource), resource))
    }

    fn try_delete_document(&self, resource: &Resource, subresource: Subresource) -> Outcome<()> {
        subresource.operation(Verb::Delete, resource.level()).ok_or(NO_OPERATION)?;
        let mut account = self.account();
        let bucket = account.bucket_mut(resource.bucket.as_str())?;
        match &resource.key {
            None => drop(bucket.documents.remove(&subresource)),
            Some(key) => bucket.dress(key.as_str(), |properties| properties.tags = None)?,
        }
        Ok(())
    }
}

impl super::account::Bucket {
    /// Whether access lists do not count here.
    pub(super) fn disables_acls(&self) -> bool {
        let controls = self.documents.get(&Subresource::Config(ConfigKind::OwnershipControls));
        matches!(controls, Some(Document::Config(config)) if config.disables_acls())
    }

    /// Whether a new list may not open anything to anybody.
    fn blocks_public_acls(&self) -> bool {
        let block = self.documents.get(&Subresource::Config(ConfigKind::PublicAccessBlock));
        matches!(block, Some(Document::Config(config)) if config.value()["BlockPublicAcls"] == true)
    }

    /// Whether the list that a new object shall have is refused here.
    pub(super) fn refuses_public(&self, change: Option<&AclChange>) -> bool {
        let public = |change: &AclChange| match change {
            AclChange::Canned(canned) => is_public(&canned.grants(&owner())),
            AclChange::Grants(grants) => is_public(grants),
        };
        change.is_some_and(public) && self.blocks_public_acls()
    }

    /// Changes what an object has beside its bytes; it stays the same object.
    fn dress(&mut self, key: &str, change: impl FnOnce(&mut crate::store::Properties)) -> Outcome<()> {
        let object = self.find(key).ok_or(super::failure::NO_SUCH_KEY)?;
        let mut object = super::object::Object::clone(&object);
        change(&mut object.properties);
        if object.properties.tags.as_ref().is_some_and(Tags::is_empty) {
            object.properties.tags = None;
        }
        self.objects.insert(key.to_owned(), Arc::new(object));
        Ok(())
    }
}
