//! Parses the texts of settings into values.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use tracing_subscriber::{EnvFilter, filter::LevelFilter};

use brock_core::base::{
    advice,
    duration::{self, DurationError},
    id::IdError,
    limits,
};
use brock_net::{
    address::Address,
    join::{Join, JoinError},
    listen::{ListenAddress, ListenAddressError, is_host, parse_port},
    tls::level::WireLevel,
};

/// What kind of value a setting takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A node's name.
    NodeId,
    /// A directory.
    Path,
    /// `true` or `false`.
    Bool,
    /// `true`, `false` or `auto`.
    BoolOrAuto,
    /// An IP address with a port, or nothing.
    Socket,
    /// An address to listen on.
    Listen,
    /// An address to listen on, or `off`.
    ListenOrOff,
    /// Addresses to dial, separated by commas.
    Peers,
    /// A Go-style duration.
    Duration,
    /// A Go-style duration, or whole seconds.
    Seconds,
    /// A Go-style duration, or `never`.
    DurationOrNever,
    /// Any text.
    Text,
    /// A secret: in the environment, in the configuration file, or as @FILE.
    Secret,
    /// age recipients, separated by commas.
    Recipients,
    /// Three durations.
    Retention,
    /// A decimal number.
    Factor,
    /// A whole number.
    Count,
    /// A whole number, or `off`.
    CountOrOff,
    /// A number of bytes, with or without a unit.
    Size,
    /// A log filter.
    LogLevel,
    /// One of these words.
    Choice(&'static [&'static str]),
}

/// What is wrong with a value, and what a valid one looks like. Completes "the value …".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ValueError {
    /// Neither true nor false.
    #[error("is not a boolean; write true or false")]
    Bool,
    /// Neither true, nor false, nor auto.
    #[error("is not one of the allowed values; write true, false or auto")]
    BoolOrAuto,
    /// Not an IP address with a port.
    #[error("is not the address of a DNS server; write IP:PORT, such as 10.0.0.53:53 or [fd00::53]:53")]
    DnsServer,
    /// Not a whole number.
    #[error("is not a whole number; write digits only, such as 1000")]
    Count,
    /// Neither a whole number nor `off`.
    #[error("is neither a whole number nor off; write for example 1000, or off")]
    CountOrOff,
    /// Not a size.
    #[error("is not a size; write bytes or a whole number of KiB, MiB or GiB, such as 65536 or 64KiB")]
    Size,
    /// Not a duration.
    #[error("is not a duration; {0}")]
    Duration(#[from] DurationError),
    /// Neither seconds nor a duration.
    #[error("is neither whole seconds nor a duration; write for example 3600 or 1h")]
    Seconds,
    /// Neither a duration nor `never`.
    #[error("is neither a duration nor never; write for example 720h, or never")]
    DurationOrNever,
    /// A grace where tombstones are not collected.
    #[error(
        "cannot be used with node.trust=distributed: a node that has forgotten a delete cannot prove to others that the \
         record was deleted. Leave tombstone-grace out, or set node.trust to centralized on all nodes"
    )]
    CollectsUnproven,
    /// A secret on the command line.
    #[error(
        "is a secret, and other users of this machine can read the command line; write @FILE, or use the environment"
    )]
    SecretOnCommandLine,
    /// A token that is short enough to be guessed.
    #[error(
        "is shorter than {} characters; make one with `openssl rand -hex 32`",
        limits::CONSOLE_TOKEN_MIN_BYTES
    )]
    TokenTooShort,
    /// A credential that no request can carry.
    #[error(
        "contains a line break, a space or another character that no credential has; a line break at the end is easily \
         copied along"
    )]
    NotPlain,
    /// A secret's file cannot be read.
    #[error("names a file that cannot be read: {0}")]
    SecretFile(String),
    /// A file that holds no secret.
    #[error("names a file that holds no secret: {0}")]
    NotASecret(&'static str),
    /// Not an age recipient.
    #[error("contains '{0}', which is not an age recipient; write age1… (`brock backup keygen` makes one)")]
    Recipient(String),
    /// A private key in place of a public one.
    #[error(
        "contains a private key, but a node needs only the public one: write age1… (the first line of the key's file)"
    )]
    PrivateKey,
    /// A recipient that is set, but empty.
    #[error("is empty: backups would not be encrypted. Write age1…, or remove the setting")]
    NoRecipient,
    /// Not a retention.
    #[error("is not a retention; write three durations such as 24h,168h,744h")]
    Retention,
    /// Not a location for backups.
    #[error("cannot be used for backups: {0}")]
    Backup(String),
    /// A word that is almost the one for data in RAM.
    #[error(
        "is neither a directory nor ram:; write ram: to keep the data in RAM, or ./NAME for a directory of that name"
    )]
    Ram,
    /// A path that a shell should have expanded.
    #[error("{0}")]
    Path(&'static str),
    /// A directory that has another use.
    #[error("is also {0}; give each its own directory")]
    SamePlace(&'static str),
    /// Not a decimal number.
    #[error("is not a number; write for example 0.4")]
    Factor,
    /// Not a node id.
    #[error("is not a node id: {0}")]
    NodeId(#[from] IdError),
    /// Not an address to listen on.
    #[error("is not an address to listen on: {0}")]
    Listen(#[from] ListenAddressError),
    /// A peer without a usable host and port.
    #[error(
        "has a peer, '{0}', that is not HOST:PORT; write for example node-2.example.com:20004 or [fd00::2]:20004"
    )]
    Peer(String),
    /// A `dns+` or `dnssrv+` name that cannot be resolved.
    #[error("has a name that cannot be resolved: {0}")]
    Discovery(JoinError),
    /// A peer with the unspecified address, which means all interfaces of the node itself.
    #[error(
        "has a peer, '{0}', whose address means all interfaces; write an address at which others reach it"
    )]
    UnspecifiedPeer(String),
    /// Commas and spaces only.
    #[error("names no peer: the node would be alone. Write HOST:PORT, or leave the setting out")]
    NoPeer,
    /// Too many peers.
    #[error("has {0} peers, and at most {max} are allowed; remove some: peers relay operations for each other", max = limits::PEERS_MAX)]
    TooManyPeers(usize),
    /// Not a filter.
    #[error(
        "is not a log filter; write off, error, warn, info, debug or trace, or modules with levels, such as info,brock::replication=debug"
    )]
    LogLevel,
    /// Not the address of a collector.
    #[error(
        "is not the address of a collector; write http://HOST:PORT (gRPC, unencrypted), such as http://127.0.0.1:4317"
    )]
    Collector,
    /// Not a list of peers with their levels of wire encryption.
    #[error("has '{0}', which is not a peer with its level; write for example node-2.example.com:20004=256")]
    PeerLevel(String),
    /// Not one of these words.
    #[error("is not one of the allowed values; write one of {}", .0.join(", "))]
    Choice(&'static [&'static str]),
    /// Outside these bounds.
    #[error("is out of bounds; write a value from {0} to {1}")]
    Bounds(String, String),
    /// Above another setting, which has this value.
    #[error("is above {0} = {1}; lower it, or raise {0}")]
    Above(&'static str, String),
}

