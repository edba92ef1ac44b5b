//! A page of `ListObjectsV2`: up to 200 KB, and the next page is asked for when it has been read, so it is read as it is, without
//! a tree of its elements. <https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectsV2.html>

use super::xml::url_decoded;
use crate::base::date;
use crate::base::xml::{Opening, Visitor, visit};
use crate::store::{ETag, ListPage, ListedObject, PageToken, StorageClass};

/// What an element says, by its name and the one that it is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    Root,
    Contents,
    CommonPrefixes,
    Key,
    Size,
    Tag,
    LastModified,
    StorageClass,
    Prefix,
    EncodingType,
    IsTruncated,
    NextToken,
    Other,
}

/// An object as far as it has been read.
#[derive(Debug, Default)]
struct Contents {
    key: Option<String>,
    size: Option<u64>,
    etag: Option<ETag>,
    last_modified: Option<std::time::SystemTime>,
    storage_class: Option<StorageClass>,
}

/// A page as far as it has been read.
#[derive(Debug, Default)]
struct Reading {
    open: Vec<Field>,
    text: String,
    object: Contents,
    objects: Vec<Option<ListedObject>>,
    prefixes: Vec<String>,
    is_listing: bool,
    is_encoded: bool,
    is_truncated: bool,
    token: Option<PageToken>,
    /// What is listed is not read.
    head_alone: bool,
}

/// Where the next page begins, if the answer says that before what it lists: S3 does, and it takes a moment to read all.
#[must_use]
pub fn next(body: &[u8]) -> Option<PageToken> {
    let mut reading = Reading { head_alone: true, ..Reading::default() };
    // It ends where the reading was ended.
    let _ = visit(body, &mut reading);
    reading.token.filter(|_| reading.is_listing && reading.is_truncated)
}

/// Reads a page.
#[must_use]
pub fn page(body: &[u8]) -> Option<ListPage> {
    let mut reading = Reading::default();
    visit(body, &mut reading).ok()?;
    reading.page()
}

impl Visitor for Reading {
    fn open(&mut self, element: &Opening<'_>) -> Option<()> {
        let field = match (self.open.last(), element.name()) {
            (None, name) => {
                self.is_listing = name == b"ListBucketResult";
                Field::Root
            }
            (Some(Field::Root), b"Contents") => Field::Contents,
            (Some(Field::Root), b"CommonPrefixes") => Field::CommonPrefixes,
            (Some(Field::Root), b"EncodingType") => Field::EncodingType,
            (Some(Field::Root), b"IsTruncated") => Field::IsTruncated,
            (Some(Field::Root), b"NextContinuationToken") => Field::NextToken,
            (Some(Field::Contents), b"Key") => Field::Key,
            (Some(Field::Contents), b"Size") => Field::Size,
            (Some(Field::Contents), b"ETag") => Field::Tag,
            (Some(Field::Contents), b"LastModified") => Field::LastModified,
            (Some(Field::Contents), b"StorageClass") => Field::StorageClass,
            (Some(Field::CommonPrefixes), b"Prefix") => Field::Prefix,
            _ => Field::Other,
        };
        if self.head_alone && matches!(field, Field::Contents | Field::CommonPrefixes) {
            return None;
        }
        self.open.push(field);
        self.text.clear();
        Some(())
    }

    fn text(&mut self, text: &str) {
        self.text.push_str(text);
    }

    fn close(&mut self) {
        let Some(closed) = self.open.pop() else { return };
        let (text, object) = (self.text.as_str(), &mut self.object);
        match closed {
            Field::Key => object.key = Some(text.to_owned()),
            Field::Size => object.size = text.trim().parse().ok(),
            Field::Tag => object.etag = Some(ETag::new(text)).filter(|etag| !etag.as_str().is_empty()),
            Field::LastModified => object.last_modified = date::parse_iso8601(text),
            Field::StorageClass => {
                object.storage_class = Some(text).filter(|class| !matches!(*class, "" | "STANDARD")).map(StorageClass::new);
            }
            Field::Prefix => self.prefixes.push(text.to_owned()),
            Field::EncodingType => self.is_encoded = text == "url",
            Field::IsTruncated => self.is_truncated = text.trim() == "true",
            Field::NextToken => self.token = Some(PageToken::new(text)),
            Field::Contents => self.objects.push(std::mem::take(object).whole()),
            Field::Root | Field::CommonPrefixes | Field::Other => {}
        }
        self.text.clear();
    }
}

impl Contents {
    fn whole(self) -> Option<ListedObject> {
        let Self { key, size, etag, last_modified, storage_class } = self;
        Some(ListedObject { key: key?, size: size?, etag, last_modified: last_modified?, storage_class })
    }
}

