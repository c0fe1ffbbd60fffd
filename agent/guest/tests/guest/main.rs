//! Control groups of version 2 for real: a small virtual machine is booted, and in it a job's limits are tried, since
//! machines that build programs often have version 1, or no right to either.
//!
//! Not among the tests that `cargo test` runs: it needs QEMU, busybox, and Debian's cloud kernel, which has all
//! controllers built in. `.ci/run guest` gets them, and calls this program with the kernel's place in
//! `AGENT_GUEST_KERNEL`. The machine is emulated (TCG): no right and no device is needed. Its whole system is this
//! program, the libraries that it needs, and busybox.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(clippy::print_stdout, reason = "it is read on the machine's serial line")]

mod inside;
mod machine;

/// What the guest writes when all has held.
const PASSED: &str = "ALL LIMITS HELD";

fn main() {
    // What the machine's first program starts it with.
    if std::env::args().nth(1).as_deref() == Some("inside") {
        inside::run();
        println!("{PASSED}");
        return;
    }
    let kernel = std::env::var_os("AGENT_GUEST_KERNEL");
    let kernel = kernel.expect("AGENT_GUEST_KERNEL names the kernel: `.ci/run guest` gets one");
    let said = machine::boot(kernel.as_ref());
    print!("{said}");
    assert!(said.contains(PASSED), "the guest has not said that all limits held: see above");
}
