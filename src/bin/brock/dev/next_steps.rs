//! Prints the first commands to try when the cluster is ready.

use std::{
    fmt::Write as _,
    io::{self, Write as _},
    path::Path,
};

use anyhow::Context as _;
use brock_net::crashsafe;

use super::{layout::Layout, nodes, ports::NodePorts};

/// Prints commands for the ready nodes on stdout.
pub(super) fn print(layout: &Layout, ready: &[(&str, NodePorts)]) -> anyhow::Result<()> {
    let key: [u8; 32] = rand::random();
    let key = data_encoding::HEXLOWER.encode(&key);
    let text = text(layout, ready, &key)?;
    let mut stdout = io::stdout();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()?;
    Ok(())
}

/// Writes `cluster.env` for scripts: the admin's certificates directory and the ready nodes' addresses, in
/// shell syntax. The file exists only while the cluster is ready.
pub(super) fn write_env(layout: &Layout, ready: &[(&str, NodePorts)]) -> anyhow::Result<()> {
    let addresses: Vec<String> = ready.iter().map(|(_, ports)| ports.node.to_string()).collect();
    let certs_dir = quoted(&layout.admin_certs_dir());
    let text = format!("BROCK_CERTS_DIR={certs_dir}\nBROCK_ADDRESSES={}\n", addresses.join(","));
    crashsafe::replace(&layout.env_file(), text.as_bytes(), 0o600)
        .with_context(|| format!("cannot write {}", layout.env_file().display()))
}

fn text(layout: &Layout, ready: &[(&str, NodePorts)], key: &str) -> Result<String, std::fmt::Error> {
    let mut text = String::new();
    writeln!(text, "\n{} ready, in {}:\n", nodes(ready.len()), layout.root().display())?;
    for (name, ports) in ready {
        writeln!(text, "  {name}  {}  http://{}/console/", ports.node, ports.http)?;
    }
    let (Some((_, first)), Some((_, last))) = (ready.first(), ready.last()) else { return Ok(text) };
    let admin = node_admin();
    let client = format!("{admin} --certs-dir {}", quoted(&layout.client_certs_dir()));
    let operator = format!("{admin} --certs-dir {}", quoted(&layout.admin_certs_dir()));
    writeln!(text, "\nWrite a record to one node, and read the copy on another node:\n")?;
    writeln!(
        text,
        "  echo '{{\"encrypted_access_grant\": \"aGVsbG8=\"}}' | \\\n    \
         {client} --node-addresses {} record put {key}",
        first.node
    )?;
    writeln!(text, "  {client} --node-addresses {} record show {key} --local", last.node)?;
    writeln!(text, "\nShow the state of the cluster, and measure its speed:\n")?;
    writeln!(text, "  {operator} --node-addresses {} status", first.node)?;
    writeln!(text, "  {client} --node-addresses {} bench mixed", first.node)?;
    writeln!(text, "\nCtrl-C stops the cluster.")?;
    Ok(text)
}

/// The node-admin next to this program if it exists, otherwise its name.
fn node_admin() -> String {
    let beside = std::env::current_exe().ok().map(|program| program.with_file_name("node-admin"));
    beside.filter(|file| file.exists()).map_or_else(|| "node-admin".to_owned(), |file| quoted(&file))
}

/// Quotes a path for a shell.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
    if text.chars().all(is_plain) { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_commands_name_the_right_certificates_and_addresses() {
        let layout = Layout::new("/tmp/my cluster".into(), 2);
        let ready = [("node-1", "127.0.0.1:1", "127.0.0.1:2"), ("node-2", "127.0.0.1:3", "127.0.0.1:4")].map(
            |(name, node, http)| {
                (name, NodePorts { node: node.parse().unwrap(), http: http.parse().unwrap() })
            },
        );
        let text = text(&layout, &ready, "ab").unwrap();
        for part in [
            "node-2  127.0.0.1:3  http://127.0.0.1:4/console/",
            "--certs-dir '/tmp/my cluster/client' --node-addresses 127.0.0.1:1 record put ab",
            "--certs-dir '/tmp/my cluster/client' --node-addresses 127.0.0.1:3 record show ab --local",
            "--certs-dir '/tmp/my cluster/admin' --node-addresses 127.0.0.1:1 status",
        ] {
            assert!(text.contains(part), "{part} is not in\n{text}");
        }
    }
}
