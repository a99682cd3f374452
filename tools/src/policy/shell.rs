//! Takes a shell command line apart into the simple commands it would run, so that
//! rules match words and not text. No expansion is done: what only the shell can know is
//! marked, and what is not understood is an error, which policy treats as "ask".

/// A word after quote removal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Word {
    pub text: String,
    /// Holds an expansion (`$x`, `$(…)`, a glob, `~`): its value is not known.
    pub dynamic: bool,
    /// Holds one that may become several words, of any form.
    pub splits: bool,
}

/// One program that the line would run, with its redirections.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Simple {
    /// `NAME=value` before the program.
    pub assignments: Vec<String>,
    pub words: Vec<Word>,
    /// Operator (`>`, `>>`, `<`, …) and target.
    pub redirects: Vec<(String, Word)>,
}

/// Why a line cannot be judged by its words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unclear(pub &'static str);

/// Nesting of subshells and substitutions that is followed.
const MAX_DEPTH: usize = 16;
/// Longest line taken apart.
const MAX_LINE: usize = 64 << 10;

/// Every simple command in `line`, those inside substitutions included.
pub fn parse(line: &str) -> Result<Vec<Simple>, Unclear> {
    parse_at(line, 0)
}

fn parse_at(line: &str, depth: usize) -> Result<Vec<Simple>, Unclear> {
    if depth > MAX_DEPTH {
        return Err(Unclear("it is nested too deeply"));
    }
    if line.len() > MAX_LINE {
        return Err(Unclear("it is too long"));
    }
    let mut parser = Parser {
        chars: line.chars().collect(),
        at: 0,
        depth,
        done: Vec::new(),
        now: Simple::default(),
        heredocs: Vec::new(),
    };
    parser.run()?;
    Ok(parser.done)
}

struct Parser {
    chars: Vec<char>,
    at: usize,
    depth: usize,
    done: Vec<Simple>,
    now: Simple,
    /// Delimiters of here-documents that begin after this line; whether quoted; tabs stripped.
    heredocs: Vec<(String, bool, bool)>,
}

/// Words that introduce a command rather than name one.
const KEYWORDS: &[&str] = &[
    "if", "then", "elif", "else", "fi", "while", "until", "do", "done", "!", "{", "}", "time",
    "coproc",
];

impl Parser {
    fn peek(&self) -> Option<char> {
        self.chars.get(self.at).copied()
    }

    fn eat(&mut self, text: &str) -> bool {
        let hit = text.chars().enumerate().all(|(i, c)| self.chars.get(self.at + i) == Some(&c));
        if hit {
            self.at += text.chars().count();
        }
        hit
    }

    fn run(&mut self) -> Result<(), Unclear> {
        let mut open = 0usize;
        while let Some(c) = self.peek() {
            match c {
                ' ' | '\t' => self.at += 1,
                '\\' if self.chars.get(self.at + 1) == Some(&'\n') => self.at += 2,
                '\n' => {
                    self.at += 1;
                    self.end_command();
                    self.here_documents()?;
                }
                '#' => {
                    while self.peek().is_some_and(|c| c != '\n') {
                        self.at += 1;
                    }
                }
                ';' | '|' | '&' => {
                    // `&>` is a redirection; the rest separate commands.
                    if self.eat("&>>") || self.eat("&>") {
                        self.redirect(">")?;
                        continue;
                    }
                    self.at += 1;
                    self.end_command();
                }
                '(' => {
                    if self.now != Simple::default() {
                        return Err(Unclear("it defines a function or an array"));
                    }
                    if self.chars.get(self.at + 1) == Some(&'(') {
                        return Err(Unclear("it has shell arithmetic"));
                    }
                    self.at += 1;
                    open += 1;
                }
                ')' => {
                    if open == 0 {
                        return Err(Unclear("its brackets do not match"));
                    }
                    open -= 1;
                    self.at += 1;
                    self.end_command();
                }
                '<' | '>' => self.redirection()?,
                _ => self.word()?,
            }
        }
        self.end_command();
        if open > 0 {
            return Err(Unclear("its brackets do not match"));
        }
        if !self.heredocs.is_empty() {
            return Err(Unclear("a here-document is not closed"));
        }
        Ok(())
    }

