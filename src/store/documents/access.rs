//! Access control lists. Pure.
//! <https://docs.aws.amazon.com/AmazonS3/latest/userguide/acl-overview.html>

use std::fmt;

use super::NAMESPACE;
use crate::base::xml::{self, Node, element};

const XSI: &str = "http://www.w3.org/2001/XMLSchema-instance";
/// The start of a predefined group's address.
const GROUPS: &str = "http://acs.amazonaws.com/groups/";

/// Who owns a resource.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Owner {
    /// The canonical user id.
    pub id: String,
    /// The name, where the store tells.
    pub display_name: Option<String>,
}

/// What a grant allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Permission {
    /// All of the others.
    FullControl,
    /// Reading the object, or listing the bucket.
    Read,
    /// Creating and replacing objects of the bucket.
    Write,
    /// Reading the list.
    ReadAcp,
    /// Changing the list.
    WriteAcp,
}

impl Permission {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::FullControl, Self::Read, Self::Write, Self::ReadAcp, Self::WriteAcp];

    /// S3's name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::FullControl => "FULL_CONTROL",
            Self::Read => "READ",
            Self::Write => "WRITE",
            Self::ReadAcp => "READ_ACP",
            Self::WriteAcp => "WRITE_ACP",
        }
    }

    /// Reads S3's name.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|permission| permission.as_str() == text)
    }

    /// The header that grants it with a request that makes an object.
    #[must_use]
    pub const fn header(self) -> &'static str {
        match self {
            Self::FullControl => "x-amz-grant-full-control",
            Self::Read => "x-amz-grant-read",
            Self::Write => "x-amz-grant-write",
            Self::ReadAcp => "x-amz-grant-read-acp",
            Self::WriteAcp => "x-amz-grant-write-acp",
        }
    }
}

/// Who a grant is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Grantee {
    /// A canonical user.
    Id {
        /// The id.
        id: String,
        /// The name, where the store tells.
        display_name: Option<String>,
    },
    /// A user by e-mail address; the store turns it into an id.
    Email(String),
    /// A predefined group, by its address.
    Group(String),
}

impl Grantee {
    /// A predefined group by its short name, or by its address.
    #[must_use]
    pub fn group(name: &str) -> Self {
        Self::Group(match name {
            _ if name.contains("://") => name.to_owned(),
            "LogDelivery" => "http://acs.amazonaws.com/groups/s3/LogDelivery".to_owned(),
            name => format!("{GROUPS}global/{name}"),
        })
    }

    /// `id="..."`, `emailAddress="..."` or `uri="..."`, as a grant header names it.
    #[must_use]
    pub fn to_header(&self) -> String {
        match self {
            Self::Id { id, .. } => format!("id=\"{id}\""),
            Self::Email(email) => format!("emailAddress=\"{email}\""),
            Self::Group(uri) => format!("uri=\"{uri}\""),
        }
    }

    /// Whether it is the same as another one, whatever it is called.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Id { id, .. }, Self::Id { id: other, .. }) => id == other,
            _ => self == other,
        }
    }
}

/// `id=...`, `email=...` or `group=...`.
impl fmt::Display for Grantee {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id { id, .. } => write!(f, "id={id}"),
            Self::Email(email) => write!(f, "email={email}"),
            Self::Group(uri) => {
                let short = uri.strip_prefix(GROUPS).and_then(|rest| rest.rsplit('/').next());
                write!(f, "group={}", short.unwrap_or(uri))
            }
        }
    }
}

/// One line of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// Who.
    pub grantee: Grantee,
    /// What.
    pub permission: Permission,
}

/// Who may do what with a resource.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Acl {
    /// The owner.
    pub owner: Owner,
    /// The grants, in the store's order.
    pub grants: Vec<Grant>,
}

