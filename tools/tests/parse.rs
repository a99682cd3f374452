//! The XML parser: every trap, and independence of how the stream is split.

use lapce_ai_tools::call::ToolCall;
use lapce_ai_tools::spec;
use lapce_ai_tools::xml::{ParseError, Piece, StreamParser};
use proptest::prelude::*;

/// Pieces with neighbouring text joined.
fn join(pieces: Vec<Piece>) -> Vec<Piece> {
    let mut out: Vec<Piece> = Vec::new();
    for piece in pieces {
        match (out.last_mut(), piece) {
            (Some(Piece::Text(before)), Piece::Text(more)) => before.push_str(&more),
            (_, piece) => out.push(piece),
        }
    }
    out
}

fn parse(text: &str) -> Vec<Piece> {
    let mut parser = StreamParser::new(spec::offered());
    let mut pieces = parser.push(text);
    pieces.extend(parser.finish());
    join(pieces)
}

fn parse_split(text: &[u8], cuts: &[usize]) -> Vec<Piece> {
    let mut parser = StreamParser::new(spec::offered());
    let mut pieces = Vec::new();
    let mut at = 0;
    for cut in cuts.iter().copied().chain([text.len()]) {
        let cut = cut.clamp(at, text.len());
        pieces.extend(parser.push_bytes(&text[at..cut]));
        at = cut;
    }
    pieces.extend(parser.finish());
    join(pieces)
}

fn calls(text: &str) -> Vec<ToolCall> {
    parse(text)
        .into_iter()
        .filter_map(|p| if let Piece::Call(call) = p { Some(call) } else { None })
        .collect()
}

fn write(path: &str, content: &str) -> String {
    format!("<write_to_file>\n<path>{path}</path>\n<content>{content}</content>\n</write_to_file>")
}

#[test]
fn a_call_between_words() {
    let text = "Let me look.\n<read_file>\n<path>a b.txt</path>\n</read_file>\nDone.";
    let pieces = parse(text);
    assert_eq!(pieces[0], Piece::Text("Let me look.\n".into()));
    assert_eq!(pieces[1], Piece::CallStarted { name: "read_file".into() });
    let Piece::Call(call) = &pieces[2] else { panic!("{pieces:?}") };
    assert_eq!((call.name.as_str(), call.text("path")), ("read_file", "a b.txt"));
    assert_eq!(pieces[3], Piece::Text("\nDone.".into()));
}

#[test]
fn code_is_kept_byte_for_byte() {
    for content in [
        "  leading and trailing  \n\n",
        "\n\nblank lines first",
        "&lt;b&gt; &amp;amp; <![CDATA[ x ]]>",
        "tabs\t\r\nand returns\r\n",
        "no end of line",
        "<div><content>nested</content></div>\n",
        "</content> in the middle\n",
        "a </content>\n</other> b",
        "<content>",
        "<write_to_file>",
        "</write_to_file>",
        "</content></write_to_filex>",
        "<entry><content>x</content><path>y</path></entry>",
        "<read_file> <write_to_file> words",
        "",
        "\u{fffd}é𝄞",
    ] {
        let got = calls(&write("f", &format!("\n{content}")));
        assert_eq!(got.len(), 1, "{content:?}: {:?}", parse(&write("f", &format!("\n{content}"))));
        assert_eq!(got[0].text("content"), content);
    }
    // The break after the open tag is markup; what follows on the same line is not.
    assert_eq!(calls(&write("f", "x\n"))[0].text("content"), "x\n");
}

#[test]
fn a_whole_call_inside_a_parameter_is_content() {
    let inner = write("inner", "\nx\n");
    let got = calls(&write("outer", &format!("\nSee:\n{inner}\nend\n")));
    assert_eq!(got.len(), 1);
    assert_eq!(got[0].text("path"), "outer");
    assert_eq!(got[0].text("content"), format!("See:\n{inner}\nend\n"));
    // Of another tool too.
    let read = "<read_file>\n<path>x</path>\n</read_file>";
    let got = calls(&write("outer", &format!("\n{read}\n")));
    assert_eq!(got.len(), 1);
    assert_eq!(got[0].text("content"), format!("{read}\n"));
}

#[test]
fn a_tool_named_in_prose_is_prose() {
    for text in [
        "Use <read_file> to read.",
        "<read_file>x</read_file>",
        "a < b",
        "<read_file",
        "<readfile><path>x</path></readfile>",
        "<",
        "<unknown><path>x</path></unknown>",
    ] {
        assert_eq!(parse(text), [Piece::Text(text.into())], "{text}");
    }
}

#[test]
fn a_cut_stream_runs_nothing() {
    for whole in [
        write("f", "\nfn main() {}\n"),
        write("o", &write("i", "x")),
        "<read_file>\n<args>\n<file>\n<path>a</path>\n</file>\n</args>\n</read_file>".into(),
    ] {
        for cut in 0..whole.len() {
            let pieces = parse(&whole[..cut]);
            assert!(!pieces.iter().any(|p| matches!(p, Piece::Call(_))), "{:?}", &whole[..cut]);
            let started = pieces.iter().any(|p| matches!(p, Piece::CallStarted { .. }));
            let said = pieces.iter().any(|p| matches!(p, Piece::Error(ParseError::Cut { .. })));
            assert_eq!(started, said, "{:?}", &whole[..cut]);
        }
        assert_eq!(calls(&whole).len(), 1);
    }
}