    fn end_command(&mut self) {
        let now = std::mem::take(&mut self.now);
        if now != Simple::default() {
            self.done.push(now);
        }
    }

    fn word(&mut self) -> Result<(), Unclear> {
        let start = self.at;
        let word = self.read_word()?;
        let raw: String = self.chars[start..self.at].iter().collect();
        // `2>file`: the number belongs to the redirection.
        if matches!(self.peek(), Some('<' | '>')) && raw.chars().all(|c| c.is_ascii_digit()) {
            return Ok(());
        }
        if self.now.words.is_empty() {
            if KEYWORDS.contains(&raw.as_str()) {
                return Ok(());
            }
            if matches!(raw.as_str(), "for" | "case" | "select" | "function" | "[[" | "esac" | "in")
            {
                return Err(Unclear("it has a shell loop, case or function"));
            }
            if let Some((name, _)) = raw.split_once('=')
                && !name.is_empty()
                && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
                && !name.starts_with(|c: char| c.is_ascii_digit())
            {
                self.now.assignments.push(word.text);
                return Ok(());
            }
        }
        self.now.words.push(word);
        Ok(())
    }

    fn read_word(&mut self) -> Result<Word, Unclear> {
        let mut word = Word { text: String::new(), dynamic: false, splits: false };
        let start = self.at;
        while let Some(c) = self.peek() {
            match c {
                ' ' | '\t' | '\n' | ';' | '|' | '&' | '(' | ')' | '<' | '>' => break,
                '\'' => {
                    self.at += 1;
                    loop {
                        match self.peek() {
                            None => return Err(Unclear("a quote is not closed")),
                            Some('\'') => break,
                            Some(c) => word.text.push(c),
                        }
                        self.at += 1;
                    }
                    self.at += 1;
                }
                '"' => self.double_quoted(&mut word)?,
                '\\' => {
                    self.at += 1;
                    match self.peek() {
                        None => return Err(Unclear("it ends in a backslash")),
                        Some('\n') => {}
                        Some(c) => word.text.push(c),
                    }
                    self.at += 1;
                }
                '$' | '`' => {
                    let was = std::mem::take(&mut word.dynamic);
                    self.expansion(&mut word)?;
                    word.splits |= word.dynamic;
                    word.dynamic |= was;
                }
                '*' | '?' | '[' | '{' => {
                    // `[` by itself is the name of a program.
                    let next = self.chars.get(self.at + 1);
                    if c == '[' && self.at == start && next.is_none_or(|n| n.is_whitespace()) {
                        word.text.push(c);
                        self.at += 1;
                        continue;
                    }
                    word.dynamic = true;
                    word.text.push(c);
                    self.at += 1;
                }
                '~' if self.at == start => {
                    word.dynamic = true;
                    word.text.push(c);
                    self.at += 1;
                }
                c => {
                    word.text.push(c);
                    self.at += 1;
                }
            }
        }
        Ok(word)
    }

    fn double_quoted(&mut self, word: &mut Word) -> Result<(), Unclear> {
        self.at += 1;
        loop {
            match self.peek() {
                None => return Err(Unclear("a quote is not closed")),
                Some('"') => {
                    self.at += 1;
                    return Ok(());
                }
                Some('\\') => {
                    self.at += 1;
                    match self.peek() {
                        None => return Err(Unclear("a quote is not closed")),
                        Some('\n') => {}
                        Some(c @ ('"' | '\\' | '$' | '`')) => word.text.push(c),
                        Some(c) => {
                            word.text.push('\\');
                            word.text.push(c);
                        }
                    }
                    self.at += 1;
                }
                Some('$' | '`') => self.expansion(word)?,
                Some(c) => {
                    word.text.push(c);
                    self.at += 1;
                }
            }
        }
    }

