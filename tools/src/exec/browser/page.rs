//! What the tool's actions are in the `DevTools` protocol, and what a page looks like
//! afterwards, in words.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

use super::cdp::Cdp;
use crate::call::one_line;
use crate::limits::{
    BROWSER_ACTION_MS, BROWSER_CONSOLE_LINES, BROWSER_QUIET_MS, BROWSER_SETTLE_MS,
    BROWSER_TYPE_BYTES, BROWSER_VIEWPORT, BROWSER_VIEWPORT_MAX,
};

/// One open page.
#[derive(Debug)]
pub(super) struct Page {
    cdp: Cdp,
    session: String,
    viewport: (u32, u32),
    console: Vec<String>,
    left_out: usize,
    /// Requests under way.
    busy: i64,
    loading: bool,
}

/// What an action gave: words, and a picture.
pub(super) type Seen = (String, Vec<u8>);

impl Page {
    /// Opens an empty page in a browser that has just been started.
    pub(super) fn open(mut cdp: Cdp) -> Result<Self, String> {
        let deadline = Instant::now() + Duration::from_millis(BROWSER_ACTION_MS);
        let text = |value: &Value, key: &str| {
            value[key]
                .as_str()
                .map(str::to_owned)
                .ok_or_else(|| format!("the browser gave no {key}"))
        };
        let about = json!({"url": "about:blank"});
        let target = cdp.call("Target.createTarget", &about, None, deadline)?;
        let attach = json!({"targetId": text(&target, "targetId")?, "flatten": true});
        let attached = cdp.call("Target.attachToTarget", &attach, None, deadline)?;
        let session = text(&attached, "sessionId")?;
        let mut page = Self {
            cdp,
            session,
            viewport: BROWSER_VIEWPORT,
            console: Vec::new(),
            left_out: 0,
            busy: 0,
            loading: false,
        };
        for domain in ["Page", "Runtime", "Log", "Network"] {
            page.call(&format!("{domain}.enable"), &json!({}), deadline)?;
        }
        page.call("Browser.setDownloadBehavior", &json!({"behavior": "deny"}), deadline)?;
        page.resize(BROWSER_VIEWPORT, deadline)?;
        Ok(page)
    }

    fn call(&mut self, method: &str, params: &Value, deadline: Instant) -> Result<Value, String> {
        let session = (!method.starts_with("Browser.")).then_some(self.session.as_str());
        self.cdp.call(method, params, session, deadline)
    }

    /// Carries out one action other than `close`.
    pub(super) fn act(&mut self, params: &Map<String, Value>) -> Result<Seen, String> {
        let text = |name: &str| params.get(name).and_then(Value::as_str).unwrap_or_default();
        let deadline = Instant::now() + Duration::from_millis(BROWSER_ACTION_MS);
        self.console.clear();
        self.left_out = 0;
        match text("action") {
            "launch" => {
                let gone = self.call("Page.navigate", &json!({"url": text("url")}), deadline)?;
                if let Some(why) = gone["errorText"].as_str() {
                    let url = one_line(text("url"), 200);
                    return Err(format!("{url} cannot be opened: {}", one_line(why, 200)));
                }
                self.loading = true;
            }
            "click" => {
                let (x, y) = self.point(text("coordinate"))?;
                self.mouse("mouseMoved", x, y, deadline)?;
                self.mouse("mousePressed", x, y, deadline)?;
                self.mouse("mouseReleased", x, y, deadline)?;
            }
            "hover" => {
                let (x, y) = self.point(text("coordinate"))?;
                self.mouse("mouseMoved", x, y, deadline)?;
            }
            "type" => self.type_text(text("text"), deadline)?,
            "resize" => {
                let size = pair(text("size")).ok_or("size is written as width,height")?;
                let max = BROWSER_VIEWPORT_MAX;
                if !(100..=max).contains(&size.0) || !(100..=max).contains(&size.1) {
                    return Err(format!("width and height lie between 100 and {max}"));
                }
                self.resize(size, deadline)?;
            }
            scroll @ ("scroll_down" | "scroll_up") => {
                let sign = if scroll == "scroll_down" { "" } else { "-" };
                let script = format!("window.scrollBy(0, {sign}window.innerHeight)");
                self.call("Runtime.evaluate", &json!({"expression": script}), deadline)?;
            }
            other => return Err(format!("there is no action '{other}'")),
        }
        self.settle()?;
        self.look(deadline)
    }

