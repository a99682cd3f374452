//! A value that must never be shown: provider keys and the like.
//!
//! It has no `Display`, its `Debug` prints a fixed mark, it is not serialisable, and its
//! bytes are overwritten when it is dropped. [`Secret::expose`] is the only way out; the
//! callers of it are the places to review.

use std::fmt;

/// Text that does not print.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// The text itself, for the one header or argument that needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "Secret(empty)" } else { "Secret(…)" })
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        // SAFETY: zero bytes are valid UTF-8, and nothing reads the string afterwards.
        let bytes = unsafe { self.0.as_bytes_mut() };
        for byte in bytes {
            // SAFETY: `byte` is a valid, exclusive reference; the volatile write keeps the
            // compiler from dropping a store to memory about to be freed.
            unsafe { std::ptr::write_volatile(byte, 0) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_nothing() {
        let secret = Secret::new("sk-123");
        assert_eq!(format!("{secret:?}"), "Secret(…)");
        assert_eq!(format!("{:?}", Some(&secret)), "Some(Secret(…))");
        assert_eq!(format!("{:?}", Secret::default()), "Secret(empty)");
        assert_eq!(secret.expose(), "sk-123");
    }
}