    /// `$name`, `${…}`, `$(…)`, `` `…` ``, `$'…'`.
    fn expansion(&mut self, word: &mut Word) -> Result<(), Unclear> {
        if self.eat("$((") {
            return Err(Unclear("it has shell arithmetic"));
        }
        if self.eat("$'") || self.eat("$\"") {
            return Err(Unclear("it has a quoted escape"));
        }
        if self.eat("$(") {
            word.dynamic = true;
            let inner = self.bracketed()?;
            self.done.extend(parse_at(&inner, self.depth + 1)?);
            return Ok(());
        }
        if self.eat("`") {
            word.dynamic = true;
            let mut inner = String::new();
            loop {
                match self.peek() {
                    None => return Err(Unclear("a backquote is not closed")),
                    Some('`') => break,
                    Some('\\') => {
                        self.at += 1;
                        if let Some(c) = self.peek() {
                            if !matches!(c, '`' | '\\' | '$') {
                                inner.push('\\');
                            }
                            inner.push(c);
                        }
                    }
                    Some(c) => inner.push(c),
                }
                self.at += 1;
            }
            self.at += 1;
            self.done.extend(parse_at(&inner, self.depth + 1)?);
            return Ok(());
        }
        if self.eat("${") {
            word.dynamic = true;
            let mut name = String::new();
            loop {
                match self.peek() {
                    None => return Err(Unclear("a brace is not closed")),
                    Some('}') => break,
                    Some(c) if c.is_ascii_alphanumeric() || c == '_' => name.push(c),
                    // Defaults and patterns may hold substitutions of their own.
                    Some(_) => return Err(Unclear("it has a parameter expansion")),
                }
                self.at += 1;
            }
            self.at += 1;
            return Ok(());
        }
        self.at += 1;
        let special = self.peek().is_some_and(|c| {
            c.is_ascii_alphanumeric() || matches!(c, '_' | '?' | '$' | '!' | '#' | '@' | '*' | '-')
        });
        if !special {
            word.text.push('$');
            return Ok(());
        }
        word.dynamic = true;
        word.text.push('$');
        while let Some(c) = self.peek().filter(|c| c.is_ascii_alphanumeric() || *c == '_') {
            word.text.push(c);
            self.at += 1;
        }
        Ok(())
    }

    /// The text up to the bracket that closes a `$(` or `<(`, quotes respected.
    fn bracketed(&mut self) -> Result<String, Unclear> {
        let mut inner = String::new();
        let mut depth = 1;
        let mut quote = None;
        while let Some(c) = self.peek() {
            self.at += 1;
            match (quote, c) {
                (Some(q), c) if c == q => quote = None,
                (Some('\''), _) => {}
                (_, '\\') => {
                    inner.push(c);
                    if let Some(next) = self.peek() {
                        inner.push(next);
                        self.at += 1;
                    }
                    continue;
                }
                (None, '\'' | '"') => quote = Some(c),
                (None, '(') => depth += 1,
                (None, ')') => {
                    depth -= 1;
                    if depth == 0 {
                        return Ok(inner);
                    }
                }
                _ => {}
            }
            inner.push(c);
        }
        Err(Unclear("its brackets do not match"))
    }

    fn redirection(&mut self) -> Result<(), Unclear> {
        if self.eat("<(") || self.eat(">(") {
            let inner = self.bracketed()?;
            self.done.extend(parse_at(&inner, self.depth + 1)?);
            self.now.words.push(Word { text: "/dev/fd/63".into(), dynamic: true, splits: false });
            return Ok(());
        }
        if self.eat("<<<") {
            return self.redirect("<<<");
        }
        if self.eat("<<") {
            let tabs = self.eat("-");
            self.blanks();
            let start = self.at;
            let word = self.read_word()?;
            let raw: String = self.chars[start..self.at].iter().collect();
            let quoted = raw.contains(['\'', '"', '\\']);
            self.heredocs.push((word.text, quoted, tabs));
            return Ok(());
        }
        for operator in [">>", ">|", ">&", "<&", "<>", ">", "<"] {
            if self.eat(operator) {
                return self.redirect(operator);
            }
        }
        Err(Unclear("a redirection is not understood"))
    }

    fn blanks(&mut self) {
        while matches!(self.peek(), Some(' ' | '\t')) {
            self.at += 1;
        }
    }

    fn redirect(&mut self, operator: &str) -> Result<(), Unclear> {
        self.blanks();
        let start = self.at;
        let target = self.read_word()?;
        if start == self.at {
            return Err(Unclear("a redirection has no target"));
        }
        // `2>&1` and `>&-` name descriptors, not files.
        let descriptor = !target.dynamic
            && (target.text == "-" || target.text.chars().all(|c| c.is_ascii_digit()));
        if matches!(operator, ">&" | "<&") && descriptor {
            return Ok(());
        }
        self.now.redirects.push((operator.into(), target));
        Ok(())
    }

