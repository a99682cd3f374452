//! Lapce's plugin host, as far as the volt can tell: the module in wasmtime 14 with WASI
//! preview 1, pipes in memory, the volt's folder as `/`, one `handle_rpc` per message.
//!
//! Follows `lapce-proxy/src/plugin/wasi.rs` of Lapce 0.4.6, including what is easy to
//! overlook: the module's constructors never run, an empty pipe reads as end of file,
//! and requests are answered while the volt is inside its own call. Only the tests of
//! this crate use it.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, RwLock};

use anyhow::Context;
use serde_json::{Value, json};
use wasmtime_wasi::{WasiCtx, WasiCtxBuilder};

/// A pipe in memory that is never at its end, only empty.
#[derive(Default)]
struct Pipe(VecDeque<u8>);

impl Read for Pipe {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.0.read(buf)
    }
}

impl Write for Pipe {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.0.write(buf)
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What the editor does with the volt's messages.
pub trait Editor: Send + 'static {
    /// A request of the volt; `None` never answers, as Lapce does for a server that it
    /// cannot spawn.
    fn request(&mut self, method: &str, params: &Value) -> Option<Result<Value, String>>;
}

/// Everything the volt sent, in order.
#[derive(Debug, Default, Clone)]
pub struct Sent {
    pub requests: Vec<(String, Value)>,
    pub notifications: Vec<(String, Value)>,
    pub replies: Vec<Value>,
    /// Lines that Lapce's reader would have choked on.
    pub unreadable: Vec<String>,
}

impl Sent {
    /// The texts of the popups.
    pub fn popups(&self) -> Vec<&str> {
        self.notifications
            .iter()
            .filter(|(method, _)| method == "window/showMessage")
            .filter_map(|(_, params)| params["message"].as_str())
            .collect()
    }

    pub fn requests_of(&self, method: &str) -> Vec<&Value> {
        self.requests.iter().filter(|(m, _)| m == method).map(|(_, params)| params).collect()
    }
}

/// The compiled module. Compiling takes seconds in a debug build, so tests share one.
pub struct Compiled {
    engine: wasmtime::Engine,
    module: wasmtime::Module,
}

impl Compiled {
    pub fn from_file(wasm: &Path) -> anyhow::Result<Self> {
        let engine = wasmtime::Engine::default();
        let module = wasmtime::Module::from_file(&engine, wasm)
            .with_context(|| format!("cannot load {}", wasm.display()))?;
        Ok(Self { engine, module })
    }
}

/// A loaded volt.
pub struct LoadedVolt {
    store: wasmtime::Store<WasiCtx>,
    handle_rpc: wasmtime::TypedFunc<(), ()>,
    stdin: Arc<RwLock<Pipe>>,
    sent: Arc<Mutex<Sent>>,
}

impl LoadedVolt {
    /// Loads the volt that is installed in `folder`. `env` stands for the editor's own
    /// environment, which Lapce hands on.
    pub fn load(
        Compiled { engine, module }: &Compiled,
        folder: &Path,
        env: &[(&str, &str)],
        editor: impl Editor,
    ) -> anyhow::Result<Self> {
        let mut linker = wasmtime::Linker::new(engine);
        wasmtime_wasi::add_to_linker(&mut linker, |ctx: &mut WasiCtx| ctx)?;

        let [stdin, stdout, stderr] = [(); 3].map(|()| Arc::new(RwLock::new(Pipe::default())));
        let mut wasi = WasiCtxBuilder::new();
        for (name, value) in env {
            wasi.env(name, value)?;
        }
        let uri = format!("file://{}/", folder.display());
        wasi.env("VOLT_OS", std::env::consts::OS)?
            .env("VOLT_ARCH", std::env::consts::ARCH)?
            .env("VOLT_LIBC", "glibc")?
            .env("VOLT_URI", &uri)?
            .stdin(Box::new(wasi_common::pipe::ReadPipe::from_shared(stdin.clone())))
            .stdout(Box::new(wasi_common::pipe::WritePipe::from_shared(stdout.clone())))
            .stderr(Box::new(wasi_common::pipe::WritePipe::from_shared(stderr)))
            .preopened_dir(
                wasmtime_wasi::Dir::open_ambient_dir(folder, wasmtime_wasi::ambient_authority())?,
                "/",
            )?;
        let mut store = wasmtime::Store::new(engine, wasi.build());

        let sent = Arc::new(Mutex::new(Sent::default()));
        let (answers, log, editor) = (stdin.clone(), sent.clone(), Mutex::new(editor));
        linker.func_wrap("lapce", "host_handle_rpc", move || {
            let mut text = String::new();
            let _ = stdout.write().unwrap().read_to_string(&mut text);
            let answer = take(&text, &mut log.lock().unwrap(), &mut *editor.lock().unwrap());
            if let Some(answer) = answer {
                let _ = writeln!(answers.write().unwrap(), "{answer}");
            }
        })?;
        linker.func_wrap("lapce", "host_handle_stderr", || {})?;
        // As Lapce does: the module is defined once (which checks it), and the instance that
        // is used is a second one, whose `_start` is never called.
        linker.module(&mut store, "", module)?;
        let instance = linker.instantiate(&mut store, module)?;
        let handle_rpc = instance.get_typed_func::<(), ()>(&mut store, "handle_rpc")?;
        Ok(Self { store, handle_rpc, stdin, sent })
    }

