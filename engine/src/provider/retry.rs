//! Whether and when a request that failed is tried again.
//!
//! Pure: headers, bodies and the clock come in as values. A quota or billing error is
//! never retried; nothing is retried after the first piece of an answer was shown.

use std::time::Duration;

use super::error::{Fault, ProviderError};
use super::limits;

/// What the head of a failed response says about trying again.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct HeadHints {
    pub should_retry: Option<bool>,
    pub after: Option<Duration>,
}

/// Reads the headers in the order of trust. `now` is Unix seconds.
pub fn head_hints<'a>(get: impl Fn(&str) -> Option<&'a str>, now: u64) -> HeadHints {
    let should_retry = get("x-should-retry").and_then(|v| match v.trim() {
        "true" => Some(true),
        "false" => Some(false),
        _ => None,
    });
    let after = get("retry-after-ms")
        .and_then(|v| v.trim().parse::<f64>().ok())
        .and_then(|ms| seconds(ms / 1000.0))
        .or_else(|| get("retry-after").and_then(|v| retry_after(v.trim(), now)))
        .or_else(|| {
            RESET_HEADERS
                .iter()
                .filter(|(_, remaining)| get(remaining).is_some_and(|left| left.trim() == "0"))
                .filter_map(|(reset, _)| reset_time(get(reset)?.trim(), now))
                .max()
        });
    HeadHints { should_retry, after }
}

/// When a budget is refilled, and the header that says whether it is empty.
const RESET_HEADERS: [(&str, &str); 5] = [
    ("x-ratelimit-reset-requests", "x-ratelimit-remaining-requests"),
    ("x-ratelimit-reset-tokens", "x-ratelimit-remaining-tokens"),
    ("anthropic-ratelimit-requests-reset", "anthropic-ratelimit-requests-remaining"),
    ("anthropic-ratelimit-tokens-reset", "anthropic-ratelimit-tokens-remaining"),
    ("x-ratelimit-reset", "x-ratelimit-remaining"),
];

/// The pause before try number `tries + 1`, or `None` when there shall be none.
/// `jitter` is in `0.0..1.0`.
pub fn pause(error: &ProviderError, tries: u32, jitter: f64) -> Option<Duration> {
    if tries >= limits::TRIES || error.fault == Fault::Quota {
        return None;
    }
    let again = error.should_retry.unwrap_or(match (error.status, error.fault) {
        (Some(status), _) => matches!(status, 408 | 409 | 429) || status >= 500,
        // No connection, or an error in a stream that had not begun to answer.
        (None, fault) => matches!(fault, Fault::Network | Fault::RateLimited | Fault::Server),
    });
    // No word of the provider makes a wrong request right.
    if !again
        || matches!(
            error.fault,
            Fault::Auth | Fault::ContextLength | Fault::NoTools | Fault::Config
        )
    {
        return None;
    }
    if let Some(after) = error.retry_after.filter(|d| *d <= limits::RETRY_AFTER_MAX) {
        // A little later than asked for, so that many clients do not come back at once.
        return Some(after + Duration::from_secs_f64(0.25 * jitter));
    }
    let base = limits::BACKOFF_FIRST.saturating_mul(1 << tries.saturating_sub(1).min(16));
    Some(base.min(limits::BACKOFF_MAX).mul_f64(0.75 + 0.25 * jitter))
}

fn seconds(value: f64) -> Option<Duration> {
    (value >= 0.0).then(|| Duration::try_from_secs_f64(value).ok()).flatten()
}

/// `retry-after`: seconds (a fraction is tolerated) or an HTTP date.
fn retry_after(value: &str, now: u64) -> Option<Duration> {
    value.parse::<f64>().ok().and_then(seconds).or_else(|| Some(until(http_date(value)?, now)))
}

/// A reset header: RFC 3339, `6m0s`, `12ms`, seconds, or Unix seconds or milliseconds.
fn reset_time(value: &str, now: u64) -> Option<Duration> {
    if let Some(at) = rfc3339(value) {
        return Some(until(at, now));
    }
    if let Ok(number) = value.parse::<f64>() {
        return if number > 1e12 {
            Some(until((number / 1000.0) as u64, now))
        } else if number > 1e9 {
            Some(until(number as u64, now))
        } else {
            seconds(number)
        };
    }
    duration(value)
}

fn until(at: u64, now: u64) -> Duration {
    Duration::from_secs(at.saturating_sub(now))
}

/// Go's notation: `1h2m3.5s`, `12ms`.
fn duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut total = 0.0;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..end].parse().ok()?;
        rest = &rest[end..];
        let (unit, len) = if rest.starts_with("ms") {
            (0.001, 2)
        } else if rest.starts_with("us") {
            (0.000_001, 2)
        } else if rest.starts_with('h') {
            (3600.0, 1)
        } else if rest.starts_with('m') {
            (60.0, 1)
        } else if rest.starts_with('s') {
            (1.0, 1)
        } else {
            return None;
        };
        total += number * unit;
        rest = &rest[len..];
    }
    seconds(total)
}