    fn point(&self, text: &str) -> Result<(u32, u32), String> {
        let (x, y) = pair(text).ok_or("coordinate is written as x,y")?;
        if x >= self.viewport.0 || y >= self.viewport.1 {
            let (width, height) = self.viewport;
            return Err(format!("{x},{y} lies outside the window of {width},{height}"));
        }
        Ok((x, y))
    }

    fn mouse(&mut self, kind: &str, x: u32, y: u32, deadline: Instant) -> Result<(), String> {
        let button = if kind == "mouseMoved" { "none" } else { "left" };
        let params = json!({"type": kind, "x": x, "y": y, "button": button, "clickCount": 1});
        self.call("Input.dispatchMouseEvent", &params, deadline).map(drop)
    }

    /// Text goes in as it is; each line break is the Enter key.
    fn type_text(&mut self, text: &str, deadline: Instant) -> Result<(), String> {
        if text.len() > BROWSER_TYPE_BYTES {
            return Err(format!("the text has {} bytes, at most {BROWSER_TYPE_BYTES}", text.len()));
        }
        for (n, line) in text.split('\n').enumerate() {
            if n > 0 {
                for kind in ["keyDown", "keyUp"] {
                    let key = json!({"type": kind, "key": "Enter", "code": "Enter", "text": "\r",
                        "windowsVirtualKeyCode": 13});
                    self.call("Input.dispatchKeyEvent", &key, deadline)?;
                }
            }
            if !line.is_empty() {
                self.call("Input.insertText", &json!({"text": line}), deadline)?;
            }
        }
        Ok(())
    }

    fn resize(&mut self, size: (u32, u32), deadline: Instant) -> Result<(), String> {
        let params = json!({"width": size.0, "height": size.1, "deviceScaleFactor": 1,
            "mobile": false});
        self.call("Emulation.setDeviceMetricsOverride", &params, deadline)?;
        self.viewport = size;
        Ok(())
    }

    /// Waits until the page is quiet, or long enough.
    fn settle(&mut self) -> Result<(), String> {
        let end = Instant::now() + Duration::from_millis(BROWSER_SETTLE_MS);
        loop {
            let quiet = Instant::now() + Duration::from_millis(BROWSER_QUIET_MS);
            match self.cdp.event(quiet.min(end))? {
                Some(event) => self.note(&event),
                None if self.loading || self.busy > 0 => {}
                None => return Ok(()),
            }
            if Instant::now() >= end {
                return Ok(());
            }
        }
    }

    fn note(&mut self, event: &Value) {
        let params = &event["params"];
        match event["method"].as_str().unwrap_or_default() {
            "Page.frameStartedLoading" => self.loading = true,
            "Page.loadEventFired" | "Page.frameStoppedLoading" => self.loading = false,
            "Network.requestWillBeSent" => self.busy += 1,
            "Network.loadingFinished" => self.busy -= 1,
            "Network.loadingFailed" => {
                self.busy -= 1;
                let why = params["errorText"].as_str().unwrap_or_default();
                self.line("network", why);
            }
            "Runtime.consoleAPICalled" => {
                let words: Vec<String> = params["args"]
                    .as_array()
                    .into_iter()
                    .flatten()
                    .map(|arg| match (&arg["value"], &arg["description"]) {
                        (Value::String(text), _) | (Value::Null, Value::String(text)) => {
                            text.clone()
                        }
                        (value, _) => value.to_string(),
                    })
                    .collect();
                let kind = params["type"].as_str().unwrap_or("log").to_owned();
                self.line(&kind, &words.join(" "));
            }
            "Runtime.exceptionThrown" => {
                let details = &params["exceptionDetails"];
                let thrown = details["exception"]["description"].as_str();
                let text = thrown.or(details["text"].as_str()).unwrap_or("exception").to_owned();
                self.line("exception", &text);
            }
            "Log.entryAdded" => {
                let entry = &params["entry"];
                let text = entry["text"].as_str().unwrap_or_default().to_owned();
                self.line(entry["level"].as_str().unwrap_or("log"), &text);
            }
            "Page.javascriptDialogOpening" => {
                let text = params["message"].as_str().unwrap_or_default();
                self.line("dialog, dismissed", text);
            }
            _ => {}
        }
    }

