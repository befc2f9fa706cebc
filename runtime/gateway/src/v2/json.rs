//! A reader over the bytes of a JSON text, one token at a time.
//!
//! The caller says what it expects and the reader gives it or an error. Numbers come as their digits, so that each dtype
//! makes its own value of them, exactly and in one pass; strings are borrowed where they hold no escapes. The tokens
//! `NaN`, `Infinity` and `-Infinity` are read where JSON has numbers, as Triton and Python's `json` write them. This is
//! all that keeps `serde_json` from being used here; a test holds the two to the same language otherwise.

use std::borrow::Cow;

use super::Bad;

/// The deepest nesting, as Triton has it.
pub(crate) const DEPTH_MAX: u32 = 100;

/// Reads JSON, one token after another.
pub(crate) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    depth: u32,
}

/// A number as it stands in the text.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Number<'a> {
    /// Digits.
    Digits(Digits<'a>),
    /// `NaN`.
    NaN,
    /// `Infinity`, or `-Infinity` if so.
    Infinite {
        /// Whether it is below zero.
        negative: bool,
    },
}

/// `mantissa * 10^exponent`, if `exact`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Digits<'a> {
    /// The whole number as written.
    pub(crate) text: &'a [u8],
    /// Whether a minus stands before it.
    pub(crate) negative: bool,
    /// All digits, read as one whole number.
    pub(crate) mantissa: u64,
    /// Where the decimal point belongs.
    pub(crate) exponent: i64,
    /// Whether the mantissa holds every digit.
    pub(crate) exact: bool,
    /// Whether there is neither a decimal point nor an exponent.
    pub(crate) whole: bool,
}