/// A path, which no shell has expanded.
pub fn path(text: &str) -> Result<PathBuf, ValueError> {
    match advice::on_path(text) {
        Some(mistake) => Err(ValueError::Path(mistake)),
        None => Ok(text.into()),
    }
}

/// Parses `true` or `false`.
pub fn boolean(text: &str) -> Result<bool, ValueError> {
    match text {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(ValueError::Bool),
    }
}

/// Whether a node may start with empty storage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FirstStart {
    /// Yes.
    Yes,
    /// No: empty storage means that a disk was lost.
    No,
    /// Only if no peer knows the node.
    Auto,
}

/// Parses `true`, `false` or `auto`.
pub fn first_start(text: &str) -> Result<FirstStart, ValueError> {
    match text {
        "true" => Ok(FirstStart::Yes),
        "false" => Ok(FirstStart::No),
        "auto" => Ok(FirstStart::Auto),
        _ => Err(ValueError::BoolOrAuto),
    }
}

/// Parses the address of a DNS server; empty = none.
pub fn dns_server(text: &str) -> Result<Option<SocketAddr>, ValueError> {
    match text.parse::<SocketAddr>() {
        _ if text.is_empty() => Ok(None),
        Ok(address) if address.port() != 0 && !address.ip().is_unspecified() => Ok(Some(address)),
        _ => Err(ValueError::DnsServer),
    }
}

/// Parses levels of wire encryption of single peers: `HOST:PORT=LEVEL`, separated by commas.
pub fn peer_levels(text: &str) -> Result<BTreeMap<String, WireLevel>, ValueError> {
    let mut levels = BTreeMap::new();
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let read = part.rsplit_once('=').and_then(|(address, level)| {
            let address: Address = address.trim().parse().ok()?;
            Some((address.to_string(), level.trim().parse().ok()?))
        });
        let (address, level) = read.ok_or_else(|| ValueError::PeerLevel(part.to_owned()))?;
        levels.insert(address, level);
    }
    match levels.len() {
        ..=limits::PEERS_MAX => Ok(levels),
        many => Err(ValueError::TooManyPeers(many)),
    }
}

