//! The input of `settled publish`, which is read several times, line by line: to check it, to publish it, and to wait for
//! the outcomes. A file is read again and must not change meanwhile; anything else is copied to a temporary file that has
//! no name and ends with the process.

use std::fs::{File, Metadata};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::os::fd::AsFd;
use std::path::Path;
use std::time::SystemTime;

use anyhow::{Context, anyhow};
use tempfile::{SpooledTempFile, spooled_tempfile};

use crate::cli::Failure;

/// The longest line, in bytes, and the longest document that spans lines. A task is at most a fraction of that; with
/// `--unchecked` anything is published.
const LONGEST: u64 = 4 << 20;

/// How much of standard input is kept in memory, in bytes, before it goes to a temporary file.
const SPOOL: usize = 8 << 20;

/// After how many lines it is looked whether the file has changed.
const LOOK_EVERY: u64 = 256;

/// An input that can be read from its beginning any number of times.
pub(super) struct Input {
    source: Source,
    name: String,
    start: u64,
    /// The input is one document, which may span lines.
    is_single: bool,
}

enum Source {
    /// With what tells whether somebody has written to it.
    File(File, Stamp),
    Spool(SpooledTempFile),
}

type Stamp = (u64, Option<SystemTime>);

fn stamp(metadata: &Metadata) -> Stamp {
    (metadata.len(), metadata.modified().ok())
}

impl Input {
    /// Opens the file; standard input if it is `-`. Reads whatever isn't a file to its end.
    ///
    /// # Errors
    /// If it cannot be opened or read, or there is no room for a copy.
    pub(super) fn open(path: &Path) -> Result<Self, Failure> {
        let is_stdin = path.as_os_str() == "-";
        let name = if is_stdin { "standard input".to_owned() } else { path.display().to_string() };
        let open = || {
            let file = match is_stdin {
                true => File::from(io::stdin().as_fd().try_clone_to_owned()?),
                false => File::open(path)?,
            };
            Self::of(file, name.clone())
        };
        Ok(open().with_context(|| name.clone())?)
    }

    fn of(mut file: File, name: String) -> io::Result<Self> {
        let metadata = file.metadata()?;
        let (source, start) = if metadata.is_file() {
            let start = file.stream_position()?;
            (Source::File(file, stamp(&metadata)), start)
        } else {
            let mut spool = spooled_tempfile(SPOOL);
            io::copy(&mut file, &mut spool)?;
            (Source::Spool(spool), 0)
        };
        let mut input = Self { source, name, start, is_single: false };
        input.is_single = input.is_document()?;
        Ok(input)
    }

    fn is_document(&mut self) -> io::Result<bool> {
        let mut text = Vec::new();
        self.source.seek(SeekFrom::Start(self.start))?;
        (&mut self.source).take(LONGEST + 1).read_to_end(&mut text)?;
        let is_whole = text.len() as u64 <= LONGEST;
        Ok(is_whole && serde_json::from_slice::<&serde_json::value::RawValue>(&text).is_ok())
    }

    /// Reads the documents again, those before the line `from` left out.
    ///
    /// # Errors
    /// If it cannot be read, or has changed.
    pub(super) fn lines(&mut self, from: u64) -> Result<Lines<'_>, Failure> {
        self.source.seek(SeekFrom::Start(self.start)).with_context(|| self.name.clone())?;
        let Self { source, name, is_single, .. } = self;
        let reader = BufReader::with_capacity(64 << 10, source);
        Ok(Lines { reader, name, is_single: *is_single, from, number: 0 })
    }
}

/// A document of the input.
#[derive(Debug, PartialEq)]
pub(super) struct Line {
    /// The number of its first line.
    pub(super) number: u64,
    /// Without white space around it; never empty.
    pub(super) body: Vec<u8>,
}

/// The documents of an input, one by one.
pub(super) struct Lines<'a> {
    reader: BufReader<&'a mut Source>,
    name: &'a str,
    is_single: bool,
    from: u64,
    /// The number of the last line that was read.
    number: u64,
}

impl Iterator for Lines<'_> {
    type Item = Result<Line, Failure>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            match self.read() {
                Ok(None) => return None,
                Ok(Some(line)) if line.body.is_empty() || line.number < self.from => {}
                Ok(Some(line)) => return Some(Ok(line)),
                Err(error) => return Some(Err(error.context(self.name.to_owned()).into())),
            }
        }
    }
}

