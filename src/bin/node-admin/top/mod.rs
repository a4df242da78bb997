//! `top`: the cluster, live, on a terminal.

mod draw;
mod keys;
mod screen;

use std::{
    io::{self, IsTerminal},
    pin::Pin,
};

use crate::{
    cli::{Format, Top},
    cluster::look,
    failure::Failure,
    output,
};
use brock_client::{Client, view::Cluster};
use ratatui::DefaultTerminal;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::{MissedTickBehavior, interval_at},
};

use keys::Keys;
use screen::{Screen, Step};

/// The size of a frame that is printed.
const ONCE_COLUMNS: u16 = 160;
const ONCE_LINES: u16 = 48;

/// Shows the cluster until a key or a signal ends it.
pub(crate) async fn run(client: &Client, options: &Top, format: Format) -> Result<(), Failure> {
    if format != Format::Text {
        return Err(Failure::Usage(
            "top is for people and knows text only; as data: `node-admin status --cluster -o json`"
                .to_owned(),
        ));
    }
    let is_terminal = io::stdout().is_terminal() && io::stdin().is_terminal();
    if !options.once && !is_terminal {
        return Err(Failure::Usage(
            "top needs a terminal, and standard input and output are not one. For scripts: `node-admin top --once`, \
             or `node-admin status --cluster -o json`"
                .to_owned(),
        ));
    }
    // Before the terminal is taken over, so that an early failure is printed as usual.
    let (cluster, misses) = look(client, true).await.into_view()?;
    let mut screen = Screen::new(cluster, misses);
    if options.once {
        return output::print(&draw::to_text(&screen, ONCE_COLUMNS, ONCE_LINES)?);
    }
    let ends = Ends::watch()?;
    let mut taken = Taken::take()?;
    let outcome = live(client, options, &mut screen, &mut taken.0, ends).await;
    drop(taken);
    outcome
}

async fn live(
    client: &Client,
    options: &Top,
    screen: &mut Screen,
    terminal: &mut DefaultTerminal,
    mut ends: Ends,
) -> Result<(), Failure> {
    let mut keys = Keys::read();
    let mut due = interval_at(tokio::time::Instant::now() + options.interval, options.interval);
    due.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut looking: Option<Pin<Box<dyn Future<Output = Look> + '_>>> = None;
    loop {
        terminal.draw(|frame| draw::draw(frame, screen)).map_err(terminal_failed)?;
        tokio::select! {
            () = ends.any() => return Ok(()),
            key = keys.next() => match key {
                // The terminal is gone.
                None => return Ok(()),
                Some(key) => if screen.press(key) == Step::Leave { return Ok(()) },
            },
            _ = due.tick(), if looking.is_none() => looking = Some(Box::pin(seen(client))),
            (outcome, misses) = ended(&mut looking) => {
                looking = None;
                match outcome {
                    Ok(cluster) => screen.saw(cluster, misses),
                    Err(failure) => screen.missed(&failure.to_string()),
                }
            }
        }
    }
}

type Look = (Result<Cluster, Failure>, Vec<String>);

async fn seen(client: &Client) -> Look {
    let looked = look(client, true).await;
    (looked.outcome, looked.misses)
}

/// Waits for the work, if there is any.
async fn ended<T>(work: &mut Option<Pin<Box<dyn Future<Output = T> + '_>>>) -> T {
    match work {
        Some(work) => work.await,
        None => std::future::pending().await,
    }
}

/// The terminal; it is restored when this is dropped.
struct Taken(DefaultTerminal);

impl Taken {
    fn take() -> Result<Self, Failure> {
        // Also restores the terminal before a panic is printed.
        ratatui::try_init().map(Self).map_err(terminal_failed)
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        ratatui::restore();
    }
}

fn terminal_failed(error: io::Error) -> Failure {
    Failure::Error(format!("the terminal cannot be used: {error}"))
}

/// The signals that end the command.
struct Ends([Signal; 3]);

impl Ends {
    fn watch() -> Result<Self, Failure> {
        let watch = |kind| {
            signal(kind).map_err(|error| Failure::Error(format!("cannot listen for signals: {error}")))
        };
        Ok(Self([
            watch(SignalKind::interrupt())?,
            watch(SignalKind::terminate())?,
            watch(SignalKind::hangup())?,
        ]))
    }

    async fn any(&mut self) {
        let [interrupt, terminate, hangup] = &mut self.0;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}
