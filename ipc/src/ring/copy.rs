//! Copying out of memory that another process may be writing at the same moment.
//!
//! The compiler must assume nothing about such memory: it may not read a byte twice,
//! nor conclude anything from a value. So every load is volatile or inside `asm!`.

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