impl Lines<'_> {
    /// Reads a line, or all of the input if it is one document.
    fn read(&mut self) -> anyhow::Result<Option<Line>> {
        if self.number.is_multiple_of(LOOK_EVERY) {
            self.reader.get_ref().is_unchanged()?;
        }
        let mut body = Vec::new();
        let mut limited = (&mut self.reader).take(LONGEST + 1);
        let read =
            if self.is_single { limited.read_to_end(&mut body)? } else { limited.read_until(b'\n', &mut body)? };
        if read == 0 {
            self.reader.get_ref().is_unchanged()?;
            return Ok(None);
        }
        self.number += 1;
        if body.len() as u64 > LONGEST {
            let number = self.number;
            return Err(anyhow!("line {number} is longer than {LONGEST} bytes, expected one task per line"));
        }
        let leading = body.iter().take_while(|byte| byte.is_ascii_whitespace());
        let number =
            self.number + if self.is_single { leading.filter(|byte| **byte == b'\n').count() as u64 } else { 0 };
        // Not the buffer itself, which may have room for more.
        Ok(Some(Line { number, body: body.trim_ascii().to_vec() }))
    }
}

impl Source {
    /// Fails if somebody has written to the file since it was opened.
    fn is_unchanged(&self) -> anyhow::Result<()> {
        match self {
            Self::File(file, before) if stamp(&file.metadata()?) != *before => Err(changed()),
            _ => Ok(()),
        }
    }
}

/// The error if a pass finds other lines than the one before it.
pub(super) fn changed() -> anyhow::Error {
    anyhow!("the file was changed while it was read")
}

impl Read for Source {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::File(file, _) => file.read(buffer),
            Self::Spool(spool) => spool.read(buffer),
        }
    }
}

impl Seek for Source {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        match self {
            Self::File(file, _) => file.seek(to),
            Self::Spool(spool) => spool.seek(to),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn file(text: &str) -> File {
        let mut file = tempfile::tempfile().expect("a file");
        file.write_all(text.as_bytes()).and_then(|()| file.rewind()).expect("written");
        file
    }

    fn input(text: &str) -> Input {
        Input::of(file(text), "input".to_owned()).expect("an input")
    }

    fn lines(input: &mut Input, from: u64) -> Vec<(u64, String)> {
        let lines = input.lines(from).expect("readable").map(|line| line.expect("a line"));
        lines.map(|line| (line.number, String::from_utf8(line.body).expect("UTF-8"))).collect()
    }

    #[test]
    fn an_input_is_one_document_or_one_per_line() {
        let numbers = |text| lines(&mut input(text), 1).iter().map(|(number, _)| *number).collect::<Vec<_>>();
        assert_eq!(numbers("\n{\n \"a\": 1\n}\n"), [2]);
        assert_eq!(numbers("{}\n\n{}\r\n"), [1, 3]);
        assert_eq!(numbers("{}\nno"), [1, 2]);
        assert_eq!(numbers(" \n"), [0; 0]);
    }

    #[test]
    fn every_pass_reads_the_same_from_the_line_it_is_asked_for() {
        let mut input = input("1\n2\n\n3\n");
        let own = |lines: &[(u64, &str)]| lines.iter().map(|(n, text)| (*n, (*text).to_owned())).collect::<Vec<_>>();
        assert_eq!(lines(&mut input, 1), own(&[(1, "1"), (2, "2"), (4, "3")]));
        assert_eq!(lines(&mut input, 2), own(&[(2, "2"), (4, "3")]));
        assert_eq!(lines(&mut input, 5), own(&[]));
    }

    #[test]
    fn what_is_before_the_position_of_an_open_file_is_not_read() {
        let mut file = file("1\n2\n");
        file.seek(SeekFrom::Start(2)).expect("sought");
        let mut input = Input::of(file, "input".to_owned()).expect("an input");
        assert_eq!(lines(&mut input, 1), [(1, "2".to_owned())]);
    }

    #[test]
    fn a_file_that_was_written_to_is_refused() {
        let named = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(named.path(), "1\n2\n").expect("written");
        let mut input = Input::open(named.path()).expect("an input");
        assert_eq!(lines(&mut input, 1).len(), 2);
        std::fs::write(named.path(), "1\n2\n3\n").expect("written");
        let refused = input.lines(1).expect("readable").find_map(Result::err).expect("an error");
        assert!(refused.to_string().contains("was changed while it was read"), "{refused}");
    }

    #[test]
    fn a_line_without_an_end_is_not_read_into_memory() {
        let mut input = input(&format!("1\n{}", "x".repeat(5 << 20)));
        let refused = input.lines(1).expect("readable").find_map(Result::err).expect("an error");
        assert!(refused.to_string().contains("line 2 is longer than"), "{refused}");
    }
}