    fn here_documents(&mut self) -> Result<(), Unclear> {
        for (delimiter, quoted, tabs) in std::mem::take(&mut self.heredocs) {
            loop {
                if self.at >= self.chars.len() {
                    return Err(Unclear("a here-document is not closed"));
                }
                let end = self.chars[self.at..]
                    .iter()
                    .position(|c| *c == '\n')
                    .map_or(self.chars.len(), |i| self.at + i);
                let line: String = self.chars[self.at..end].iter().collect();
                self.at = (end + 1).min(self.chars.len());
                let line = if tabs { line.trim_start_matches('\t') } else { &line };
                if line == delimiter {
                    break;
                }
                if !quoted && (line.contains("$(") || line.contains('`') || line.contains("${")) {
                    return Err(Unclear("a here-document holds a substitution"));
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<Vec<String>> {
        parse(line)
            .unwrap()
            .into_iter()
            .map(|s| s.words.into_iter().map(|w| w.text).collect())
            .collect()
    }

    #[test]
    fn every_command_of_a_line_is_found() {
        let found = words(
            "git status && (ls -l; rm 'a b') | tee x & FOO=1 make \"-j 2\" ; if true; then echo; fi",
        );
        let want: Vec<Vec<&str>> = vec![
            vec!["git", "status"],
            vec!["ls", "-l"],
            vec!["rm", "a b"],
            vec!["tee", "x"],
            vec!["make", "-j 2"],
            vec!["true"],
            vec!["echo"],
        ];
        assert_eq!(found, want);
    }

    #[test]
    fn substitutions_are_commands_too() {
        for line in [
            "echo $(rm x)",
            "echo \"`rm x`\"",
            "cat <(rm x)",
            "echo \"$(echo $(rm x))\"",
            "x=$(rm x)",
            "cat > $(rm x)",
        ] {
            let all = words(line);
            assert!(all.iter().any(|w| w == &["rm", "x"]), "{line}: {all:?}");
        }
        assert!(!words("echo '$(rm x)'").iter().any(|w| w[0] == "rm"));
        assert!(!words("echo \\$\\(rm x\\)").iter().any(|w| w[0] == "rm"));
    }

    #[test]
    fn quotes_do_not_hide_a_name() {
        assert_eq!(words("r'm' -r\"f\" \\x"), [["rm", "-rf", "x"]]);
        assert_eq!(words("git\\\n status"), [["git", "status"]]);
    }

    #[test]
    fn redirections_are_kept_apart() {
        let all = parse("cmd <in 2>&1 >out 2>/dev/null &>all >>\"a b\"").unwrap();
        let got: Vec<_> = all[0].redirects.iter().map(|(o, w)| format!("{o}{}", w.text)).collect();
        assert_eq!(got, ["<in", ">out", ">/dev/null", ">all", ">>a b"]);
        assert_eq!(all[0].words.len(), 1);
    }

    #[test]
    fn here_documents_are_data() {
        assert_eq!(words("cat <<'E'\nrm -rf /\n$(x)\nE\nls"), [vec!["cat"], vec!["ls"]]);
        assert!(parse("cat <<E\n$(rm x)\nE\n").is_err());
        assert!(parse("cat <<E\nnever closed").is_err());
    }

    #[test]
    fn what_is_not_understood_is_said() {
        for line in [
            "echo 'x",
            "echo \"x",
            "(ls",
            "ls)",
            "f() { ls; }",
            "for i in a; do rm $i; done",
            "echo ${x:-$(rm y)}",
            "echo $((1))",
            "echo $'x'",
            "a=(1 2)",
            "cat >",
            "x \\",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }

    #[test]
    fn unknown_values_are_marked() {
        let all = parse("$CMD *.rs ~ lit").unwrap();
        let dynamic: Vec<bool> = all[0].words.iter().map(|w| w.dynamic).collect();
        assert_eq!(dynamic, [true, true, true, false]);
    }
}
