//! `ipc`: the ring beside a bare cache line, a bare eventfd, plain copies, a Unix socket, a pipe with
//! JSON-RPC, and (feature `iceoryx2`) iceoryx2.
//!
//! Two processes; the sender fills and the receiver sums every byte, both ways. All
//! mechanisms run in turns within one process pair per turn, several rounds, so that
//! what the machine does meanwhile hits all of them; the bars are ratios within the run.

mod calls;
mod floors;
#[cfg(feature = "iceoryx2")]
mod iceoryx;
mod links;
mod machine;

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use clap::{Args, ValueEnum};

use crate::report::{Report, Samples};
use links::{Link, Mechanism};
use machine::Place;

#[derive(Args)]
pub struct Options {
    /// Round trips of 64 bytes per mechanism and place; larger ones and slow mechanisms
    /// get a share.
    #[arg(long, default_value_t = 1_000_000)]
    samples: usize,
    /// Turns that every mechanism gets.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Payload sizes in bytes.
    #[arg(long, value_delimiter = ',', default_values_t = [64, 1 << 10, 64 << 10, 1 << 20, 16 << 20])]
    sizes: Vec<usize>,
    /// Where the two processes run.
    #[arg(long, value_delimiter = ',', default_values = ["free", "pinned"])]
    places: Vec<Place>,
    /// Also measure while every core is busy with something else.
    #[arg(long)]
    load: bool,
    /// Only these mechanisms.
    #[arg(long, value_delimiter = ',')]
    only: Vec<Mechanism>,
    /// Backend of the whole calls.
    #[arg(long, default_value = "memfd")]
    transport: TransportName,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum TransportName {
    Memfd,
    Portable,
}

impl From<TransportName> for lapce_ai_ipc::Transport {
    fn from(name: TransportName) -> Self {
        match name {
            TransportName::Memfd => Self::Memfd,
            TransportName::Portable => Self::Portable,
        }
    }
}

#[derive(Args)]
pub struct PeerOptions {
    mechanism: String,
    #[arg(long, value_delimiter = ',')]
    fds: Vec<i32>,
    #[arg(long)]
    cpu: Option<usize>,
    #[arg(long, default_value_t = 0)]
    size: usize,
    /// Answer this message only; 0: answer each.
    #[arg(long, default_value_t = 0)]
    messages: usize,
}

/// The child's side.
pub fn peer(options: &PeerOptions) -> ExitCode {
    machine::die_with_parent();
    if let Some(cpu) = options.cpu {
        machine::pin(cpu);
    }
    let outcome = match options.mechanism.as_str() {
        "burn" => loop {
            std::hint::spin_loop();
        },
        "calls" | "calls-parked" => calls::serve(options.fds[0], options.mechanism == "calls"),
        name => match Mechanism::from_str(name, false) {
            Ok(mechanism) => links::serve(mechanism, &options.fds, options.size, options.messages),
            Err(error) => Err(anyhow::anyhow!(error)),
        },
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ipc-peer {}: {error:#}", options.mechanism);
            ExitCode::FAILURE
        }
    }
}

/// Microseconds of round trips, by case and mechanism.
type Times = BTreeMap<(String, String), Vec<f64>>;

pub fn run(options: &Options) -> Result<Report> {
    let mut report = Report::new("ipc");
    if std::thread::available_parallelism()?.get() < 2 {
        bail!("two cores are needed to measure two processes");
    }
    report.note("round trips at 64 B", options.samples.to_string());
    report.note("rounds", options.rounds.to_string());
    report.note("load average at the start", machine::load_average());
    if cfg!(not(feature = "iceoryx2")) {
        report.note("iceoryx2", "not built in (cargo feature iceoryx2)");
    }
    let loads: &[bool] = if options.load { &[false, true] } else { &[false] };
    let mut times = Times::new();
    let mut rates: BTreeMap<(String, String), Vec<f64>> = BTreeMap::new();
    for &loaded in loads {
        let _burners = loaded.then(machine::Burners::start).transpose()?;
        for &place in &options.places {
            let label = format!("{place:?}{}", if loaded { " loaded" } else { "" }).to_lowercase();
            for round in 0..options.rounds {
                eprintln!("{label}, round {} of {}", round + 1, options.rounds);
                one_round(options, place, &label, &mut times, &mut rates)?;
            }
        }
    }
    machine::unpin();
    match calls::engine((options.samples / 20).max(20)) {
        Ok(cases) => {
            for (name, values) in cases {
                times.insert((name, "ours".into()), values);
            }
        }
        Err(error) => report.note("engine not measured", format!("{error:#}")),
    }
    let floor = after_silence((options.samples / 400).clamp(20, 1000))?;
    times.insert(("engine ping parked".into(), Mechanism::EventFd.name()), floor);
    let sorted: BTreeMap<_, _> = times.into_iter().map(|(k, v)| (k, Samples::new(v))).collect();
    for ((case, mechanism), samples) in &sorted {
        report.rows.push(samples.row(case, mechanism, "µs"));
    }
    for ((case, mechanism), values) in &rates {
        report.rows.push(Samples::new(values.clone()).row(case, mechanism, "M msg/s"));
    }
    let idle = calls::idle_cpu(options.transport.into(), Duration::from_secs(3))?;
    report.note("idle CPU of a server with a connection, share", format!("{idle:.6}"));
    bars(&mut report, options, &sorted, &rates);
    report.bar("idle CPU", idle * 100.0, 0.1, "% of one CPU");
    Ok(report)
}

fn one_round(
    options: &Options,
    place: Place,
    label: &str,
    times: &mut Times,
    rates: &mut BTreeMap<(String, String), Vec<f64>>,
) -> Result<()> {
    let wanted = |m: Mechanism| options.only.is_empty() || options.only.contains(&m);
    let per_round = (options.samples / options.rounds).max(10);
    for &size in &options.sizes {
        let case = format!("{} {label}", human(size));
        for &mechanism in Mechanism::value_variants() {
            if !wanted(mechanism) || !mechanism.takes(size) {
                continue;
            }
            let n = mechanism.share(per_round, size);
            let mut link = Link::start(mechanism, place, size, 0)?;
            let values = times.entry((case.clone(), mechanism.name())).or_default();
            let mut sum = 0u64;
            for i in 0..n + n / 10 + 5 {
                let started = Instant::now();
                sum = sum.wrapping_add(link.round_trip(i)?);
                let took = started.elapsed();
                // The first ones warm up.
                if i >= n / 10 + 5 {
                    values.push(took.as_secs_f64() * 1e6);
                }
            }
            std::hint::black_box(sum);
        }
    }
    for &mechanism in Mechanism::value_variants() {
        if wanted(mechanism) && mechanism.streams() {
            let n = mechanism.share(per_round * 2, 64).max(1000);
            let rate = links::rate(mechanism, place, n)?;
            let case = format!("rate 64 B {label}");
            rates.entry((case, mechanism.name())).or_default().push(rate);
        }
    }
    let calls = (per_round / 10).max(10);
    for spin in [true, false] {
        for (name, values) in calls::round_trips(options.transport.into(), place, spin, calls)? {
            times.entry((format!("{name} {label}"), "ours".into())).or_default().extend(values);
        }
    }
    Ok(())
}

/// Microseconds of bare eventfds there and back, each after a millisecond of silence: what
/// is left of a call between sleeping processes without all that we do.
fn after_silence(n: usize) -> Result<Vec<f64>> {
    let mut link = Link::start(Mechanism::EventFd, Place::Free, 64, 0)?;
    let mut values = Vec::with_capacity(n);
    for i in 0..n {
        std::thread::sleep(Duration::from_millis(1));
        let started = Instant::now();
        link.round_trip(i)?;
        values.push(started.elapsed().as_secs_f64() * 1e6);
    }
    Ok(values)
}

fn human(size: usize) -> String {
    match size {
        s if s >= 1 << 20 => format!("{:>2} MiB", s >> 20),
        s if s >= 1 << 10 => format!("{:>2} KiB", s >> 10),
        s => format!("{s:>2} B"),
    }
}

fn bars(
    report: &mut Report,
    options: &Options,
    times: &BTreeMap<(String, String), Samples>,
    rates: &BTreeMap<(String, String), Vec<f64>>,
) {
    use Mechanism as M;

    let get = |case: &str, mechanism: Mechanism, q: f64| {
        times.get(&(case.to_owned(), mechanism.name())).map_or(f64::NAN, |s| s.quantile(q))
    };
    for place in &options.places {
        let label = format!("{place:?}").to_lowercase();
        let small = format!("{} {label}", human(64));
        let mut ratio =
            |name: &str, case: &str, ours: Mechanism, base: Mechanism, q: f64, limit: f64| {
                let value = get(case, ours, q) / get(case, base, q);
                report.bar(&format!("{label}: {name}"), value, limit, "×");
            };
        ratio("64 B spinning p50 / bare cache line", &small, M::RingSpin, M::CacheLine, 0.5, 1.5);
        ratio("64 B spinning p99 / bare cache line", &small, M::RingSpin, M::CacheLine, 0.99, 3.0);
        ratio("64 B spinning p50 / 64 bare bytes", &small, M::RingSpin, M::ShortCopy, 0.5, 1.5);
        ratio("64 B parked p50 / bare eventfd", &small, M::RingPark, M::EventFd, 0.5, 1.3);
        for size in [64 << 10, 1 << 20, 16 << 20] {
            let case = format!("{} {label}", human(size));
            let name = format!("{} p50 / two memcpys each way", human(size));
            ratio(&name, &case, M::RingSpin, M::Memcpy, 0.5, 1.3);
            // The faster way to make these copies between these two cores, as they are now.
            let (copy, stream) = (get(&case, M::SharedCopy, 0.5), get(&case, M::SharedStream, 0.5));
            let floor = if stream < copy { M::SharedStream } else { M::SharedCopy };
            let name = format!("{} p50 / the same copies between the two processes", human(size));
            ratio(&name, &case, M::RingSpin, floor, 0.5, 1.3);
        }
        #[cfg(feature = "iceoryx2")]
        {
            for &size in &options.sizes {
                let case = format!("{} {label}", human(size));
                let name = format!("{} p50 / iceoryx2", human(size));
                ratio(&name, &case, M::RingAdaptive, M::Iceoryx2, 0.5, 1.0);
            }
            let rate = |m: Mechanism| {
                let key = (format!("rate 64 B {label}"), m.name());
                rates.get(&key).map_or(f64::NAN, |v| Samples::new(v.clone()).quantile(0.5))
            };
            let share = rate(M::Iceoryx2) / rate(M::RingAdaptive);
            report.bar(&format!("{label}: rate of iceoryx2 / ours adaptive"), share, 0.2, "×");
        }
        let call = |kind: &str| {
            let key = (format!("call {kind} {label}"), "ours".to_owned());
            times.get(&key).map_or(f64::NAN, |s| s.quantile(0.5))
        };
        report.bar(&format!("{label}: whole call hot p50"), call("hot"), 5.0, "µs");
        report.bar(&format!("{label}: whole call parked p50"), call("parked"), 40.0, "µs");
    }
    let engine = |kind: &str| {
        let key = (format!("engine ping {kind}"), "ours".to_owned());
        times.get(&key).map_or(f64::NAN, |s| s.quantile(0.5))
    };
    report.bar("through the engine, hot p50", engine("hot"), 5.0, "µs");
    report.bar("through the engine, parked p50", engine("parked"), 40.0, "µs");
    let _ = rates;
}
