//! `browser_action`: a Chromium in the fence, driven over the `DevTools` protocol.
//!
//! The helper lives as long as the browser: the first action comes with the request, each
//! later one as another message on the host's pipe; each is answered by a picture and a
//! report. Profile and cache lie in the call's private `/tmp` and are gone with it.

mod cdp;
mod page;

use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read as _, Seek as _};
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};

use serde_json::{Map, Value};

use super::output;
use super::processes::{Processes, private_bytes};
use crate::envelope::LimitHit;
use crate::limits::{MAX_CALL_BYTES, WATCH_INTERVAL_MS};
use crate::protocol::{Report, Request};
use crate::sandbox::sys;
use crate::sandbox::{Layers, layer};

pub(crate) const NAME: &str = "browser_action";

/// What it writes to its standard error, in the private `/tmp`.
const LOG: &str = "/tmp/browser.log";

/// No sandbox of its own: that needs what ours forbids, and ours holds all of it.
const FLAGS: &[&str] = &[
    "--headless",
    "--no-sandbox",
    "--remote-debugging-pipe",
    "--user-data-dir=/tmp/browser",
    "--no-first-run",
    "--no-default-browser-check",
    "--disable-gpu",
    "--disable-extensions",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-domain-reliability",
    "--disable-sync",
    "--disable-breakpad",
    "--disable-crash-reporter",
    "--metrics-recording-only",
    "--no-pings",
    "--mute-audio",
    "--hide-scrollbars",
    "--password-store=basic",
    "--force-webrtc-ip-handling-policy=disable_non_proxied_udp",
    "--disk-cache-size=33554432",
];

/// Serves actions until the host closes its pipe, the browser ends, or `close`.
pub(crate) fn run(request: &Request, layers: &Layers) -> Report {
    let browser = match Browser::start(request, layers) {
        Ok(browser) => browser,
        Err(body) => return Report { body, ..Report::default() },
    };
    let processes = browser.processes;
    let last = browser.serve(request, layers);
    processes.end();
    last
}

struct Browser {
    processes: Processes,
    ended: OwnedFd,
    page: page::Page,
}

