//! A piece of memory shared with the peer: mine (read and write) or theirs (read only).
//!
//! Where the memory comes from is the backend's business (`crate::sys`); what may be
//! done with it is decided here. This is the only module that touches shared memory.

use std::any::Any;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering, fence};

use super::{Buf, Capacity, Lane, Own, Theirs, Way, Word, slot};

/// A mapping and what keeps it alive.
pub struct Region {
    base: NonNull<u8>,
    len: usize,
    /// Unmaps on drop.
    _keep: Box<dyn Any + Send + Sync>,
}

// SAFETY: the mapping is plain memory, alive as long as `_keep`, which is Send and Sync;
// all access goes through `Mine` and `Peers`, which synchronise by atomics or copy
// volatile, and each of which has one user at a time by the locks of `conn`.
unsafe impl Send for Region {}
// SAFETY: see above.
unsafe impl Sync for Region {}

impl Region {
    /// # Safety
    /// `base..base + len` must stay mapped while `keep` lives, and be page-aligned.
    pub(crate) unsafe fn new(
        base: NonNull<u8>,
        len: usize,
        keep: Box<dyn Any + Send + Sync>,
    ) -> Self {
        Self { base, len, _keep: keep }
    }

    pub fn len(&self) -> usize {
        self.len
    }

    #[inline]
    fn word(&self, word: Word) -> *mut u64 {
        // SAFETY: all words lie in the header, which is part of the region (checked in
        // `Mine::new` and `Peers::new`).
        unsafe { self.base.as_ptr().add(word.offset()).cast() }
    }

    #[inline]
    fn slot(&self, index: usize) -> *mut u64 {
        assert!(index < slot::WORDS, "outside the slot");
        // SAFETY: in the header, as the words are.
        unsafe { self.base.as_ptr().add(slot::OFFSET + index * 8).cast() }
    }
}

#[cfg(any(test, feature = "fuzzing"))]
impl Region {
    /// Two views of one piece of ordinary memory, for tests in one process.
    pub(crate) fn twins(len: usize) -> (Self, Self) {
        use std::sync::Arc;
        #[derive(Clone, Copy)]
        #[repr(C, align(4096))]
        struct Page([u8; 4096]);
        struct Pages(*mut [Page]);
        const ZERO: Page = Page([0; 4096]);
        // SAFETY: owns plain memory, freed by whichever thread drops it last.
        unsafe impl Send for Pages {}
        // SAFETY: has no methods but drop.
        unsafe impl Sync for Pages {}
        impl Drop for Pages {
            fn drop(&mut self) {
                // SAFETY: came from `Box::into_raw`, dropped once.
                drop(unsafe { Box::from_raw(self.0) });
            }
        }
        assert!(len.is_multiple_of(4096));
        let pages = Box::into_raw(vec![ZERO; len / 4096].into_boxed_slice());
        let keep = Arc::new(Pages(pages));
        let base = NonNull::new(pages.cast::<u8>()).expect("a box is not null");
        // SAFETY: alive while either clone of `keep` is, page-aligned.
        let twin = |keep| unsafe { Self::new(base, len, Box::new(keep)) };
        (twin(Arc::clone(&keep)), twin(keep))
    }
}

/// The region this side owns: nobody else can write to it.
pub struct Mine {
    region: Region,
    capacity: Capacity,
}

impl Mine {
    /// # Safety
    /// `region` must be mapped for reading and writing, and nobody may write to it except
    /// through this value. Others may read it.
    pub(crate) unsafe fn new(region: Region, capacity: Capacity) -> Self {
        assert!(capacity.valid() && region.len() == capacity.region());
        Self { region, capacity }
    }

    pub fn capacity(&self) -> Capacity {
        self.capacity
    }

    #[inline]
    fn atomic(&self, word: Word) -> &AtomicU64 {
        // SAFETY: in bounds, aligned to 128, mapped read-write, alive as long as self;
        // every access in this process is atomic.
        unsafe { AtomicU64::from_ptr(self.region.word(word)) }
    }
}

