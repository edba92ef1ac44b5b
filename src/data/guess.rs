//! The content type of a new object, guessed from its name as boto does. Pure.

/// What S3 itself assumes when nobody says.
pub const UNKNOWN: &str = "binary/octet-stream";
/// The type that S3's own console gives a directory marker.
pub const DIRECTORY: &str = "application/x-directory; charset=UTF-8";

/// The content type that the extension of `name` suggests.
#[must_use]
pub fn content_type(name: &str) -> String {
    mime_guess::from_path(name).first_raw().unwrap_or(UNKNOWN).to_owned()
}

/// The content type of what is renamed: one that was guessed from the old name is guessed anew, where the new one tells anything.
#[must_use]
pub fn renamed(known: Option<String>, old: &str, new: &str) -> Option<String> {
    let guess = content_type(new);
    if known.as_deref() == Some(content_type(old).as_str()) && guess != UNKNOWN { Some(guess) } else { known }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guess_follows_the_name() {
        let renamed = |known: &str, old, new| renamed(Some(known.to_owned()), old, new).unwrap();
        assert_eq!(renamed(UNKNOWN, "d/.a.txt.X8f2Qz", "d/a.txt"), "text/plain");
        assert_eq!(renamed("text/plain", "a.txt", "a.html"), "text/html");
        assert_eq!(renamed("text/x-mine", "a.txt", "a.html"), "text/x-mine");
        assert_eq!(renamed("image/jpeg", "a.jpg", "a"), "image/jpeg");
    }

    #[test]
    fn guesses_by_extension() {
        for (name, expected) in [
            ("a.txt", "text/plain"),
            ("b/c.HTML", "text/html"),
            ("x.json", "application/json"),
            ("noext", UNKNOWN),
            (".png", UNKNOWN),
        ] {
            assert_eq!(content_type(name), expected, "{name}");
        }
    }
}