/// The delay a message or an error's details name: Gemini's `retryDelay`, or
/// "try again in 1.5s".
pub fn body_hint(retry_delay: Option<&str>, message: &str) -> Option<Duration> {
    if let Some(delay) = retry_delay.and_then(duration) {
        return Some(delay);
    }
    let lower = message.to_ascii_lowercase();
    let at = ["try again in ", "retry in ", "retry after ", "wait "]
        .iter()
        .find_map(|lead| lower.find(lead).map(|at| at + lead.len()))?;
    let rest = &lower[at..];
    let word = rest.split_whitespace().next()?.trim_end_matches(['.', ',', ';', ')']);
    if let Some(delay) = duration(word) {
        return Some(delay);
    }
    let number: f64 = word.parse().ok()?;
    let unit = rest.split_whitespace().nth(1).unwrap_or("seconds");
    seconds(if unit.starts_with("ms") || unit.starts_with("milli") {
        number / 1000.0
    } else if unit.starts_with('m') {
        number * 60.0
    } else if unit.starts_with('h') {
        number * 3600.0
    } else {
        number
    })
}

/// `Sun, 06 Nov 1994 08:49:37 GMT` as Unix seconds.
fn http_date(text: &str) -> Option<u64> {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let mut words = text.split_once(", ")?.1.split(' ');
    let day = words.next()?.parse().ok()?;
    let name = words.next()?;
    let month = MONTHS.iter().position(|m| *m == name)? as u32 + 1;
    let year = words.next()?.parse().ok()?;
    let time = clock(words.next()?)?;
    (words.next()? == "GMT").then_some(())?;
    Some(days(year, month, day)? * 86_400 + time)
}

/// `2026-11-25T09:38:14Z`, with a fraction or an offset, as Unix seconds.
fn rfc3339(text: &str) -> Option<u64> {
    let (date, time) = text.split_once(['T', 't'])?;
    let mut parts = date.split('-');
    let (year, month, day) = (parts.next()?, parts.next()?, parts.next()?);
    let base = days(year.parse().ok()?, month.parse().ok()?, day.parse().ok()?)? * 86_400;
    let at = time.find(['Z', 'z', '+', '-'])?;
    let local = base + clock(time[..at].split('.').next()?)?;
    let zone = &time[at..];
    if zone.eq_ignore_ascii_case("z") {
        return Some(local);
    }
    let (hours, minutes) = zone[1..].split_once(':')?;
    let (hours, minutes): (u64, u64) = (hours.parse().ok()?, minutes.parse().ok()?);
    (hours < 24 && minutes < 60).then_some(())?;
    let offset = hours * 3600 + minutes * 60;
    if zone.starts_with('+') { local.checked_sub(offset) } else { local.checked_add(offset) }
}

fn clock(text: &str) -> Option<u64> {
    let mut parts = text.split(':').map(|p| p.parse::<u64>().ok());
    let (h, m, s) = (parts.next()??, parts.next()??, parts.next()??);
    (h < 24 && m < 60 && s <= 60).then_some(h * 3600 + m * 60 + s)
}

/// Days from 1970-01-01 to a civil date (Howard Hinnant's algorithm), from 1970 on.
fn days(year: u64, month: u32, day: u32) -> Option<u64> {
    if !(1970..10_000).contains(&year) || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let year = if month <= 2 { year - 1 } else { year };
    let month_index = u64::from(if month > 2 { month - 3 } else { month + 9 });
    let day_of_year = (153 * month_index + 2) / 5 + u64::from(day) - 1;
    let era = year / 400;
    let year_of_era = year % 400;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    (era * 146_097 + day_of_era).checked_sub(719_468)
}

