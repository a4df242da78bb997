//! `node-admin` at an operator's shell: completion, manual pages, contexts, colours, forms of output.

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

use serde_json::{Value, json};

use crate::harness::{
    admin::{Admin, hex_key},
    cluster::Cluster,
    process::{BROCK, NODE_ADMIN, run, run_with},
};

const GRANT: &str = r#"{"encrypted_access_grant":"Z3JhbnQ="}"#;

fn text(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (text(&output.stdout), text(&output.stderr))
}

fn bash(script: &str) -> Output {
    Command::new("bash").args(["-c", script]).env("NO_COLOR", "").output().unwrap()
}

#[test]
fn a_completion_script_is_of_its_shell_and_offers_the_commands() {
    for (program, name, typed, offered) in [
        (NODE_ADMIN, "node-admin", "sta", "status"),
        (NODE_ADMIN, "node-admin", "--node-add", "--node-addresses"),
        (BROCK, "brock", "back", "backup"),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("completion.bash");
        let script = run(program, &["completion", "bash"], "");
        assert!(script.status.success());
        fs::write(&file, &script.stdout).unwrap();
        let at = file.display();
        let checked = bash(&format!("bash -n {at}"));
        assert!(checked.status.success(), "{}", text(&checked).1);
        // What the shell does when the user presses Tab.
        let function = name.replace('-', "__");
        let offer = bash(&format!(
            "source {at}; COMP_WORDS=({name} {typed}); COMP_CWORD=1; _{function} {name} {typed} {name}; \
             printf '%s\\n' \"${{COMPREPLY[@]}}\"",
        ));
        let (offers, told) = text(&offer);
        assert!(offers.lines().any(|line| line == offered), "{offered} is not in {offers} {told}");
        for (shell, own) in [
            ("zsh", format!("#compdef {name}")),
            ("fish", format!("complete -c {name} ")),
            ("elvish", format!("edit:completion:arg-completer[{name}]")),
            ("powershell", "Register-ArgumentCompleter".to_owned()),
        ] {
            let script = run(program, &["completion", shell], "");
            assert!(script.status.success() && text(&script).0.contains(&own), "{shell}");
        }
        assert_eq!(run(program, &["completion", "dos"], "").status.code(), Some(2));
    }
}

#[test]
fn there_is_a_manual_page_for_every_command_and_it_renders() {
    for (program, pages) in [
        (NODE_ADMIN, &["node-admin.1", "node-admin-status.1", "node-admin-record-invalidate.1"][..]),
        (BROCK, &["brock.1", "brock-run.1", "brock-backup-restore.1"]),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let into = directory.path().join("man/man1");
        let written = run(program, &["man", "--dir", into.to_str().unwrap()], "");
        assert!(written.status.success(), "{}", text(&written).1);
        for page in pages {
            let file = into.join(page);
            let roff = fs::read_to_string(&file).unwrap();
            assert!(roff.contains(".TH ") && roff.contains(".SH NAME"), "{page}:\n{roff}");
            let rendered = Command::new("groff")
                .args(["-man", "-Kutf8", "-Tutf8", "-ww", "-P-cbou"])
                .arg(&file)
                .output();
            let Ok(rendered) = rendered else {
                eprintln!("skipped: groff is not installed");
                continue;
            };
            let (shown, told) = text(&rendered);
            assert!(rendered.status.success() && told.is_empty(), "{page}: {told}");
            assert!(shown.contains("SYNOPSIS"), "{page}:\n{shown}");
        }
        let subcommands = fs::read_dir(&into).unwrap().count();
        assert!(subcommands > 20, "{subcommands} pages");
        let page = run(program, &["man"], "");
        assert_eq!(page.stdout, fs::read(into.join(pages[0])).unwrap());
        let file = directory.path().join("file");
        fs::write(&file, "").unwrap();
        let failed = run(program, &["man", "--dir", file.to_str().unwrap()], "");
        assert_eq!(failed.status.code(), Some(1));
        assert!(text(&failed).1.contains(file.to_str().unwrap()));
    }
}

#[test]
fn whoever_reads_only_the_beginning_makes_no_error() {
    for (program, arguments) in [
        (NODE_ADMIN, &["completion", "bash"][..]),
        (NODE_ADMIN, &["--help"]),
        (BROCK, &["completion", "bash"]),
        (BROCK, &["config", "reference"]),
        (BROCK, &["metrics", "reference"]),
    ] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let ended = Command::new(program).args(arguments).stdout(writer).output().unwrap();
        assert_eq!((ended.status.code(), text(&ended).1.as_str()), (Some(0), ""), "{arguments:?}");
    }
}

/// `node-admin` with a file of contexts of its own.
struct Home(tempfile::TempDir);

impl Home {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn file(&self) -> std::path::PathBuf {
        self.0.path().join("deep/contexts.toml")
    }

    fn run(&self, arguments: &[&str], env: &[(&str, &str)]) -> Output {
        let file = self.file();
        let env = [&[("BROCK_CONTEXT_FILE", file.to_str().unwrap())], env].concat();
        tokio::task::block_in_place(|| run_with(NODE_ADMIN, arguments, "", &env))
    }

