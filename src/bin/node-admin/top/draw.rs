//! The screen, drawn.

use ratatui::{
    Frame, Terminal,
    backend::TestBackend,
    layout::{Constraint, Layout, Rect},
    style::{Color, Modifier, Style},
    text::{Line, Span},
    widgets::{Block, Cell, Clear, Paragraph, Row, Table, TableState, Tabs, Wrap},
};

use super::screen::{Page, Screen};
use crate::{
    cluster::UNKNOWN,
    failure::Failure,
    output,
    paint::{self, Colour},
};
use brock_client::view::Level;

const KEYS: &str = "q quit   Tab page   \u{2191}\u{2193} line   ? help";

const HELP: [&str; 7] = [
    "q, Esc, Ctrl-C   quit",
    "Tab, \u{2192}           the next page",
    "Shift-Tab, \u{2190}     the page before",
    "\u{2191} \u{2193}              the line above, below",
    "?                this help, and back",
    "",
    "? in a table: unknown. Rates: over the last minute.",
];

/// Draws the whole screen.
pub(super) fn draw(frame: &mut Frame<'_>, screen: &Screen) {
    let [verdict, tabs, body, foot] = Layout::vertical([
        Constraint::Length(3),
        Constraint::Length(1),
        Constraint::Min(1),
        Constraint::Length(2),
    ])
    .areas(frame.area());
    let level = screen.cluster.verdict.level;
    let sentence = Line::from(vec![
        Span::styled(format!(" {} ", level.as_str()), level_style(level).add_modifier(Modifier::REVERSED)),
        Span::raw(" "),
        Span::raw(output::printable(&screen.cluster.verdict.sentence)),
    ]);
    frame.render_widget(Paragraph::new(sentence).wrap(Wrap { trim: true }), verdict);
    let titles = Page::ALL.map(Page::title);
    let selected = Page::ALL.iter().position(|page| *page == screen.page);
    frame.render_widget(
        Tabs::new(titles).select(selected).highlight_style(Style::new().add_modifier(Modifier::REVERSED)),
        tabs,
    );
    table(frame, screen, body);
    let seen = screen.made_unix().map_or_else(|| "?".to_owned(), output::moment);
    let problem =
        Line::from(Span::styled(screen.problem.as_deref().unwrap_or_default(), coloured(Color::Red)));
    frame.render_widget(Paragraph::new(vec![problem, Line::from(format!("{KEYS}   as of {seen}"))]), foot);
    if screen.shows_help {
        help(frame);
    }
}

fn table(frame: &mut Frame<'_>, screen: &Screen, area: Rect) {
    let rows = output::fitted(&screen.table(), area.width.into());
    let Some((heading, rows)) = rows.split_first() else {
        frame.render_widget(Paragraph::new("none"), area);
        return;
    };
    let columns = rows.iter().map(Vec::len).max().unwrap_or_default().max(heading.len());
    let widest = |column: usize| {
        let cells = std::iter::once(heading).chain(rows).filter_map(|row| row.get(column));
        let width = cells.map(|cell| paint::plain(cell).chars().count()).max().unwrap_or_default();
        u16::try_from(width).unwrap_or(u16::MAX)
    };
    let widths = (0..columns).map(|column| match column + 1 == columns {
        // The longest column is the last.
        true => Constraint::Min(widest(column).min(20)),
        false => Constraint::Length(widest(column).min(60)),
    });
    let body = rows
        .iter()
        .map(|row| Row::new(row.iter().map(|cell| Cell::from(paint::plain(cell)).style(cell_style(cell)))));
    let table = Table::new(body, widths)
        .header(Row::new(heading.iter().map(String::as_str)).style(Style::new().add_modifier(Modifier::BOLD)))
        .column_spacing(2)
        .row_highlight_style(Style::new().add_modifier(Modifier::REVERSED));
    let mut state = TableState::default().with_selected(Some(screen.line));
    frame.render_stateful_widget(table, area, &mut state);
}

fn help(frame: &mut Frame<'_>) {
    let area = frame.area();
    let (width, height) = (60.min(area.width), 9.min(area.height));
    let place = Rect::new((area.width - width) / 2, (area.height - height) / 2, width, height);
    frame.render_widget(Clear, place);
    let lines: Vec<Line<'_>> = HELP.iter().map(|line| Line::from(*line)).collect();
    frame.render_widget(Paragraph::new(lines).block(Block::bordered().title(" keys ")), place);
}

fn coloured(color: Color) -> Style {
    if paint::is_on() { Style::new().fg(color) } else { Style::new() }
}

fn level_style(level: Level) -> Style {
    coloured(match level {
        Level::Ok => Color::Green,
        Level::Warning => Color::Yellow,
        Level::Critical => Color::Red,
    })
}

fn cell_style(cell: &str) -> Style {
    match paint::colour_of(cell) {
        Some(Colour::Good) => coloured(Color::Green),
        Some(Colour::Warning) => coloured(Color::Yellow),
        Some(Colour::Bad) => coloured(Color::Red),
        None if cell == UNKNOWN => coloured(Color::Yellow),
        None => Style::new(),
    }
}

/// The same as text, without a terminal.
pub(super) fn to_text(screen: &Screen, columns: u16, lines: u16) -> Result<String, Failure> {
    let failed = |error| Failure::Error(format!("could not draw: {error}"));
    let mut terminal = Terminal::new(TestBackend::new(columns, lines)).map_err(failed)?;
    terminal.draw(|frame| draw(frame, screen)).map_err(failed)?;
    let buffer = terminal.backend().buffer();
    let line = |y: u16| {
        let cells = (0..columns).filter_map(|x| buffer.cell((x, y)));
        cells.map(|cell| cell.symbol()).collect::<String>().trim_end().to_owned()
    };
    let drawn: Vec<String> = (0..lines).map(line).collect();
    // A page that is shorter than the screen leaves empty lines above the foot.
    let mut text = String::new();
    let mut was_empty = false;
    for line in drawn {
        if !(line.is_empty() && was_empty) {
            text.push_str(&line);
            text.push('\n');
        }
        was_empty = line.is_empty();
    }
    Ok(text)
}
