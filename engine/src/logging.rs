//! Files for `tracing`: JSON lines, size-capped, few.
