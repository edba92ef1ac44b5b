//! What goes on in a mount, as one JSON object: what `pailfs status` shows. No request is made for it.

use serde_json::{Value, json};

use crate::base::{clock, date};
use crate::fs::Fs;
use crate::fs::ops::commit::Pending;
use crate::fs::ops::haul::Haul;
use crate::store::{BucketService, ObjectStore, OpenUpload, Operation, Stray};

/// It is the value of an attribute, and those have at most 64 KiB.
const MAX_TEXT_BYTES: usize = 64 << 10;
/// Of each list so many entries are shown, or fewer when they are long.
const MAX_ENTRIES: usize = 256;

/// The lists, whole.
struct Lists {
    pending: Vec<Value>,
    kept: Vec<Value>,
    uploads: Vec<Value>,
    renames: Vec<Value>,
    strays: Vec<Value>,
}

impl<S: ObjectStore + BucketService> Fs<S> {
    /// The mount's state, cut to what fits an attribute.
    pub(super) fn status_text(&self) -> String {
        let names: Vec<String> = Operation::ALL.iter().map(ToString::to_string).collect();
        let (files, directories) = self.handles.count();
        let report = self.store.report();
        let mut differs = report.differs;
        differs.extend(self.account.dropped().into_iter().map(|what| format!("drops {what}")));
        if !self.writes.copies_ranges() {
            differs.push("has no UploadPartCopy: what stays of a changed large object is fetched and sent again".to_owned());
        }
        let kept = self.kept_files();
        // Parts that a kept content needs are no upload in progress.
        let needed = |open: &OpenUpload| kept.iter().any(|kept| kept["upload"] == open.id.as_str());
        let lists = Lists {
            pending: self.pending().iter().map(pending_value).collect(),
            uploads: report.uploads.iter().filter(|open| !needed(open)).map(upload_value).collect(),
            renames: self.hauls().iter().map(|haul| rename_value(haul)).collect(),
            strays: report.strays.iter().map(stray_value).collect(),
            kept,
        };
        let status = json!({
            "source": self.config.source.to_string(),
            "pid": std::process::id(),
            "since": date::iso8601(self.mounted_at),
            "memory": { "limit": self.budget.limit(), "used": self.budget.used() },
            "open": { "files": files, "directories": directories },
            "store": { "differs": differs, "unrecorded": report.unrecorded },
            "counters": self.counters.snapshot(&names),
        });
        fitting(&status, &lists)
    }

    /// The contents that could not be stored, as the notes beside them say.
    fn kept_files(&self) -> Vec<Value> {
        let entries = self.config.kept_directory.as_ref().and_then(|directory| std::fs::read_dir(directory).ok());
        let mut files: Vec<_> = entries.into_iter().flatten().flatten().map(|entry| entry.path()).collect();
        files.retain(|path| path.extension().is_none_or(|kind| kind != "json"));
        files.sort();
        let kept = |path: std::path::PathBuf| {
            let bytes = std::fs::metadata(&path).map_or(0, |found| found.len());
            let mut beside = path.clone().into_os_string();
            beside.push(".json");
            // Without a note it is still being written, or the mount died meanwhile.
            let note = std::fs::read(&beside).ok().and_then(|text| serde_json::from_slice::<Value>(&text).ok());
            let note = note.unwrap_or_default();
            json!({ "file": path.display().to_string(), "bytes": bytes, "path": note["path"], "time": note["time"],
                    "why": note["why"], "upload": note["upload"] })
        };
        files.into_iter().map(kept).collect()
    }
}

fn pending_value(pending: &Pending) -> Value {
    json!({ "path": pending.path, "bytes": pending.bytes, "idle_s": pending.idle_s, "error": pending.error })
}

fn upload_value(open: &OpenUpload) -> Value {
    let age = clock::now().duration_since(open.begun).unwrap_or_default();
    json!({ "bucket": open.bucket.as_str(), "key": open.key.as_str(), "id": open.id.as_str(), "parts": open.parts,
            "bytes": open.bytes, "age_s": age.as_secs() })
}

fn rename_value(haul: &Haul) -> Value {
    let progress = haul.progress();
    json!({ "from": haul.from.to_string(), "to": haul.to.to_string(), "keys": progress.found, "copied": progress.copied,
            "deleted": progress.deleted })
}

fn stray_value(stray: &Stray) -> Value {
    json!({ "bucket": stray.bucket.as_str(), "key": stray.key.as_str(), "id": stray.id.as_ref().map(|id| id.as_str()),
            "begun": date::iso8601(stray.begun), "why": stray.why })
}

/// The status with so much of its lists that it fits, and how many entries are left out.
fn fitting(status: &Value, lists: &Lists) -> String {
    let named = [
        ("pending", &lists.pending),
        ("kept", &lists.kept),
        ("uploads", &lists.uploads),
        ("renames", &lists.renames),
        ("strays", &lists.strays),
    ];
    let mut limit = MAX_ENTRIES;
    loop {
        let mut whole = status.clone();
        for (name, list) in named {
            whole[name] = list.iter().take(limit).cloned().collect();
            whole["more"][name] = list.len().saturating_sub(limit).into();
        }
        let text = whole.to_string();
        if text.len() <= MAX_TEXT_BYTES || limit == 0 {
            return text;
        }
        limit /= 2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lists_are_cut_with_a_count() {
        let entry = json!({ "path": "x".repeat(1000) });
        let lists = Lists {
            pending: vec![entry; 1000],
            kept: vec![json!({})],
            uploads: Vec::new(),
            renames: Vec::new(),
            strays: Vec::new(),
        };
        let text = fitting(&json!({ "source": "s3://b" }), &lists);
        let read: Value = serde_json::from_str(&text).unwrap();
        let shown = read["pending"].as_array().unwrap().len();
        assert!(text.len() <= MAX_TEXT_BYTES && shown >= 32, "{shown}");
        assert_eq!(read["more"]["pending"].as_u64().unwrap() + shown as u64, 1000);
        assert_eq!((&read["more"]["kept"], &read["source"]), (&json!(0), &json!("s3://b")));
    }
}