impl Acl {
    /// Whether it says no more than that the owner may do everything.
    #[must_use]
    pub fn is_private(&self) -> bool {
        self.grants.iter().all(|grant| match &grant.grantee {
            Grantee::Id { id, .. } => *id == self.owner.id && grant.permission == Permission::FullControl,
            _ => false,
        })
    }

    /// Adds a grant that is not there yet.
    pub fn add(&mut self, grant: Grant) {
        let there = self.grants.iter().any(|have| have.permission == grant.permission && have.grantee.is(&grant.grantee));
        if !there {
            self.grants.push(grant);
        }
    }

    /// The body of `PutObjectAcl` and `PutBucketAcl`.
    #[must_use]
    pub fn to_xml(&self) -> String {
        let owner = element("ID", &self.owner.id)
            + &self.owner.display_name.as_deref().map(|name| element("DisplayName", name)).unwrap_or_default();
        let grants: String = self.grants.iter().map(grant_xml).collect();
        format!(
            "<AccessControlPolicy xmlns=\"{NAMESPACE}\"><Owner>{owner}</Owner><AccessControlList>{grants}</AccessControlList></AccessControlPolicy>"
        )
    }

    /// Reads the answer of `GetObjectAcl` and `GetBucketAcl`.
    #[must_use]
    pub fn from_xml(body: &[u8]) -> Option<Self> {
        let root = xml::parse(body).filter(|root| root.name == "AccessControlPolicy")?;
        let owner = root.child("Owner").map(|node| Owner {
            id: node.text("ID").unwrap_or_default().to_owned(),
            display_name: node.text("DisplayName").filter(|name| !name.is_empty()).map(str::to_owned),
        });
        let list = root.child("AccessControlList")?;
        let grants = list.all("Grant").map(read_grant).collect::<Option<Vec<Grant>>>()?;
        Some(Self { owner: owner.unwrap_or_default(), grants })
    }
}

fn grant_xml(grant: &Grant) -> String {
    let (kind, inner) = match &grant.grantee {
        Grantee::Id { id, display_name } => {
            let name = display_name.as_deref().map(|name| element("DisplayName", name)).unwrap_or_default();
            ("CanonicalUser", element("ID", id) + &name)
        }
        Grantee::Email(email) => ("AmazonCustomerByEmail", element("EmailAddress", email)),
        Grantee::Group(uri) => ("Group", element("URI", uri)),
    };
    let permission = element("Permission", grant.permission.as_str());
    format!("<Grant><Grantee xmlns:xsi=\"{XSI}\" xsi:type=\"{kind}\">{inner}</Grantee>{permission}</Grant>")
}

fn read_grant(node: &Node) -> Option<Grant> {
    let grantee = node.child("Grantee")?;
    let text = |name| grantee.text(name).filter(|text| !text.is_empty()).map(str::to_owned);
    // By what is in it: its type is an attribute, which not every store writes in the same way.
    let who = match (text("URI"), text("EmailAddress"), text("ID")) {
        (Some(uri), _, _) => Grantee::Group(uri),
        (None, Some(email), None) => Grantee::Email(email),
        (None, _, id) => Grantee::Id { id: id?, display_name: text("DisplayName") },
    };
    Some(Grant { grantee: who, permission: Permission::parse(node.text("Permission")?.trim())? })
}

/// S3's names for usual lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names are S3's own")]
pub enum CannedAcl {
    Private,
    PublicRead,
    PublicReadWrite,
    AuthenticatedRead,
    AwsExecRead,
    BucketOwnerRead,
    BucketOwnerFullControl,
    LogDeliveryWrite,
}

