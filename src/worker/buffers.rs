//! An object pool for batches: cleared on return, so that none carries yesterday's payments,
//! and capped, so that none keeps the memory of its busiest moment.

use std::ops::{Deref, DerefMut};

use crossbeam::queue::ArrayQueue;

/// The pool.
#[derive(Debug)]
pub struct Buffers<T> {
    free: ArrayQueue<Vec<T>>,
    capacity: usize,
}

impl<T> Buffers<T> {
    /// Keeps up to `count` buffers of up to `capacity` items.
    pub fn new(count: usize, capacity: usize) -> Self {
        Self { free: ArrayQueue::new(count), capacity }
    }

    /// An empty buffer; it comes back by itself.
    pub fn take(&self) -> Buffer<'_, T> {
        Buffer { items: self.free.pop().unwrap_or_else(|| Vec::with_capacity(self.capacity)), pool: self }
    }
}

/// A buffer on loan.
#[derive(Debug)]
pub struct Buffer<'a, T> {
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
        // A full pool lets the buffer go.
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
