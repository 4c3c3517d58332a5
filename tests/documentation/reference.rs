//! The reference: configuration, command line and exit codes, as the code has them.

use std::fmt::Write as _;

use clap::CommandFactory;

use super::generated::table;
use super::read;

pub(super) struct Key {
    section: String,
    pub(super) name: String,
    default: String,
    /// Which of its changes a reload takes; others need a restart.
    reload: String,
    meaning: String,
}

/// The keys of the sample, in its order.
pub(super) fn sample() -> Vec<Key> {
    let sample = read("systemd/settled.toml");
    let (mut section, mut meaning, mut keys) = (String::new(), String::new(), Vec::new());
    for line in sample.lines() {
        if let Some(name) = line.trim_start_matches('#').strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            name.clone_into(&mut section);
        } else if let Some(text) = line.strip_prefix("# ") {
            meaning += &format!("{text} ");
        } else if let Some((name, default)) = line.strip_prefix('#').and_then(|line| line.split_once(" = ")) {
            let (meaning, reload) = without_reload(std::mem::take(&mut meaning).trim_end());
            let (name, default) = (name.to_owned(), default.to_owned());
            keys.push(Key { section: section.clone(), name, default, reload, meaning });
        }
        if line.is_empty() || line.trim_start_matches('#').starts_with('[') {
            meaning.clear();
        }
    }
    assert!(keys.len() > 40, "only {} keys were found", keys.len());
    keys
}

/// A meaning without the sentence about reloading, and what that says.
fn without_reload(meaning: &str) -> (String, String) {
    let (reloads, condition) = (" Reloads.", " Reloads: ");
    if let Some((before, after)) = meaning.split_once(reloads) {
        return (format!("{before}{after}"), "yes".to_owned());
    }
    let Some((before, rest)) = meaning.split_once(condition) else { return (meaning.to_owned(), "restart".to_owned()) };
    let (what, after) = rest.split_once('.').expect("a sentence");
    (format!("{before}{after}"), what.to_owned())
}

/// The keys of each section, in the order of the sample.
fn sections() -> Vec<Vec<Key>> {
    let mut sections: Vec<Vec<Key>> = Vec::new();
    for key in sample() {
        match sections.last_mut().filter(|keys| keys[0].section == key.section) {
            Some(keys) => keys.push(key),
            None => sections.push(vec![key]),
        }
    }
    sections
}

/// The names of all keys by section.
pub(super) fn keys() -> String {
    let names = |keys: &[Key]| keys.iter().map(|key| format!("`{}`", key.name)).collect::<Vec<_>>().join(", ");
    table(["section", "keys"], sections().iter().map(|keys| [format!("`[{}]`", keys[0].section), names(keys)]))
}

fn described(keys: &[Key], meaning: fn(&str) -> String) -> String {
    let row = |key: &Key| {
        [format!("`{}`", key.name), format!("`{}`", key.default), key.reload.clone(), meaning(&key.meaning)]
    };
    table(["key", "default", "reload", ""], keys.iter().map(row))
}

/// The keys of the section `[payments]`.
pub(super) fn payments() -> String {
    let of_payments = sections().into_iter().find(|keys| keys[0].section == "payments");
    described(&of_payments.expect("the section"), str::to_owned)
}

/// Every key with its default and its meaning, a table per section.
pub(super) fn configuration() -> String {
    let section = |keys: &Vec<Key>| format!("\n## `[{}]`\n\n{}", keys[0].section, described(keys, plain));
    sections().iter().map(section).collect::<String>() + "\n"
}

/// Text that Markdown shows as it is.
fn plain(text: &str) -> String {
    text.chars().fold(String::new(), |plain, c| match c {
        '<' => plain + "&lt;",
        '*' | '|' => plain + "\\" + &String::from(c),
        c => plain + &String::from(c),
    })
}

/// The help of every command, as `settled <command> --help` prints it.
pub(super) fn commands() -> String {
    fn describe(command: &mut clap::Command, text: &mut String) {
        let name = command.get_bin_name().unwrap_or_default().to_owned();
        // What all commands have in common is said above the block.
        let common = |arg: &clap::Arg| ["config", "env_file", "quiet", "json", "help"].contains(&arg.get_id().as_str());
        let mut own = command.clone().mut_args(|arg| if common(&arg) { arg.hide(true) } else { arg });
        let help = own.render_long_help().to_string();
        let help: Vec<&str> = help.lines().map(str::trim_end).collect();
        let _ = writeln!(text, "\n## `{name}`\n\n```text\n{}\n```", help.join("\n").trim_end());
        for each in command.get_subcommands_mut() {
            if !each.is_hide_set() && each.get_name() != "help" {
                describe(each, text);
            }
        }
    }
    let mut cli = settled::cli::Cli::command().term_width(100);
    cli.build();
    let mut text = String::new();
    for verb in cli.get_subcommands_mut().filter(|verb| !verb.is_hide_set() && verb.get_name() != "help") {
        describe(verb, &mut text);
    }
    text + "\n"
}

/// The table at the head of the module that has the exit codes.
pub(super) fn exit_codes() -> String {
    let module = read("src/cli/exit.rs");
    let rows: Vec<_> = module.lines().filter_map(|line| line.strip_prefix("//! |")).collect();
    assert!(rows.len() >= 7, "{rows:?}");
    rows.iter().map(|row| format!("|{row}\n")).collect()
}
