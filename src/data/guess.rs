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

#[cfg(test)]
mod tests {
    use super::*;

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