    /// One message to the volt, raw.
    pub fn send_line(&mut self, line: &[u8]) -> anyhow::Result<()> {
        {
            let mut stdin = self.stdin.write().unwrap();
            stdin.write_all(line)?;
            stdin.write_all(b"\n")?;
        }
        self.handle_rpc.call(&mut self.store, ())
    }

    pub fn send(&mut self, message: &Value) -> anyhow::Result<()> {
        self.send_line(message.to_string().as_bytes())
    }

    /// What Lapce sends first, with the user's settings for this volt.
    pub fn initialize(&mut self, settings: &Value) -> anyhow::Result<()> {
        self.send(&json!({
            "jsonrpc": "2.0", "id": 0, "method": "initialize",
            "params": {
                "processId": std::process::id(), "rootUri": "file:///work/project/",
                "initializationOptions": settings, "capabilities": {},
            },
        }))?;
        self.send(&json!({ "jsonrpc": "2.0", "method": "initialized", "params": {} }))
    }

    pub fn sent(&self) -> Sent {
        self.sent.lock().unwrap().clone()
    }
}

/// One message of the volt, judged as `handle_plugin_server_message` does.
fn take(text: &str, log: &mut Sent, editor: &mut impl Editor) -> Option<Value> {
    let Ok(Value::Object(message)) = serde_json::from_str(text) else {
        log.unreadable.push(text.to_owned());
        return None;
    };
    let Some(method) = message.get("method").and_then(Value::as_str) else {
        log.replies.push(Value::Object(message));
        return None;
    };
    // Lapce unwraps `params`: a message without them kills its thread.
    let Some(params) = message.get("params") else {
        log.unreadable.push(text.to_owned());
        return None;
    };
    let Some(id) = message.get("id") else {
        log.notifications.push((method.to_owned(), params.clone()));
        return None;
    };
    log.requests.push((method.to_owned(), params.clone()));
    Some(match editor.request(method, params)? {
        Ok(result) => json!({ "jsonrpc": "2.0", "id": id, "result": result }),
        Err(message) => {
            json!({ "jsonrpc": "2.0", "id": id, "error": { "code": 0, "message": message } })
        }
    })
}

/// An editor that really executes what it is asked to probe, and notes servers instead of
/// starting them.
#[derive(Default)]
pub struct RealProbe {
    /// Stands for Lapce's own `PATH`.
    pub path: String,
}

impl Editor for RealProbe {
    fn request(&mut self, method: &str, params: &Value) -> Option<Result<Value, String>> {
        match method {
            "host/executeProcess" => Some(self.execute(params).map_err(|e| e.to_string())),
            "host/startLspServer" => Some(Ok(json!({ "id": 1 }))),
            _ => Some(Err("request not supported".into())),
        }
    }
}

impl RealProbe {
    fn execute(&self, params: &Value) -> anyhow::Result<Value> {
        let program = params["program"].as_str().context("no program")?;
        let args = params["args"].as_array().context("no args")?;
        let output = std::process::Command::new(program)
            .args(args.iter().filter_map(Value::as_str))
            .env("PATH", &self.path)
            .output()?;
        Ok(json!({
            "success": output.status.success(), "stdout": output.stdout, "stderr": output.stderr,
        }))
    }
}