impl Own for Mine {
    #[inline]
    fn store(&self, word: Word, value: u64) {
        self.atomic(word).store(value, Ordering::Relaxed);
    }

    #[inline]
    fn publish(&self, word: Word, value: u64) {
        self.atomic(word).store(value, Ordering::Release);
    }

    #[inline]
    fn claim(&self, lane: Lane, at: usize, len: usize, word: Word) {
        #[cfg(all(target_arch = "x86_64", not(miri)))]
        {
            use std::arch::x86_64::{_MM_HINT_ET0, _mm_prefetch};
            let end = at.saturating_add(len.min(256)).min(self.capacity.of(lane));
            // SAFETY: inside the region; a prefetch has no effect but on caches.
            unsafe {
                let start = self.region.base.as_ptr().add(self.capacity.start(lane));
                for line in (at..end).step_by(64) {
                    _mm_prefetch::<_MM_HINT_ET0>(start.add(line).cast());
                }
                _mm_prefetch::<_MM_HINT_ET0>(self.region.word(word).cast());
            }
        }
        #[cfg(not(all(target_arch = "x86_64", not(miri))))]
        let _ = (lane, at, len, word);
    }

    #[inline]
    #[expect(clippy::cast_ptr_alignment, reason = "`at` is checked, regions are page-aligned")]
    fn write16(&self, lane: Lane, at: usize, words: [u64; 2]) {
        assert!(at.is_multiple_of(16) && at < self.capacity.of(lane), "write outside the ring");
        // SAFETY: 16 bytes at a multiple of 16 inside the lane, which is as `write` says.
        // Two stores of a word each: a reader in this process is no concern, and a wider
        // store would have to wait for the words to leave the store buffer.
        unsafe {
            let to = self.region.base.as_ptr().add(self.capacity.start(lane) + at).cast::<u64>();
            to.write(words[0].to_le());
            to.add(1).write(words[1].to_le());
        }
    }

    #[inline]
    fn write(&self, lane: Lane, at: usize, bytes: &[u8], large: Way) {
        let end = at.checked_add(bytes.len());
        assert!(end.is_some_and(|end| end <= self.capacity.of(lane)), "write outside the ring");
        // SAFETY: the range is inside the lane, which is inside the region, mapped
        // read-write; `bytes` is ordinary memory of ours and cannot overlap it. The peer
        // may read meanwhile: it copies out and believes nothing it has not been told.
        unsafe {
            let to = self.region.base.as_ptr().add(self.capacity.start(lane) + at);
            super::copy::copy_in(bytes.as_ptr(), to, bytes.len(), large);
        }
    }

    #[inline]
    fn write_slot(&self, index: usize, word: u64) {
        // SAFETY: in bounds, aligned, mapped read-write, alive as long as self; every
        // access in this process is atomic.
        unsafe { AtomicU64::from_ptr(self.region.slot(index)) }.store(word, Ordering::Relaxed);
    }

    #[inline]
    fn write_slot_rest(&self, bytes: &[u8]) {
        assert!(bytes.len() <= slot::REST, "outside the slot");
        // SAFETY: in the header, mapped read-write; otherwise as in `write`.
        unsafe {
            let to = self.region.base.as_ptr().add(slot::REST_OFFSET);
            super::copy::copy_in(bytes.as_ptr(), to, bytes.len(), Way::Cache);
        }
    }

    #[inline]
    fn fence(&self) {
        fence(Ordering::SeqCst);
    }
}

/// The region the peer owns.
pub struct Peers {
    region: Region,
    capacity: Capacity,
}

impl Peers {
    /// # Safety
    /// `region` must be mapped for reading and must not shrink.
    pub(crate) unsafe fn new(region: Region, capacity: Capacity) -> Self {
        assert!(capacity.valid() && region.len() == capacity.region());
        Self { region, capacity }
    }

    pub fn capacity(&self) -> Capacity {
        self.capacity
    }

