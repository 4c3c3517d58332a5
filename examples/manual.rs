//! Writes the man pages and the completions of the Debian package: `cargo run --example manual -- <directory>`.
//!
//! An example and no verb, so that neither the shipped binary nor its build has more for it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use clap::{Command, CommandFactory};
use clap_complete::Shell;
use clap_mangen::Man;
use settled::cli::Cli;

fn main() -> io::Result<()> {
    let directory = std::env::args_os().nth(1).map(PathBuf::from);
    let directory = directory.ok_or_else(|| io::Error::other("expected the directory to write to"))?;
    let mut cli = Cli::command();
    cli.build();
    man_pages(&cli, "settled", &fresh(&directory.join("man"))?)?;
    completions(&mut cli, &fresh(&directory.join("completions"))?)
}

/// Makes an empty directory: a page of a command that is gone would be packaged, too.
fn fresh(directory: &Path) -> io::Result<PathBuf> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => fs::create_dir_all(directory)?,
    }
    Ok(directory.to_owned())
}

/// Writes the page `name`(8) and those of the commands below it: all of them are for who administers the service.
fn man_pages(command: &Command, name: &str, directory: &Path) -> io::Result<()> {
    let mut page = Vec::new();
    // clap wants names that live as long as the program.
    let titled = command.clone().name(&*name.to_owned().leak());
    Man::new(titled).title(name).section("8").manual("settled").render(&mut page)?;
    fs::write(directory.join(format!("{name}.8")), page)?;
    let shown = command.get_subcommands().filter(|below| !below.is_hide_set() && below.get_name() != "help");
    shown.into_iter().try_for_each(|below| man_pages(below, &format!("{name}-{}", below.get_name()), directory))
}

fn completions(cli: &mut Command, directory: &Path) -> io::Result<()> {
    for (shell, name) in [(Shell::Bash, "settled"), (Shell::Zsh, "_settled"), (Shell::Fish, "settled.fish")] {
        let mut script = Vec::new();
        clap_complete::generate(shell, cli, "settled", &mut script);
        fs::write(directory.join(name), script)?;
    }
    Ok(())
}
