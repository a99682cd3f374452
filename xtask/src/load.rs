//! A busy machine to test on: what only holds on a quiet one shows beside processes that
//! take the cores away.

use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result, bail};

/// The processes; they end with this.
pub struct Load(Vec<Child>);

impl Load {
    /// As many as the first of `args` says, which is taken out.
    pub fn start(args: &mut Vec<String>) -> Result<Self> {
        const HOW: &str = "`--load` takes the number of processes first: `test --load 8 unit`";
        if args.is_empty() {
            bail!(HOW);
        }
        let n: usize = args.remove(0).parse().context(HOW)?;
        let mut load = Self(Vec::new());
        // Each looks now and then whether we are still there, should we be killed.
        let work = format!(
            "while kill -0 {}; do i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done; done",
            std::process::id()
        );
        for _ in 0..n {
            // A session of its own, or systems that share out time by session (autogroup)
            // would count all of them as one beside the tests.
            let mut busy = Command::new("setsid");
            busy.args(["sh", "-c", &work]).stdin(Stdio::null()).stderr(Stdio::null());
            load.0.push(busy.spawn().context("cannot start setsid (util-linux)")?);
        }
        Ok(load)
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        for busy in &mut self.0 {
            let _ = busy.kill();
            let _ = busy.wait();
        }
    }
}
