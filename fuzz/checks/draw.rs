//! Choices, drawn from the bytes of an input: the same bytes choose the same.

/// What is left of an input. Once it is used up every choice is the first.
pub(super) struct Draw<'a>(&'a [u8]);

impl<'a> Draw<'a> {
    pub(super) const fn new(data: &'a [u8]) -> Self {
        Self(data)
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    pub(super) fn pick<T: Copy>(&mut self, all: &[T]) -> T {
        all[usize::from(self.byte()) % all.len()]
    }

    pub(super) fn flag(&mut self) -> bool {
        self.byte() & 1 == 1
    }

    /// As many bytes as a byte before them says, as far as there are any.
    pub(super) fn bytes(&mut self) -> &'a [u8] {
        let length = usize::from(self.byte()).min(self.0.len());
        let (taken, rest) = self.0.split_at(length);
        self.0 = rest;
        taken
    }

    /// The same as text. What isn't UTF-8 becomes `\u{fffd}`, and nothing is longer than 255 bytes.
    pub(super) fn text(&mut self) -> String {
        let mut text = String::from_utf8_lossy(self.bytes()).into_owned();
        while text.len() > 255 {
            text.pop();
        }
        text
    }

    /// A text, or none.
    pub(super) fn maybe<T>(&mut self, draw: impl FnOnce(&mut Self) -> T) -> Option<T> {
        self.flag().then(|| draw(self))
    }

    pub(super) const fn rest(self) -> &'a [u8] {
        self.0
    }
}
