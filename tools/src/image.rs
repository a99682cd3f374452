//! Whether bytes are an image, as far as their frame tells: PNG, JPEG, WebP or GIF. Pure.
//!
//! Asked before bytes of a provider are written into a workspace: what is not wholly an
//! image is refused. The picture itself is not decoded.

/// What an image is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Image {
    /// `png`, `jpeg`, `webp`, `gif`.
    pub format: &'static str,
    pub width: u32,
    pub height: u32,
}

/// Extensions that an image may have, and the format each means.
pub const EXTENSIONS: &[(&str, &str)] =
    &[("png", "png"), ("jpg", "jpeg"), ("jpeg", "jpeg"), ("webp", "webp"), ("gif", "gif")];

/// The format that a path's extension means.
pub fn format_of(path: &str) -> Option<&'static str> {
    let extension = path.rsplit('/').next()?.rsplit_once('.')?.1.to_ascii_lowercase();
    EXTENSIONS.iter().find(|(e, _)| *e == extension).map(|(_, format)| *format)
}

/// Checks the whole frame of an image.
pub fn check(bytes: &[u8]) -> Result<Image, String> {
    let (format, size) = match bytes {
        [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1a, b'\n', rest @ ..] => ("png", png(rest)),
        [0xff, 0xd8, 0xff, ..] => ("jpeg", jpeg(bytes)),
        [b'R', b'I', b'F', b'F', ..] => ("webp", webp(bytes)),
        [b'G', b'I', b'F', b'8', b'7' | b'9', b'a', ..] => ("gif", gif(bytes)),
        _ => return Err("it is no PNG, JPEG, WebP or GIF image".into()),
    };
    match size {
        Some((width, height)) if width > 0 && height > 0 => Ok(Image { format, width, height }),
        _ => Err(format!("it begins like a {format} image, but is damaged or cut off")),
    }
}

/// Every chunk to the end mark, and nothing behind it.
fn png(mut rest: &[u8]) -> Option<(u32, u32)> {
    let mut size = None;
    let mut data = false;
    loop {
        let (head, after) = rest.split_first_chunk::<8>()?;
        let length = u32::from_be_bytes(*head.first_chunk()?) as usize;
        let kind = &head[4..];
        let body = after.get(..length)?;
        let crc = u32::from_be_bytes(*after.get(length..)?.first_chunk()?);
        if crc != crc32(&[kind, body]) {
            return None;
        }
        rest = &after[length + 4..];
        match (kind, size) {
            (b"IHDR", None) if length == 13 => {
                size = Some((be32(body)?, be32(&body[4..])?));
            }
            (_, None) => return None,
            (b"IDAT", _) => data = true,
            (b"IEND", _) => return size.filter(|_| data && rest.is_empty()),
            _ => {}
        }
    }
}

/// Segments up to the picture's data, and the end mark.
fn jpeg(bytes: &[u8]) -> Option<(u32, u32)> {
    let mut rest = bytes.get(2..)?;
    let mut size = None;
    loop {
        let (head, after) = rest.split_first_chunk::<4>()?;
        let [0xff, marker, high, low] = *head else { return None };
        let length = usize::from(u16::from_be_bytes([high, low])).checked_sub(2)?;
        let body = after.get(..length)?;
        // The frame: precision, height, width.
        if matches!(marker, 0xc0..=0xcf) && !matches!(marker, 0xc4 | 0xc8 | 0xcc) {
            size = Some((be16(body.get(3..)?)?, be16(body.get(1..)?)?));
        }
        if marker == 0xda {
            return size.filter(|_| bytes.ends_with(&[0xff, 0xd9]));
        }
        rest = &after[length..];
    }
}

fn webp(bytes: &[u8]) -> Option<(u32, u32)> {
    let length = u32::from_le_bytes(*bytes.get(4..)?.first_chunk()?) as usize;
    if bytes.get(8..12)? != b"WEBP" || length + 8 != bytes.len() {
        return None;
    }
    let body = bytes.get(20..)?;
    let le = |at: usize| body.get(at..at + 2).map(|b| u32::from(b[0]) | u32::from(b[1]) << 8);
    let le24 = |at: usize| Some(le(at)? | u32::from(*body.get(at + 2)?) << 16);
    match bytes.get(12..16)? {
        b"VP8 " => {
            (body.get(3..6)? == [0x9d, 0x01, 0x2a]).then_some(())?;
            Some((le(6)? & 0x3fff, le(8)? & 0x3fff))
        }
        b"VP8L" => {
            (*body.first()? == 0x2f).then_some(())?;
            let bits = u32::from_le_bytes(*body.get(1..)?.first_chunk()?);
            Some(((bits & 0x3fff) + 1, (bits >> 14 & 0x3fff) + 1))
        }
        b"VP8X" => Some((le24(4)? + 1, le24(7)? + 1)),
        _ => None,
    }
}