/// Parses a whole number.
pub fn count(text: &str) -> Result<u64, ValueError> {
    // The standard library would accept a leading '+'.
    if text.starts_with('+') { Err(ValueError::Count) } else { text.parse().map_err(|_| ValueError::Count) }
}

/// Parses a number of bytes: `65536`, `64KiB`, `1MiB`, `2GiB`.
pub fn size_bytes(text: &str) -> Result<u64, ValueError> {
    let digits_end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits_end);
    let factor: u64 = match unit {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return Err(ValueError::Size),
    };
    let number: u64 = number.parse().map_err(|_| ValueError::Size)?;
    number.checked_mul(factor).ok_or(ValueError::Size)
}

/// Parses a Go-style duration.
pub fn duration(text: &str) -> Result<Duration, ValueError> {
    Ok(duration::parse(text)?)
}

/// Parses whole seconds or a Go-style duration.
pub fn seconds(text: &str) -> Result<Duration, ValueError> {
    match count(text) {
        Ok(seconds) => Ok(Duration::from_secs(seconds)),
        Err(_) => duration::parse(text).map_err(|_| ValueError::Seconds),
    }
}

/// Parses a Go-style duration; `never` = none.
pub fn duration_or_never(text: &str) -> Result<Option<Duration>, ValueError> {
    match text {
        "never" => Ok(None),
        text => duration::parse(text).map(Some).map_err(|_| ValueError::DurationOrNever),
    }
}

/// Parses a whole number; `off` = none.
pub fn count_or_off(text: &str) -> Result<Option<u64>, ValueError> {
    if text == OFF { Ok(None) } else { count(text).map(Some).map_err(|_| ValueError::CountOrOff) }
}

/// Whether a text contains an age identity (a private key), which must not be shown.
pub fn is_private_key(text: &str) -> bool {
    text.to_ascii_uppercase().contains("AGE-SECRET-KEY-")
}

/// Parses age recipients, without duplicates.
pub fn recipients(text: &str) -> Result<Vec<age::x25519::Recipient>, ValueError> {
    let mut read: Vec<age::x25519::Recipient> = Vec::new();
    if text.is_empty() {
        return Ok(read);
    }
    for part in text.split(',').map(str::trim) {
        if part.is_empty() {
            return Err(ValueError::NoRecipient);
        }
        if is_private_key(part) {
            return Err(ValueError::PrivateKey);
        }
        let recipient: age::x25519::Recipient =
            part.parse().map_err(|_| ValueError::Recipient(part.to_owned()))?;
        if read.iter().all(|known| known.to_string() != part) {
            read.push(recipient);
        }
    }
    Ok(read)
}

/// Parses how long to keep all backups, then one a day, then one a week.
pub fn retention(text: &str) -> Result<[Duration; 3], ValueError> {
    let durations: Vec<Duration> = text
        .split(',')
        .map(|part| duration::parse(part.trim()))
        .collect::<Result<_, _>>()
        .map_err(|_| ValueError::Retention)?;
    durations.try_into().map_err(|_| ValueError::Retention)
}

/// Returns a secret, read from its file if the text is `@FILE`.
pub fn secret(text: &str) -> Result<String, ValueError> {
    match text.strip_prefix('@') {
        None => Ok(text.to_owned()),
        Some(path) => match brock_net::reading::text(path.as_ref()) {
            Ok(text) => match text.trim_end_matches(['\n', '\r']) {
                "" => Err(ValueError::NotASecret("it is empty")),
                text if text.len() > limits::SECRET_MAX_BYTES => {
                    Err(ValueError::NotASecret("it is too large; is it the right file?"))
                }
                text => Ok(text.to_owned()),
            },
            Err(error) => Err(ValueError::SecretFile(error.to_string())),
        },
    }
}

/// Parses a decimal number that is not negative.
pub fn factor(text: &str) -> Result<f64, ValueError> {
    match text.parse::<f64>() {
        Ok(factor) if factor.is_finite() && factor >= 0.0 && !text.starts_with('+') => Ok(factor),
        _ => Err(ValueError::Factor),
    }
}

/// Parses a number from 0 to 1.
pub fn ratio(text: &str) -> Result<f64, ValueError> {
    let ratio = factor(text)?;
    if ratio <= 1.0 { Ok(ratio) } else { Err(ValueError::Bounds("0".to_owned(), "1".to_owned())) }
}

/// The value of `http.address` for no HTTP server.
pub const OFF: &str = "off";

