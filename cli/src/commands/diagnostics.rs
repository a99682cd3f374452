//! `lapce-ai diagnostics`: what the connections, their rings and the tools have done.

use lapce_ai_ipc::wire::engine::{ConnectionInfo, Status, ToolStats};

use super::args::Json;
use super::exit::Outcome;
use super::output::{Output, Style, count, duration, kib, printable};
use super::status;

/// Width of a histogram's longest bar.
const BAR: u64 = 40;

pub async fn run(json: Json, out: Output) -> Outcome {
    let Some(status) = status::read(json, out).await? else { return Ok(()) };
    if json.json {
        return out.json(&serde_json::json!({
            "running": true,
            "version": status.version,
            "pid": status.pid,
            "uptime_ms": status.uptime_ms,
            "requests": status.requests,
            "connections": status.connections,
            "tools": status.tools,
            "mcp": status.mcp,
        }));
    }
    for line in render(&status, out) {
        out.line(&line)?;
    }
    Ok(())
}

fn render(status: &Status, out: Output) -> Vec<String> {
    let mut lines = vec![format!(
        "{} {}, process {}, up {}, {}, {}",
        out.paint(Style::Strong, "engine"),
        status.version,
        status.pid,
        duration(status.uptime_ms),
        count(status.requests, "request"),
        count(status.connections.len() as u64, "connection"),
    )];
    for connection in &status.connections {
        lines.push(String::new());
        lines.extend(of_connection(connection, out));
    }
    if !status.tools.is_empty() {
        lines.push(String::new());
        lines.push(out.paint(Style::Strong, TOOLS_HEAD));
        lines.extend(status.tools.iter().map(of_tool));
    }
    lines
}

const TOOLS_HEAD: &str = "\
tool                               calls       ok   failed   denied   limits        p50        p99";

fn of_tool(tool: &ToolStats) -> String {
    format!(
        "{:<32} {:>7} {:>8} {:>8} {:>8} {:>8} {:>10} {:>10}",
        printable(&tool.tool),
        tool.calls,
        tool.ok,
        tool.failed,
        tool.denied,
        tool.limit_hits,
        micros(tool.wall_p50_us),
        micros(tool.wall_p99_us),
    )
}

fn of_connection(c: &ConnectionInfo, out: Output) -> Vec<String> {
    let title = format!("{}, process {}", c.client, c.pid);
    let mut lines = vec![
        format!("{} over {}, session {}", out.paint(Style::Strong, &title), c.transport, c.session),
        format!(
            "  in   {:>12}  {:>10}",
            count(c.messages_in, "message"),
            kib(c.bytes_in.div_ceil(1024))
        ),
        format!(
            "  out  {:>12}  {:>10}",
            count(c.messages_out, "message"),
            kib(c.bytes_out.div_ceil(1024))
        ),
        format!(
            "  woken {}, saved by spinning {}, stalled {}, at most {} waiting, {} open",
            count(c.wakes, "time"),
            count(c.spins, "time"),
            count(c.stalls, "time"),
            kib(c.high_water.div_ceil(1024)),
            count(c.calls, "call"),
        ),
    ];
    lines.extend(histogram(&c.call_times));
    lines
}

/// Calls by time, one line a power of two, from the first to the last that has any.
fn histogram(times: &[u64]) -> Vec<String> {
    let most = times.iter().copied().max().unwrap_or(0);
    times
        .iter()
        .enumerate()
        .skip_while(|(_, calls)| **calls == 0)
        .map(|(bits, &calls)| {
            let bar = "#".repeat((calls * BAR).div_ceil(most.max(1)) as usize);
            format!("  below {:>9} {calls:>10}  {bar}", micros(1 << bits)).trim_end().to_owned()
        })
        .collect()
}

fn micros(us: u64) -> String {
    match us {
        0..1_000 => format!("{us} µs"),
        1_000..1_000_000 => format!("{}.{} ms", us / 1_000, us % 1_000 / 100),
        _ => format!("{}.{} s", us / 1_000_000, us % 1_000_000 / 100_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_columns_of_tools_stand_under_their_heads() {
        let tool = ToolStats {
            tool: "read_file".into(),
            calls: 12,
            ok: 11,
            failed: 1,
            denied: 0,
            limit_hits: 0,
            wall_p50_us: 4096,
            wall_p99_us: 8192,
        };
        let row = of_tool(&tool);
        assert_eq!(row.chars().count(), TOOLS_HEAD.len());
        assert!(row.ends_with("4.0 ms     8.1 ms"), "{row}");
    }

    #[test]
    fn a_histogram_starts_with_the_first_call_and_keeps_gaps() {
        assert!(histogram(&[]).is_empty());
        let lines = histogram(&[0, 0, 80, 0, 1]);
        assert_eq!(lines[0], format!("  below      4 µs         80  {}", "#".repeat(40)));
        assert_eq!(lines[1], "  below      8 µs          0");
        assert_eq!(lines[2], "  below     16 µs          1  #");
        assert_eq!(micros(1 << 20), "1.0 s");
        assert_eq!(micros(1 << 11), "2.0 ms");
    }
}