impl CannedAcl {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Private,
        Self::PublicRead,
        Self::PublicReadWrite,
        Self::AuthenticatedRead,
        Self::AwsExecRead,
        Self::BucketOwnerRead,
        Self::BucketOwnerFullControl,
        Self::LogDeliveryWrite,
    ];

    /// S3's name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Private => "private",
            Self::PublicRead => "public-read",
            Self::PublicReadWrite => "public-read-write",
            Self::AuthenticatedRead => "authenticated-read",
            Self::AwsExecRead => "aws-exec-read",
            Self::BucketOwnerRead => "bucket-owner-read",
            Self::BucketOwnerFullControl => "bucket-owner-full-control",
            Self::LogDeliveryWrite => "log-delivery-write",
        }
    }

    /// Reads S3's name.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|canned| canned.as_str() == text)
    }

    /// The grants that it stands for, of a resource that belongs to `owner`.
    #[must_use]
    pub fn grants(self, owner: &Owner) -> Vec<Grant> {
        let owns = Grantee::Id { id: owner.id.clone(), display_name: owner.display_name.clone() };
        let to = |name: &str, permission| Grant { grantee: Grantee::group(name), permission };
        let mut grants = vec![Grant { grantee: owns, permission: Permission::FullControl }];
        match self {
            Self::Private | Self::AwsExecRead | Self::BucketOwnerRead | Self::BucketOwnerFullControl => {}
            Self::PublicRead => grants.push(to("AllUsers", Permission::Read)),
            Self::PublicReadWrite => grants.extend([to("AllUsers", Permission::Read), to("AllUsers", Permission::Write)]),
            Self::AuthenticatedRead => grants.push(to("AuthenticatedUsers", Permission::Read)),
            Self::LogDeliveryWrite => {
                grants.extend([to("LogDelivery", Permission::Write), to("LogDelivery", Permission::ReadAcp)]);
            }
        }
        grants
    }
}

/// The list that a new object begins with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AclChange {
    /// A usual one.
    Canned(CannedAcl),
    /// These.
    Grants(Vec<Grant>),
}

impl AclChange {
    /// The headers that a request carries for it.
    #[must_use]
    pub fn headers(&self) -> Vec<(&'static str, String)> {
        match self {
            Self::Canned(canned) => vec![("x-amz-acl", canned.as_str().to_owned())],
            Self::Grants(grants) => {
                let of = |permission: Permission| {
                    let who = grants.iter().filter(|grant| grant.permission == permission);
                    let who: Vec<String> = who.map(|grant| grant.grantee.to_header()).collect();
                    (!who.is_empty()).then(|| (permission.header(), who.join(", ")))
                };
                Permission::ALL.into_iter().filter_map(of).collect()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn acl() -> Acl {
        let owner = Owner { id: "abc".into(), display_name: Some("me & you".into()) };
        let mut acl = Acl { grants: CannedAcl::PublicRead.grants(&owner), owner };
        acl.add(Grant { grantee: Grantee::Email("foo@bar.com".into()), permission: Permission::Read });
        acl
    }

    #[test]
    fn a_list_survives_the_way() {
        assert_eq!(Acl::from_xml(acl().to_xml().as_bytes()), Some(acl()));
        assert_eq!(Acl::from_xml(b"<Error/>"), None);
    }

    #[test]
    fn a_grant_is_added_once() {
        let mut list = acl();
        list.add(Grant { grantee: Grantee::Id { id: "abc".into(), display_name: None }, permission: Permission::FullControl });
        list.add(Grant { grantee: Grantee::group("AllUsers"), permission: Permission::Read });
        assert_eq!(list, acl());
        assert!(!list.is_private());
        assert!(Acl { grants: CannedAcl::Private.grants(&list.owner), ..list }.is_private());
    }

    #[test]
    fn grants_travel_as_headers() {
        let headers = AclChange::Grants(acl().grants).headers();
        assert_eq!(headers[0], ("x-amz-grant-full-control", "id=\"abc\"".into()));
        let read = "uri=\"http://acs.amazonaws.com/groups/global/AllUsers\", emailAddress=\"foo@bar.com\"";
        assert_eq!(headers[1], ("x-amz-grant-read", read.into()));
        assert_eq!(AclChange::Canned(CannedAcl::PublicRead).headers(), [("x-amz-acl", "public-read".to_owned())]);
    }
}
