//! Copying into the ring, and out of memory that another process may be writing.
//!
//! Of the latter the compiler must assume nothing: it may not read a byte twice, nor
//! conclude anything from a value. So every load is volatile or inside `asm!`.

use super::Way;

/// Copies `len` bytes from `src` to `dst`, which the peer's CPU will read next.
///
/// Long ones go past this CPU's cache unless `large` says otherwise: a line that the other
/// CPU read a moment ago costs more to get back than to replace, several times more when
/// the two share no cache (`cargo xtask bench ipc`).
///
/// # Safety
/// As [`std::ptr::copy_nonoverlapping`].
#[inline]
#[expect(clippy::cast_ptr_alignment, reason = "checked before")]
pub(super) unsafe fn copy_in(src: *const u8, dst: *mut u8, len: usize, large: Way) {
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    let _ = large;
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    if len >= crate::limits::PAST_CACHE && large == Way::Memory {
        use std::arch::x86_64::{__m128i, _mm_loadu_si128, _mm_sfence, _mm_stream_si128};
        let to_line = dst.align_offset(64);
        let mut i = to_line;
        // SAFETY: every access is within `len` bytes of both, by the loop's bounds
        // (`to_line` < 64 <= `len`); stores are 16-aligned from `to_line` on. The fence
        // orders these stores, which no release does, before whatever publishes them.
        unsafe {
            std::ptr::copy_nonoverlapping(src, dst, to_line);
            while i + 64 <= len {
                for part in [i, i + 16, i + 32, i + 48] {
                    let bytes = _mm_loadu_si128(src.add(part).cast());
                    _mm_stream_si128(dst.add(part).cast::<__m128i>(), bytes);
                }
                i += 64;
            }
            std::ptr::copy_nonoverlapping(src.add(i), dst.add(i), len - i);
            _mm_sfence();
        }
        return;
    }
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    if len <= crate::limits::SHORT && dst.addr().is_multiple_of(16) {
        use std::arch::x86_64::{__m128i, _mm_loadu_si128};
        let mut i = 0;
        // Each store lies within one line: one that spans two waits until both are here.
        // Volatile, or the loop becomes a call of memcpy, which makes wide ones.
        // SAFETY: i + 16 <= len in the loop, `dst` is aligned; the rest is within `len`.
        unsafe {
            while i + 16 <= len {
                let bytes = _mm_loadu_si128(src.add(i).cast::<__m128i>());
                dst.add(i).cast::<__m128i>().write_volatile(bytes);
                i += 16;
            }
            while i < len {
                dst.add(i).write_volatile(src.add(i).read());
                i += 1;
            }
        }
        return;
    }
    // SAFETY: the caller's promise.
    unsafe { std::ptr::copy_nonoverlapping(src, dst, len) }
}

/// Copies `len` bytes, rounded up to 16, from `src` to `dst`.
///
/// # Safety
/// `src` and `dst` must be valid for reads and writes of `len` rounded up to 16, `src`
/// aligned to 16; they must not overlap. Another process may write to `src` meanwhile.
#[inline]
#[expect(clippy::cast_ptr_alignment, reason = "the caller's promise")]
pub(super) unsafe fn copy_out(src: *const u8, dst: *mut u8, len: usize) {
    let len = (len + 15) & !15;
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    {
        use std::arch::x86_64::{__m128i, _mm_storeu_si128};
        if len >= 2048 {
            // SAFETY: the caller's promise; `rep movsb` touches exactly `len` bytes of
            // each, and the direction flag is clear in Rust code.
            unsafe {
                std::arch::asm!(
                    "rep movsb",
                    inout("rcx") len => _,
                    inout("rsi") src => _,
                    inout("rdi") dst => _,
                    options(nostack, preserves_flags)
                );
            }
            return;
        }
        let mut i = 0;
        while i < len {
            // SAFETY: i + 16 <= len, within the caller's promise; src is 16-aligned.
            unsafe {
                let part = src.add(i).cast::<__m128i>().read_volatile();
                _mm_storeu_si128(dst.add(i).cast(), part);
            }
            i += 16;
        }
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    {
        let mut i = 0;
        while i < len {
            // SAFETY: i + 8 <= len, within the caller's promise; src is 16-aligned.
            unsafe {
                let part = src.add(i).cast::<u64>().read_volatile();
                dst.add(i).cast::<u64>().write_unaligned(part);
            }
            i += 8;
        }
    }
}
