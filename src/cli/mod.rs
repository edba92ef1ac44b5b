//! Layer 6: the command line: arguments as typed, settings as meant, one file for each sub-command.
//!
//! The only place that reads the environment, prints and chooses exit codes. Human output on a terminal, plain lines in a
//! pipe. Secrets are never taken on the command line.

/// Prints a line.
macro_rules! say {
    ($($what:tt)*) => { $crate::cli::print(format_args!("{}\n", format_args!($($what)*))) };
}

mod args;
mod control;
#[cfg(feature = "demo")]
mod demo;
mod fstab;
mod mounting;
mod options;
mod restore;
mod settings;
mod signals;
mod status;
mod topics;
#[cfg(feature = "demo")]
mod tour;
mod unmounting;
mod uploads;
mod why;

use std::ffi::OsString;
use std::fmt;
use std::io::{self, Write as _};
use std::process::ExitCode;
use std::sync::OnceLock;

use clap::{CommandFactory as _, Parser as _};

use self::args::{Args, Command};

/// What a sub-command ends with: nothing, or the one line that says what went wrong and what to do.
type Outcome = Result<(), String>;

/// Why something could not be printed.
static UNPRINTED: OnceLock<io::Error> = OnceLock::new();

/// Prints. A reader who has heard enough is no failure; any other is told at the end, so that everything is put in order before.
fn print(what: fmt::Arguments<'_>) {
    let mut out = io::stdout().lock();
    if let Err(error) = out.write_fmt(what).and_then(|()| out.flush())
        && error.kind() != io::ErrorKind::BrokenPipe
    {
        let _ = UNPRINTED.set(error);
    }
}

/// Runs the program.
#[must_use]
pub fn run(argv: Vec<OsString>) -> ExitCode {
    let code = run_command(argv);
    UNPRINTED.get().map_or(code, |error| fail(&format!("cannot print: {error}")))
}

fn run_command(argv: Vec<OsString>) -> ExitCode {
    let commands: Vec<String> = Args::command().get_subcommands().map(|command| command.get_name().to_owned()).collect();
    let argv = match fstab::as_typed(argv, &commands) {
        Ok(Some(argv)) => argv,
        Ok(None) => return ExitCode::SUCCESS,
        Err(why) => return fail(&why),
    };
    let args = Args::parse_from(&argv);
    let outcome = match args.command {
        Command::Mount(mount) => mounting::mount(mount, &argv),
        Command::Umount(umount) => unmounting::umount(&umount),
        Command::Status(asked) => return status::status(&asked),
        Command::Why(why) => why::why(&why),
        Command::Restore(restore) => restore::restore(&restore),
        Command::Uploads(uploads) => uploads::uploads(&uploads),
        #[cfg(feature = "demo")]
        Command::Demo(demo) => demo::demo(demo),
        Command::Help(topic) => topics::help(topic.topic.as_deref()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => fail(&why),
    }
}

fn fail(why: &str) -> ExitCode {
    // The terminal may be gone; printing with a macro would panic then.
    let _ = writeln!(io::stderr(), "pailfs: {why}");
    ExitCode::FAILURE
}
