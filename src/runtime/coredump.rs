//! Keeps the memory of the process, which holds keys and payloads, from being written to disk or read by
//! other processes of the user.

/// Makes the kernel write no core file of this process when it crashes, and let only root trace it or read
/// its memory and its environment. To be called before the process reads a secret.
///
/// # Errors
///
/// The kernel's error. Only Linux has the call; elsewhere nothing happens.
pub fn forbid() -> std::io::Result<()> {
    #[cfg(target_os = "linux")]
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)?;
    Ok(())
}
