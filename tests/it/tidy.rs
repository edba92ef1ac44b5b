//! The rules of the tree, checked: layers, homes of libraries, file heads and sizes.

use std::path::{Path, PathBuf};

/// A module imports only from a lower layer, or from its own folder.
const LAYERS: [(&str, u8); 9] =
    [("base", 0), ("telemetry", 1), ("store", 2), ("s3", 3), ("data", 3), ("fs", 4), ("devserver", 4), ("mount", 5), ("cli", 6)];

/// Each outside library has one home.
const HOMES: [(&str, &[&str]); 12] = [
    ("fuser::", &["src/mount/"]),
    ("reqwest::", &["src/s3/transport.rs"]),
    ("quick_xml::", &["src/base/xml.rs"]),
    ("crc_fast::", &["src/base/crc.rs"]),
    ("hmac::", &["src/s3/sign.rs"]),
    ("sha2::", &["src/s3/sign.rs"]),
    ("clap::", &["src/cli/"]),
    ("s3s::", &["src/devserver/"]),
    ("aws_config::", &["src/s3/credentials.rs", "src/s3/shared.rs"]),
    ("tokio::spawn", &["src/base/tasks.rs"]),
    ("SystemTime::now", &["src/base/clock.rs"]),
    ("std::env::", &["src/cli/", "src/main.rs"]),
];

/// A longer file holds more than one idea.
const MAX_LINES: usize = 500;

fn files(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// Every source file, by its path from the root, with its text up to its tests.
fn sources() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    files(&root.join("src"), &mut found);
    let source = |path: PathBuf| {
        let text = std::fs::read_to_string(&path).unwrap();
        let code = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default().to_owned();
        (path.strip_prefix(root).unwrap().to_str().unwrap().to_owned(), code)
    };
    let sources: Vec<_> = found.into_iter().map(source).collect();
    assert!(sources.len() > 50);
    sources
}

#[test]
fn imports_point_downwards() {
    let layer = |module: &str| LAYERS.iter().find(|(name, _)| *name == module).map(|(_, layer)| *layer);
    let mut wrong = Vec::new();
    for (path, code) in sources() {
        let own = path.split('/').nth(1).unwrap();
        let Some(own_layer) = layer(own) else { continue };
        for (number, line) in code.lines().enumerate().filter(|(_, line)| !line.trim_start().starts_with("//")) {
            for used in line.match_indices("crate::").map(|(at, found)| &line[at + found.len()..]) {
                let used = used.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap();
                let same = used == own;
                if let Some(used_layer) = layer(used)
                    && !same
                    && used_layer >= own_layer
                {
                    wrong.push(format!("{path}:{}: {}", number + 1, line.trim()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "these imports point upwards:\n{}", wrong.join("\n"));
}

#[test]
fn each_library_has_one_home() {
    let mut wrong = Vec::new();
    for (path, code) in sources() {
        for (number, line) in code.lines().enumerate().filter(|(_, line)| !line.trim_start().starts_with("//")) {
            for (used, homes) in HOMES {
                if line.contains(used) && !homes.iter().any(|home| path.starts_with(home)) {
                    wrong.push(format!("{path}:{}: {}", number + 1, line.trim()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "not at home here:\n{}", wrong.join("\n"));
}

#[test]
fn every_file_says_what_it_is_and_holds_one_idea() {
    for (path, code) in sources() {
        assert!(code.starts_with("//!"), "{path} has no head");
        let lines = code.lines().count();
        assert!(lines <= MAX_LINES, "{path} has {lines} lines");
    }
}
