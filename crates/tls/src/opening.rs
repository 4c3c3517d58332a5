//! A connection on which the server has said nothing yet.

use std::io;
use std::task::Poll;

/// Leaves it to the reader to say why a connection ended, until the server has said something.
///
/// In TLS 1.3 the server looks at the client's certificate when the client has completed its handshake. If the server
/// refuses it, it sends an alert and closes the connection, often while the client writes its first message. The write
/// fails then, and the reason waits to be read. So a write to a closed connection counts as done here; what follows is
/// a read, which returns the alert, or the end of the connection.
#[derive(Debug, Default)]
pub struct Opening {
    is_over: bool,
}

impl Opening {
    /// Tells how many bytes from the server were read.
    pub const fn read(&mut self, bytes: usize) {
        self.is_over |= bytes > 0;
    }

    /// Returns the result of a write or a flush, or `done` if it has failed because the connection is closed.
    pub fn write<T>(&self, result: Poll<io::Result<T>>, done: T) -> Poll<io::Result<T>> {
        match result {
            Poll::Ready(Err(error)) if !self.is_over && is_closed(error.kind()) => Poll::Ready(Ok(done)),
            result => result,
        }
    }
}

const fn is_closed(kind: io::ErrorKind) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset};
    matches!(kind, BrokenPipe | ConnectionAborted | ConnectionReset)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(opening: &Opening, kind: io::ErrorKind) -> Option<usize> {
        match opening.write(Poll::Ready(Err(kind.into())), 7) {
            Poll::Ready(result) => result.ok(),
            Poll::Pending => None,
        }
    }

    #[test]
    fn a_write_to_a_closed_connection_is_left_to_the_reader_until_the_server_has_said_something() {
        let mut opening = Opening::default();
        opening.read(0);
        assert_eq!(write(&opening, io::ErrorKind::BrokenPipe), Some(7));
        assert_eq!(write(&opening, io::ErrorKind::ConnectionReset), Some(7));
        assert_eq!(write(&opening, io::ErrorKind::TimedOut), None);
        opening.read(1);
        assert_eq!(write(&opening, io::ErrorKind::BrokenPipe), None);
    }
}
