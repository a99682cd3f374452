//! Samples, percentiles, bars, and how they are printed.
//!
//! Called by every bench; knows nothing of what is measured.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use serde::Serialize;

/// What one bench found.
#[derive(Debug, Serialize)]
pub struct Report {
    pub bench: String,
    /// Facts a reader needs to judge the figures: cores, kernel, profile, sizes.
    pub setup: BTreeMap<String, String>,
    pub rows: Vec<Row>,
    pub bars: Vec<Bar>,
}

/// One measured thing.
#[derive(Debug, Serialize)]
pub struct Row {
    pub case: String,
    /// `ours`, or the name of the baseline.
    pub variant: String,
    pub unit: &'static str,
    pub n: usize,
    pub p50: f64,
    pub p99: f64,
    pub p999: f64,
    pub max: f64,
}

/// A requirement and whether this run met it.
#[derive(Debug, Serialize)]
pub struct Bar {
    pub name: String,
    pub measured: f64,
    /// `measured` must not exceed this.
    pub limit: f64,
    pub unit: &'static str,
    pub met: bool,
}

/// Sorted samples of one quantity.
pub struct Samples(Vec<f64>);

impl Samples {
    pub fn new(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        Self(values)
    }

    pub fn millis(values: &[Duration]) -> Self {
        Self::new(values.iter().map(|d| d.as_secs_f64() * 1e3).collect())
    }

    /// Nearest-rank quantile, `q` in 0..=1; NaN without samples.
    pub fn quantile(&self, q: f64) -> f64 {
        if self.0.is_empty() {
            return f64::NAN;
        }
        let rank = (q * self.0.len() as f64).ceil() as usize;
        self.0[rank.clamp(1, self.0.len()) - 1]
    }

    pub fn row(&self, case: &str, variant: &str, unit: &'static str) -> Row {
        Row {
            case: case.into(),
            variant: variant.into(),
            unit,
            n: self.0.len(),
            p50: self.quantile(0.50),
            p99: self.quantile(0.99),
            p999: self.quantile(0.999),
            max: self.quantile(1.0),
        }
    }
}

impl Report {
    pub fn new(bench: &str) -> Self {
        let cores = std::thread::available_parallelism().map_or(0, usize::from);
        let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let profile = if cfg!(debug_assertions) { "dev" } else { "release" };
        let setup = [
            ("cores".into(), cores.to_string()),
            ("kernel".into(), kernel.trim().into()),
            ("harness profile".into(), profile.into()),
        ];
        Self { bench: bench.into(), setup: setup.into(), rows: Vec::new(), bars: Vec::new() }
    }

    pub fn note(&mut self, key: &str, value: impl Into<String>) {
        self.setup.insert(key.into(), value.into());
    }

    /// Records a requirement: `measured` at most `limit`.
    pub fn bar(&mut self, name: &str, measured: f64, limit: f64, unit: &'static str) {
        // NaN (nothing measured) is a miss.
        let met = measured <= limit;
        self.bars.push(Bar { name: name.into(), measured, limit, unit, met });
    }

    pub fn missed(&self) -> bool {
        self.bars.iter().any(|bar| !bar.met)
    }

    pub fn print(&self, json: bool) {
        if json {
            println!("{}", serde_json::to_string_pretty(self).expect("a report is plain data"));
        } else {
            print!("{}", self.table());
        }
    }

    fn table(&self) -> String {
        let mut out = format!("bench {}\n", self.bench);
        for (key, value) in &self.setup {
            let _ = writeln!(out, "  {key}: {value}");
        }
        let wide = |f: fn(&Row) -> usize| self.rows.iter().map(f).max().unwrap_or(0);
        let (case, variant) = (wide(|r| r.case.len()).max(4), wide(|r| r.variant.len()).max(7));
        let _ = writeln!(
            out,
            "{:case$}  {:variant$}  {:>8} {:>12} {:>12} {:>12} {:>12}  unit",
            "case", "variant", "n", "p50", "p99", "p999", "max"
        );
        for r in &self.rows {
            let _ = writeln!(
                out,
                "{:case$}  {:variant$}  {:>8} {:>12.3} {:>12.3} {:>12.3} {:>12.3}  {}",
                r.case, r.variant, r.n, r.p50, r.p99, r.p999, r.max, r.unit
            );
        }
        for bar in &self.bars {
            let mark = if bar.met { "met   " } else { "MISSED" };
            let _ = writeln!(
                out,
                "bar {mark} {}: {:.3} (at most {:.3}) {}",
                bar.name, bar.measured, bar.limit, bar.unit
            );
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_nearest_rank() {
        let samples = Samples::new((1..=100).rev().map(f64::from).collect());
        let quantiles = [0.5, 0.99, 1.0].map(|q| samples.quantile(q).to_string());
        assert_eq!(quantiles, ["50", "99", "100"]);
        assert!(Samples::new(vec![]).quantile(0.5).is_nan());
    }

    #[test]
    fn a_bar_without_a_measurement_is_missed() {
        let mut report = Report::new("t");
        report.bar("b", f64::NAN, 1.0, "ms");
        assert!(report.missed());
    }
}
