//! What a worker lets go of while nobody asks: above all the pages of its own program file.
//!
//! LanceDB is some 200 MB of code, of which a search touches a good part. The pages are clean
//! copies of the program file, so that they can leave this process at any time; the page cache
//! keeps them, and the next search maps back the ones it needs. Used by `server`.

use std::ffi::{c_int, c_void};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Notify;

use crate::limits::REST_AFTER;

/// Notices when the worker comes to rest. Sleeps until a search has been answered.
#[derive(Debug, Default)]
pub(crate) struct Rest {
    answered: AtomicU64,
    news: Notify,
}

impl Rest {
    /// Called after each answer.
    pub(crate) fn answered(&self) {
        self.answered.fetch_add(1, Ordering::Relaxed);
        self.news.notify_one();
    }

    /// Lets go of program pages, and of what `also` does, whenever there was no answer for
    /// [`REST_AFTER`].
    pub(crate) async fn watch(self: Arc<Self>, also: impl AsyncFn()) {
        loop {
            self.news.notified().await;
            let mut seen;
            loop {
                seen = self.answered.load(Ordering::Relaxed);
                tokio::time::sleep(REST_AFTER).await;
                if seen == self.answered.load(Ordering::Relaxed) {
                    break;
                }
            }
            also().await;
            let_go_of_program();
        }
    }
}

/// Drops the program's read-only pages from this process.
pub(crate) fn let_go_of_program() {
    for part in read_only_parts() {
        // SAFETY: the range lies inside one private mapping of a file that was never written
        // through it; dropping its pages means that they are read from the file again.
        unsafe { libc::madvise(part.start as *mut c_void, part.len(), libc::MADV_DONTNEED) };
    }
}

/// The addresses of the program's segments that nobody ever writes, in whole pages: no
/// relocation is in them, so the file has every byte.
fn read_only_parts() -> Vec<Range<usize>> {
    let mut parts = Vec::new();
    // SAFETY: the callback gets this vector, which outlives the call, and the loader calls it
    // at once.
    unsafe { libc::dl_iterate_phdr(Some(main_program), (&raw mut parts).cast()) };
    parts
}

/// Called for the main program first; ends the walk there.
unsafe extern "C" fn main_program(
    info: *mut libc::dl_phdr_info,
    _size: libc::size_t,
    parts: *mut c_void,
) -> c_int {
    const PAGE: usize = 4096;
    // SAFETY: the loader passes a valid description that lives through this call, and the vector
    // of `read_only_parts`.
    let (base, headers, parts) = unsafe {
        let info = &*info;
        let headers = std::slice::from_raw_parts(info.dlpi_phdr, usize::from(info.dlpi_phnum));
        (info.dlpi_addr as usize, headers, &mut *parts.cast::<Vec<Range<usize>>>())
    };
    for header in headers {
        if header.p_type != libc::PT_LOAD || header.p_flags & libc::PF_W != 0 {
            continue;
        }
        let start = (base + header.p_vaddr as usize).next_multiple_of(PAGE);
        let end = (base + header.p_vaddr as usize + header.p_memsz as usize) & !(PAGE - 1);
        if start < end {
            parts.push(start..end);
        }
    }
    1
}

#[cfg(test)]
mod tests {
    use super::*;

    static TABLE: [u8; 64 * 4096] = [7; 64 * 4096];
    static COUNTER: AtomicU64 = AtomicU64::new(7);

    /// Whether the kernel drops a page is not looked at: it maps whole folios back as soon as a
    /// neighbour is read.
    #[test]
    fn what_is_let_go_of_is_the_program_and_nothing_that_is_written() {
        let parts = read_only_parts();
        let inside = |at: usize| parts.iter().any(|part| part.contains(&at));
        // The first and the last page of a segment may be another's, too.
        assert!(inside(TABLE.as_ptr() as usize + TABLE.len() / 2));
        assert!(inside(let_go_of_program as fn() as usize));
        assert!(!inside(&raw const COUNTER as usize));
        COUNTER.store(8, Ordering::Relaxed);
        let_go_of_program();
        assert_eq!(COUNTER.load(Ordering::Relaxed), 8);
        assert!(TABLE.iter().all(|byte| std::hint::black_box(*byte) == 7));
    }
}
