//! How many tokens a text may take. Estimates err on the side of too many: a prompt that
//! is a little short is better than one that is refused.

use lapce_ai_ipc::wire::engine::Usage;

use crate::provider::{Message, Part};

/// Tokens that a message costs beyond its text.
const PER_MESSAGE: usize = 8;

/// Tokens that a picture may take; providers scale large ones down to about this.
const PER_PICTURE: usize = 1_600;

/// Three ASCII bytes a token (code and English take 3.3 to 4.5), and one token for each
/// byte of other scripts, as small vocabularies need.
pub fn estimate(text: &str) -> usize {
    let other = text.bytes().filter(|b| !b.is_ascii()).count();
    (text.len() - other).div_ceil(3) + other
}

pub fn message(message: &Message) -> usize {
    message.parts.iter().map(part).sum::<usize>() + PER_MESSAGE
}

fn part(part: &Part) -> usize {
    match part {
        Part::Text(text) => estimate(text),
        Part::Call { name, arguments, .. } => estimate(name) + estimate(arguments) + PER_MESSAGE,
        Part::CallResult { text, .. } => estimate(text) + PER_MESSAGE,
        Part::Image(_) => PER_PICTURE,
        Part::Opaque { value, .. } => estimate(&value.to_string()),
    }
}

/// The longest start of `text`, in whole lines, that takes at most `budget` tokens.
pub fn head(text: &str, budget: usize) -> &str {
    if estimate(text) <= budget {
        return text;
    }
    let mut end = 0;
    let mut used = 0;
    for line in text.split_inclusive('\n') {
        used += estimate(line);
        if used > budget {
            break;
        }
        end += line.len();
    }
    &text[..end]
}

/// The longest end of `text`, in whole lines, that takes at most `budget` tokens.
pub fn tail(text: &str, budget: usize) -> &str {
    if estimate(text) <= budget {
        return text;
    }
    let mut start = text.len();
    let mut used = 0;
    for line in text.split_inclusive('\n').rev() {
        used += estimate(line);
        if used > budget {
            break;
        }
        start -= line.len();
    }
    &text[start..]
}

/// Adds what one answer used; the numbers are a provider's word and may be anything.
pub fn add(total: &mut Usage, more: &Usage) {
    for (total, more) in [
        (&mut total.input, more.input),
        (&mut total.cache_read, more.cache_read),
        (&mut total.cache_write, more.cache_write),
        (&mut total.reasoning, more.reasoning),
        (&mut total.output, more.output),
    ] {
        *total = total.saturating_add(more);
    }
}

pub fn sum(usage: &Usage) -> u64 {
    [usage.input, usage.cache_read, usage.cache_write, usage.reasoning, usage.output]
        .iter()
        .fold(0, |sum, part| sum.saturating_add(*part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn estimates_err_on_the_high_side() {
        assert_eq!(estimate(""), 0);
        assert_eq!(estimate("abc"), 1);
        assert_eq!(estimate("grün"), 1 + 2);
        assert_eq!(estimate("日本"), 6);
    }

    #[test]
    fn heads_are_whole_lines() {
        assert_eq!(head("one\ntwo\nthree\n", 4), "one\ntwo\n");
        assert_eq!(head("one\n", 100), "one\n");
        assert_eq!(head("a very long line without an end", 2), "");
    }
}