/// A number in `0.0..1.0`, different for each call and process.
pub fn jitter() -> f64 {
    use std::hash::{BuildHasher, Hasher};
    let random = std::collections::hash_map::RandomState::new().build_hasher().finish();
    (random >> 11) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_795_599_494; // 2026-11-25T09:38:14Z

    fn hints(headers: &[(&str, &str)]) -> HeadHints {
        let headers: Vec<(String, String)> =
            headers.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        head_hints(|name| headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str()), NOW)
    }

    fn error(status: u16, fault: Fault) -> ProviderError {
        ProviderError { status: Some(status), ..ProviderError::new(fault, "p", "m") }
    }

    #[test]
    fn header_order() {
        assert_eq!(
            hints(&[("retry-after", "7"), ("retry-after-ms", "1500")]).after,
            Some(Duration::from_millis(1500))
        );
        assert_eq!(hints(&[("retry-after", "7")]).after, Some(Duration::from_secs(7)));
        assert_eq!(
            hints(&[("retry-after", "Wed, 25 Nov 2026 09:38:34 GMT")]).after,
            Some(Duration::from_secs(20))
        );
        assert_eq!(
            hints(&[("retry-after", "Wed, 25 Nov 2026 09:00:00 GMT")]).after,
            Some(Duration::ZERO)
        );
        assert_eq!(hints(&[("retry-after", "soon")]).after, None);
        assert_eq!(hints(&[("x-should-retry", "false")]).should_retry, Some(false));
    }

    #[test]
    fn reset_headers_count_only_when_the_budget_is_empty() {
        let reset = |value, left| {
            hints(&[("x-ratelimit-reset-tokens", value), ("x-ratelimit-remaining-tokens", left)])
                .after
        };
        assert_eq!(reset("6m0s", "0"), Some(Duration::from_mins(6)));
        assert_eq!(reset("12ms", "0"), Some(Duration::from_millis(12)));
        assert_eq!(reset("6m0s", "100"), None);
        let at = |value| {
            hints(&[
                ("anthropic-ratelimit-tokens-reset", value),
                ("anthropic-ratelimit-tokens-remaining", "0"),
            ])
            .after
        };
        assert_eq!(at("2026-11-25T09:38:44Z"), Some(Duration::from_secs(30)));
        assert_eq!(at("2026-11-25T10:38:44.5+01:00"), Some(Duration::from_secs(30)));
    }

    #[test]
    fn hints_in_bodies() {
        assert_eq!(body_hint(Some("12s"), ""), Some(Duration::from_secs(12)));
        assert_eq!(
            body_hint(None, "Rate limit reached. Please try again in 1.5s."),
            Some(Duration::from_millis(1500))
        );
        assert_eq!(
            body_hint(None, "Please try again in 6m0s. Visit"),
            Some(Duration::from_mins(6))
        );
        assert_eq!(body_hint(None, "please wait 3 seconds"), Some(Duration::from_secs(3)));
        assert_eq!(body_hint(None, "no idea"), None);
    }

    #[test]
    fn what_is_tried_again() {
        for status in [408, 409, 429, 500, 503, 529] {
            assert!(pause(&error(status, Fault::Server), 1, 0.5).is_some(), "{status}");
        }
        for (status, fault) in [
            (400, Fault::BadRequest),
            (401, Fault::Auth),
            (404, Fault::NotFound),
            (402, Fault::Quota),
            (429, Fault::Quota),
        ] {
            assert_eq!(pause(&error(status, fault), 1, 0.5), None, "{status}");
        }
        let yes = ProviderError { should_retry: Some(true), ..error(400, Fault::BadRequest) };
        assert!(pause(&yes, 1, 0.0).is_some());
        let no = ProviderError { should_retry: Some(false), ..error(503, Fault::Server) };
        assert_eq!(pause(&no, 1, 0.0), None);
        let quota = ProviderError { should_retry: Some(true), ..error(429, Fault::Quota) };
        assert_eq!(pause(&quota, 1, 0.0), None);
        assert_eq!(pause(&error(503, Fault::Server), limits::TRIES, 0.0), None);
        // A request that may have reached the provider is not sent again: it may be billed.
        assert_eq!(pause(&ProviderError::new(Fault::Timeout, "p", "m"), 1, 0.0), None);
        assert!(pause(&ProviderError::new(Fault::Network, "p", "m"), 1, 0.0).is_some());
    }

    #[test]
    fn backoff_doubles_to_its_cap_and_hints_win_up_to_a_minute() {
        let full = |tries| pause(&error(503, Fault::Server), tries, 1.0).unwrap();
        assert_eq!(full(1), Duration::from_millis(500));
        assert_eq!(full(2), Duration::from_secs(1));
        assert_eq!(full(3), Duration::from_secs(2));
        let low = pause(&error(503, Fault::Server), 1, 0.0).unwrap();
        assert_eq!(low, Duration::from_millis(375));
        let after = |secs| ProviderError {
            retry_after: Some(Duration::from_secs(secs)),
            ..error(429, Fault::RateLimited)
        };
        assert_eq!(pause(&after(12), 1, 0.0), Some(Duration::from_secs(12)));
        assert_eq!(pause(&after(600), 1, 1.0), Some(Duration::from_millis(500)));
    }

    #[test]
    fn dates_of_the_calendar() {
        assert_eq!(http_date("Sun, 06 Nov 1994 08:49:37 GMT"), Some(784_111_777));
        assert_eq!(rfc3339("2000-02-29T00:00:00Z"), Some(951_782_400));
        assert_eq!(http_date("garbage"), None);
        assert_eq!(rfc3339("2026-13-01T00:00:00Z"), None);
        assert_eq!(rfc3339("2026-01-01T00:00:00+99999999999999999:00"), None);
    }

    #[test]
    fn jitter_is_in_range_and_varies() {
        let values: Vec<f64> = (0..8).map(|_| jitter()).collect();
        assert!(values.iter().all(|v| (0.0..1.0).contains(v)));
        assert!(values.windows(2).any(|w| w[0].to_bits() != w[1].to_bits()));
    }
}