impl Reading {
    fn page(self) -> Option<ListPage> {
        if !self.is_listing || self.is_truncated && self.token.is_none() {
            return None;
        }
        let (mut objects, mut prefixes) = (self.objects.into_iter().collect::<Option<Vec<_>>>()?, self.prefixes);
        if self.is_encoded {
            for name in objects.iter_mut().map(|object| &mut object.key).chain(&mut prefixes) {
                // Most need none.
                if name.contains(['%', '+']) {
                    *name = url_decoded(name)?;
                }
            }
        }
        Some(ListPage { objects, prefixes, next: self.token.filter(|_| self.is_truncated) })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_listing_with_encoded_names() {
        let body = br#"<?xml version="1.0"?><ListBucketResult xmlns="x"><EncodingType>url</EncodingType>
            <IsTruncated>true</IsTruncated><NextContinuationToken>a&amp;b==</NextContinuationToken>
            <Contents><Key>a%0Ab+c%2B%C3%A9</Key><Size>5</Size><ETag>&quot;abc&quot;</ETag><LastModified>2020-01-01T00:00:00.5Z</LastModified>
            <StorageClass>GLACIER</StorageClass></Contents>
            <CommonPrefixes><Prefix>d%2Fe/</Prefix></CommonPrefixes></ListBucketResult>"#;
        let read = page(body).unwrap();
        assert_eq!(read.objects[0].key, "a\nb c+é");
        assert_eq!(read.objects[0].etag, Some(ETag::new("abc")));
        assert_eq!(read.objects[0].storage_class, Some(StorageClass::new("GLACIER")));
        assert_eq!(read.prefixes, vec!["d/e/"]);
        assert_eq!(read.next, Some(PageToken::new("a&b==")));
        assert_eq!(page(b"<html>hello</html>"), None);
        assert_eq!(page(b"not xml <"), None);
    }

    #[test]
    fn what_comes_next_is_known_where_it_is_said_first() {
        let object = "<Contents><Key>k</Key><Size>1</Size><LastModified>2020-01-01T00:00:00Z</LastModified></Contents>";
        let next =
            |head: &str, end: &str| super::next(format!("<ListBucketResult>{head}{object}{end}</ListBucketResult>").as_bytes());
        let (truncated, token) = ("<IsTruncated>true</IsTruncated>", "<NextContinuationToken>a&amp;b</NextContinuationToken>");
        assert_eq!(next(&format!("{truncated}{token}"), ""), Some(PageToken::new("a&b")));
        assert_eq!(next(&format!("<Name>b</Name>{token}<Prefix>p/</Prefix>{truncated}"), ""), Some(PageToken::new("a&b")));
        for (head, end) in
            [("", ""), (truncated, token), (token, truncated), (token, ""), ("<IsTruncated>false</IsTruncated>", token)]
        {
            assert_eq!(next(head, end), None, "{head}");
        }
        assert_eq!(super::next(b"<html>hello</html>"), None);
        assert_eq!(super::next(format!("<Other>{truncated}{token}</Other>").as_bytes()), None);
    }

    #[test]
    fn what_lacks_something_is_no_page() {
        let page = |inside: &str| super::page(format!("<ListBucketResult>{inside}</ListBucketResult>").as_bytes());
        let object = "<Contents><Key>k</Key><Size>1</Size><LastModified>2020-01-01T00:00:00Z</LastModified></Contents>";
        assert_eq!(page(object).unwrap().objects[0].etag, None);
        assert_eq!(page("").unwrap(), ListPage::default());
        assert_eq!(page("<IsTruncated>false</IsTruncated><NextContinuationToken>x</NextContinuationToken>").unwrap().next, None);
        for wrong in [
            "<IsTruncated>true</IsTruncated>",
            "<Contents><Size>1</Size><LastModified>2020-01-01T00:00:00Z</LastModified></Contents>",
            "<Contents><Key>k</Key><Size>many</Size><LastModified>2020-01-01T00:00:00Z</LastModified></Contents>",
            "<Contents><Key>k</Key><Size>1</Size><LastModified>today</LastModified></Contents>",
        ] {
            assert_eq!(page(&format!("{object}{wrong}")), None, "{wrong}");
        }
        // What is somewhere else says something else.
        let owner = "<Contents><Key>k</Key><Size>1</Size><LastModified>2020-01-01T00:00:00Z</LastModified>\
                     <Owner><ID>7</ID><Key>no</Key></Owner></Contents><Name><Key>no</Key></Name>";
        assert_eq!(page(owner).unwrap().objects[0].key, "k");
        assert_eq!(page(&format!("{object}</Contents>")), None);
    }

    proptest! {
        #[test]
        fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = (super::page(&bytes), super::next(&bytes));
        }
    }
}
