//! Contexts: named addresses and certificates directories.
//!
//! The file holds addresses and paths, no secrets. It is replaced as a whole, never changed in place.

use std::{
    collections::BTreeMap,
    env, fs, io,
    path::{Path, PathBuf},
};

use brock::config::sources::is_blank;
use brock_net::crashsafe;
use serde::{Deserialize, Serialize};

use crate::{
    access,
    cli::{ContextCommand, Format, Global},
    failure::Failure,
    output::{self, headed},
    paint,
};

/// The environment variable that names another file.
const FILE_VARIABLE: &str = "BROCK_CONTEXT_FILE";

/// The file, as it is written.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Contexts {
    #[serde(skip_serializing_if = "Option::is_none")]
    current: Option<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    contexts: BTreeMap<String, Context>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Context {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    node_addresses: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    certs_dir: Option<PathBuf>,
}

/// Takes from the context what neither a flag nor the environment sets.
pub(crate) fn fill(mut global: Global) -> Result<Global, Failure> {
    let named = global.context.clone();
    let has_certs = global.certs_dir.is_some();
    let has_addresses = global.node_addresses.iter().any(|address| !is_blank(address.as_ref()));
    // A script whose variable is not set must not act on the cluster of the context in use. An empty variable of
    // this program counts as not set, so these are flags.
    for (flag, is_empty) in [
        ("--context", named.as_ref().is_some_and(|name| is_blank(name.as_ref()))),
        ("--certs-dir", global.certs_dir.as_ref().is_some_and(|dir| is_blank(dir.as_os_str()))),
        ("--node-addresses", !has_addresses && !global.node_addresses.is_empty()),
    ] {
        if is_empty {
            return Err(Failure::Usage(format!("{flag} is empty: give it a value, or leave it out")));
        }
    }
    // With all flags given, the file is not read, not even a damaged one.
    if named.is_none() && has_certs && has_addresses {
        return Ok(global);
    }
    let Some(place) = place() else {
        return match named {
            Some(_) => Err(Failure::Usage(no_place())),
            None => Ok(global),
        };
    };
    let mut kept = Contexts::read(&place)?;
    let Some(name) = named.or(kept.current.take()) else { return Ok(global) };
    // The command line is wrong; "not found" would be taken for the record that the command is about.
    let unknown = || Failure::Usage(kept.unknown(&name, &place).to_string());
    let context = kept.contexts.get(&name).cloned().ok_or_else(unknown)?;
    if !has_certs {
        global.certs_dir = context.certs_dir;
    }
    if !has_addresses {
        global.node_addresses = context.node_addresses;
    }
    Ok(global)
}

/// Runs the command.
pub(crate) fn run(global: &Global, command: ContextCommand) -> Result<(), Failure> {
    let place = place().ok_or_else(|| Failure::Usage(no_place()))?;
    let mut kept = Contexts::read(&place)?;
    let format = global.output;
    match command {
        ContextCommand::List => output::data(format, &List::new(&place, &kept), List::text),
        ContextCommand::Current => {
            let name = kept.current.ok_or_else(|| Failure::NotFound(none_in_use(&place)))?;
            output::data(format, &Current { current: name }, |current| format!("{}\n", current.current))
        }
        ContextCommand::Show { name } => {
            let current = kept.current.clone();
            let named = name.or_else(|| global.context.clone().filter(|name| !name.is_empty()));
            let name = named.or(current.clone()).ok_or_else(|| Failure::NotFound(none_in_use(&place)))?;
            let context = kept.contexts.remove(&name).ok_or_else(|| kept.unknown(&name, &place))?;
            output::data(format, &Shown::new(name, &context, current.as_deref()), Shown::text)
        }
        ContextCommand::Use { name } => {
            if !kept.contexts.contains_key(&name) {
                return Err(kept.unknown(&name, &place));
            }
            kept.current = Some(name.clone());
            kept.write(&place)?;
            output::message(&format!("using {name}"));
            Ok(())
        }
        ContextCommand::Set { name } => set(global, &place, kept, name, format),
        ContextCommand::Delete { name } => {
            if kept.contexts.remove(&name).is_none() {
                return Err(kept.unknown(&name, &place));
            }
            let was_current = kept.current.as_ref() == Some(&name);
            if was_current {
                kept.current = None;
            }
            kept.write(&place)?;
            let now = if was_current { "; none is in use now: `node-admin context use NAME`" } else { "" };
            output::message(&format!("forgot {name}{now}"));
            Ok(())
        }
    }
}

fn set(
    global: &Global,
    place: &Path,
    mut kept: Contexts,
    name: String,
    format: Format,
) -> Result<(), Failure> {
    let addresses = access::parse_addresses(&global.node_addresses)?;
    let certs_dir = global.certs_dir.as_ref().filter(|dir| !dir.as_os_str().is_empty());
    if addresses.is_empty() && certs_dir.is_none() {
        return Err(Failure::Usage(format!(
            "there is nothing to keep: give --node-addresses HOST:PORT[,…], --certs-dir DIR, or both\n  \
             node-admin context set {name} --node-addresses HOST:20004 --certs-dir DIR"
        )));
    }
    let context = kept.contexts.entry(name.clone()).or_default();
    if !addresses.is_empty() {
        context.node_addresses = addresses.iter().map(ToString::to_string).collect();
    }
    if let Some(dir) = certs_dir {
        // A relative path would depend on the working directory.
        let absolute = std::path::absolute(dir)
            .map_err(|error| Failure::Error(format!("--certs-dir {}: {error}", dir.display())))?;
        if !absolute.is_dir() {
            output::message(&format!("note: there is no directory {} yet", absolute.display()));
        }
        context.certs_dir = Some(absolute);
    }
    let context = context.clone();
    if kept.current.is_none() {
        kept.current = Some(name.clone());
        output::message(&format!("using {name}"));
    }
    kept.write(place)?;
    output::data(format, &Shown::new(name, &context, kept.current.as_deref()), Shown::text)
}

