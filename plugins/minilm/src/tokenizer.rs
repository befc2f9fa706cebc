//! WordPiece as uncased BERT has it: text to the numbers of word pieces.
//!
//! Devlin et al., "BERT: Pre-training of Deep Bidirectional Transformers" (2018); the details are those of the
//! `tokenizers` library, which the model was trained with, and the tests hold this against it.

use std::collections::HashMap;

use innkeeper_sdk::{Error, Result};
use unicode_categories::UnicodeCategories;
use unicode_normalization::UnicodeNormalization;

/// A word of more characters is unknown as a whole.
const WORD_CHARS_MAX: usize = 100;
/// What a piece begins with that continues a word.
const CONTINUES: &str = "##";
const UNKNOWN: &str = "[UNK]";
const BEGIN: &str = "[CLS]";
const END: &str = "[SEP]";
/// Written in a text, these mean themselves.
const SPECIAL: [&str; 5] = ["[PAD]", UNKNOWN, BEGIN, END, "[MASK]"];

/// The word pieces that the model knows.
pub struct Tokenizer {
    begins: HashMap<Box<str>, i32>,
    continues: HashMap<Box<str>, i32>,
    special: [i32; SPECIAL.len()],
    begin: i32,
    end: i32,
    unknown: i32,
    /// No piece has more bytes.
    piece_bytes_max: usize,
}

impl Tokenizer {
    /// From a vocabulary with one piece on each line, whose number is the piece's.
    pub fn new(vocabulary: &str) -> Result<Tokenizer> {
        let mut begins: HashMap<Box<str>, i32> = HashMap::with_capacity(32_768);
        let mut continues: HashMap<Box<str>, i32> = HashMap::new();
        for (number, piece) in (0..).zip(vocabulary.lines()) {
            match piece.strip_prefix(CONTINUES) {
                Some(rest) if !rest.is_empty() => continues.insert(rest.into(), number),
                _ => begins.insert(piece.into(), number),
            };
        }
        let number = |piece: &str| {
            let missing = || Error::internal(format!("the vocabulary has no {piece}"));
            begins.get(piece).copied().ok_or_else(missing)
        };
        let mut special = [0; SPECIAL.len()];
        for (number_of, piece) in special.iter_mut().zip(SPECIAL) {
            *number_of = number(piece)?;
        }
        let (begin, end, unknown) = (number(BEGIN)?, number(END)?, number(UNKNOWN)?);
        let piece_bytes_max = begins.keys().chain(continues.keys()).map(|piece| piece.len()).max();
        let piece_bytes_max = piece_bytes_max.unwrap_or(0);
        Ok(Tokenizer { begins, continues, special, begin, end, unknown, piece_bytes_max })
    }

    /// The pieces of a text between `[CLS]` and `[SEP]`, `tokens_max` altogether: what follows them is not read.
    pub fn tokens(&self, text: &str, tokens_max: usize) -> Vec<i32> {
        let mut tokens = vec![self.begin];
        let room = tokens_max.saturating_sub(1);
        for part in parts(text) {
            if tokens.len() >= room {
                break;
            }
            match part {
                Part::Special(index) => tokens.push(self.special[index]),
                Part::Text(text) => self.text(text, room, &mut tokens),
            }
        }
        tokens.truncate(room);
        tokens.push(self.end);
        tokens
    }

    /// Cleans the text, cuts it into words, and these into pieces, until there are `room` tokens.
    fn text(&self, text: &str, room: usize, tokens: &mut Vec<i32>) {
        let mut word = Word::default();
        for c in normal(text) {
            if c.is_whitespace() {
                self.word(&mut word, tokens);
            } else if is_punctuation(c) {
                self.word(&mut word, tokens);
                word.push(c);
                self.word(&mut word, tokens);
            } else {
                word.push(c);
            }
            if tokens.len() >= room {
                return;
            }
        }
        self.word(&mut word, tokens);
    }

    /// Adds the word's pieces, each the longest that fits, or "unknown" when that does not come out even.
    fn word(&self, word: &mut Word, tokens: &mut Vec<i32>) {
        let before = tokens.len();
        let mut rest = word.text.as_str();
        let mut pieces = &self.begins;
        if word.chars > WORD_CHARS_MAX {
            tokens.push(self.unknown);
            rest = "";
        }
        while !rest.is_empty() {
            let Some((number, length)) = self.longest(pieces, rest) else {
                tokens.truncate(before);
                tokens.push(self.unknown);
                break;
            };
            tokens.push(number);
            rest = &rest[length..];
            pieces = &self.continues;
        }
        word.clear();
    }

