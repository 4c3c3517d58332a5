//! The screen: drawn by ratatui, on the terminal's second screen, so that what was there before comes back at the end.
//!
//! Keys are read on a thread of its own, since crossterm's reading blocks.

use std::io::{self, IsTerminal};
use std::time::Duration;

use ratatui::Frame;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::Line;
use ratatui::widgets::{Block, Cell, Paragraph, Row, Table, TableState};
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};

use super::scrape::Source;
use super::view::View;
use super::{
    INSTANCE_HEADINGS, LATENCY_HEADINGS, OUTCOME_HEADINGS, STAGE_HEADINGS, instance_cells, latency_cells, number,
    outcome_cells, stage_cells,
};
use crate::cli::{Exit, Failure};
use crate::lifecycle;
use crate::printable::printable;

/// How often the thread that reads keys looks whether it is still needed.
const KEY_POLL: Duration = Duration::from_millis(200);

/// What a key or the terminal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Input {
    Quit,
    /// Moves the selection by so many daemons.
    Select(isize),
    /// Something else, such as another size: it is drawn again.
    Redraw,
}

/// Whether there is a terminal to draw on and to read keys from.
pub(super) fn is_possible() -> bool {
    io::stdout().is_terminal() && io::stdin().is_terminal()
}

/// Shows the daemons until `q`, Ctrl-C or a signal.
pub(super) async fn run(source: &mut Source, period: Duration) -> Result<Exit, Failure> {
    let stop = lifecycle::interruptible()?;
    let (sender, mut inputs) = mpsc::channel(16);
    let mut terminal = ratatui::try_init()?;
    let keys = std::thread::spawn(move || read_keys(&sender));
    let shown = async {
        let (mut daemons, mut selected) = (Vec::new(), TableState::default().with_selected(0));
        let mut view = View::of(&daemons, None);
        let mut ticks = interval(period);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let input = tokio::select! {
                biased;
                () = stop.cancelled() => Some(Input::Quit),
                input = inputs.recv() => Some(input.unwrap_or(Input::Quit)),
                _ = ticks.tick() => None,
            };
            match input {
                Some(Input::Quit) => return Ok(Exit::Ok),
                Some(Input::Select(by)) => select(&mut selected, by, view.instances.len()),
                Some(Input::Redraw) => {}
                None => {
                    let (now, error) = source.look(std::mem::take(&mut daemons)).await;
                    view = View::of(&now, error);
                    daemons = now;
                }
            }
            terminal.draw(|frame| draw(frame, &view, &mut selected))?;
        }
    };
    let ended = shown.await;
    drop(inputs);
    ratatui::try_restore()?;
    let _ = keys.join();
    ended
}

/// Reads keys until nobody listens any more.
fn read_keys(sender: &mpsc::Sender<Input>) {
    while !sender.is_closed() {
        let input = match event::poll(KEY_POLL) {
            Ok(false) => continue,
            Ok(true) => event::read().ok().and_then(|event| meaning(&event)),
            // The terminal is gone.
            Err(_) => Some(Input::Quit),
        };
        if let Some(input) = input
            && sender.blocking_send(input).is_err()
        {
            return;
        }
    }
}

fn meaning(event: &Event) -> Option<Input> {
    let Event::Key(key) = event else { return matches!(event, Event::Resize(..)).then_some(Input::Redraw) };
    if key.kind != KeyEventKind::Press {
        return None;
    }
    match key.code {
        // In raw mode the terminal sends no SIGINT.
        KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => Some(Input::Quit),
        KeyCode::Char('q') | KeyCode::Esc => Some(Input::Quit),
        KeyCode::Up | KeyCode::Char('k') => Some(Input::Select(-1)),
        KeyCode::Down | KeyCode::Char('j') => Some(Input::Select(1)),
        _ => None,
    }
}

fn select(selected: &mut TableState, by: isize, count: usize) {
    let place = selected.selected().unwrap_or(0).saturating_add_signed(by);
    selected.select(Some(place.min(count.saturating_sub(1))));
}