/// Parses an address to listen on; `off` = none.
pub fn listen_or_off(text: &str) -> Result<Option<ListenAddress>, ValueError> {
    if text == OFF { Ok(None) } else { Ok(Some(text.parse()?)) }
}

/// The value of `node.path` for a node without a disk. A directory of that name is `./ram:`.
pub const RAM: &str = "ram:";

/// Parses where the data is: a directory, or in RAM (`None`).
pub fn data_path(text: &str) -> Result<Option<PathBuf>, ValueError> {
    let lower = text.trim().to_ascii_lowercase();
    match text {
        RAM => Ok(None),
        _ if lower == "ram" || lower.starts_with(RAM) => Err(ValueError::Ram),
        _ => path(text).map(Some),
    }
}

/// Parses peers, without duplicates and in their order. Ignores stray commas.
pub fn peers(text: &str) -> Result<Vec<String>, ValueError> {
    let mut peers: Vec<String> = Vec::new();
    for peer in text.split(',').map(str::trim).filter(|peer| !peer.is_empty()) {
        if peer.contains('+') {
            let listed: Join = peer.parse().map_err(ValueError::Discovery)?;
            if !peers.contains(&listed.to_string()) {
                peers.push(listed.to_string());
            }
            continue;
        }
        let (host, port) = peer.rsplit_once(':').unwrap_or((peer, ""));
        if !is_host(host) || parse_port(port).is_none_or(|port| port == 0) {
            return Err(ValueError::Peer(peer.to_owned()));
        }
        let address: Option<IpAddr> = host.trim_matches(['[', ']']).parse().ok();
        if address.is_some_and(|address| address.is_unspecified()) {
            return Err(ValueError::UnspecifiedPeer(peer.to_owned()));
        }
        if !peers.iter().any(|known| known == peer) {
            peers.push(peer.to_owned());
        }
    }
    if peers.is_empty() && !text.is_empty() {
        return Err(ValueError::NoPeer);
    }
    if peers.len() > limits::PEERS_MAX {
        return Err(ValueError::TooManyPeers(peers.len()));
    }
    Ok(peers)
}

/// Checks a log filter. It is stricter than the filter itself, which takes `inof` for the name of a
/// module and then logs nothing at all.
pub fn log_level(text: &str) -> Result<String, ValueError> {
    EnvFilter::try_new(text).map_err(|_| ValueError::LogLevel)?;
    let is_meant = |directive: &str| {
        // The filter would read an empty directive as the level `error`.
        let is_level = !directive.trim().is_empty() && directive.trim().parse::<LevelFilter>().is_ok();
        is_level || directive.contains(['=', '['])
    };
    if !text.split(',').all(is_meant) {
        return Err(ValueError::LogLevel);
    }
    Ok(text.to_owned())
}

/// Parses the address of a trace collector; empty = none.
pub fn collector(text: &str) -> Result<Option<String>, ValueError> {
    if text.is_empty() {
        return Ok(None);
    }
    let address = text.strip_prefix("http://").ok_or(ValueError::Collector)?;
    let address = address.strip_suffix('/').unwrap_or(address);
    let (host, port) = address.rsplit_once(':').ok_or(ValueError::Collector)?;
    if !is_host(host) || parse_port(port).is_none_or(|port| port == 0) {
        return Err(ValueError::Collector);
    }
    Ok(Some(format!("http://{address}")))
}