    #[inline]
    fn at(&self, lane: Lane, at: usize, len: usize) -> *const u8 {
        assert!(at.is_multiple_of(16), "unaligned read");
        // Whole 16-byte units are read.
        let end = at.checked_add((len + 15) & !15);
        assert!(end.is_some_and(|end| end <= self.capacity.of(lane)), "read outside the ring");
        // SAFETY: in bounds by the line above.
        unsafe { self.region.base.as_ptr().add(self.capacity.start(lane) + at) }
    }
}

impl Theirs for Peers {
    #[inline]
    fn load(&self, word: Word) -> u64 {
        // SAFETY: in bounds, aligned, mapped for reading, alive as long as self. Relaxed
        // because that is the one ordering std documents for read-only memory.
        unsafe { AtomicU64::from_ptr(self.region.word(word)) }.load(Ordering::Relaxed)
    }

    #[inline]
    fn hint(&self, lane: Lane, at: usize) {
        #[cfg(all(target_arch = "x86_64", not(miri)))]
        if at < self.capacity.of(lane) {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            // SAFETY: inside the region; a prefetch has no effect but on caches.
            unsafe {
                let line = self.region.base.as_ptr().add(self.capacity.start(lane) + at);
                _mm_prefetch::<_MM_HINT_T0>(line.cast());
                // May lie behind the lane's end: a prefetch never faults.
                _mm_prefetch::<_MM_HINT_T0>(line.wrapping_add(64).cast());
            }
        }
        #[cfg(not(all(target_arch = "x86_64", not(miri))))]
        let _ = (lane, at);
    }

    #[inline]
    fn hint_slot(&self) {
        #[cfg(all(target_arch = "x86_64", not(miri)))]
        {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            // SAFETY: inside the region; a prefetch has no effect but on caches.
            unsafe {
                let rest = self.region.base.as_ptr().add(slot::REST_OFFSET);
                _mm_prefetch::<_MM_HINT_T0>(rest.cast());
            }
        }
    }

    #[inline]
    fn read_slot(&self, index: usize) -> u64 {
        // SAFETY: in bounds, aligned, mapped for reading, alive as long as self; Relaxed
        // as in `load`.
        unsafe { AtomicU64::from_ptr(self.region.slot(index)) }.load(Ordering::Relaxed)
    }

    #[inline]
    fn copy_slot_rest(&self, len: usize, into: &mut Buf) {
        assert!(len <= slot::REST, "outside the slot");
        let old = into.len();
        into.reserve(slot::REST);
        // SAFETY: in the header, which is mapped for reading; the buffer has room for all
        // of the rest; the first `len` bytes are initialised before the length says so.
        unsafe {
            let from = self.region.base.as_ptr().add(slot::REST_OFFSET);
            super::copy::copy_out(from, into.as_mut_ptr().add(old), len);
            into.set_len(old + len);
        }
    }

    #[inline]
    fn acquire(&self) {
        fence(Ordering::Acquire);
    }

    #[inline]
    #[expect(clippy::cast_ptr_alignment, reason = "`at` is checked, regions are page-aligned")]
    fn head16(&self, lane: Lane, at: usize) -> [u64; 2] {
        let from = self.at(lane, at, 16).cast::<u64>();
        // SAFETY: 16 readable bytes at a multiple of 16; volatile because the peer may
        // write them meanwhile.
        unsafe { [from.read_volatile(), from.add(1).read_volatile()] }
    }

    #[inline]
    fn copy_out(&self, lane: Lane, at: usize, len: usize, into: &mut Buf) {
        let from = self.at(lane, at, len);
        let old = into.len();
        into.reserve((len + 15) & !15);
        // SAFETY: `from` is readable for `len` rounded up to 16 and 16-aligned; the
        // buffer has that much spare room, private to us; the first `len` bytes are
        // initialised by the copy before the length says so.
        unsafe {
            super::copy::copy_out(from, into.as_mut_ptr().add(old), len);
            into.set_len(old + len);
        }
    }
}