    fn line(&mut self, kind: &str, text: &str) {
        if self.console.len() >= BROWSER_CONSOLE_LINES {
            self.left_out += 1;
            return;
        }
        self.console.push(format!("{}: {}", one_line(kind, 40), one_line(text, 500)));
    }

    /// The page in words, and a picture of it.
    fn look(&mut self, deadline: Instant) -> Result<Seen, String> {
        let script = json!({"expression": include_str!("page.js"), "returnByValue": true});
        let value = self.call("Runtime.evaluate", &script, deadline)?;
        let text = value["result"]["value"].as_str().unwrap_or("{}");
        let page: Value = serde_json::from_str(text).unwrap_or_default();
        let shot = json!({"format": "jpeg", "quality": 75});
        let shot = self.call("Page.captureScreenshot", &shot, deadline)?;
        let picture = base64(shot["data"].as_str().unwrap_or_default())
            .ok_or("the browser gave no picture")?;
        let of = |key: &str| one_line(page[key].as_str().unwrap_or_default(), 500);
        let (width, height) = self.viewport;
        let mut body = format!(
            "<page url=\"{}\" title=\"{}\" window=\"{width},{height}\" scrolled=\"{} of {}\">\n",
            of("url"),
            of("title"),
            page["scrolled"],
            page["height"],
        );
        let _ =
            writeln!(body, "<text>\n{}\n</text>", page["text"].as_str().unwrap_or_default().trim());
        body.push_str("<elements>\n");
        for element in page["elements"].as_array().into_iter().flatten().take(50) {
            let word = |n: usize| one_line(element[n].as_str().unwrap_or_default(), 80);
            let _ = writeln!(body, "{},{} {} '{}'", element[0], element[1], word(2), word(3));
        }
        body.push_str("</elements>\n<console>\n");
        for line in &self.console {
            body.push_str(line);
            body.push('\n');
        }
        if self.left_out > 0 {
            let _ = writeln!(body, "[… {} lines more]", self.left_out);
        }
        body.push_str("</console>\n</page>");
        Ok((body, picture))
    }

    pub(super) fn close(&mut self) {
        let soon = Instant::now() + Duration::from_secs(1);
        let _ = self.call("Browser.close", &json!({}), soon);
    }
}

/// `12,34`.
fn pair(text: &str) -> Option<(u32, u32)> {
    let (a, b) = text.split_once(',')?;
    Some((a.trim().parse().ok()?, b.trim().parse().ok()?))
}

fn base64(text: &str) -> Option<Vec<u8>> {
    let value = |b: u8| match b {
        b'A'..=b'Z' => Some(b - b'A'),
        b'a'..=b'z' => Some(b - b'a' + 26),
        b'0'..=b'9' => Some(b - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    };
    let digits = text.trim_end_matches('=').as_bytes();
    let mut out = Vec::with_capacity(digits.len() * 3 / 4);
    for four in digits.chunks(4) {
        let mut bits = 0u32;
        for digit in four {
            bits = bits << 6 | u32::from(value(*digit)?);
        }
        match four.len() {
            4 => out.extend_from_slice(&bits.to_be_bytes()[1..]),
            3 => out.extend_from_slice(&(bits << 6).to_be_bytes()[1..3]),
            2 => out.extend_from_slice(&(bits << 12).to_be_bytes()[1..2]),
            _ => return None,
        }
    }
    (!out.is_empty()).then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_forms_are_read() {
        assert_eq!(pair("12, 34"), Some((12, 34)));
        for bad in ["12", "a,b", "-1,2", "1,2,3", ""] {
            assert_eq!(pair(bad), None, "{bad}");
        }
        for (text, want) in [("aGVsbG8=", "hello"), ("aGVsbA==", "hell"), ("aGVs", "hel")] {
            assert_eq!(base64(text).unwrap(), want.as_bytes());
        }
        assert!(base64("").is_none() && base64("a").is_none() && base64("a!!!").is_none());
    }
}