#[test]
fn wrong_calls_are_errors() {
    let error = |text: &str| match parse(text).into_iter().find(|p| matches!(p, Piece::Error(_))) {
        Some(Piece::Error(error)) => error,
        other => panic!("{text}: {other:?}"),
    };
    assert!(matches!(
        error("<write_to_file><path>a</path></write_to_file>"),
        ParseError::Invalid { .. }
    ));
    assert!(matches!(
        error("<insert_content><path>a</path><line>x</line><content>y</content></insert_content>"),
        ParseError::Invalid { .. }
    ));
    assert!(matches!(
        error("<write_to_file><path>a</path> words <content>x</content></write_to_file>"),
        ParseError::Malformed { .. }
    ));
    assert!(matches!(error("<list_files></list_files>"), ParseError::Invalid { .. }));
    let long = write("f", &"x".repeat(5 << 20));
    assert!(matches!(error(&long), ParseError::TooLong { .. }));
    assert!(calls(&long).is_empty());
    // What comes after it is lost with it: it may be the call's own content.
    let tail = long + "<read_file><path>x</path></read_file>";
    let cuts: Vec<usize> = (0..tail.len()).step_by(100_000).collect();
    for pieces in [parse(&tail), parse_split(tail.as_bytes(), &cuts)] {
        assert_eq!(pieces.len(), 2, "{:?}", pieces.last());
    }
}

#[test]
fn empty_optional_parameters_are_left_out() {
    let got = calls(
        "<search_files><path>.</path><regex>x</regex><file_pattern></file_pattern></search_files>",
    );
    assert!(!got[0].has("file_pattern"));
}

#[test]
fn several_calls_come_in_order() {
    let text = write("a", "1") + "\n" + &write("b", "2");
    let paths: Vec<String> = calls(&text).iter().map(|c| c.text("path").to_owned()).collect();
    assert_eq!(paths, ["a", "b"]);
}

#[test]
fn both_forms_give_the_same_call() {
    for spec in spec::all() {
        let Some(offered) = spec::find(spec.name) else { continue };
        let got = calls(offered.example);
        assert_eq!(
            got.len(),
            1,
            "the example of {} is a call: {:?}",
            spec.name,
            parse(offered.example)
        );
        let json = serde_json::Value::Object(got[0].params.clone()).to_string();
        let native = lapce_ai_tools::native::call(&got[0].id, offered, &json).unwrap();
        assert_eq!(native, got[0], "{}", spec.name);
    }
}

#[test]
fn every_split_of_two_gives_the_same() {
    let text = format!(
        "héllo <b> {}\n𝄞 <read_file>\n<args><file><path>a</path><line_range>1-2</line_range></file></args></read_file> tail <",
        write("ü", "\n</content> é <content>\n")
    );
    let want = parse(&text);
    for cut in 0..=text.len() {
        assert_eq!(parse_split(text.as_bytes(), &[cut]), want, "split at {cut}");
    }
    let each: Vec<usize> = (0..text.len()).collect();
    assert_eq!(parse_split(text.as_bytes(), &each), want, "byte by byte");
}

/// Bits that texts are made of: the parser's own words, near misses, and noise.
fn bits() -> impl Strategy<Value = String> {
    let words = [
        "<write_to_file>",
        "</write_to_file>",
        "<read_file>",
        "</read_file>",
        "<path>",
        "</path>",
        "<content>",
        "</content>",
        "<args>",
        "</args>",
        "<file>",
        "</file>",
        "<line_count>",
        "</line_count>",
        "\n",
        " ",
        "<",
        ">",
        "</",
        "<write_to",
        "é",
        "𝄞",
        "x",
        "3",
        "<read_file>\n<path>a</path>\n</read_file>",
        "<write_to_file><path>p</path><content>",
        "</content></write_to_file>",
    ];
    prop::collection::vec(prop::sample::select(words.to_vec()), 0..24)
        .prop_map(|parts| parts.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, ..ProptestConfig::default() })]

    #[test]
    fn any_split_gives_the_same(text in bits(), cuts in prop::collection::vec(0usize..400, 0..12)) {
        let mut cuts = cuts;
        cuts.sort_unstable();
        prop_assert_eq!(parse_split(text.as_bytes(), &cuts), parse(&text));
    }

    #[test]
    fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..300), cut in 0usize..300) {
        let whole = parse_split(&bytes, &[]);
        prop_assert_eq!(parse_split(&bytes, &[cut]), whole);
    }

    #[test]
    fn any_content_without_the_tool_survives(content in "[ -~\\n\\té]{0,200}") {
        prop_assume!(!content.contains("write_to_file"));
        let got = calls(&write("f", &format!("\n{content}")));
        prop_assert_eq!(got.len(), 1);
        prop_assert_eq!(got[0].text("content"), content);
    }

    #[test]
    fn text_is_never_lost(text in bits()) {
        // Without a call in it, every byte comes back as text.
        let pieces = parse(&text);
        if pieces.iter().all(|p| matches!(p, Piece::Text(_))) {
            let back: String = pieces.iter().map(|p| if let Piece::Text(t) = p { t.as_str() } else { "" }).collect();
            prop_assert_eq!(back, text);
        }
    }
}

proptest! {
    // Each case is parsed once for every byte that it has.
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn a_call_split_at_every_byte_is_the_same(content in "[ -~\\n\\té<>/]{0,40}", before in "[a-z <]{0,12}") {
        let text = before + &write("a b", &content);
        let want = parse(&text);
        for cut in 0..=text.len() {
            prop_assert_eq!(parse_split(text.as_bytes(), &[cut]), want.clone(), "at {}", cut);
        }
        let each: Vec<usize> = (0..text.len()).collect();
        prop_assert_eq!(parse_split(text.as_bytes(), &each), want);
    }
}
