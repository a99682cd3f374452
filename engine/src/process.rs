//! Children and their memory.
