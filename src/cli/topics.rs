//! `pailfs help TOPIC`: the manual, compiled in.

use super::Outcome;

const TOPICS: [(&str, &str, &str); 12] = [
    ("mount", "mounting, unmounting, fstab, options", include_str!("../manual/mount.md")),
    ("buckets", "every bucket of the account as a directory", include_str!("../manual/buckets.md")),
    ("xattrs", "what S3 knows of an object, as extended attributes", include_str!("../manual/xattrs.md")),
    ("acl", "who may do what: canned lists, grants, buckets without lists", include_str!("../manual/acl.md")),
    ("lifecycle", "CORS, lifecycle, policy, versioning, tags of a bucket", include_str!("../manual/lifecycle.md")),
    (
        "attributes",
        "mode, owner and times: where they are, when they are asked for, what is remembered",
        include_str!("../manual/attributes.md"),
    ),
    ("writing", "changing files, and what others do meanwhile", include_str!("../manual/writing.md")),
    ("locks", "what works on one machine, and between machines", include_str!("../manual/locks.md")),
    ("restore", "bringing archived objects back", include_str!("../manual/restore.md")),
    ("errors", "what an error number means, and how to ask why", include_str!("../manual/errors.md")),
    ("names", "keys and paths", include_str!("../manual/names.md")),
    ("limits", "what this version does not do", include_str!("../manual/limits.md")),
];

/// Prints a topic, or the list of them.
pub(super) fn help(topic: Option<&str>) -> Outcome {
    let Some(topic) = topic else {
        say!("pailfs help TOPIC, with one of the topics:\n");
        for (name, about, _) in TOPICS {
            say!("  {name:<11} {about}");
        }
        say!("\nThe options of a command: pailfs COMMAND --help");
        return Ok(());
    };
    match TOPICS.iter().find(|(name, _, _)| *name == topic) {
        Some((_, _, text)) => {
            super::print(format_args!("{text}"));
            Ok(())
        }
        None => {
            let nearest = TOPICS
                .iter()
                .map(|(name, _, _)| *name)
                .max_by(|left, right| strsim::jaro_winkler(left, topic).total_cmp(&strsim::jaro_winkler(right, topic)));
            Err(format!("there is no topic '{topic}'; did you mean '{}'? The list: pailfs help", nearest.unwrap_or("mount")))
        }
    }
}
