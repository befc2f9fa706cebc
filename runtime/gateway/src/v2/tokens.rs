//! `NaN`, `Infinity` and `-Infinity`, which JSON does not have and Triton and Python's `json` write.

/// `text` with a number of the same length in place of each token, so that it is JSON and everything stands where it
/// stood; nothing if there is no token. Whoever reads the number sees in the original what it stands for.
pub(crate) fn replaced(text: &str) -> Option<String> {
    const TOKENS: [(&str, &str); 3] =
        [("NaN", "0.5"), ("Infinity", "0.500000"), ("-Infinity", "-0.500000")];
    let mut out = String::new();
    let mut copied = 0;
    for (at, byte) in outside_strings(text) {
        if !matches!(byte, b'N' | b'I' | b'-') || !text[..at].ends_with(before) {
            continue;
        }
        let token = TOKENS.iter().find(|(token, _)| text[at..].starts_with(token));
        let Some((token, number)) = token else { continue };
        // Part of a longer word or number, it is left to be refused.
        if !text[at + token.len()..].starts_with(after) {
            continue;
        }
        out.push_str(&text[copied..at]);
        out.push_str(number);
        copied = at + token.len();
    }
    if copied == 0 {
        return None;
    }
    out.push_str(&text[copied..]);
    Some(out)
}

fn before(character: char) -> bool {
    matches!(character, ' ' | '\n' | '\t' | '\r' | '[' | ':' | ',')
}

fn after(character: char) -> bool {
    matches!(character, ' ' | '\n' | '\t' | '\r' | ']' | '}' | ',')
}

/// How deep arrays and objects are nested in a JSON text.
pub(crate) fn depth(text: &str) -> usize {
    let (mut depth, mut deepest) = (0usize, 0);
    for (_, byte) in outside_strings(text) {
        match byte {
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    deepest
}

/// The bytes that stand outside of strings, and where.
pub(super) fn outside_strings(text: &str) -> impl Iterator<Item = (usize, u8)> {
    let (mut inside, mut escaped) = (false, false);
    text.bytes().enumerate().filter(move |&(_, byte)| {
        if !inside {
            inside = byte == b'"';
            return !inside;
        }
        inside = escaped || byte != b'"';
        escaped = !escaped && byte == b'\\';
        false
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn tokens_become_numbers_of_their_length() {
        let cases = [
            ("[NaN]", "[0.5]"),
            ("[ NaN ,Infinity,\n-Infinity\t]", "[ 0.5 ,0.500000,\n-0.500000\t]"),
            (r#"{"NaN":NaN,"\"":Infinity}"#, r#"{"NaN":0.5,"\"":0.500000}"#),
            (r#"["\\",NaN,"é NaN, ",NaN]"#, r#"["\\",0.5,"é NaN, ",0.5]"#),
            ("[NaN,1NaN,NaN]", "[0.5,1NaN,0.5]"),
        ];
        for (text, wanted) in cases {
            assert_eq!(replaced(text).as_deref(), Some(wanted), "{text}");
        }
    }

    #[test]
    fn what_is_no_token_stays() {
        let cases = [
            "[1]",
            r#"["NaN"]"#,
            r#"["\",NaN,"]"#,
            "[NaN5]",
            "[5NaN]",
            "[-NaN]",
            "[+Infinity]",
            "[--Infinity]",
            "[NaNs]",
            "[Infinit]",
            "[1-Infinity]",
            "[nan]",
            "NaN",
            "[éNaN]",
            "",
        ];
        for text in cases {
            assert_eq!(replaced(text), None, "{text}");
        }
    }

    #[test]
    fn depth_counts_outside_of_strings() {
        assert_eq!(depth("1"), 0);
        assert_eq!(depth(r#"[{"a":[]},"[[[[[\"[["]"#), 3);
    }

    proptest! {
        #[test]
        fn nothing_moves(text in "([NaIfinty, \\[\\]\":{}\\\\é-]|NaN|Infinity){0,30}") {
            if let Some(new) = replaced(&text) {
                prop_assert_eq!(new.len(), text.len());
            }
            depth(&text);
        }
    }
}