/// The path of the file; `None` if neither HOME nor another variable is set.
fn place() -> Option<PathBuf> {
    let variable = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(file) = variable(FILE_VARIABLE) {
        return Some(file);
    }
    // The specification requires that relative paths are ignored.
    let config = variable("XDG_CONFIG_HOME").filter(|path| path.is_absolute());
    let config = config.or_else(|| variable("HOME").map(|home| home.join(".config")))?;
    Some(config.join("brock").join("contexts.toml"))
}

fn no_place() -> String {
    format!("contexts have no place: set HOME, XDG_CONFIG_HOME or {FILE_VARIABLE}")
}

fn none_in_use(place: &Path) -> String {
    format!("no context is in use in {}: `node-admin context use NAME`", place.display())
}

impl Contexts {
    /// A missing file holds no contexts.
    fn read(place: &Path) -> Result<Self, Failure> {
        let at = place.display();
        let text = match fs::read_to_string(place) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(Failure::Error(format!("cannot read {at}: {error}"))),
        };
        let kept: Self = toml::from_str(&text).map_err(|error| {
            Failure::Usage(format!(
                "{at} is not a file of contexts: {}\nRepair it, or move it away and create the contexts again with \
                 `node-admin context set NAME`.",
                error.to_string().trim_end()
            ))
        })?;
        if let Some(current) = kept.current.as_ref().filter(|name| !kept.contexts.contains_key(*name)) {
            return Err(Failure::Usage(format!(
                "{at}: current = {current:?}, and there is no [contexts.{current}]: change that line to one of {}, or \
                 remove it",
                kept.names()
            )));
        }
        Ok(kept)
    }

    /// Replaces the file durably.
    fn write(&self, place: &Path) -> Result<(), Failure> {
        let failed = |error: io::Error| Failure::Error(format!("cannot write {}: {error}", place.display()));
        let text = toml::to_string_pretty(self)
            .map_err(|error| Failure::Error(format!("cannot write {}: {error}", place.display())))?;
        // Follows a link, so that the link stays.
        let file = place.canonicalize().unwrap_or_else(|_| place.to_owned());
        if let Some(directory) = file.parent() {
            fs::create_dir_all(directory).map_err(failed)?;
        }
        crashsafe::replace(&file, text.as_bytes(), 0o600).map_err(failed)
    }

    fn names(&self) -> String {
        match self.contexts.keys().cloned().collect::<Vec<_>>() {
            names if names.is_empty() => "none (there are no contexts)".to_owned(),
            names => names.join(", "),
        }
    }

    fn unknown(&self, name: &str, place: &Path) -> Failure {
        Failure::NotFound(format!(
            "there is no context {:?} in {}; there are: {}\nMake it: node-admin context set NAME --node-addresses \
             HOST:20004 --certs-dir DIR",
            output::printable(name),
            place.display(),
            self.names()
        ))
    }
}

/// What `context current` prints.
#[derive(Debug, Serialize)]
struct Current {
    current: String,
}

/// What `context list` prints.
#[derive(Debug, Serialize)]
struct List {
    file: PathBuf,
    current: Option<String>,
    contexts: Vec<Shown>,
}

/// What `context show` prints.
#[derive(Debug, Serialize)]
struct Shown {
    name: String,
    current: bool,
    node_addresses: Vec<String>,
    certs_dir: Option<PathBuf>,
}

impl List {
    fn new(place: &Path, kept: &Contexts) -> Self {
        let current = kept.current.as_deref();
        let shown = |(name, context): (&String, &Context)| Shown::new(name.clone(), context, current);
        Self {
            file: place.to_owned(),
            current: kept.current.clone(),
            contexts: kept.contexts.iter().map(shown).collect(),
        }
    }

    fn text(&self) -> String {
        if self.contexts.is_empty() {
            return format!("contexts: none in {}\n", self.file.display());
        }
        let rows = self.contexts.iter().map(|shown| {
            let mark = if shown.current { "*" } else { "" };
            vec![mark.to_owned(), shown.painted(), shown.addresses(), shown.certificates()]
        });
        output::table(&headed(&["", "NAME", "NODE ADDRESSES", "CERTS DIR"], rows))
    }
}

impl Shown {
    fn new(name: String, context: &Context, current: Option<&str>) -> Self {
        Self {
            current: current == Some(name.as_str()),
            name,
            node_addresses: context.node_addresses.clone(),
            certs_dir: context.certs_dir.clone(),
        }
    }

    fn painted(&self) -> String {
        let name = output::printable(&self.name);
        if self.current { paint::good(&name) } else { name }
    }

    fn addresses(&self) -> String {
        match self.node_addresses.as_slice() {
            [] => "-".to_owned(),
            addresses => output::printable(&addresses.join(",")),
        }
    }

    fn certificates(&self) -> String {
        let dir = self.certs_dir.as_ref().map(|dir| output::printable(&dir.display().to_string()));
        dir.unwrap_or_else(|| "-".to_owned())
    }

    fn text(&self) -> String {
        output::fields(&[
            ("name", self.painted()),
            ("in_use", if self.current { "yes" } else { "no" }.to_owned()),
            ("node_addresses", self.addresses()),
            ("certs_dir", self.certificates()),
        ])
    }
}
