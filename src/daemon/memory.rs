//! Gives memory back that the start needed and the rest of the life does not. Knows nothing of what it was for.
#![allow(unsafe_code)]

/// What has been freed goes back to the system. glibc keeps it otherwise: after a configuration of ten thousand names
/// has been read, three times what stays in use.
pub(super) fn release() {
    #[cfg(target_env = "gnu")]
    // SAFETY: takes an integer, locks what it touches (malloc_trim(3)).
    unsafe {
        libc::malloc_trim(0);
    }
}
