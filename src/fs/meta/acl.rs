//! Access lists and tags as the texts of attributes. Pure.

use super::metadata::Refused;
use crate::store::{Acl, CannedAcl, Grant, Grantee, Permission, Tags};

/// The predefined groups of S3. <https://docs.aws.amazon.com/AmazonS3/latest/userguide/acl-overview.html>
const GROUPS: [&str; 3] = ["AllUsers", "AuthenticatedUsers", "LogDelivery"];
/// S3's limits on tags: of an object, of a bucket, and of a name and a value in characters.
pub const MAX_OBJECT_TAGS: usize = 10;
/// See [`MAX_OBJECT_TAGS`].
pub const MAX_BUCKET_TAGS: usize = 50;
const MAX_TAG_NAME: usize = 128;
const MAX_TAG_VALUE: usize = 256;

/// What `user.s3.acl` is set to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// A usual list by its name.
    Canned(CannedAcl),
    /// These grants.
    Grants(Vec<Grant>),
}

/// One grant a line: `PERMISSION grantee`.
#[must_use]
pub fn text(acl: &Acl) -> String {
    let lines = acl.grants.iter().map(|grant| format!("{} {}", grant.permission.as_str(), grant.grantee));
    lines.collect::<Vec<_>>().join("\n")
}

/// Reads a canned name, or grants as [`text`] writes them.
///
/// # Errors
/// [`Refused::Invalid`] with what is wrong.
pub fn parse(text: &str) -> Result<Wanted, Refused> {
    let text = text.trim();
    if !text.contains(char::is_whitespace) {
        let names: Vec<&str> = CannedAcl::ALL.into_iter().map(CannedAcl::as_str).collect();
        let told = || Refused::Invalid(format!("'{text}' is neither a grant nor one of {}", names.join(", ")));
        return CannedAcl::parse(text).map(Wanted::Canned).ok_or_else(told);
    }
    text.lines().filter(|line| !line.trim().is_empty()).map(parse_grant).collect::<Result<_, _>>().map(Wanted::Grants)
}

/// Reads one grant: `READ email=foo@bar.com`, `READ id=...`, `READ group=AllUsers`.
///
/// # Errors
/// [`Refused::Invalid`] with what is wrong.
pub fn parse_grant(line: &str) -> Result<Grant, Refused> {
    let invalid = |why: String| {
        Refused::Invalid(format!(
            "{why}; a grant is for example 'READ email=foo@bar.com', 'READ id=...' or 'READ group=AllUsers'"
        ))
    };
    let (permission, who) = line.trim().split_once(' ').ok_or_else(|| invalid(format!("'{}' is no grant", line.trim())))?;
    let known = Permission::ALL.map(Permission::as_str).join(", ");
    let permission =
        Permission::parse(permission).ok_or_else(|| invalid(format!("'{permission}' is not a permission ({known})")))?;
    let (kind, name) = who.trim().split_once('=').unwrap_or((who.trim(), ""));
    let plain = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'"' | b','));
    let grantee = match kind {
        "id" if plain => Grantee::Id { id: name.to_owned(), display_name: None },
        "email" if plain && name.contains('@') => Grantee::Email(name.to_owned()),
        "group" if plain && (GROUPS.contains(&name) || name.starts_with("http://")) => Grantee::group(name),
        "group" => return Err(invalid(format!("'{name}' is not a group ({})", GROUPS.join(", ")))),
        _ => return Err(invalid(format!("'{}' is nobody", who.trim()))),
    };
    Ok(Grant { grantee, permission })
}

/// One tag a line: `NAME=VALUE`. A '=' in the name is `%3D`.
#[must_use]
pub fn tags_text(tags: &Tags) -> String {
    let shown = |name: &str| match ["=", "%3D", "%25"].iter().any(|odd| name.contains(odd)) {
        true => name.replace('%', "%25").replace('=', "%3D"),
        false => name.to_owned(),
    };
    tags.iter().map(|(name, value)| format!("{}={value}", shown(name))).collect::<Vec<_>>().join("\n")
}

/// Reads tags as [`tags_text`] writes them.
///
/// # Errors
/// [`Refused::Invalid`] with what is wrong.
pub fn parse_tags(text: &str) -> Result<Tags, Refused> {
    let mut tags = Tags::default();
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        let (name, value) = line.split_once('=').unwrap_or((line, ""));
        let name = &name.split("%25").map(|part| part.replace("%3D", "=")).collect::<Vec<_>>().join("%");
        if tags.get(name).is_some() {
            return Err(Refused::Invalid(format!("the tag '{name}' is there twice")));
        }
        tags.set(name, value);
    }
    Ok(tags)
}

/// Checks tags against what S3 takes.
///
/// # Errors
/// [`Refused::Invalid`] with what is wrong.
pub fn check_tags(tags: &Tags, most: usize) -> Result<(), Refused> {
    if tags.len() > most {
        return Err(Refused::Invalid(format!("these are {} tags, and S3 takes {most}", tags.len())));
    }
    for (name, value) in tags.iter() {
        let lengths = (1..=MAX_TAG_NAME).contains(&name.chars().count()) && value.chars().count() <= MAX_TAG_VALUE;
        if !lengths || name.chars().chain(value.chars()).any(char::is_control) {
            let limits = "a tag's name has 1 to 128 characters, its value up to 256, none of them control characters";
            return Err(Refused::Invalid(format!("'{name}': {limits}")));
        }
        if name.starts_with("aws:") {
            return Err(Refused::Invalid("tags that begin with 'aws:' are Amazon's own".to_owned()));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Owner;

    #[test]
    fn lists_are_read_as_they_are_written() {
        let owner = Owner { id: "abc".into(), display_name: Some("Me".into()) };
        let acl = Acl { grants: CannedAcl::PublicRead.grants(&owner), owner };
        assert_eq!(text(&acl), "FULL_CONTROL id=abc\nREAD group=AllUsers");
        let Ok(Wanted::Grants(grants)) = parse(&text(&acl)) else { panic!("no grants") };
        assert!(
            grants.iter().zip(&acl.grants).all(|(read, had)| read.grantee.is(&had.grantee) && read.permission == had.permission)
        );
        assert_eq!(parse("public-read\n"), Ok(Wanted::Canned(CannedAcl::PublicRead)));
        assert_eq!(parse_grant("READ email=foo@bar.com").unwrap().grantee, Grantee::Email("foo@bar.com".into()));
    }

    #[test]
    fn bad_ones_are_refused() {
        for bad in [
            "",
            "public",
            "READ",
            "READ mail=foo@bar.com",
            "READ email=foo",
            "LOOK id=abc",
            "READ group=Everybody",
            "READ id=",
            "READ id=a\"b",
        ] {
            assert!(parse(bad).is_err() && parse_grant(bad).is_err(), "{bad}");
        }
        for bad in ["a=1\na=2", "=x", "aws:x=1", "a=\u{1}"] {
            assert!(parse_tags(bad).and_then(|tags| check_tags(&tags, 10)).is_err(), "{bad}");
        }
        let many = (0..11).map(|index| format!("t{index}=x")).collect::<Vec<_>>().join("\n");
        assert!(check_tags(&parse_tags(&many).unwrap(), MAX_OBJECT_TAGS).is_err());
        assert_eq!(tags_text(&parse_tags("a=1=2\nb").unwrap()), "a=1=2\nb=");
        for name in ["a=b", "%", "50%", "%3D", "%25", "%253D", "a%=%2525="] {
            let mut tags = Tags::default();
            tags.set(name, "v=w");
            assert_eq!(parse_tags(&tags_text(&tags)), Ok(tags), "{name}");
        }
    }
}
