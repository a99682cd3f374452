//! Names for runs and approvals: unique, sortable by time, safe in a file name.

use std::time::{SystemTime, UNIX_EPOCH};

/// `20261125-093812-3fa1c2`: UTC time to the second and 24 random bits.
pub fn run_id() -> String {
    let secs = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let [a, b, c] = random();
    format!("{}-{a:02x}{b:02x}{c:02x}", utc(secs))
}

/// 96 random bits in hex: not to be guessed by another client of the same user.
pub fn approval_id() -> String {
    use std::fmt::Write as _;
    random::<12>().iter().fold(String::new(), |mut out, byte| {
        let _ = write!(out, "{byte:02x}");
        out
    })
}

/// Bytes from the kernel.
pub fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0_u8; N];
    // SAFETY: the pointer and length describe `bytes`; getrandom writes no further.
    let got = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), N, 0) };
    // Short requests (≤ 256 bytes) are never cut once the pool is ready.
    assert!(usize::try_from(got) == Ok(N), "getrandom: {}", std::io::Error::last_os_error());
    bytes
}

/// Unix seconds as `YYYYMMDD-HHMMSS` (proleptic Gregorian, UTC).
fn utc(secs: u64) -> String {
    let (days, rest) = (secs / 86_400, secs % 86_400);
    // Days to civil date, after Howard Hinnant's algorithm, for years from 1970 on.
    let z = days + 719_468;
    let era = z / 146_097;
    let day_of_era = z % 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_index = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_index + 2) / 5 + 1;
    let month = if month_index < 10 { month_index + 3 } else { month_index - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!("{year:04}{month:02}{day:02}-{:02}{:02}{:02}", rest / 3600, rest / 60 % 60, rest % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        // `date -u -d @N +%Y%m%d-%H%M%S`
        assert_eq!(utc(0), "19700101-000000");
        assert_eq!(utc(951_782_399), "20000228-235959");
        assert_eq!(utc(951_782_400), "20000229-000000");
        assert_eq!(utc(1_795_599_492), "20261125-093812");
    }

    #[test]
    fn ids_differ_and_fit_a_file_name() {
        let id = run_id();
        assert_ne!(id, run_id());
        assert_ne!(approval_id(), approval_id());
        assert!(id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-'));
    }
}
