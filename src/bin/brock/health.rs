//! `brock health`: a health check for containers that have neither a shell nor curl.

use std::{path::PathBuf, process::ExitCode, time::Duration};

use crate::{out, paths};
use anyhow::{Context as _, bail, ensure};
use brock::config::values::OFF;
use brock_core::base::duration;
use brock_net::{
    http_client::{HttpClient, HttpError},
    listen::ListenAddress,
};

/// A node's answers are a few lines; another server's answer must not fill the memory.
const ANSWER_MAX_BYTES: usize = 64 * 1024;

#[derive(clap::Args)]
#[command(
    about = "Check the health of a node on this machine",
    after_help = "Without thresholds: whether the node is ready for traffic (/readyz). With thresholds: also whether it \
                  keeps up with its peers (/healthz).\n\nExit codes: 0 healthy, 1 not healthy or no answer, 2 wrong \
                  command line."
)]
pub(crate) struct HealthArgs {
    /// The node's --http.address; for all interfaces, the command asks on loopback
    #[arg(long, value_name = "HOST:PORT", env = "BROCK_HTTP_ADDRESS", default_value = "127.0.0.1:20005")]
    http_address: String,
    /// With --http.tls: the CA of the node's certificate. The certificate must name the host in --http-address
    #[arg(long, value_name = "FILE", value_parser = paths::literal)]
    ca: Option<PathBuf>,
    /// Maximum number of operations that a single peer has and this node lacks
    #[arg(long, value_name = "ENTRIES")]
    max_lag: Option<u64>,
    /// Maximum time since the last message from any peer
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    max_gap: Option<Duration>,
    /// How long to wait for the answer
    #[arg(long, value_name = "DURATION", value_parser = duration::parse, default_value = "5s")]
    timeout: Duration,
}

pub(crate) fn run(args: &HealthArgs) -> anyhow::Result<ExitCode> {
    ensure!(args.http_address != OFF, "http.address is off: this node has no HTTP server");
    let address: ListenAddress =
        args.http_address.parse().with_context(|| format!("--http-address {}", args.http_address))?;
    let address = address.from_this_machine();
    let (client, scheme) = match &args.ca {
        None => (HttpClient::plain(args.timeout, ANSWER_MAX_BYTES), "http"),
        Some(ca) => (HttpClient::over_tls(ca, args.timeout, ANSWER_MAX_BYTES)?, "https"),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match runtime.block_on(client.get(&address, &args.path())) {
        Ok((status, body)) if status == 200 => {
            // The exit code is the answer. A full or closed standard output does not make the node unhealthy.
            if let Err(error) = out::print(body.as_bytes()) {
                eprintln!("warning: the node is healthy; its answer could not be printed: {error}");
            }
            Ok(ExitCode::SUCCESS)
        }
        Ok((status, body)) if status == 503 => bail!("{}", body.trim_end()),
        Ok((status, _)) => bail!("the server at {scheme}://{address} answers {status}: it is not a node"),
        Err(HttpError::NotHttp(_)) => bail!(
            "the server at {address} does not speak plain HTTP. If {address} is the node's http.address and http.tls is \
             set, it speaks TLS: pass --ca. If it is the node's node.address, pass its http.address instead"
        ),
        Err(error) => Err(error).with_context(|| {
            format!(
                "the node does not answer at {scheme}://{address}: is it running, with that http.address?"
            )
        }),
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
