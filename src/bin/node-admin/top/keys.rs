//! Keys, read by a thread, because reading blocks.

use std::{thread, time::Duration};

use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyModifiers};
use tokio::sync::mpsc;

/// Keys that are queued; further ones are dropped.
const KEYS_WAITING: usize = 64;
/// How often the thread checks whether it must end.
const POLL: Duration = Duration::from_millis(100);

/// What a key means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Key {
    Leave,
    Next,
    Previous,
    Up,
    Down,
    Help,
    /// The terminal was resized.
    Redraw,
}

pub(super) struct Keys(mpsc::Receiver<Key>);

impl Keys {
    pub(super) fn read() -> Self {
        let (sender, receiver) = mpsc::channel(KEYS_WAITING);
        thread::spawn(move || {
            while !sender.is_closed() {
                let event = match event::poll(POLL) {
                    Ok(false) => continue,
                    Ok(true) => event::read(),
                    Err(error) => Err(error),
                };
                // Without a terminal there are no more keys.
                let Ok(event) = event else { return };
                if let Some(key) = meaning(&event) {
                    let _ = sender.try_send(key);
                }
            }
        });
        Self(receiver)
    }

    /// `None` if the terminal is gone.
    pub(super) async fn next(&mut self) -> Option<Key> {
        self.0.recv().await
    }
}

fn meaning(event: &Event) -> Option<Key> {
    let KeyEvent { code, modifiers, .. } = match event {
        Event::Resize(..) => return Some(Key::Redraw),
        Event::Key(key) if key.is_press() || key.is_repeat() => *key,
        _ => return None,
    };
    match code {
        KeyCode::Char('c') if modifiers.contains(KeyModifiers::CONTROL) => Some(Key::Leave),
        KeyCode::Char('q') | KeyCode::Esc => Some(Key::Leave),
        KeyCode::Tab | KeyCode::Right | KeyCode::Char('l') => Some(Key::Next),
        KeyCode::BackTab | KeyCode::Left | KeyCode::Char('h') => Some(Key::Previous),
        KeyCode::Up | KeyCode::Char('k') => Some(Key::Up),
        KeyCode::Down | KeyCode::Char('j') => Some(Key::Down),
        KeyCode::Char('?') => Some(Key::Help),
        _ => None,
    }
}
