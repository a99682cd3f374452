//! What a server says, as text that may be shown and put into a prompt. All of it is
//! hostile: control characters go, lengths are bounded, names are checked.

use std::fmt::Write as _;

use lapce_ai_tools::call::one_line;
use lapce_ai_tools::envelope::head_and_tail;
use lapce_ai_tools::limits::{PICTURE_BYTES, READ_PICTURES};
use rmcp::model::{CallToolResult, ContentBlock, PromptMessage, ResourceContents, Role};

use super::limits;
use crate::provider::{Picture, image};

/// Whether a tool or prompt may go by this name: no white space, nothing that a prompt, a
/// rule or a terminal could read otherwise.
pub fn is_name(name: &str) -> bool {
    (1..=limits::NAME).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-./:".contains(&b))
}

/// Whether a resource may go by this address.
pub fn is_uri(uri: &str) -> bool {
    (1..=limits::URI_BYTES).contains(&uri.len())
        && !uri.chars().any(|c| c.is_control() || c.is_whitespace() || "<>\"".contains(c))
}

/// A description on one line.
pub fn description(text: Option<&str>) -> String {
    one_line(&visible(text.unwrap_or_default()), limits::DESCRIPTION)
}

/// Text without what a terminal would obey or a reader would not see. Line ends stay.
pub fn clean(text: &str) -> String {
    let text = text.replace("\r\n", "\n");
    text.chars()
        .filter(|c| !invisible(*c))
        .map(|c| if c.is_control() && c != '\n' && c != '\t' { '\u{fffd}' } else { c })
        .collect()
}

fn visible(text: &str) -> String {
    text.chars().filter(|c| !invisible(*c)).collect()
}

/// Characters that show as nothing: they can carry words that only a model reads.
fn invisible(c: char) -> bool {
    matches!(c,
        '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
        | '\u{feff}' | '\u{e0000}'..='\u{e0fff}' | '\u{fff9}'..='\u{fffb}')
}

/// What a call gave, and the images among it.
pub fn result(result: &CallToolResult, max: usize) -> (String, Vec<Picture>) {
    let mut pictures = Pictures::default();
    let mut text = blocks(&result.content, &mut pictures);
    if text.trim().is_empty()
        && let Some(value) = &result.structured_content
    {
        text = format!("{value:#}");
    }
    (head_and_tail(&clean(&text), max), pictures.0)
}

/// The contents of a resource, and the images among them.
pub fn resource(contents: &[ResourceContents], max: usize) -> (String, Vec<Picture>) {
    let mut pictures = Pictures::default();
    let parts: Vec<String> = contents.iter().map(|c| content(c, &mut pictures)).collect();
    (head_and_tail(&clean(&parts.join("\n")), max), pictures.0)
}

/// Images for a model: few, not large, and whole.
#[derive(Default)]
struct Pictures(Vec<Picture>);

impl Pictures {
    /// Takes one, or says why not.
    fn take(&mut self, base64: &str) -> Result<(), &'static str> {
        if self.0.len() >= READ_PICTURES {
            return Err("not shown, since it is one too many");
        }
        if base64.len() > PICTURE_BYTES.div_ceil(3) * 4 {
            return Err("not shown, since it is too large");
        }
        let picture = image::base64(base64).and_then(|bytes| Picture::new(&bytes));
        self.0.push(picture.ok_or("not shown, since it is no whole PNG, JPEG, WebP or GIF")?);
        Ok(())
    }
}

/// The messages of a prompt.
pub fn prompt(messages: &[PromptMessage], max: usize) -> String {
    let mut out = String::new();
    for message in messages {
        // Pictures are for results only.
        let text = blocks(std::slice::from_ref(&message.content), &mut Pictures::default());
        match message.role {
            Role::User => out.push_str(&text),
            Role::Assistant => {
                let _ = write!(out, "(as the assistant) {text}");
            }
        }
        out.push('\n');
    }
    head_and_tail(clean(&out).trim_end(), max)
}

fn blocks(blocks: &[ContentBlock], pictures: &mut Pictures) -> String {
    let parts: Vec<String> = blocks.iter().map(|b| block(b, pictures)).collect();
    parts.join("\n")
}

fn block(block: &ContentBlock, pictures: &mut Pictures) -> String {
    match block {
        ContentBlock::Text(text) => text.text.clone(),
        ContentBlock::Image(image) => shown(&image.mime_type, &image.data, pictures),
        ContentBlock::Audio(audio) => {
            left_out("audio", &audio.mime_type, audio.data.len(), "not shown")
        }

        ContentBlock::Resource(resource) => content(&resource.resource, pictures),
        ContentBlock::ResourceLink(link) => {
            format!("[resource {} ({})]", one_line(&link.uri, 300), one_line(&link.name, 100))
        }
        _ => UNKNOWN.to_owned(),
    }
}

