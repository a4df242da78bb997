//! The reference of the command line, made from what the binaries say of themselves.

use std::fmt::Write as _;

use crate::harness::process::{BROCK, NODE_ADMIN, run_with};

/// A command's help, taken apart.
struct Help {
    about: String,
    usage: String,
    /// Name and description.
    commands: Vec<(String, String)>,
    arguments: Vec<(String, String)>,
    options: Vec<(String, String)>,
    /// What follows the options.
    after: String,
}

/// Both binaries, command by command.
pub(super) fn reference() -> String {
    let mut page = String::new();
    for (program, name) in [(BROCK, "brock"), (NODE_ADMIN, "node-admin")] {
        let help = help_of(program, &[]);
        let shared: Vec<String> = help.options.iter().map(|(flag, _)| flag.clone()).collect();
        writeln!(page, "## {name}\n").unwrap();
        describe(&mut page, &help, &[], name);
        each_subcommand(&mut page, program, name, &[], &help, &shared);
    }
    page
}

fn each_subcommand(
    page: &mut String,
    program: &str,
    name: &str,
    path: &[&str],
    help: &Help,
    shared: &[String],
) {
    for (command, _) in help.commands.iter().filter(|(command, _)| command != "help") {
        let path = [path, &[command.as_str()]].concat();
        let inner = help_of(program, &path);
        writeln!(page, "### {name} {}\n", path.join(" ")).unwrap();
        describe(page, &inner, shared, name);
        each_subcommand(page, program, name, &path, &inner, shared);
    }
}

fn describe(page: &mut String, help: &Help, shared: &[String], name: &str) {
    writeln!(page, "{}\n\n`{}`\n", help.about, help.usage).unwrap();
    table(page, "command", help.commands.iter().filter(|(command, _)| command != "help"));
    table(page, "argument", help.arguments.iter());
    let takes_settings = help.options.iter().any(|(flag, _)| flag.starts_with("--node.id "));
    let is_setting = |flag: &str| {
        takes_settings
            && (flag.starts_with("--config ")
                || flag.contains('.')
                || flag.contains("--compact-")
                || flag.contains("--tombstone-"))
    };
    let own = |(flag, _): &&(String, String)| {
        !["-h, --help", "-V, --version"].contains(&flag.as_str())
            && !shared.contains(flag)
            && !is_setting(flag)
    };
    table(page, "option", help.options.iter().filter(own));
    if takes_settings {
        writeln!(page, "Takes every [setting](configuration.md) as an option.\n").unwrap();
    }
    if !shared.is_empty() && name == "node-admin" && help.commands.is_empty() {
        writeln!(page, "Also the [options of every command](#node-admin).\n").unwrap();
    }
    if !help.after.is_empty() {
        writeln!(page, "{}\n", help.after).unwrap();
    }
}

fn table<'a>(page: &mut String, what: &str, rows: impl Iterator<Item = &'a (String, String)>) {
    let rows: Vec<_> = rows.collect();
    if rows.is_empty() {
        return;
    }
    writeln!(page, "| {what} | meaning |\n|---|---|").unwrap();
    for (name, meaning) in rows {
        writeln!(page, "| `{}` | {} |", name.replace('|', "\\|"), cell(meaning)).unwrap();
    }
    page.push('\n');
}

/// Text for a cell of a table, without the values that this environment has.
fn cell(text: &str) -> String {
    let text = text.trim_end_matches("<br>");
    let text = match text.split_once("[env: ") {
        Some((before, rest)) => {
            let (variable, after) = rest.split_once(']').unwrap_or((rest, ""));
            let variable = variable.split('=').next().unwrap_or_default();
            format!("{before}[env: {variable}]{after}")
        }
        None => text.to_owned(),
    };
    text.replace('|', "\\|").replace('<', "&lt;").replace("&lt;br>", "<br>")
}

fn help_of(program: &str, path: &[&str]) -> Help {
    let arguments = [path, &["--help"]].concat();
    // Wide, so that nothing is wrapped but what has a limit of its own.
    let output = run_with(program, &arguments, "", &[("COLUMNS", "1000")]);
    assert!(output.status.success(), "{path:?}: {}", String::from_utf8_lossy(&output.stderr));
    taken_apart(&String::from_utf8(output.stdout).unwrap())
}

fn taken_apart(text: &str) -> Help {
    let (about, rest) = text.split_once("Usage: ").unwrap_or(("", text));
    let (usage, rest) = rest.split_once('\n').unwrap_or((rest, ""));
    let mut help = Help {
        about: paragraphs(about),
        usage: usage.trim().to_owned(),
        commands: Vec::new(),
        arguments: Vec::new(),
        options: Vec::new(),
        after: String::new(),
    };
    let mut section = "";
    for line in rest.lines() {
        let indent = line.len() - line.trim_start().len();
        match line.trim() {
            heading @ ("Commands:" | "Arguments:") if indent == 0 => section = heading,
            // Options may be in groups, each under a heading of its own.
            heading if indent == 0 && heading.ends_with(':') && heading.len() < 40 => section = "Options:",
            text if indent == 0 && !text.is_empty() => {
                section = "";
                help.after.push_str(text);
                help.after.push('\n');
            }
            "" if section.is_empty() => help.after.push('\n'),
            text => {
                let entries = match section {
                    "Commands:" => &mut help.commands,
                    "Arguments:" => &mut help.arguments,
                    "Options:" => &mut help.options,
                    _ => continue,
                };
                add_line(entries, text, indent);
            }
        }
    }
    help.after = paragraphs(&help.after);
    help
}

/// Adds a line of a section: the begin of an entry, or more of the last one.
fn add_line(entries: &mut Vec<(String, String)>, text: &str, indent: usize) {
    let is_entry = indent == 2 || (indent < 10 && text.starts_with('-'));
    if is_entry && !text.is_empty() {
        let (name, meaning) = text.split_once("  ").unwrap_or((text, ""));
        entries.push((name.trim().to_owned(), meaning.trim().to_owned()));
    } else if let Some((_, meaning)) = entries.last_mut() {
        let separator = match text {
            // Between paragraphs; at the end of an entry `cell` removes it.
            "" => "<br>",
            item if item.starts_with("- ") => "<br>",
            _ if meaning.is_empty() || meaning.ends_with("<br>") => "",
            _ => " ",
        };
        *meaning = format!("{meaning}{separator}{text}");
    }
}

/// Paragraphs, each on one line.
fn paragraphs(text: &str) -> String {
    let paragraphs = text
        .trim()
        .split("\n\n")
        .map(|paragraph| paragraph.lines().map(str::trim).collect::<Vec<_>>().join(" "));
    paragraphs.collect::<Vec<_>>().join("\n\n").replace('<', "&lt;")
}