    fn fails(&self, code: i32, part: &str, arguments: &[&str], env: &[(&str, &str)]) {
        let output = self.run(arguments, env);
        let (_, told) = text(&output);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {told}");
        assert!(told.contains(part), "{part:?} is not in {told}");
    }

    fn json(&self, arguments: &[&str], env: &[(&str, &str)]) -> Value {
        let output = self.run(&[arguments, &["-o", "json"]].concat(), env);
        assert!(output.status.success(), "{arguments:?}: {}", text(&output).1);
        serde_json::from_slice(&output.stdout).unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_context_counts_less_than_the_environment_and_that_less_than_a_flag() {
    let cluster = Cluster::start(2).await;
    let [first, second] = [0, 1].map(|i: usize| cluster.node(i).address());
    let certs = cluster.certs.admin().display().to_string();
    let home = Home::new();
    home.fails(2, "node-admin context set", &["status"], &[]);
    let set = ["context", "set", "one", "--node-addresses", &first, "--certs-dir", &certs];
    let shown = home.json(&set, &[]);
    assert_eq!(
        shown,
        json!({"name": "one", "current": true, "node_addresses": [&first], "certs_dir": &certs})
    );
    let two = ["context", "set", "two", "--node-addresses", &second, "--certs-dir", &certs];
    assert_eq!(home.json(&two, &[])["current"], false);
    let node = |arguments: &[&str], env: &[(&str, &str)]| {
        home.json(&[&["status"], arguments].concat(), env)["node_id"].as_str().unwrap().to_owned()
    };
    assert_eq!(node(&[], &[]), "node-0");
    assert_eq!(node(&["--context", "two"], &[]), "node-1");
    assert_eq!(node(&[], &[("NODE_ADMIN_CONTEXT", "two")]), "node-1");
    assert_eq!(node(&["--context", "one"], &[("NODE_ADMIN_CONTEXT", "two")]), "node-0");
    assert_eq!(node(&[], &[("NODE_ADMIN_NODE_ADDRESSES", &second)]), "node-1");
    // An empty flag must not act on the cluster of the context in use.
    for flag in ["--node-addresses", "--certs-dir", "--context"] {
        for value in ["", " "] {
            home.fails(2, "", &["status", flag, value], &[]);
        }
    }
    home.fails(2, "--node-addresses is empty", &["status", "--node-addresses", ","], &[]);
    // An empty variable counts as not set.
    let empty =
        ["NODE_ADMIN_CONTEXT", "NODE_ADMIN_NODE_ADDRESSES", "NODE_ADMIN_CERTS_DIR"].map(|name| (name, " "));
    assert_eq!(node(&["--context", "two"], &empty), "node-1");
    let both = [("NODE_ADMIN_NODE_ADDRESSES", second.as_str()), ("NODE_ADMIN_CONTEXT", "one")];
    assert_eq!(node(&[], &both), "node-1");
    assert_eq!(node(&["--node-addresses", &first], &both), "node-0");

    assert!(home.run(&["context", "use", "two"], &[]).status.success());
    assert_eq!(node(&[], &[]), "node-1");
    assert_eq!(home.json(&["context", "current"], &[])["current"], "two");
    assert_eq!(home.json(&["context", "show", "one"], &[])["node_addresses"][0], json!(first));
    assert_eq!(home.json(&["context", "show", "--context", "one"], &[])["name"], "one");
    assert_eq!(home.json(&["context", "show"], &[])["name"], "two");
    let list = home.json(&["context", "list"], &[]);
    assert_eq!((&list["current"], list["contexts"].as_array().unwrap().len()), (&json!("two"), 2));
    // What is not given stays.
    let changed = home.json(&["context", "set", "two", "--node-addresses", &first], &[]);
    assert_eq!((&changed["certs_dir"], &changed["node_addresses"][0]), (&json!(certs), &json!(first)));
    assert!(home.run(&["context", "delete", "two"], &[]).status.success());
    home.fails(3, "there are: one", &["context", "use", "two"], &[]);
    home.fails(3, "no context is in use", &["context", "current"], &[]);
    home.fails(2, "there are: one", &["status", "--context", "two"], &[]);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_of_contexts_that_is_wrong_is_named_with_the_place_and_what_to_do() {
    let home = Home::new();
    home.fails(2, "nothing to keep", &["context", "set", "one"], &[]);
    home.fails(2, "letters, digits", &["context", "set", "a b", "--certs-dir", "/"], &[]);
    home.fails(2, "nonsense", &["context", "set", "one", "--node-addresses", "nonsense"], &[]);
    assert!(!home.file().exists(), "a failure left something");
    fs::create_dir_all(home.file().parent().unwrap()).unwrap();
    let file = home.file().display().to_string();
    for (content, part) in [
        ("[contexts.one]\nnode-address = [\"a:1\"]\n", "node-address"),
        ("colour = true\n", "colour"),
        ("contexts = 7\n", "line 1"),
        ("current = \"gone\"\n", "[contexts.gone]"),
    ] {
        fs::write(home.file(), content).unwrap();
        home.fails(2, part, &["context", "list"], &[]);
        home.fails(2, &file, &["status"], &[]);
        assert_eq!(fs::read_to_string(home.file()).unwrap(), content, "it was changed");
        // A command with all flags does not need it.
        home.fails(1, "none", &["status", "--certs-dir", "/none", "--node-addresses", "a:1"], &[]);
    }
    // A relative directory means the one of now, and a link to the file stays a link.
    let real = home.0.path().join("real.toml");
    fs::remove_file(home.file()).unwrap();
    fs::write(&real, "").unwrap();
    std::os::unix::fs::symlink(&real, home.file()).unwrap();
    assert!(home.run(&["context", "set", "here", "--certs-dir", "."], &[]).status.success());
    let kept = fs::read_to_string(&real).unwrap();
    let here = std::env::current_dir().unwrap();
    assert!(kept.contains(&format!("certs-dir = \"{}\"", here.display())), "{kept}");
    assert!(fs::symlink_metadata(home.file()).unwrap().is_symlink());
    assert_eq!(fs::read_dir(home.0.path()).unwrap().count(), 2, "temporary files are left");
}

#[test]
fn contexts_lie_where_a_users_configuration_lies() {
    let home = tempfile::tempdir().unwrap();
    let at = home.path().to_str().unwrap();
    let set = ["context", "set", "one", "--certs-dir", "/"];
    assert!(run_with(NODE_ADMIN, &set, "", &[("HOME", at)]).status.success());
    assert!(home.path().join(".config/brock/contexts.toml").is_file());
    assert!(run_with(NODE_ADMIN, &set, "", &[("HOME", "/none"), ("XDG_CONFIG_HOME", at)]).status.success());
    assert!(home.path().join("brock/contexts.toml").is_file());
    let homeless = run_with(NODE_ADMIN, &set, "", &[]);
    assert_eq!(homeless.status.code(), Some(2));
    assert!(text(&homeless).1.contains("BROCK_CONTEXT_FILE"));
}

/// Runs a command on a terminal of its own, and returns what that showed.
pub fn on_a_terminal(command: &str, env: &[(&str, &str)]) -> String {
    let shown = tempfile::NamedTempFile::new().unwrap();
    let mut script = Command::new("script");
    script.args(["-qec", command]).arg(shown.path()).stdin(std::process::Stdio::null());
    script.env_remove("NO_COLOR").env("TERM", "xterm-256color").envs(env.iter().copied());
    tokio::task::block_in_place(|| script.output()).unwrap();
    String::from_utf8_lossy(&fs::read(shown.path()).unwrap()).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn colour_and_progress_are_for_terminals_that_want_them() {
    const GREEN: &str = "\x1b[32m";
    let cluster = Cluster::start(1).await;
    let admin = Admin::new(&cluster.certs.admin(), &[cluster.node(0).address()]);
    let access = |certs: &Path| {
        format!("{NODE_ADMIN} --certs-dir {} --node-addresses {}", certs.display(), cluster.node(0).address())
    };
    let verify = format!("{} verify", access(&cluster.certs.admin()));
    let shown = on_a_terminal(&verify, &[]);
    assert!(shown.contains(&format!("{GREEN}converged")), "{shown:?}");
    assert!(shown.contains("comparing the nodes"), "{shown:?}");
    for env in [("NO_COLOR", "1"), ("TERM", "dumb")] {
        let shown = on_a_terminal(&verify, &[env]);
        assert!(shown.contains("converged") && !shown.contains(GREEN), "{env:?}: {shown:?}");
    }
    assert!(!on_a_terminal(&format!("{verify} --color never"), &[]).contains(GREEN));
    let piped = admin.run(&["verify"], "");
    assert!(!text(&piped).0.contains('\x1b') && text(&piped).1.is_empty());
    let always = admin.run(&["verify", "--color", "always"], "");
    assert!(text(&always).0.contains(GREEN));
    let json = admin.run(&["verify", "--color", "always", "-o", "json"], "");
    assert!(!text(&json).0.contains('\x1b'), "data for programs has colours");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn yaml_holds_what_json_holds() {
    let cluster = Cluster::start(1).await;
    let admin = Admin::new(&cluster.certs.admin(), &[cluster.node(0).address()]);
    let key = hex_key();
    admin.json(&["record", "put", &key], GRANT);
    for command in [
        &["record", "show", &key][..],
        &["record", "trace", &key],
        &["members"],
        &["verify"],
        &["conflicts", "list"],
        &["quarantine", "list"],
    ] {
        let yaml = admin.run(&[command, &["-o", "yaml"]].concat(), "");
        assert!(yaml.status.success());
        assert!(
            serde_json::from_slice::<Value>(&yaml.stdout).is_err(),
            "JSON is YAML, but not what people ask for"
        );
        let read: Value = serde_norway::from_slice(&yaml.stdout).unwrap();
        assert_eq!(read, admin.json(command, ""), "{command:?}");
    }
    cluster.stop().await;
}