/// Checks that a text is one of these words.
pub fn choice<'a>(text: &'a str, options: &'static [&'static str]) -> Result<&'a str, ValueError> {
    if options.contains(&text) { Ok(text) } else { Err(ValueError::Choice(options)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_bytes_or_binary_units() {
        for (text, bytes) in [
            ("0", 0),
            ("65536", 65_536),
            ("512B", 512),
            ("64KiB", 65_536),
            ("1MiB", 1 << 20),
            ("2GiB", 2 << 30),
        ] {
            assert_eq!(size_bytes(text), Ok(bytes), "{text}");
        }
        for text in [
            "",
            "KiB",
            "64K",
            "64kb",
            "64 KiB",
            "1.5MiB",
            "-1",
            "+1",
            "99999999999GiB",
            "99999999999999999999",
        ] {
            assert_eq!(size_bytes(text), Err(ValueError::Size), "{text}");
        }
    }

    #[test]
    fn seconds_factors_and_never_are_read() {
        assert_eq!(seconds("3600"), Ok(Duration::from_secs(3600)));
        assert_eq!(seconds("1h"), Ok(Duration::from_secs(3600)));
        assert_eq!(seconds("soon"), Err(ValueError::Seconds));
        assert_eq!(duration_or_never("never"), Ok(None));
        assert_eq!(duration_or_never("0s"), Ok(Some(Duration::ZERO)));
        for text in ["", "Never", "0.5", "-1h"] {
            assert_eq!(duration_or_never(text), Err(ValueError::DurationOrNever), "{text}");
        }
        assert_eq!(factor("0.4"), Ok(0.4));
        for text in ["", "-0.4", "NaN", "inf", "+1", "40%"] {
            assert_eq!(factor(text), Err(ValueError::Factor), "{text}");
        }
    }

    #[test]
    fn booleans_are_true_or_false_and_nothing_else() {
        assert_eq!((boolean("true"), boolean("false")), (Ok(true), Ok(false)));
        for text in ["", "1", "yes", "True", "on"] {
            assert_eq!(boolean(text), Err(ValueError::Bool), "{text}");
        }
    }

    #[test]
    fn peers_need_a_host_and_a_port_and_count_once() {
        let read = peers("a:1, b.example.com:20004,,[fd00::2]:3,a:1,").unwrap();
        assert_eq!(read, ["a:1", "b.example.com:20004", "[fd00::2]:3"]);
        assert_eq!(peers(""), Ok(Vec::new()));
        for text in [",", " , ", " "] {
            assert_eq!(peers(text), Err(ValueError::NoPeer), "{text:?}");
        }
        for text in ["a", ":20004", "a:0", "a:x", "a:70000", "fd00::2:3", "http://a:1", "10.0.0.300:1"] {
            assert_eq!(peers(text), Err(ValueError::Peer(text.to_owned())), "{text}");
        }
        assert_eq!(peers("0.0.0.0:1"), Err(ValueError::UnspecifiedPeer("0.0.0.0:1".to_owned())));
        let many: Vec<String> = (1..=limits::PEERS_MAX + 1).map(|port| format!("a:{port}")).collect();
        assert_eq!(peers(&many.join(",")), Err(ValueError::TooManyPeers(limits::PEERS_MAX + 1)));
        assert_eq!(peers(&many[1..].join(",")).unwrap().len(), limits::PEERS_MAX);
    }

    #[test]
    fn a_collector_is_a_host_and_a_port_and_nothing_more() {
        for (text, read) in [
            ("http://127.0.0.1:4317", "http://127.0.0.1:4317"),
            ("http://otel.example.com:4317/", "http://otel.example.com:4317"),
            ("http://[fd00::2]:4317", "http://[fd00::2]:4317"),
        ] {
            assert_eq!(collector(text), Ok(Some(read.to_owned())), "{text}");
        }
        assert_eq!(collector(""), Ok(None));
        for text in [
            "127.0.0.1:4317",
            "https://otel.example.com:4317",
            "http://otel.example.com",
            "http://otel.example.com:0",
            "http://otel.example.com:4317/v1/traces",
            "http://user:secret@otel.example.com:4317",
        ] {
            assert_eq!(collector(text), Err(ValueError::Collector), "{text}");
        }
    }

    #[test]
    fn names_that_dns_lists_peers_under_are_read() {
        let read = peers("dns+brock:1,dnssrv+_brock._tcp.example.com, a:1,dns+brock:1").unwrap();
        assert_eq!(read, ["dns+brock:1", "dnssrv+_brock._tcp.example.com", "a:1"]);
        for text in ["dns+brock", "dns+10.0.0.1:1", "dnssrv+example.com:1", "dns+", "srv+a:1", "+"] {
            assert!(matches!(peers(text), Err(ValueError::Discovery(_))), "{text}");
        }
        assert_eq!(dns_server(""), Ok(None));
        assert_eq!(dns_server("[::1]:53"), Ok(Some("[::1]:53".parse().unwrap())));
        for text in ["ns1:53", "10.0.0.53", "10.0.0.53:0", "0.0.0.0:53"] {
            assert_eq!(dns_server(text), Err(ValueError::DnsServer), "{text}");
        }
        assert_eq!((first_start("auto"), first_start("true")), (Ok(FirstStart::Auto), Ok(FirstStart::Yes)));
        assert_eq!(first_start("maybe"), Err(ValueError::BoolOrAuto));
    }

    #[test]
    fn a_misspelt_log_level_is_refused_rather_than_logging_nothing() {
        for text in ["info", "OFF", "warn,brock::replication=debug", "brock[span]=trace"] {
            assert!(log_level(text).is_ok(), "{text}");
        }
        for text in ["", "inof", "loud", "info,brock=loud", "info,", "brock=debug,verbose"] {
            assert_eq!(log_level(text), Err(ValueError::LogLevel), "{text}");
        }
    }
}