impl Browser {
    fn start(request: &Request, layers: &Layers) -> Result<Self, String> {
        if !layers.has(layer::MOUNT) {
            return Err(
                "the browser was not started: without a mount namespace its profile cannot \
                        be kept apart"
                    .into(),
            );
        }
        let program = request.sandbox.browser.as_ref().ok_or("no browser was found")?;
        let failed = |e: io::Error| format!("{} cannot be started: {e}", program.display());
        let (commands_in, commands_out) = sys::pipe().map_err(failed)?;
        let (answers_in, answers_out) = sys::pipe().map_err(failed)?;
        let log = File::create(LOG).map_err(failed)?;
        let name = sys::cstr(program).map_err(failed)?;
        let mut args = vec![name.clone()];
        for flag in FLAGS {
            args.push(CString::new(*flag).map_err(|e| e.to_string())?);
        }
        let network = &request.sandbox.network;
        if network.has_hosts() {
            let proxy = format!("--proxy-server=http://127.0.0.1:{}", network.proxy_port());
            args.push(CString::new(proxy).map_err(|e| e.to_string())?);
        }
        // No name is resolved inside; this machine's ports are reached as themselves.
        let rules = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE 127.0.0.1";
        args.push(CString::new(rules).map_err(|e| e.to_string())?);
        let env = super::command::environment(request, layers, false)?;
        let become_it = || -> i32 {
            sys::setsid();
            let _ = sys::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as libc::c_ulong, 0);
            let exec = || -> io::Result<io::Error> {
                let null = File::options().read(true).write(true).open("/dev/null")?;
                // Out of the way of the numbers they are put on.
                let commands = sys::dup_above(commands_in.as_fd(), 10)?;
                let answers = sys::dup_above(answers_out.as_fd(), 10)?;
                let log = sys::dup_above(log.as_fd(), 10)?;
                sys::dup2(null.as_raw_fd(), 0)?;
                sys::dup2(null.as_raw_fd(), 1)?;
                sys::dup2(log.as_raw_fd(), 2)?;
                sys::dup2(commands.as_raw_fd(), 3)?;
                sys::dup2(answers.as_raw_fd(), 4)?;
                std::mem::forget((null, commands, answers, log));
                sys::close_from(5)?;
                std::env::set_current_dir("/tmp")?;
                sys::reset_signals();
                Ok(sys::exec(&name, &args, &env))
            };
            let (Ok(error) | Err(error)) = exec();
            eprintln!("{error}");
            sys::exit_now(127)
        };
        let pid = sys::fork_to_exec(&become_it).map_err(failed)?;
        drop((commands_in, answers_out, log));
        let processes = Processes { pid, pid_ns: layers.has(layer::PID) };
        let ended = sys::pidfd_open(pid).map_err(failed)?;
        let cdp = cdp::Cdp::new(File::from(commands_out), File::from(answers_in));
        match page::Page::open(cdp) {
            Ok(page) => Ok(Self { processes, ended, page }),
            Err(why) => {
                processes.end();
                Err(format!("{} did not come up: {why}. It said: {}", program.display(), said()))
            }
        }
    }

    /// Returns the last report.
    fn serve(mut self, request: &Request, layers: &Layers) -> Report {
        let mut params = request.params.clone();
        loop {
            let closing = params.get("action").and_then(Value::as_str) == Some("close");
            if closing {
                self.page.close();
                return Report {
                    ok: true,
                    body: "The browser is closed.".into(),
                    ..Report::default()
                };
            }
            let mut report = match self.page.act(&params) {
                Ok((body, picture)) => {
                    if output::picture(&picture).is_err() {
                        return Report::default();
                    }
                    Report { ok: true, body, ..Report::default() }
                }
                Err(body) => Report { body, ..Report::default() },
            };
            report.layers.clone_from(&layers.active);
            report.absent.clone_from(&layers.absent);
            if output::report(&report).is_err() {
                return Report::default();
            }
            match self.next(request) {
                Ok(Some(next)) => params = next,
                Ok(None) => return Report::default(),
                Err(last) => return *last,
            }
        }
    }

    /// Waits for the next action; `None` when the host is done. An error is the report of a
    /// browser that ended meanwhile.
    fn next(&self, request: &Request) -> Result<Option<Map<String, Value>>, Box<Report>> {
        loop {
            let fds = [(0, libc::POLLIN), (self.ended.as_raw_fd(), libc::POLLIN)];
            let wait = 5 * WATCH_INTERVAL_MS as i32;
            let Ok(events) = sys::poll(&fds, wait) else { return Ok(None) };
            if events[1] != 0 {
                let body = format!("the browser ended. It said: {}", said());
                return Err(Box::new(Report { body, ..Report::default() }));
            }
            let memory: u64 = self.processes.members().iter().map(|p| private_bytes(*p)).sum();
            if memory > request.limits.memory_bytes {
                let limit = Some(LimitHit::Memory(request.limits.memory_bytes));
                let body = "the browser was stopped".into();
                return Err(Box::new(Report { body, limit, ..Report::default() }));
            }
            if events[0] != 0 {
                return Ok(read_action());
            }
        }
    }
}

fn read_action() -> Option<Map<String, Value>> {
    let mut stdin = io::stdin().lock();
    let mut length = [0; 4];
    stdin.read_exact(&mut length).ok()?;
    let length = u32::from_le_bytes(length) as usize;
    if length > MAX_CALL_BYTES {
        return None;
    }
    let mut text = vec![0; length];
    stdin.read_exact(&mut text).ok()?;
    serde_json::from_slice(&text).ok()
}

/// The end of what the browser wrote, on one line.
fn said() -> String {
    let mut words = Vec::new();
    if let Ok(mut log) = File::open(LOG) {
        let end = log.metadata().map_or(0, |m| m.len());
        let _ = log.seek(io::SeekFrom::Start(end.saturating_sub(600)));
        let _ = log.take(600).read_to_end(&mut words);
    }
    crate::call::one_line(&String::from_utf8_lossy(&words), 600)
}
