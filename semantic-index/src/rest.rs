//! What a worker lets go of while nobody asks: above all the pages of its own program file.
//!
//! LanceDB is some 200 MB of code, of which a search touches a good part. The pages are clean
//! copies of the program file, so that they can leave this process at any time; the page cache
//! keeps them, and the next search maps back the ones it needs. Used by `server`.

use std::ffi::c_int;
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
    // SAFETY: the callback only reads what it is given, and the loader calls it at once.
    unsafe { libc::dl_iterate_phdr(Some(main_program), std::ptr::null_mut()) };
}

/// Called for the main program first; ends the walk there.
unsafe extern "C" fn main_program(
    info: *mut libc::dl_phdr_info,
    _size: libc::size_t,
    _data: *mut libc::c_void,
) -> c_int {
    // SAFETY: the loader passes a valid description that lives through this call.
    let (base, headers) = unsafe {
        let info = &*info;
        let headers = std::slice::from_raw_parts(info.dlpi_phdr, usize::from(info.dlpi_phnum));
        (info.dlpi_addr as usize, headers)
    };
    for header in headers {
        // Segments that nobody ever writes: no relocation is in them, so the file has every byte.
        if header.p_type != libc::PT_LOAD || header.p_flags & libc::PF_W != 0 {
            continue;
        }
        let page = 4096;
        let start = (base + header.p_vaddr as usize).next_multiple_of(page);
        let end = (base + header.p_vaddr as usize + header.p_memsz as usize) & !(page - 1);
        if start < end {
            // SAFETY: the range lies inside one private mapping of a file that was never written
            // through it; dropping its pages means that they are read from the file again.
            unsafe { libc::madvise(start as *mut libc::c_void, end - start, libc::MADV_DONTNEED) };
        }
    }
    1
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt as _;

    use super::*;

    const PAGES: usize = 256;
    static TABLE: [u8; PAGES * 4096] = [7; PAGES * 4096];

    /// How many pages of the table are mapped in.
    fn present() -> usize {
        let mut entries = [0; PAGES * 8];
        let first = TABLE.as_ptr() as u64 / 4096;
        let pagemap = std::fs::File::open("/proc/self/pagemap").unwrap();
        pagemap.read_exact_at(&mut entries, first * 8).unwrap();
        // Bit 63 of an entry: the page is in memory.
        entries.chunks(8).filter(|entry| entry[7] & 0x80 != 0).count()
    }

    #[test]
    fn pages_of_the_program_leave_and_come_back() {
        let sum = || TABLE.iter().map(|b| u64::from(std::hint::black_box(*b))).sum::<u64>();
        assert_eq!(sum(), 7 * TABLE.len() as u64);
        assert!(present() > PAGES / 2);
        // A neighbour's page that another test reads at this moment brings some of ours along.
        let mut gone = (0..100).map(|_| {
            let_go_of_program();
            present()
        });
        assert!(gone.any(|present| present < PAGES / 2));
        assert_eq!(sum(), 7 * TABLE.len() as u64);
    }
}
