//! How mount(8) calls a helper, in our own words: `mount.pailfs SOURCE DIR [-sfnvrw] [-t TYPE] [-o OPTIONS]`, and
//! `pailfs SOURCE DIR -o OPTIONS` from mount.fuse3, which serves the types `fuse.*`. Pure.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;

use super::options::{self, Long};

/// The flags of a helper: sloppy, fake, no mtab, verbose, read-only, read-write.
const HELPER_FLAGS: &str = "sfnvrw";

/// Commands to come: a bucket of such a name is mounted by `pailfs mount NAME DIR`.
const RESERVED: [&str; 3] = ["warm", "completions", "man"];

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// mount(8), to a helper of its own.
    Helper,
    /// mount.fuse3, which knows the program's name only.
    Bare,
    /// A person who mounts.
    Mount,
    /// A person who does something else.
    Other,
}

/// The arguments as a person would type them; `None` when nothing is to be done.
pub(super) fn as_typed(argv: Vec<OsString>, commands: &[String]) -> Result<Option<Vec<OsString>>, String> {
    let form = form(&argv, commands);
    if matches!(form, Form::Bare | Form::Other)
        && let Some(word) = argv.get(1).and_then(|word| word.to_str()).filter(|word| RESERVED.contains(word))
        && !commands.iter().any(|command| command == word)
    {
        return Err(format!(
            "'{word}' is a command that this version does not have yet; a bucket of that name: pailfs mount {word} DIR"
        ));
    }
    let skipped = match form {
        Form::Helper | Form::Bare => 1,
        Form::Mount => 2,
        Form::Other => return Ok(Some(argv)),
    };
    let known = options::longs();
    let mut out: Vec<OsString> = vec!["pailfs".into(), "mount".into()];
    let mut words = argv.into_iter().skip(skipped);
    while let Some(word) = words.next() {
        match word.to_str() {
            Some("--") => {
                out.push(word);
                out.extend(words);
                break;
            }
            Some("-o") => out.extend(translate(&words.next().ok_or("-o wants options")?, &known)?),
            Some("-t") if form == Form::Helper => {
                words.next();
            }
            Some("-N") if form == Form::Helper => {
                return Err("mount -N is not supported: use nsenter --mount=NAMESPACE pailfs mount ...".to_owned());
            }
            Some(text) if text.starts_with("-o") => {
                out.extend(translate(OsStr::new(text["-o".len()..].trim_start_matches('=')), &known)?);
            }
            Some(text) if form == Form::Helper && is_helper_flags(text) => {
                for flag in text.chars() {
                    match flag {
                        'f' => return Ok(None),
                        'r' => out.extend(["-o".into(), "ro".into()]),
                        'w' => out.extend(["-o".into(), "rw".into()]),
                        _ => {}
                    }
                }
            }
            _ => out.push(word),
        }
    }
    Ok(Some(out))
}

fn form(argv: &[OsString], commands: &[String]) -> Form {
    let name = argv.first().map(|name| name.to_string_lossy()).unwrap_or_default();
    if matches!(name.rsplit('/').next(), Some("mount.pailfs" | "mount.fuse.pailfs")) {
        return Form::Helper;
    }
    let Some(first) = argv.get(1).map(|word| word.to_string_lossy()) else { return Form::Other };
    if first == "mount" {
        return Form::Mount;
    }
    let positional = |at: usize| argv.get(at).is_some_and(|word| !word.as_bytes().starts_with(b"-"));
    let two = positional(1) && positional(2) && !positional(3);
    // `umont DIR` is a slip, not a bucket.
    let slip = || argv.len() == 3 && options::nearest(&first, commands.iter().map(String::as_str)).is_some();
    if two && !commands.iter().any(|command| *command == first) && !slip() { Form::Bare } else { Form::Other }
}

fn is_helper_flags(text: &str) -> bool {
    text.strip_prefix('-').is_some_and(|flags| !flags.is_empty() && flags.chars().all(|flag| HELPER_FLAGS.contains(flag)))
}

/// Each option as the long one of the same name, where there is one.
fn translate(list: &OsStr, known: &[Long]) -> Result<Vec<OsString>, String> {
    let list = list.to_str().ok_or("the options after -o are not UTF-8")?;
    let mut out = Vec::new();
    for option in list.split(',').filter(|option| !option.is_empty()) {
        let (name, value) = option.split_once('=').map_or((option, None), |(name, value)| (name, Some(value)));
        let dashed = name.replace('_', "-");
        let long = known.iter().find(|long| long.name == dashed && long.valued == value.is_some());
        match (long, value) {
            (Some(_), Some(value)) => out.push(format!("--{dashed}={value}").into()),
            (Some(_), None) => out.push(format!("--{dashed}").into()),
            (None, _) => out.extend(["-o".into(), option.into()]),
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(line: &str) -> Result<Option<String>, String> {
        let commands = ["mount", "umount", "status", "why", "demo", "help"].map(str::to_owned);
        let out = as_typed(line.split_whitespace().map(OsString::from).collect(), &commands)?;
        Ok(out.map(|words| words.iter().map(|word| word.to_str().unwrap()).collect::<Vec<_>>().join(" ")))
    }

    #[track_caller]
    fn same(line: &str, expected: &str) {
        assert_eq!(typed(line).unwrap().unwrap(), expected);
    }

    #[test]
    fn fstab_becomes_a_command() {
        same(
            "/sbin/mount.pailfs bucket /mnt -o rw,_netdev,region=eu-west-1,allow_other,uid=7,no_check",
            "pailfs mount bucket /mnt -o rw -o _netdev --region=eu-west-1 --allow-other --uid=7 --no-check",
        );
        same("mount.fuse.pailfs bucket /mnt -t fuse.pailfs -sn -v -r", "pailfs mount bucket /mnt -o ro");
        assert_eq!(typed("mount.pailfs bucket /mnt -f -o rw"), Ok(None));
        assert!(typed("mount.pailfs bucket /mnt -N ns").is_err() && typed("mount.pailfs bucket /mnt -o").is_err());
    }

    #[test]
    fn the_bare_form_mounts() {
        same("pailfs bucket /mnt -o uid=7,dev,suid", "pailfs mount bucket /mnt --uid=7 -o dev -o suid");
        same("/usr/bin/pailfs s3://bucket/p /mnt", "pailfs mount s3://bucket/p /mnt");
        for other in
            ["pailfs why", "pailfs why /mnt", "pailfs umount /mnt -o x", "pailfs umont /mnt", "pailfs", "pailfs --help x"]
        {
            same(other, other);
        }
    }

    #[test]
    fn commands_to_come_are_no_buckets() {
        for line in ["pailfs man /mnt", "pailfs warm /mnt/a", "pailfs completions", "pailfs warm /mnt --json"] {
            assert!(typed(line).unwrap_err().contains("does not have yet"), "{line}");
        }
        same("pailfs status /mnt", "pailfs status /mnt");
        same("pailfs mount status /mnt", "pailfs mount status /mnt");
        same("mount.pailfs status /mnt", "pailfs mount status /mnt");
    }

    #[test]
    fn a_person_may_write_either() {
        same("pailfs mount bucket /mnt -f -oro,ttl=1s", "pailfs mount bucket /mnt -f -o ro --ttl=1s");
        // These two are left for the refusal to explain.
        same("pailfs mount bucket /mnt -o ttl,anonymous=1", "pailfs mount bucket /mnt -o ttl -o anonymous=1");
        same("pailfs mount -- -o x", "pailfs mount -- -o x");
    }
}
