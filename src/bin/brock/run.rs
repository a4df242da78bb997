//! `brock run`: runs one node until a signal stops it.

use std::{process::ExitCode, sync::Arc, thread, time::Duration};

use anyhow::Context as _;
use brock::{
    config::{
        settings,
        sources::ConfigFile,
        validate::{self, Config},
    },
    node::{Node, StartError, systemd::Supervisor},
    telemetry::logs::Telemetry,
};
use clap::{Arg, ArgAction, ArgMatches, Command};
use signal_hook::{
    consts::{SIGINT, SIGTERM},
    iterator::Signals,
};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::{MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;

const STOP_WITH_PARENT: &str = "stop-with-parent";
/// How long the runtime may take to stop tasks that are left after the node's shutdown.
const RUNTIME_STOP_TIMEOUT: Duration = Duration::from_secs(1);
/// How long the line about a second signal may delay the end.
const LAST_LINE_TIMEOUT: Duration = Duration::from_millis(200);

pub(crate) fn command() -> Command {
    Command::new("run")
        .about("Run a node")
        .after_help(
            "SIGTERM or SIGINT: the node reports that it is not ready, finishes calls in progress, and exits with 0. \
             A second signal stops it immediately, with 1. Neither loses acknowledged writes.\n\n\
             SIGHUP: the node reloads its certificates immediately.\n\n\
             Under systemd (Type=notify or notify-reload) the node reports when it is ready, its status, and its health.",
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
        stop_with_parent().context("cannot arrange to stop with the parent process")?;
    }
    let env: Vec<_> = std::env::vars_os().collect();
    let file = ConfigFile::read_named(matches, &env)?;
    let (config, _) = validate::resolve(matches, &env, file.as_ref())?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the worker threads; check the limits on threads and file descriptors")?;
    let telemetry = {
        let _context = runtime.enter();
        Arc::new(Telemetry::install(&config.node_id, &config.log, config.trace.as_ref())?)
    };
    stop_at_once_on_second_signal().context("cannot listen for signals")?;
    let outcome = runtime.block_on(serve(config, Arc::clone(&telemetry)));
    // The exporter needs the runtime to send the last spans.
    telemetry.shut_down();
    runtime.shutdown_timeout(RUNTIME_STOP_TIMEOUT);
    outcome
}

/// The signals that the process handles.
struct Watched {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Watched {
    fn new() -> anyhow::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?,
            interrupt: signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?,
            hangup: signal(SignalKind::hangup()).context("cannot listen for SIGHUP")?,
        })
    }

    async fn stop(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

async fn serve(config: Config, telemetry: Arc<Telemetry>) -> anyhow::Result<ExitCode> {
    // Before the start, so that no signal during the start is lost.
    let mut signals = Watched::new()?;
    let mut supervisor = Supervisor::from_env();
    let node_id = config.node_id.clone();
    let stop = CancellationToken::new();
    let node = match start(config, telemetry, &stop, &mut signals, &mut supervisor).await {
        Err(StartError::Interrupted) if stop.is_cancelled() => {
            supervisor.stopping().await;
            tracing::info!("stopped before the storage was open");
            return Ok(ExitCode::SUCCESS);
        }
        started => started.with_context(|| format!("node {node_id} cannot start"))?,
    };
    supervisor.serving(&node.state()).await;
    let failure = match stop.is_cancelled() {
        true => None,
        false => run_until_stopped(&node, &mut signals, &mut supervisor).await,
    };
    match &failure {
        None => tracing::info!("stopping; a second signal stops the node immediately"),
        // The command exits with the reason.
        Some(_) => tracing::info!("the node cannot continue; stopping"),
    }
    supervisor.stopping().await;
    let stopped = node.stop().await;
    if let Some(reason) = failure {
        anyhow::bail!("node {node_id} could not continue: {reason}");
    }
    anyhow::ensure!(
        !stopped.lost,
        "node {node_id}: its data directory is gone (the reason is in the log), and with it what no other node has"
    );
    anyhow::ensure!(
        stopped.closed,
        "node {node_id} could not close its storage (the reason is in the log); no acknowledged write is lost, and the next start recovers like after a crash"
    );
    Ok(ExitCode::SUCCESS)
}

/// Starts the node. A signal cancels `stop`; the node then stops as soon as that is safe.
async fn start(
    config: Config,
    telemetry: Arc<Telemetry>,
    stop: &CancellationToken,
    signals: &mut Watched,
    supervisor: &mut Supervisor,
) -> Result<Node, StartError> {
    let mut starting = std::pin::pin!(Node::start_unless(config, Some(telemetry), stop));
    let mut ticks = interval(supervisor.interval());
    loop {
        tokio::select! {
            outcome = starting.as_mut() => return outcome,
            () = signals.stop(), if !stop.is_cancelled() => stop.cancel(),
            _ = ticks.tick() => supervisor.starting().await,
        }
    }
}

/// Notifies the supervisor until a signal stops the node (`None`) or the node cannot continue.
async fn run_until_stopped(
    node: &Node,
    signals: &mut Watched,
    supervisor: &mut Supervisor,
) -> Option<String> {
    let mut failed = std::pin::pin!(node.failed());
    let mut ticks = interval(supervisor.interval());
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            _ = signals.terminate.recv() => return None,
            _ = signals.interrupt.recv() => return None,
            reason = failed.as_mut() => return Some(reason),
            _ = signals.hangup.recv() => {
                tracing::info!("SIGHUP: reloading the certificates; other settings need a restart");
                supervisor.reloading().await;
                node.reload().await;
                supervisor.serving(&node.state()).await;
            }
            _ = ticks.tick() => {
                supervisor.status(&node.state()).await;
                if supervisor.watchdog_due() && node.is_healthy(supervisor.interval()).await {
                    supervisor.ping_watchdog().await;
                }
            }
        }
    }
}

/// Ends the process at the second signal even if the runtime hangs, and without the storage engine's
/// destructors, which must not run during a write.
fn stop_at_once_on_second_signal() -> std::io::Result<()> {
    let mut signals = Signals::new([SIGTERM, SIGINT])?;
    thread::Builder::new().name("second signal".to_owned()).spawn(move || {
        if signals.forever().nth(1).is_some() {
            // In a thread of its own: the reader of the log may have stopped reading.
            let (said, waits) = std::sync::mpsc::sync_channel(1);
            let _ = thread::Builder::new().spawn(move || {
                tracing::warn!(
                    "a second signal: the node stops immediately; the next start recovers as after a crash"
                );
                let _ = said.send(());
            });
            let _ = waits.recv_timeout(LAST_LINE_TIMEOUT);
            signal_hook::low_level::exit(1);
        }
    })?;
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