fn content(contents: &ResourceContents, pictures: &mut Pictures) -> String {
    match contents {
        ResourceContents::TextResourceContents { text, .. } => text.clone(),
        ResourceContents::BlobResourceContents { mime_type, blob, .. } => {
            let kind = mime_type.as_deref().unwrap_or("unknown");
            if kind.starts_with("image/") {
                shown(kind, blob, pictures)
            } else {
                left_out("data", kind, blob.len(), "not shown")
            }
        }
        _ => UNKNOWN.to_owned(),
    }
}

const UNKNOWN: &str = "[a kind of content that is not known here]";

fn shown(kind: &str, base64: &str, pictures: &mut Pictures) -> String {
    match pictures.take(base64) {
        Ok(()) => format!("[image {}]", pictures.0.len()),
        Err(why) => left_out("image", kind, base64.len(), why),
    }
}

/// Base64 that is no text for a model.
fn left_out(what: &str, kind: &str, base64: usize, why: &str) -> String {
    format!("[{what} of type {}, about {} KB, {why}]", one_line(kind, 60), base64 * 3 / 4096)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn names_with_anything_odd_are_refused() {
        for good in ["git_log", "a.b/c-d", "x:y"] {
            assert!(is_name(good), "{good}");
        }
        for bad in ["", "a b", "a\nb", "a\u{1b}[2J", "</mcp>", "é", &"x".repeat(129)] {
            assert!(!is_name(bad), "{bad:?}");
        }
        assert!(is_uri("demo://resource/1?x=y") && is_uri("file:///ä/b"));
        for bad in ["", "a b", "x\ny", "<a>", &"x".repeat(2000)] {
            assert!(!is_uri(bad), "{bad:?}");
        }
    }

    #[test]
    fn texts_are_made_harmless() {
        assert_eq!(clean("a\r\nb\tc\u{1b}[2Jd\u{200b}\u{e0041}e"), "a\nb\tc\u{fffd}[2Jde");
        assert_eq!(description(Some("one\ntwo\u{7}\u{202e}x")), "one two x");
        assert_eq!(description(Some(&"x".repeat(5000))).chars().count(), limits::DESCRIPTION + 1);
    }

    #[test]
    fn results_are_text_and_bounded() {
        let parsed = |json| serde_json::from_value::<CallToolResult>(json).unwrap();
        let mixed = parsed(serde_json::json!({"content": [
            {"type": "text", "text": "one"},
            {"type": "image", "data": "AAAA".repeat(1024), "mimeType": "image/png"},
            {"type": "resource", "resource": {"uri": "a://b", "text": "two"}},
            {"type": "resource_link", "uri": "a://c", "name": "c"}
        ]}));
        let (text, pictures) = result(&mixed, 10_000);
        assert_eq!(
            text,
            "one\n[image of type image/png, about 3 KB, not shown, since it is no whole PNG, JPEG, \
             WebP or GIF]\ntwo\n[resource a://c (c)]"
        );
        assert!(pictures.is_empty());
        let failed = parsed(
            serde_json::json!({"content": [], "structuredContent": {"a": 1}, "isError": true}),
        );
        assert_eq!(result(&failed, 100).0, "{\n  \"a\": 1\n}");
        let long =
            parsed(serde_json::json!({"content": [{"type": "text", "text": "x".repeat(9_000)}]}));
        assert!(result(&long, 1_000).0.len() < 1_200);
    }

    #[test]
    fn images_are_passed_on_when_they_are_whole_and_few() {
        let image = json!({"type": "image", "data": PIXEL, "mimeType": "image/png"});
        let resource = json!({"uri": "a://b", "blob": PIXEL, "mimeType": "image/png"});
        let mut content = vec![json!({"type": "resource", "resource": resource})];
        content.extend(vec![image; READ_PICTURES]);
        let parsed = |content| {
            serde_json::from_value::<CallToolResult>(json!({ "content": content })).unwrap()
        };
        let (text, pictures) = result(&parsed(content), 10_000);
        assert_eq!(pictures.len(), READ_PICTURES);
        assert_eq!((pictures[0].media, &*pictures[0].base64), ("image/png", PIXEL));
        assert!(text.starts_with("[image 1]\n[image 2]\n[image 3]\n[image 4]\n[image of type"));
        assert!(text.contains("one too many"), "{text}");
        let large = json!({"type": "image", "data": "A".repeat(3 << 20), "mimeType": "image/png"});
        let (text, pictures) = result(&parsed(vec![large]), 10_000);
        assert!(pictures.is_empty() && text.contains("too large"), "{text}");
        let blob: Vec<ResourceContents> = serde_json::from_value(json!([
            {"uri": "a://b", "blob": PIXEL, "mimeType": "image/png"},
            {"uri": "a://c", "blob": PIXEL, "mimeType": "application/zip"},
        ]))
        .unwrap();
        let (text, pictures) = super::resource(&blob, 1_000);
        assert_eq!(pictures.len(), 1);
        assert_eq!(text, "[image 1]\n[data of type application/zip, about 0 KB, not shown]");
    }

    /// A PNG of one pixel.
    const PIXEL: &str = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJggg==";
}
