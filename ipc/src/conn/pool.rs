//! Large message buffers, kept while a connection is busy: fresh ones cost page faults.

use crate::limits::{POOL_BYTES, POOL_IDLE_BYTES};
use crate::ring::Buf;

/// Smaller ones come from the allocator as fast as from here.
const SMALLEST: usize = 8 << 10;

#[derive(Default)]
pub(crate) struct Pool {
    free: Vec<Buf>,
    bytes: usize,
}

pub(crate) fn worth_keeping(buf: &Buf) -> bool {
    (SMALLEST..=POOL_BYTES / 2).contains(&buf.capacity())
}

impl Pool {
    /// An empty buffer with room for `len`, and not much less than 256 bytes.
    pub(crate) fn take(&mut self, len: usize) -> Buf {
        if len >= SMALLEST
            && let Some(at) = self.free.iter().position(|b| b.capacity() >= len)
        {
            let buf = self.free.swap_remove(at);
            self.bytes -= buf.capacity();
            return buf;
        }
        Buf::with_capacity((len.max(256) + 15) & !15)
    }

    pub(crate) fn put(&mut self, mut buf: Buf) {
        if worth_keeping(&buf) && self.bytes + buf.capacity() <= POOL_BYTES {
            buf.clear();
            self.bytes += buf.capacity();
            self.free.push(buf);
        }
    }

    pub(crate) fn trim(&mut self) {
        self.free.sort_by_key(Buf::capacity);
        while self.bytes > POOL_IDLE_BYTES {
            let Some(buf) = self.free.pop() else { break };
            self.bytes -= buf.capacity();
        }
        self.free.shrink_to_fit();
    }
}