fn gif(bytes: &[u8]) -> Option<(u32, u32)> {
    let le = |at: usize| bytes.get(at..at + 2).map(|b| u32::from(b[0]) | u32::from(b[1]) << 8);
    (bytes.last()? == &0x3b).then_some(())?;
    Some((le(6)?, le(8)?))
}

fn be16(bytes: &[u8]) -> Option<u32> {
    bytes.first_chunk::<2>().map(|b| u32::from(u16::from_be_bytes(*b)))
}

fn be32(bytes: &[u8]) -> Option<u32> {
    bytes.first_chunk::<4>().map(|b| u32::from_be_bytes(*b))
}

fn crc32(parts: &[&[u8]]) -> u32 {
    let mut crc = u32::MAX;
    for byte in parts.iter().copied().flatten() {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = crc >> 1 ^ (0xedb8_8320 & (crc & 1).wrapping_neg());
        }
    }
    !crc
}

#[cfg(test)]
mod tests {
    use super::*;

    fn png_of(width: u32, height: u32) -> Vec<u8> {
        let mut bytes = b"\x89PNG\r\n\x1a\n".to_vec();
        let mut chunk = |kind: &[u8; 4], body: &[u8]| {
            bytes.extend((body.len() as u32).to_be_bytes());
            bytes.extend(kind);
            bytes.extend(body);
            bytes.extend(crc32(&[kind, body]).to_be_bytes());
        };
        let mut head = width.to_be_bytes().to_vec();
        head.extend(height.to_be_bytes());
        head.extend([8, 0, 0, 0, 0]);
        chunk(b"IHDR", &head);
        chunk(b"IDAT", &[0x78, 0x9c]);
        chunk(b"IEND", &[]);
        bytes
    }

    #[test]
    fn the_checksum_is_the_usual_one() {
        assert_eq!(crc32(&[b"1234", b"56789"]), 0xcbf4_3926);
    }

    #[test]
    fn whole_images_are_known() {
        let png = png_of(3, 2);
        assert_eq!(check(&png), Ok(Image { format: "png", width: 3, height: 2 }));
        let jpeg = b"\xff\xd8\xff\xe0\x00\x04ab\xff\xc0\x00\x09\x08\x00\x10\x00\x20\x01\x00\xff\xda\x00\x02data\xff\xd9";
        assert_eq!(check(jpeg), Ok(Image { format: "jpeg", width: 32, height: 16 }));
        let webp = b"RIFF\x16\x00\x00\x00WEBPVP8L\x0a\x00\x00\x00\x2f\x07\xc0\x00\x00xxxxx";
        assert_eq!(check(webp), Ok(Image { format: "webp", width: 8, height: 4 }));
        let gif = b"GIF89a\x05\x00\x06\x00\x00\x00\x00;";
        assert_eq!(check(gif), Ok(Image { format: "gif", width: 5, height: 6 }));
    }

    #[test]
    fn every_cut_and_every_flipped_byte_of_a_png_is_seen() {
        let png = png_of(3, 2);
        for cut in 0..png.len() {
            assert!(check(&png[..cut]).is_err(), "cut at {cut}");
        }
        for at in 0..png.len() {
            let mut bad = png.clone();
            bad[at] ^= 0x40;
            assert!(check(&bad).is_err(), "flipped at {at}");
        }
        let mut tail = png;
        tail.extend(b"#!/bin/sh");
        assert!(check(&tail).is_err());
    }

    #[test]
    fn what_is_no_image_is_refused() {
        for bad in
            [&b""[..], b"<html>", b"\xff\xd8\xff", b"RIFF\0\0\0\0WEBP", b"GIF89a", b"\x7fELF"]
        {
            assert!(check(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn formats_of_names() {
        assert_eq!(format_of("a/b.JPG"), Some("jpeg"));
        assert_eq!(format_of("a.svg"), None);
        assert_eq!(format_of(".png"), Some("png"));
        assert_eq!(format_of("png"), None);
    }
}
