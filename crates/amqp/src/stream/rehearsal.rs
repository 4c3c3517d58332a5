//! Reads what a server says without a connection, for tests of whatever it may say.

use super::command::METADATA;
use super::frame::{Frame, code, known, names, pairs};
use super::wire::{Malformed, Splitter};

/// What came of reading bytes as frames of a server.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Rehearsal {
    /// The frames, as text.
    pub frames: Vec<String>,
    /// Why reading has ended before the last byte, if it has.
    pub violation: Option<String>,
}

/// Reads what a server says in these chunks.
pub fn rehearse<'c>(chunks: impl IntoIterator<Item = &'c [u8]>) -> Rehearsal {
    let (mut splitter, mut rehearsal) = (Splitter::default(), Rehearsal::default());
    for chunk in chunks {
        splitter.feed(chunk);
        if let Err(malformed) = read(&mut splitter, &mut rehearsal.frames) {
            rehearsal.violation = Some(malformed.to_string());
            break;
        }
    }
    rehearsal
}

fn read(splitter: &mut Splitter, frames: &mut Vec<String>) -> Result<(), Malformed> {
    while splitter.is_ready()? {
        let Some(frame) = splitter.next()? else { break };
        let frame = Frame::parse(frame)?;
        let said = match frame {
            Frame::Confirm(ids) => format!("confirm {:?}", ids.iter().collect::<Vec<_>>()),
            Frame::Answer { key, body, .. } => {
                let (code, rest) = code(key, body)?;
                // Whatever it is the answer to: it is read in each way in which an answer is read.
                let known = if key == METADATA { Some(known(rest)) } else { None };
                format!(
                    "answer to {key}: {code}, {known:?}, {:?}, {:?}, {:?}",
                    pairs(rest),
                    names(rest),
                    { rest }.u64()
                )
            }
            frame => format!("{frame:?}"),
        };
        frames.push(said);
    }
    Ok(())
}
