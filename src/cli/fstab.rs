//! `mount.pailfs SOURCE DIR [-sfnv] [-o OPTIONS]`, as mount(8) calls it, in our own words. Pure.

use std::ffi::OsString;

/// Options that take the place of a flag with a value: `-o region=eu-west-1` is `--region eu-west-1`.
const VALUED: [&str; 16] = [
    "endpoint_url",
    "region",
    "profile",
    "credentials_file",
    "addressing",
    "expected_bucket_owner",
    "memory_limit",
    "ttl",
    "attrs",
    "uid",
    "gid",
    "umask",
    "file_mode",
    "dir_mode",
    "log",
    "log_file",
];
/// Options that take the place of a flag.
const FLAGS: [&str; 7] = ["anonymous", "sign_payloads", "requester_pays", "trust_special", "no_check", "log_json", "allow_other"];

/// The arguments of `pailfs mount`, when the program was called as `mount.pailfs` or `mount.fuse.pailfs`; else unchanged.
pub(super) fn as_mount_command(argv: Vec<OsString>) -> Result<Vec<OsString>, String> {
    let name = argv.first().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let name = name.rsplit('/').next().unwrap_or_default();
    if name != "mount.pailfs" && name != "mount.fuse.pailfs" {
        return Ok(argv);
    }
    let mut out: Vec<OsString> = vec!["pailfs".into(), "mount".into()];
    let mut words = argv.into_iter().skip(1);
    while let Some(word) = words.next() {
        match word.to_str() {
            Some("-o") => {
                let options = words.next().ok_or("-o wants options")?;
                let options = options.to_str().ok_or("the options are not UTF-8")?;
                out.extend(options.split(',').filter(|option| !option.is_empty()).flat_map(translate));
            }
            // Sloppy, fake, no mtab, verbose, the type: mount(8)'s own.
            Some("-s" | "-n" | "-v") => {}
            Some("-t") => {
                words.next();
            }
            _ => out.push(word),
        }
    }
    Ok(out)
}

fn translate(option: &str) -> Vec<OsString> {
    let (name, value) = option.split_once('=').map_or((option, None), |(name, value)| (name, Some(value)));
    let name = name.replace('-', "_");
    let flag = format!("--{}", name.replace('_', "-"));
    match value {
        Some(value) if VALUED.contains(&name.as_str()) => vec![format!("{flag}={value}").into()],
        None if FLAGS.contains(&name.as_str()) => vec![flag.into()],
        _ => vec!["-o".into(), option.into()],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fstab_becomes_a_command() {
        let argv = ["/sbin/mount.pailfs", "bucket", "/mnt", "-o", "rw,_netdev,region=eu-west-1,allow_other,uid=7"];
        let out = as_mount_command(argv.iter().map(OsString::from).collect()).unwrap();
        let text: Vec<_> = out.iter().map(|word| word.to_str().unwrap()).collect();
        let expected =
            ["pailfs", "mount", "bucket", "/mnt", "-o", "rw", "-o", "_netdev", "--region=eu-west-1", "--allow-other", "--uid=7"];
        assert_eq!(text, expected);
        let plain: Vec<OsString> = vec!["pailfs".into(), "why".into()];
        assert_eq!(as_mount_command(plain.clone()).unwrap(), plain);
    }
}