fn draw(frame: &mut Frame<'_>, view: &View, selected: &mut TableState) {
    let instances = u16::try_from(view.instances.len()).unwrap_or(u16::MAX).clamp(1, 10) + 3;
    let rows = Layout::vertical([
        Constraint::Length(instances),
        Constraint::Length(4),
        Constraint::Length(11),
        Constraint::Min(4),
        Constraint::Length(1),
    ]);
    let [instances, detail, middle, outcomes, help] = rows.areas(frame.area());
    let [rates, latencies, stages] =
        Layout::horizontal([Constraint::Length(32), Constraint::Length(38), Constraint::Min(30)]).areas(middle);
    let states = table("daemons", INSTANCE_HEADINGS, view.instances.iter().map(instance_cells).collect());
    let states = states.row_highlight_style(Style::new().add_modifier(Modifier::REVERSED));
    frame.render_stateful_widget(states, instances, selected);
    draw_detail(frame, view, selected.selected().unwrap_or(0), detail);
    let per_second = view.rates.iter().map(|rate| [rate.name.to_owned(), number(rate.per_second)]).collect();
    frame.render_widget(table("rates", ["", ">PER SECOND"], per_second), rates);
    let cells = view.latencies.iter().map(latency_cells).collect();
    frame.render_widget(table("latencies", LATENCY_HEADINGS, cells), latencies);
    frame.render_widget(table("stages", STAGE_HEADINGS, view.stages.iter().map(stage_cells).collect()), stages);
    let cells = view.outcomes.iter().map(outcome_cells).collect();
    frame.render_widget(table("outcomes", OUTCOME_HEADINGS, cells), outcomes);
    frame.render_widget(Line::from("q quit   ↑ ↓ select a daemon"), help);
}

/// Draws why the selected daemon does not run, or why daemons are not known.
fn draw_detail(frame: &mut Frame<'_>, view: &View, selected: usize, area: Rect) {
    let found = view.instances.get(selected);
    let reason = found.and_then(|found| found.error.as_deref().or(found.reason.as_deref()));
    let lines: Vec<Line<'_>> = [
        view.registry_error.as_ref().map(|error| format!("the daemons are not known: {error}")),
        found.map(|found| format!("{}: {}", found.state, reason.unwrap_or("nothing to report"))),
    ]
    .into_iter()
    .flatten()
    .map(|line| Line::from(printable(&line).into_owned()))
    .collect();
    frame.render_widget(Paragraph::new(lines).block(Block::bordered().title("selected")), area);
}

/// Returns a table whose columns are as wide as their cells. A heading that begins with `>` is aligned right.
fn table<const N: usize>(title: &'static str, headings: [&'static str; N], rows: Vec<[String; N]>) -> Table<'static> {
    let is_right = headings.map(|heading| heading.starts_with('>'));
    let names = headings.map(|heading| heading.trim_start_matches('>'));
    let rows: Vec<[String; N]> = rows.into_iter().map(|row| row.map(|cell| printable(&cell).into_owned())).collect();
    let widths: Vec<usize> = (0..N)
        .map(|column| {
            rows.iter().map(|row| row[column].chars().count()).chain([names[column].len()]).max().unwrap_or(0)
        })
        .collect();
    let cells = |row: [String; N]| {
        let aligned = row.into_iter().zip(is_right).map(|(cell, is_right)| {
            let line = Line::from(cell);
            Cell::from(if is_right { line.right_aligned() } else { line })
        });
        Row::new(aligned.collect::<Vec<_>>())
    };
    let head = cells(names.map(str::to_owned)).style(Style::new().fg(Color::Cyan));
    let widths = widths.into_iter().map(|width| Constraint::Length(u16::try_from(width).unwrap_or(u16::MAX)));
    Table::new(rows.into_iter().map(cells), widths).header(head).column_spacing(2).block(Block::bordered().title(title))
}

#[cfg(test)]
mod tests {
    use ratatui::crossterm::event::KeyEvent;

    use super::*;

    #[test]
    fn keys_quit_and_select() {
        let key = |code| meaning(&Event::Key(KeyEvent::new(code, KeyModifiers::NONE)));
        assert_eq!(key(KeyCode::Char('q')), Some(Input::Quit));
        assert_eq!(key(KeyCode::Down), Some(Input::Select(1)));
        assert_eq!(key(KeyCode::Char('x')), None);
        assert_eq!(meaning(&Event::Resize(80, 24)), Some(Input::Redraw));
        let mut selected = TableState::default().with_selected(0);
        select(&mut selected, -1, 2);
        assert_eq!(selected.selected(), Some(0));
        select(&mut selected, 1, 2);
        select(&mut selected, 1, 2);
        assert_eq!(selected.selected(), Some(1));
    }
}