    /// The number and the length of the longest piece that the text begins with.
    fn longest(&self, pieces: &HashMap<Box<str>, i32>, text: &str) -> Option<(i32, usize)> {
        let mut length = text.floor_char_boundary(self.piece_bytes_max);
        while length > 0 {
            if let Some(&number) = pieces.get(&text[..length]) {
                return Some((number, length));
            }
            length = text.floor_char_boundary(length - 1);
        }
        None
    }
}

/// A word as it is read; of one too long only the length matters.
#[derive(Default)]
struct Word {
    text: String,
    chars: usize,
}

impl Word {
    fn push(&mut self, c: char) {
        self.chars += 1;
        if self.chars <= WORD_CHARS_MAX {
            self.text.push(c);
        }
    }

    fn clear(&mut self) {
        self.text.clear();
        self.chars = 0;
    }
}

enum Part<'a> {
    Special(usize),
    Text(&'a str),
}

/// The text, cut where special tokens are written.
fn parts(mut text: &str) -> impl Iterator<Item = Part<'_>> {
    std::iter::from_fn(move || {
        if text.is_empty() {
            return None;
        }
        let starts = |at: usize| SPECIAL.iter().position(|token| text[at..].starts_with(token));
        if let Some(index) = starts(0) {
            text = &text[SPECIAL[index].len()..];
            return Some(Part::Special(index));
        }
        let mut brackets = text.match_indices('[').map(|(at, _)| at);
        let end = brackets.find(|&at| starts(at).is_some()).unwrap_or(text.len());
        let (part, rest) = text.split_at(end);
        text = rest;
        Some(Part::Text(part))
    })
}

/// The text without control characters and accents, in lower case, a space on either side of each CJK character.
fn normal(text: &str) -> impl Iterator<Item = char> + '_ {
    text.chars()
        .filter(|&c| c != '\0' && c != '\u{fffd}' && !is_control(c))
        .flat_map(|c| {
            let space = is_cjk(c).then_some(' ');
            space.into_iter().chain([c]).chain(space)
        })
        .nfd()
        .filter(|c| !c.is_mark_nonspacing())
        .flat_map(char::to_lowercase)
}

fn is_control(c: char) -> bool {
    !matches!(c, '\t' | '\n' | '\r') && c.is_other()
}

fn is_punctuation(c: char) -> bool {
    c.is_ascii_punctuation() || c.is_punctuation()
}

/// The blocks of ideographs that are words each by itself. (One block begins later than Unicode has it; the model was
/// trained with that.)
fn is_cjk(c: char) -> bool {
    matches!(
        c,
        '\u{4e00}'..='\u{9fff}'
            | '\u{3400}'..='\u{4dbf}'
            | '\u{20000}'..='\u{2a6df}'
            | '\u{2a700}'..='\u{2b73f}'
            | '\u{2b740}'..='\u{2b81f}'
            | '\u{2b920}'..='\u{2ceaf}'
            | '\u{f900}'..='\u{faff}'
            | '\u{2f800}'..='\u{2fa1f}'
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const VOCABULARY: &str = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nun\n##able\n##a\n,\n東\na";

    fn check(text: &str, wanted: &[i32]) {
        let tokenizer = Tokenizer::new(VOCABULARY).unwrap();
        assert_eq!(tokenizer.tokens(text, 8), wanted, "{text:?}");
    }

    #[test]
    fn words_are_cut_into_the_longest_pieces() {
        check("", &[2, 3]);
        check("Ünable, una", &[2, 5, 6, 8, 5, 7, 3]);
        check("unb un", &[2, 1, 5, 3]);
        check("un東a", &[2, 5, 9, 10, 3]);
        check("a[MASK]a [mask", &[2, 10, 4, 10, 1, 1, 3]);
        check("a a a a a a a a a", &[2, 10, 10, 10, 10, 10, 10, 3]);
        check(&"a".repeat(101), &[2, 1, 3]);
    }

    #[test]
    fn a_vocabulary_without_special_tokens_is_refused() {
        let error = Tokenizer::new("a\nb").err().unwrap();
        assert_eq!(error.to_string(), "the vocabulary has no [PAD]");
    }
}
