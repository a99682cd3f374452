//! The secrets of one login. Pure, but for the kernel's random bytes.

use crate::ids;

/// Made for one login, and known to nobody else until the code is exchanged.
pub struct Pkce {
    /// Goes to the token endpoint.
    pub verifier: String,
    /// Its hash, for the browser's address.
    pub challenge: String,
    /// Comes back with the redirect that belongs to this login.
    pub state: String,
}

impl Pkce {
    pub fn fresh() -> Self {
        let verifier = base64url(&ids::random::<32>());
        let challenge = challenge(&verifier);
        Self { verifier, challenge, state: base64url(&ids::random::<32>()) }
    }
}

fn challenge(verifier: &str) -> String {
    base64url(ring::digest::digest(&ring::digest::SHA256, verifier.as_bytes()).as_ref())
}

/// Base64 with the URL alphabet, without padding.
pub fn base64url(bytes: &[u8]) -> String {
    encode(bytes, b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")
}

/// Base64 as HTTP's basic authentication has it.
pub fn base64(bytes: &[u8]) -> String {
    let mut text =
        encode(bytes, b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/");
    while !text.len().is_multiple_of(4) {
        text.push('=');
    }
    text
}

fn encode(bytes: &[u8], alphabet: &[u8; 64]) -> String {
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for piece in bytes.chunks(3) {
        let at = |i: usize| u32::from(piece.get(i).copied().unwrap_or(0));
        let word = at(0) << 16 | at(1) << 8 | at(2);
        for i in 0..=piece.len() {
            out.push(char::from(alphabet[(word >> (18 - 6 * i) & 63) as usize]));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_challenge_is_the_one_of_rfc_7636() {
        let verifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
        assert_eq!(challenge(verifier), "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM");
    }

    #[test]
    fn base64_of_rfc_4648() {
        for (plain, coded) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg==")]
        {
            assert_eq!(base64(plain.as_bytes()), coded);
            assert_eq!(base64url(plain.as_bytes()), coded.trim_end_matches('='));
        }
        assert_eq!(base64url(&[0xfb, 0xff]), "-_8");
        assert_eq!(base64(&[0xfb, 0xff]), "+/8=");
    }

    #[test]
    fn every_login_has_its_own() {
        let (a, b) = (Pkce::fresh(), Pkce::fresh());
        assert_eq!((a.verifier.len(), a.state.len()), (43, 43));
        assert!(a.verifier != b.verifier && a.state != b.state && a.state != a.verifier);
    }
}
