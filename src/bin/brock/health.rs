//! `brock health`: asks a node on this machine how it is, for health checks in containers that have
//! neither a shell nor curl.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream, ToSocketAddrs as _},
    path::PathBuf,
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use brock::node::listen::ListenAddress;
use brock_core::base::duration;
use brock_net::tls::web::WebClient;

/// The node's answers are some lines long; whatever else listens there must not fill the memory.
const ANSWER_MAX_BYTES: usize = 64 * 1024;

#[derive(clap::Args)]
#[command(
    about = "Ask a node on this machine whether it is well",
    after_help = "Without thresholds: whether it may be sent traffic (/readyz). With them: whether it also keeps up with its\n\
                  peers (/healthz). Exit codes: 0 it is, 1 it is not or does not answer, 2 wrong command line."
)]
pub(crate) struct HealthArgs {
    /// The node's --http.address; of all interfaces, loopback is asked
    #[arg(long, value_name = "HOST:PORT", env = "BROCK_HTTP_ADDRESS", default_value = "127.0.0.1:20005")]
    http_address: String,
    /// With --http.tls: the CA of the node's certificate, which must name the host that is asked
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Operations that any one peer may have and this node lack
    #[arg(long, value_name = "ENTRIES")]
    max_lag: Option<u64>,
    /// For how long nothing may have been heard from any peer
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    max_gap: Option<Duration>,
    /// How long to wait for the answer
    #[arg(long, value_name = "DURATION", value_parser = duration::parse, default_value = "5s")]
    timeout: Duration,
}

pub(crate) fn run(args: &HealthArgs) -> anyhow::Result<ExitCode> {
    ensure!(!args.http_address.is_empty(), "http.address is empty: this node answers no HTTP");
    let address: ListenAddress =
        args.http_address.parse().with_context(|| format!("--http-address {}", args.http_address))?;
    let place = address.from_this_machine();
    let deadline = Instant::now() + args.timeout;
    let tls = args.ca.as_deref().map(WebClient::new).transpose()?;
    let scheme = if tls.is_some() { "https" } else { "http" };
    let answer = ask(&place, &args.path(), tls.as_ref(), deadline).with_context(|| {
        format!("the node does not answer at {scheme}://{place}: is it running, with that http.address?")
    })?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    match head.split(' ').nth(1) {
        Some("200") => {
            io::stdout().write_all(body.as_bytes())?;
            Ok(ExitCode::SUCCESS)
        }
        Some("503") => bail!("{}", body.trim_end()),
        // The first byte of an alert: it speaks TLS, and so it says in TLS that this was none.
        _ if head.starts_with('\u{15}') => bail!(
            "what listens at {place} speaks TLS: if that is the node's http.address with http.tls, give --ca; if it is \
             its node.address, ask at http.address"
        ),
        _ => bail!(
            "what listens at {scheme}://{place} does not answer as a node: {:?}",
            head.lines().next().unwrap_or("")
        ),
    }
}

impl HealthArgs {
    fn path(&self) -> String {
        let lag = self.max_lag.map(|entries| format!("max_lag={entries}"));
        let gap = self.max_gap.map(|gap| format!("max_gap={}ns", gap.as_nanos()));
        let query: Vec<String> = lag.into_iter().chain(gap).collect();
        if query.is_empty() { "/readyz".to_owned() } else { format!("/healthz?{}", query.join("&")) }
    }
}

fn ask(place: &str, path: &str, tls: Option<&WebClient>, deadline: Instant) -> io::Result<String> {
    let mut failure = io::Error::new(io::ErrorKind::NotFound, "there is no such address");
    for address in place.to_socket_addrs()? {
        match ask_at(address, place, path, tls, deadline) {
            Ok(answer) => return Ok(answer),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

fn ask_at(
    address: SocketAddr,
    place: &str,
    path: &str,
    tls: Option<&WebClient>,
    deadline: Instant,
) -> io::Result<String> {
    let stream = TcpStream::connect_timeout(&address, left(deadline)?)?;
    stream.set_write_timeout(Some(left(deadline)?))?;
    stream.set_read_timeout(Some(left(deadline)?))?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {place}\r\nConnection: close\r\n\r\n");
    match tls {
        None => exchange(stream, &request, deadline),
        Some(tls) => exchange(tls.connect(place, stream)?, &request, deadline),
    }
}

fn exchange(mut stream: impl Read + Write, request: &str, deadline: Instant) -> io::Result<String> {
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    let mut part = [0; 4096];
    while answer.len() < ANSWER_MAX_BYTES {
        left(deadline)?;
        match stream.read(&mut part)? {
            0 => break,
            read => answer.extend_from_slice(&part[..read]),
        }
    }
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

fn left(deadline: Instant) -> io::Result<Duration> {
    match deadline.saturating_duration_since(Instant::now()) {
        Duration::ZERO => Err(io::Error::new(io::ErrorKind::TimedOut, "it took too long")),
        left => Ok(left),
    }
}
