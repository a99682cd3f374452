//! The to-do list of a task, as a model writes it. Pure.

use super::limits;

/// The list in its one form, or what is wrong with it.
pub fn read(text: &str) -> Result<String, String> {
    let mut items = Vec::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let line = line.trim_start_matches(['-', '*']).trim_start();
        let item = ["[ ]", "[x]", "[X]", "[-]", "[~]"].iter().find_map(|mark| {
            let words = line.strip_prefix(mark)?.trim();
            let mark = match *mark {
                "[X]" => "[x]",
                "[~]" => "[-]",
                mark => mark,
            };
            (!words.is_empty()).then(|| format!("{mark} {words}"))
        });
        let item = item.ok_or_else(|| {
            let shown = lapce_ai_tools::call::one_line(line, 60);
            format!("'{shown}' is no item; each line begins with [ ], [x] or [-]")
        })?;
        items.push(lapce_ai_tools::call::one_line(&item, limits::TODO_ITEM_CHARS));
    }
    match items.len() {
        0 => Err("the list is empty".into()),
        n if n > limits::TODO_ITEMS => {
            Err(format!("the list has {n} items; at most {} are kept", limits::TODO_ITEMS))
        }
        _ => Ok(items.join("\n")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_come_to_one_form() {
        let text = "\n- [ ] one\n* [X] two\n[-] three  \n[~] four\n";
        assert_eq!(read(text).unwrap(), "[ ] one\n[x] two\n[-] three\n[-] four");
        for (bad, words) in
            [("", "empty"), ("one", "no item"), ("[ ]", "no item"), ("[?] x", "no item")]
        {
            assert!(read(bad).unwrap_err().contains(words), "{bad}");
        }
        assert!(read(&"[ ] x\n".repeat(limits::TODO_ITEMS + 1)).is_err());
    }
}
