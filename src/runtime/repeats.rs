//! Log lines about what a peer can cause again and again: a few, and then one now and then.

use std::{collections::VecDeque, time::Instant};

use brock_core::base::limits;

/// Decides whether one kind of line about one peer is logged.
#[derive(Debug, Default)]
pub struct Repeats(VecDeque<Instant>);

impl Repeats {
    /// Lines within [`limits::REPEATED_LINE_INTERVAL`].
    const LINES: usize = 3;

    /// Whether the line is to be logged now. It counts then.
    pub fn is_due(&mut self) -> bool {
        self.is_due_at(Instant::now())
    }

    fn is_due_at(&mut self, now: Instant) -> bool {
        self.0.retain(|at| now.duration_since(*at) < limits::REPEATED_LINE_INTERVAL);
        let is_due = self.0.len() < Self::LINES;
        if is_due {
            self.0.push_back(now);
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_lines_are_due_at_once_and_more_of_them_later() {
        let (mut repeats, now) = (Repeats::default(), Instant::now());
        let due = (0..1000).filter(|_| repeats.is_due_at(now)).count();
        assert_eq!(due, Repeats::LINES);
        assert!(repeats.is_due_at(now + limits::REPEATED_LINE_INTERVAL));
    }
}