impl<'a> Reader<'a> {
    /// A reader at the start of `bytes`.
    pub(crate) fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { bytes, at: 0, depth: 0 }
    }

    /// How many bytes are left.
    pub(crate) fn remaining(&self) -> usize {
        self.bytes.len() - self.at
    }

    /// The first byte of the next token.
    #[inline]
    pub(crate) fn peek(&mut self) -> Option<u8> {
        loop {
            match self.bytes.get(self.at) {
                Some(b' ' | b'\n' | b'\t' | b'\r') => self.at += 1,
                other => return other.copied(),
            }
        }
    }

    /// Nothing but white space may follow.
    pub(crate) fn end(&mut self) -> Result<(), Bad> {
        match self.peek() {
            None => Ok(()),
            Some(_) => Err(self.unexpected("the end")),
        }
    }

    /// Steps into an object or array whose first byte is `open`.
    #[inline]
    pub(crate) fn open(&mut self, open: u8) -> Result<(), Bad> {
        if self.peek() != Some(open) {
            return Err(self.unexpected(if open == b'{' { "an object" } else { "an array" }));
        }
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(Bad::new(format!("JSON may be nested at most {DEPTH_MAX} deep")));
        }
        self.at += 1;
        Ok(())
    }

    /// Whether an array goes on with another item; steps out of it if not.
    #[inline]
    pub(crate) fn item(&mut self, first: &mut bool) -> Result<bool, Bad> {
        self.goes_on(first, b']')
    }

    /// The next key of an object; steps out of it if there is none.
    #[inline]
    pub(crate) fn key(&mut self, first: &mut bool) -> Result<Option<Cow<'a, str>>, Bad> {
        if !self.goes_on(first, b'}')? {
            return Ok(None);
        }
        let key = self.string()?;
        if self.peek() != Some(b':') {
            return Err(self.unexpected("':'"));
        }
        self.at += 1;
        Ok(Some(key))
    }

    #[inline]
    fn goes_on(&mut self, first: &mut bool, close: u8) -> Result<bool, Bad> {
        let is_first = std::mem::replace(first, false);
        match self.peek() {
            Some(byte) if byte == close => {
                self.at += 1;
                self.depth -= 1;
                Ok(false)
            }
            Some(b',') if !is_first => {
                self.at += 1;
                if self.peek() == Some(close) {
                    return Err(self.unexpected("a value after ','"));
                }
                Ok(true)
            }
            Some(_) if is_first => Ok(true),
            _ if close == b'}' => Err(self.unexpected("',' or '}'")),
            _ => Err(self.unexpected("',' or ']'")),
        }
    }

    /// `true` or `false`.
    pub(crate) fn boolean(&mut self) -> Result<bool, Bad> {
        match self.peek() {
            Some(b't') => self.word(b"true").map(|()| true),
            Some(b'f') => self.word(b"false").map(|()| false),
            _ => Err(self.unexpected("true or false")),
        }
    }

    /// A string.
    pub(crate) fn string(&mut self) -> Result<Cow<'a, str>, Bad> {
        if self.peek() != Some(b'"') {
            return Err(self.unexpected("a string"));
        }
        let start = self.at + 1;
        let rest = &self.bytes[start..];
        let stop = rest.iter().position(|&byte| byte == b'"' || byte == b'\\' || byte < 0x20);
        let Some(stop) = stop else {
            self.at = self.bytes.len();
            return Err(self.unexpected("the end of a string"));
        };
        self.at = start + stop;
        let head = self.utf8(start, self.at)?;
        if rest[stop] == b'"' {
            self.at += 1;
            return Ok(Cow::Borrowed(head));
        }
        self.escaped(head.to_owned()).map(Cow::Owned)
    }

    /// The rest of a string that holds escapes.
    fn escaped(&mut self, mut text: String) -> Result<String, Bad> {
        loop {
            let start = self.at;
            match self.bytes.get(self.at) {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(text);
                }
                Some(b'\\') => {
                    self.at += 1;
                    text.push(self.escape()?);
                }
                None | Some(0..0x20) => return Err(self.unexpected("the rest of a string")),
                Some(_) => {
                    let plain = |byte: &u8| *byte != b'"' && *byte != b'\\' && *byte >= 0x20;
                    self.at += self.bytes[start..].iter().take_while(|byte| plain(byte)).count();
                    text.push_str(self.utf8(start, self.at)?);
                }
            }
        }
    }

    /// The character that an escape stands for, from behind its backslash.
    fn escape(&mut self) -> Result<char, Bad> {
        let letter = self.bytes.get(self.at).copied();
        self.at += 1;
        Ok(match letter {
            Some(letter @ (b'"' | b'\\' | b'/')) => char::from(letter),
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => return self.unicode_escape(),
            _ => {
                self.at = (self.at - 1).min(self.bytes.len());
                return Err(self.unexpected("an escape: one of \" \\ / b f n r t u"));
            }
        })
    }

    fn unicode_escape(&mut self) -> Result<char, Bad> {
        let first = self.four_hex_digits()?;
        let point = match first {
            0xd800..0xdc00 => {
                if self.bytes.get(self.at..self.at + 2) != Some(br"\u") {
                    return Err(self.unexpected("the second half of a surrogate pair"));
                }
                self.at += 2;
                let second = self.four_hex_digits()?;
                if !(0xdc00..0xe000).contains(&second) {
                    return Err(self.unexpected("a surrogate pair before this"));
                }
                0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00)
            }
            other => other,
        };
        char::from_u32(point).ok_or_else(|| self.unexpected("a surrogate pair before this"))
    }

    fn four_hex_digits(&mut self) -> Result<u32, Bad> {
        let digits = self.bytes.get(self.at..self.at + 4);
        let value = digits.and_then(|digits| {
            digits
                .iter()
                .try_fold(0, |value, &digit| Some(value * 16 + char::from(digit).to_digit(16)?))
        });
        let value = value.ok_or_else(|| self.unexpected("four hex digits"))?;
        self.at += 4;
        Ok(value)
    }

    fn utf8(&self, start: usize, end: usize) -> Result<&'a str, Bad> {
        std::str::from_utf8(&self.bytes[start..end]).map_err(|error| {
            Bad::new(format!("not JSON: byte {} is not UTF-8", start + error.valid_up_to()))
        })
    }

    /// A number.
    #[inline]
    pub(crate) fn number(&mut self) -> Result<Number<'a>, Bad> {
        match self.peek() {
            Some(b'-' | b'0'..=b'9') => {}
            Some(b'N') => return self.word(b"NaN").map(|()| Number::NaN),
            Some(b'I') => {
                return self.word(b"Infinity").map(|()| Number::Infinite { negative: false });
            }
            _ => return Err(self.unexpected("a number")),
        }
        if self.bytes.get(self.at..self.at + 2) == Some(b"-I") {
            self.at += 1;
            return self.word(b"Infinity").map(|()| Number::Infinite { negative: true });
        }
        self.digits().map(Number::Digits)
    }

    #[inline]
    fn digits(&mut self) -> Result<Digits<'a>, Bad> {
        let start = self.at;
        let negative = self.bytes[start] == b'-';
        self.at += usize::from(negative);
        let mut number =
            Digits { text: &[], negative, mantissa: 0, exponent: 0, exact: true, whole: true };
        let leading_zero = self.bytes.get(self.at) == Some(&b'0');
        let before = self.run_of_digits(&mut number);
        if before == 0 {
            return Err(self.unexpected("a digit"));
        }
        if leading_zero && before > 1 {
            self.at -= before - 1;
            return Err(self.unexpected("no digit after a leading 0"));
        }
        if self.bytes.get(self.at) == Some(&b'.') {
            self.at += 1;
            number.whole = false;
            let after = self.run_of_digits(&mut number);
            if after == 0 {
                return Err(self.unexpected("a digit"));
            }
            number.exponent -= after as i64;
        }
        if let Some(b'e' | b'E') = self.bytes.get(self.at) {
            number.whole = false;
            number.exponent = number.exponent.saturating_add(self.exponent()?);
        }
        number.text = &self.bytes[start..self.at];
        Ok(number)
    }

    /// Takes digits into the mantissa and counts them.
    #[inline]
    fn run_of_digits(&mut self, number: &mut Digits<'_>) -> usize {
        let start = self.at;
        while let Some(digit @ b'0'..=b'9') = self.bytes.get(self.at) {
            let digit = u64::from(digit - b'0');
            match number.mantissa.checked_mul(10).and_then(|tens| tens.checked_add(digit)) {
                Some(mantissa) if number.exact => number.mantissa = mantissa,
                _ => number.exact = false,
            }
            self.at += 1;
        }
        self.at - start
    }

    fn exponent(&mut self) -> Result<i64, Bad> {
        self.at += 1;
        let sign = self.bytes.get(self.at).copied();
        if let Some(b'+' | b'-') = sign {
            self.at += 1;
        }
        let mut value = Digits {
            text: &[],
            negative: false,
            mantissa: 0,
            exponent: 0,
            exact: true,
            whole: true,
        };
        if self.run_of_digits(&mut value) == 0 {
            return Err(self.unexpected("a digit"));
        }
        // Any exponent as large as this means zero or too large; the text says which.
        let value = value.mantissa.min(1 << 40) as i64;
        Ok(if sign == Some(b'-') { -value } else { value })
    }

    /// Steps over one value, whatever it is, and gives its text.
    pub(crate) fn skip(&mut self) -> Result<&'a [u8], Bad> {
        let first = self.peek();
        let start = self.at;
        match first {
            Some(b'{') => {
                self.open(b'{')?;
                let mut first = true;
                while self.key(&mut first)?.is_some() {
                    self.skip()?;
                }
            }
            Some(b'[') => {
                self.open(b'[')?;
                let mut first = true;
                while self.item(&mut first)? {
                    self.skip()?;
                }
            }
            Some(b'"') => drop(self.string()?),
            Some(b't' | b'f') => drop(self.boolean()?),
            Some(b'n') => self.word(b"null")?,
            Some(b'-' | b'0'..=b'9' | b'N' | b'I') => drop(self.number()?),
            _ => return Err(self.unexpected("a value")),
        }
        Ok(&self.bytes[start..self.at])
    }

    fn word(&mut self, word: &[u8]) -> Result<(), Bad> {
        if !self.bytes[self.at..].starts_with(word) {
            return Err(self.unexpected("a value"));
        }
        self.at += word.len();
        Ok(())
    }

    /// An error that says what was wanted here and what came instead.
    #[cold]
    pub(crate) fn unexpected(&self, wanted: &str) -> Bad {
        let got = match self.bytes.get(self.at) {
            None => "the end of the text".to_owned(),
            Some(byte @ 0x20..0x7f) => format!("{:?}", char::from(*byte)),
            Some(byte) => format!("byte {byte:#04x}"),
        };
        Bad::new(format!("byte {}: wanted {wanted}, got {got}", self.at))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn accepts(text: &[u8]) -> bool {
        let mut reader = Reader::new(text);
        reader.skip().and_then(|_| reader.end()).is_ok()
    }

    #[test]
    fn numbers_keep_their_digits() {
        let read = |text: &'static str| match Reader::new(text.as_bytes()).number().unwrap() {
            Number::Digits(d) => (d.negative, d.mantissa, d.exponent, d.exact, d.whole),
            other => panic!("{other:?}"),
        };
        assert_eq!(read("0"), (false, 0, 0, true, true));
        assert_eq!(read("-12.50e+3"), (true, 1250, 1, true, false));
        assert_eq!(read("1e999999999999999999999"), (false, 1, 1 << 40, true, false));
        assert_eq!(read("18446744073709551615"), (false, u64::MAX, 0, true, true));
        assert!(!read("18446744073709551616").3);
        assert!(!read("184467440737095516160").3);
    }

    #[test]
    fn the_tokens_of_python_are_numbers() {
        for text in ["NaN", "[NaN, Infinity,-Infinity]"] {
            assert!(accepts(text.as_bytes()), "{text}");
        }
        for text in ["nan", "-NaN", "Inf", "Infinit", "+Infinity", "- Infinity"] {
            assert!(!accepts(text.as_bytes()), "{text}");
        }
    }

    #[test]
    fn depth_is_bounded() {
        let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        assert!(accepts(nested(100).as_bytes()));
        assert!(!accepts(nested(101).as_bytes()));
        assert!(!accepts("[".repeat(1_000_000).as_bytes()));
        assert!(!accepts("{\"a\":".repeat(1_000_000).as_bytes()));
    }

    #[test]
    fn errors_say_where_wanted_and_got() {
        let error = |text: &'static str| Reader::new(text.as_bytes()).skip().unwrap_err();
        assert_eq!(error("[1,]").to_string(), "byte 3: wanted a value after ',', got ']'");
        assert_eq!(error("[1").to_string(), "byte 2: wanted ',' or ']', got the end of the text");
        assert_eq!(
            error("\"\\x\"").to_string().split(',').next(),
            Some("byte 2: wanted an escape: one of \" \\ / b f n r t u")
        );
    }

    /// Texts that are nearly JSON.
    fn near_json() -> impl Strategy<Value = Vec<u8>> {
        let pieces = [
            "{", "}", "[", "]", ",", ":", "\"", "\"a\"", "\\", "\\u", "d800", "dc00", "0", "1",
            "-", ".", "e", "E", "+", "true", "false", "null", " ", "\n", "é", "\u{1}", "5e1",
            "0.25",
        ];
        prop::collection::vec(prop::sample::select(pieces.to_vec()), 0..12)
            .prop_map(|pieces| pieces.concat().into_bytes())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]
        #[test]
        fn the_language_is_that_of_serde_json(text in near_json()) {
            // serde_json says that 1e999 is out of range; here the dtype says so later.
            let theirs = match serde_json::from_slice::<serde_json::Value>(&text) {
                Ok(_) => true,
                Err(error) if error.to_string().contains("out of range") => {
                    serde_json::from_slice::<serde::de::IgnoredAny>(&text).is_ok()
                }
                Err(_) => false,
            };
            prop_assert_eq!(accepts(&text), theirs, "{}", String::from_utf8_lossy(&text));
        }

        #[test]
        fn no_bytes_can_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            accepts(&bytes);
        }

        #[test]
        fn strings_read_as_serde_json_reads_them(text in any::<String>()) {
            let json = serde_json::to_string(&text).unwrap();
            let mut reader = Reader::new(json.as_bytes());
            let read = reader.string().unwrap();
            prop_assert_eq!(read.as_ref(), text.as_str());
        }
    }
}
