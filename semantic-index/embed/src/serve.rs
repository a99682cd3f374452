//! The protocol: lines of JSON.
//!
//! The first line out says what the model is, `{"id", "dims"}`, or why there is none,
//! `{"error"}`; the program ends then. Each line in, `{"texts", "question"}`, is answered by one
//! line out, `{"vectors"}` or `{"error"}`, in order. Bytes of a vector are whole numbers.

use std::io::{self, BufRead, Read as _, Write};

use serde::{Deserialize, Serialize};

use crate::Unusable;
use crate::limits::{MAX_TEXTS, REQUEST_BYTES};
use crate::model::{Model, Side};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Request {
    texts: Vec<String>,
    /// They are questions, not what is to be found.
    #[serde(default)]
    question: bool,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Reply<'a> {
    Hello { id: &'a str, dims: usize },
    Vectors { vectors: Vec<Vec<i8>> },
    Error { error: String },
}

/// Answers until `input` ends.
pub fn run(
    model: Result<Model, Unusable>,
    input: &mut impl BufRead,
    output: &mut impl Write,
) -> io::Result<()> {
    let model = match model {
        Ok(model) => model,
        Err(error) => return say(output, &Reply::Error { error: error.0 }),
    };
    say(output, &Reply::Hello { id: model.id(), dims: model.dims() })?;
    let mut line = String::new();
    loop {
        line.clear();
        if input.by_ref().take(REQUEST_BYTES).read_line(&mut line)? == 0 {
            return Ok(());
        }
        let reply = match answer(&model, &line) {
            Ok(vectors) => Reply::Vectors { vectors },
            Err(error) => Reply::Error { error },
        };
        say(output, &reply)?;
        if !line.ends_with('\n') {
            // Too long: what follows is no request.
            return Ok(());
        }
    }
}

fn answer(model: &Model, line: &str) -> Result<Vec<Vec<i8>>, String> {
    let request: Request =
        serde_json::from_str(line).map_err(|e| format!("the request is not understood: {e}"))?;
    if request.texts.len() > MAX_TEXTS {
        return Err(format!("{} texts at once; {MAX_TEXTS} are taken", request.texts.len()));
    }
    let side = if request.question { Side::Question } else { Side::Document };
    let texts: Vec<&str> = request.texts.iter().map(String::as_str).collect();
    model.vectors(&texts, side)
}

fn say(output: &mut impl Write, reply: &Reply<'_>) -> io::Result<()> {
    let mut line = serde_json::to_vec(reply)?;
    line.push(b'\n');
    output.write_all(&line)?;
    output.flush()
}
