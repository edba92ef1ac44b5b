//! What may be written after `-o`: the long options of `pailfs mount`, and those that every file system takes. Pure.

use clap::CommandFactory as _;

use super::args::Args;

/// Options of mount(8) that it, systemd or the kernel takes care of, or that change nothing here: access times are never
/// stored, setuid programs and devices are never allowed, permissions always checked.
const WITHOUT_EFFECT: [&str; 35] = [
    "defaults",
    "auto",
    "noauto",
    "nofail",
    "_netdev",
    "user",
    "nouser",
    "users",
    "owner",
    "group",
    "suid",
    "nosuid",
    "dev",
    "nodev",
    "atime",
    "noatime",
    "diratime",
    "nodiratime",
    "relatime",
    "norelatime",
    "strictatime",
    "nostrictatime",
    "lazytime",
    "nolazytime",
    "mand",
    "nomand",
    "silent",
    "loud",
    "iversion",
    "noiversion",
    "default_permissions",
    // Each says what is the case unless its opposite came before it.
    "exec",
    "async",
    "symfollow",
    "rw",
];
/// Options that the kernel is given.
const FOR_THE_KERNEL: [&str; 4] = ["noexec", "sync", "dirsync", "nosymfollow"];
/// Beginnings of options for others.
const FOR_OTHERS: [&str; 6] = ["x-", "X-", "comment=", "user=", "helper=", "uhelper="];
/// Flags that make no sense in a table of mounts: mount(8) would wait for the end of the mount.
const NOT_IN_TABLES: [&str; 2] = ["foreground", "report-to-parent"];

/// A long option of `pailfs mount`.
#[derive(Debug)]
pub(super) struct Long {
    /// Without its dashes.
    pub(super) name: String,
    /// Whether it takes a value.
    pub(super) valued: bool,
}

/// The long options that may be written after `-o`.
pub(super) fn longs() -> Vec<Long> {
    let command = Args::command();
    let arguments = command.find_subcommand("mount").into_iter().flat_map(clap::Command::get_arguments);
    let long = |argument: &clap::Arg| {
        let name = argument.get_long()?.to_owned();
        Some(Long { name, valued: argument.get_action().takes_values() })
    };
    arguments.filter_map(long).filter(|long| !NOT_IN_TABLES.contains(&long.name.as_str())).collect()
}

/// What the options come to that every file system takes. Of two that contradict each other the later one counts.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Generic {
    pub(super) read_only: bool,
    pub(super) for_the_kernel: Vec<String>,
}

/// Reads such options.
pub(super) fn parse<'a>(options: impl Iterator<Item = &'a str>) -> Result<Generic, String> {
    let mut generic = Generic::default();
    for option in options {
        let opposite = match option {
            "exec" => "noexec",
            "async" => "sync",
            "symfollow" => "nosymfollow",
            _ => "",
        };
        generic.for_the_kernel.retain(|given| given != opposite && given != option);
        match option {
            "ro" => generic.read_only = true,
            "rw" => generic.read_only = false,
            "remount" => return Err("a mount cannot be changed while it is there: unmount it, then mount it anew".to_owned()),
            kernel if FOR_THE_KERNEL.contains(&kernel) => generic.for_the_kernel.push(kernel.to_owned()),
            ignored if WITHOUT_EFFECT.contains(&ignored) || FOR_OTHERS.iter().any(|begin| ignored.starts_with(begin)) => {}
            unknown => return Err(refusal(unknown)),
        }
    }
    Ok(generic)
}

/// Why an option is none, and what was meant.
fn refusal(option: &str) -> String {
    let name = option.split('=').next().unwrap_or_default();
    let longs: Vec<Long> = longs().into_iter().map(|long| Long { name: long.name.replace('-', "_"), ..long }).collect();
    if let Some(long) = longs.iter().find(|long| long.name == name.replace('-', "_")) {
        return if long.valued {
            format!("'-o {name}' wants a value: {name}=VALUE")
        } else {
            format!("'-o {name}' takes no value")
        };
    }
    let generic = WITHOUT_EFFECT.iter().chain(&FOR_THE_KERNEL).copied().chain(["ro"]);
    let meant = nearest(name, longs.iter().map(|long| long.name.as_str()).chain(generic));
    let meant = meant.map(|meant| format!("; did you mean '{meant}'?"));
    let meant = meant.as_deref().unwrap_or(".");
    // Without its value, which somebody may have meant to be secret.
    format!("'-o {name}' is not an option{meant} All of them: pailfs mount --help, pailfs help mount")
}

/// What was meant, when something is near enough to be it.
pub(super) fn nearest<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let near = known.map(|name| (name, strsim::jaro(name, word))).filter(|(_, likeness)| *likeness > NEAR);
    near.max_by(|left, right| left.1.total_cmp(&right.1)).map(|(name, _)| name)
}

/// From this likeness on a word can be meant: clap's own measure and limit.
const NEAR: f64 = 0.7;

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(list: &str) -> Result<Generic, String> {
        parse(list.split(','))
    }

    #[test]
    fn the_usual_options_are_taken() {
        let quiet = "defaults,noatime,relatime,strictatime,nodiratime,suid,dev,mand,loud,group,_netdev,x-systemd.automount";
        assert_eq!(parsed(&format!("{quiet},comment=x,user=me,async,exec,rw")), Ok(Generic::default()));
        let kernel = parsed("ro,noexec,sync,noexec").unwrap();
        assert!(kernel.read_only && kernel.for_the_kernel == ["sync", "noexec"]);
        assert_eq!(parsed("ro,noexec,sync,rw,exec,async"), Ok(Generic::default()));
        assert!(parsed("remount,ro").unwrap_err().contains("unmount it"));
    }

    #[test]
    fn an_unknown_option_names_its_nearest() {
        let cases = [
            ("regon=eu-west-1", "did you mean 'region'?"),
            ("memory_limt=1GiB", "did you mean 'memory_limit'?"),
            ("allow-othr", "did you mean 'allow_other'?"),
            ("noatme", "did you mean 'noatime'?"),
            ("zzz", "not an option. All"),
            ("region", "wants a value: region=VALUE"),
            ("allow_other=1", "takes no value"),
        ];
        for (option, said) in cases {
            let refused = parsed(option).unwrap_err();
            assert!(refused.contains(said), "{refused}");
        }
    }

    #[test]
    fn every_long_option_is_one_here() {
        let longs = longs();
        let has = |name: &str, valued| longs.iter().any(|long| long.name == name && long.valued == valued);
        assert!(has("region", true) && has("read-only", false) && has("log-file", true) && has("sign-payloads", false));
        assert!(!has("foreground", false) && !has("report-to-parent", false));
    }
}
