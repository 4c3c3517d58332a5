//! Pool of batch buffers. A returned buffer is cleared, so that no old payment stays in it, and shrunk, so that it
//! does not keep the memory of a peak.

use std::ops::{Deref, DerefMut};

use crossbeam::queue::ArrayQueue;

/// Pool of batch buffers, shared by the workers.
#[derive(Debug)]
pub(super) struct Buffers<T> {
    free: ArrayQueue<Vec<T>>,
    capacity: usize,
}

impl<T> Buffers<T> {
    /// Keeps up to `count` buffers of up to `capacity` items.
    pub(super) fn new(count: usize, capacity: usize) -> Self {
        Self { free: ArrayQueue::new(count), capacity }
    }

    /// Takes an empty buffer out of the pool. Dropping the buffer returns it.
    pub(super) fn take(&self) -> Buffer<'_, T> {
        Buffer { items: self.free.pop().unwrap_or_else(|| Vec::with_capacity(self.capacity)), pool: self }
    }
}

/// A buffer taken from the pool. Dropping it clears it and returns it.
#[derive(Debug)]
pub(super) struct Buffer<'a, T> {
    items: Vec<T>,
    pool: &'a Buffers<T>,
}

impl<T> Deref for Buffer<'_, T> {
    type Target = Vec<T>;

    fn deref(&self) -> &Vec<T> {
        &self.items
    }
}

impl<T> DerefMut for Buffer<'_, T> {
    fn deref_mut(&mut self) -> &mut Vec<T> {
        &mut self.items
    }
}

impl<T> Drop for Buffer<'_, T> {
    fn drop(&mut self) {
        let mut items = std::mem::take(&mut self.items);
        items.clear();
        items.shrink_to(self.pool.capacity);
        // If the pool is full, the buffer is freed.
        let _ = self.pool.free.push(items);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_comes_back_empty_and_no_larger_than_it_may_be() {
        let pool = Buffers::new(1, 4);
        {
            let mut buffer = pool.take();
            buffer.extend(0..1000);
            let second: Buffer<'_, i32> = pool.take();
            drop(second);
        }
        let buffer = pool.take();
        assert!(buffer.is_empty());
        assert!(buffer.capacity() < 1000);
    }
}
