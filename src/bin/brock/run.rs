//! `brock run`: one node, until it is told to stop.

use std::{
    process::ExitCode,
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use anyhow::Context as _;
use brock::node::{
    Node,
    config::{self, Config},
    settings,
    sources::ConfigFile,
    telemetry::Telemetry,
};
use clap::{Arg, ArgAction, ArgMatches, Command};
use signal_hook::{
    consts::{SIGINT, SIGTERM},
    flag,
};
use tokio::signal::unix::{Signal, SignalKind, signal};

const STOP_WITH_PARENT: &str = "stop-with-parent";
/// How long the runtime may take to end what the node's own shutdown has left over.
const RUNTIME_STOP_TIMEOUT: Duration = Duration::from_secs(1);

pub(crate) fn command() -> Command {
    Command::new("run")
        .about("Run a node")
        .after_help(
            "SIGTERM or SIGINT: the node says that it is not ready, finishes what is under way, and exits with 0.\n\
             A second one stops it at once, with 1. Nothing acknowledged is lost either way.",
        )
        .args(settings::args())
        .arg(
            Arg::new(STOP_WITH_PARENT)
                .long(STOP_WITH_PARENT)
                .action(ArgAction::SetTrue)
                .hide(true)
                .help("Stop when the process that started this one ends (for `brock dev`)"),
        )
}

pub(crate) fn run(matches: &ArgMatches) -> anyhow::Result<ExitCode> {
    if matches.get_flag(STOP_WITH_PARENT) {
        stop_with_parent().context("cannot ask to be stopped together with the parent process")?;
    }
    let env: Vec<_> = std::env::vars_os().collect();
    let file = ConfigFile::read_named(matches, &env)?;
    let (config, _) = config::resolve(matches, &env, file.as_ref())?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the worker threads; is there a limit on threads or descriptors?")?;
    let telemetry = {
        let _context = runtime.enter();
        Arc::new(Telemetry::install(&config.node_id, &config.log, config.trace.as_ref())?)
    };
    stop_at_once_on_second_signal().context("cannot listen for signals")?;
    let outcome = runtime.block_on(serve(config, Arc::clone(&telemetry)));
    // While the runtime still runs: it carries the last spans to the collector.
    telemetry.shut_down();
    runtime.shutdown_timeout(RUNTIME_STOP_TIMEOUT);
    outcome
}

async fn serve(config: Config, telemetry: Arc<Telemetry>) -> anyhow::Result<ExitCode> {
    // Before the start, so that a signal during the start is not lost: it then stops the node
    // right after.
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    let mut hangup = signal(SignalKind::hangup()).context("cannot listen for SIGHUP")?;
    let node_id = config.node_id.clone();
    let node =
        Node::start(config, Some(telemetry)).await.with_context(|| format!("node {node_id} cannot start"))?;
    let failure = tokio::select! {
        _ = terminate.recv() => None,
        _ = interrupt.recv() => None,
        reason = node.failed() => Some(reason),
        () = ignore(&mut hangup) => None,
    };
    match &failure {
        None => tracing::info!("stopping; a second signal stops at once"),
        // The reason is what the command ends with.
        Some(_) => tracing::info!("the node cannot go on; stopping"),
    }
    let is_clean = node.stop().await;
    if let Some(reason) = failure {
        anyhow::bail!("node {node_id} could not go on: {reason}");
    }
    anyhow::ensure!(
        is_clean,
        "node {node_id} did not finish what was under way in time; nothing acknowledged is lost. Raise node.shutdown-timeout if this recurs"
    );
    Ok(ExitCode::SUCCESS)
}

/// What `systemctl reload` sends. There is nothing to do: certificates are looked at all the time.
async fn ignore(hangup: &mut Signal) {
    while hangup.recv().await.is_some() {
        tracing::info!(
            "SIGHUP: exchanged certificates are taken over within seconds without it; other settings need a restart"
        );
    }
    std::future::pending::<()>().await;
}

/// Ends the process at the second signal even if the runtime hangs, and without running the
/// storage engine's destructors, which must not run while it is writing.
fn stop_at_once_on_second_signal() -> std::io::Result<()> {
    let is_stopping = Arc::new(AtomicBool::new(false));
    for signal in [SIGTERM, SIGINT] {
        // In this order: the first signal finds the flag unset, sets it, and goes on.
        flag::register_conditional_shutdown(signal, 1, Arc::clone(&is_stopping))?;
        flag::register(signal, Arc::clone(&is_stopping))?;
    }
    Ok(())
}

#[cfg(target_os = "linux")]
fn stop_with_parent() -> std::io::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::TERM))?;
    Ok(())
}

#[cfg(not(target_os = "linux"))]
fn stop_with_parent() -> std::io::Result<()> {
    Ok(())
}
