//! What the seeds that read a request share: where in the text they are, and what was wrong with it.

use std::borrow::Cow;
use std::cell::RefCell;
use std::fmt;
use std::marker::PhantomData;

use innkeeper_tensor::Element;
use serde::de::{Deserialize, DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::{Bad, tokens};

/// The deepest nesting of what nobody reads, as Triton has it; what is read has its own, fixed one.
const DEPTH_MAX: usize = 100;

/// One reading of a JSON text.
pub(crate) struct Reading<'de> {
    text: &'de str,
    /// What the client sent, if numbers stand for tokens in `text`.
    original: Option<&'de str>,
    /// What is wrong, as far as it is known: an error of serde has no room for a path.
    bad: RefCell<Option<Bad>>,
}

/// Reads the fields of an object.
pub(crate) trait Fields<'de> {
    /// Reads the value of `key`, which is not null.
    fn read<D: Deserializer<'de>>(&mut self, key: &Cow<'de, str>, from: D) -> Result<(), D::Error>;
}

/// Reads the items of an array.
pub(crate) trait Items<'de> {
    /// Reads the next item.
    fn read<D: Deserializer<'de>>(&mut self, from: D) -> Result<(), D::Error>;
}

impl<'de> Reading<'de> {
    /// Reads `text`, in which numbers stand for the tokens of `original` if that is given.
    pub(crate) fn new(text: &'de str, original: Option<&'de str>) -> Reading<'de> {
        Reading { text, original, bad: RefCell::new(None) }
    }

    /// The whole text.
    pub(crate) fn text(&self) -> &'de str {
        self.text
    }

    /// Whether numbers may stand for tokens.
    #[inline]
    pub(crate) fn has_tokens(&self) -> bool {
        self.original.is_some()
    }

    /// What the client wrote where the text has `part`, which was borrowed from it.
    pub(crate) fn as_sent<'s>(&self, part: &'s str) -> &'s str
    where
        'de: 's,
    {
        let Some(original) = self.original else { return part };
        self.place(part).and_then(|at| original.get(at..at + part.len())).unwrap_or(part)
    }

    /// The text behind a key and its colon, if the key was borrowed from it.
    pub(crate) fn behind(&self, key: &Cow<'de, str>) -> Option<&'de str> {
        let Cow::Borrowed(key) = key else { return None };
        let quote = self.text.get(self.place(key)? + key.len()..)?;
        trimmed(quote.strip_prefix('"')?).strip_prefix(':')
    }

    fn place(&self, part: &str) -> Option<usize> {
        part.as_ptr().addr().checked_sub(self.text.as_ptr().addr())
    }

    /// An error with this problem.
    #[cold]
    pub(crate) fn bad<E: Error>(&self, problem: impl Into<String>) -> E {
        self.keep(Bad::new(problem))
    }

    /// An error that stands for `bad`.
    #[cold]
    pub(crate) fn keep<E: Error>(&self, bad: Bad) -> E {
        self.bad.replace(Some(bad));
        E::custom("unreadable")
    }

    /// The same error, seen from the object that has the value under `field`.
    #[cold]
    pub(crate) fn at<E: Error>(&self, error: E, field: &str) -> E {
        let bad = self.take(&error).at(field);
        self.bad.replace(Some(bad));
        error
    }

    /// The same error, seen from the array that has the value at `index`.
    #[cold]
    pub(crate) fn at_index<E: Error>(&self, error: E, index: usize) -> E {
        self.at(error, &format!("[{index}]"))
    }

    /// What `error` stands for.
    #[cold]
    pub(crate) fn take(&self, error: &impl fmt::Display) -> Bad {
        self.bad.take().unwrap_or_else(|| Bad::new(clipped(error.to_string())))
    }

    /// Reads an object.
    pub(crate) fn object<D: Deserializer<'de>>(
        &self,
        from: D,
        fields: &mut impl Fields<'de>,
    ) -> Result<(), D::Error> {
        from.deserialize_map(Object { reading: self, fields })
    }

    /// Reads an array of at most `items_max` items.
    pub(crate) fn array<D: Deserializer<'de>>(
        &self,
        from: D,
        items_max: usize,
        items: &mut impl Items<'de>,
    ) -> Result<(), D::Error> {
        from.deserialize_seq(Array { reading: self, items_max, items })
    }

    /// Reads a string of at most `bytes_max` bytes.
    pub(crate) fn string<D: Deserializer<'de>>(
        &self,
        from: D,
        bytes_max: usize,
    ) -> Result<String, D::Error> {
        let text = from.deserialize_str(Text)?;
        if text.len() > bytes_max {
            return Err(self.bad(format!("longer than {bytes_max} bytes")));
        }
        Ok(text.into_owned())
    }

    /// Reads a whole number.
    #[inline]
    pub(crate) fn whole<T, D>(&self, from: D) -> Result<T, D::Error>
    where
        T: Element + TryFrom<u64> + TryFrom<i64>,
        D: Deserializer<'de>,
    {
        let misfit = || format!("not a whole number that fits {}", T::DTYPE);
        from.deserialize_i64(Whole { reading: self, misfit, target: PhantomData })
    }

    /// Reads a size.
    pub(crate) fn size<D: Deserializer<'de>>(&self, from: D) -> Result<i64, D::Error> {
        let misfit = || "not a whole number of 64 bits".to_owned();
        from.deserialize_i64(Whole { reading: self, misfit, target: PhantomData })
    }

    /// Steps over a value.
    pub(crate) fn skip<D: Deserializer<'de>>(&self, from: D) -> Result<(), D::Error> {
        let value = <&RawValue>::deserialize(from)?;
        if tokens::depth(value.get()) > DEPTH_MAX {
            return Err(self.bad(format!("JSON may be nested at most {DEPTH_MAX} deep")));
        }
        Ok(())
    }
}

/// A text without the white space in front.
pub(crate) fn trimmed(text: &str) -> &str {
    text.trim_start_matches([' ', '\n', '\t', '\r'])
}

/// A string, borrowed where it holds no escapes.
struct Text;

impl<'de> DeserializeSeed<'de> for Text {
    type Value = Cow<'de, str>;
    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Cow<'de, str>, D::Error> {
        from.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Text {
    type Value = Cow<'de, str>;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }
    fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Cow<'de, str>, E> {
        Ok(Cow::Borrowed(text))
    }
    fn visit_str<E: Error>(self, text: &str) -> Result<Cow<'de, str>, E> {
        Ok(Cow::Owned(text.to_owned()))
    }
}

struct Object<'r, 'de, F> {
    reading: &'r Reading<'de>,
    fields: &'r mut F,
}

impl<'de, F: Fields<'de>> Visitor<'de> for Object<'_, 'de, F> {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        // The keys that the protocol knows, once each: whoever reads another of two than we do sees another request.
        const KNOWN: [&str; 8] =
            ["id", "parameters", "inputs", "outputs", "name", "shape", "datatype", "data"];
        let mut seen = 0u8;
        while let Some(key) = map.next_key_seed(Text)? {
            if let Some(bit) = KNOWN.iter().position(|known| *known == key) {
                if seen & 1 << bit != 0 {
                    return Err(self.reading.bad(format!("the key {key:?} stands twice")));
                }
                seen |= 1 << bit;
            }
            let field = Field { key: &key, fields: &mut *self.fields };
            map.next_value_seed(field).map_err(|error| self.reading.at(error, &shortened(&key)))?;
        }
        Ok(())
    }
}

/// A field's value; null counts as left out.
struct Field<'k, 'de, F> {
    key: &'k Cow<'de, str>,
    fields: &'k mut F,
}

impl<'de, F: Fields<'de>> DeserializeSeed<'de> for Field<'_, 'de, F> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_option(self)
    }
}

impl<'de, F: Fields<'de>> Visitor<'de> for Field<'_, 'de, F> {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }
    fn visit_none<E: Error>(self) -> Result<(), E> {
        Ok(())
    }
    fn visit_some<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        self.fields.read(self.key, from)
    }
}

struct Array<'r, 'de, I> {
    reading: &'r Reading<'de>,
    items_max: usize,
    items: &'r mut I,
}

impl<'de, I: Items<'de>> Visitor<'de> for Array<'_, 'de, I> {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let mut index = 0;
        while let Some(()) = seq.next_element_seed(Item {
            reading: self.reading,
            items: &mut *self.items,
            index,
            items_max: self.items_max,
        })? {
            index += 1;
        }
        Ok(())
    }
}

struct Item<'r, 'de, I> {
    reading: &'r Reading<'de>,
    items: &'r mut I,
    index: usize,
    items_max: usize,
}

impl<'de, I: Items<'de>> DeserializeSeed<'de> for Item<'_, 'de, I> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        if self.index == self.items_max {
            return Err(self.reading.bad(format!("more than {} items", self.items_max)));
        }
        self.items.read(from).map_err(|error| self.reading.at_index(error, self.index))
    }
}

struct Whole<'r, 'de, T, F> {
    reading: &'r Reading<'de>,
    misfit: F,
    target: PhantomData<T>,
}

impl<T, F: Fn() -> String> Whole<'_, '_, T, F> {
    #[cold]
    fn misfit<E: Error>(&self) -> E {
        self.reading.bad((self.misfit)())
    }
}

impl<'de, T, F> Visitor<'de> for Whole<'_, 'de, T, F>
where
    T: TryFrom<u64> + TryFrom<i64>,
    F: Fn() -> String,
{
    type Value = T;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a whole number")
    }
    #[inline]
    fn visit_u64<E: Error>(self, value: u64) -> Result<T, E> {
        T::try_from(value).map_err(|_| self.misfit())
    }
    #[inline]
    fn visit_i64<E: Error>(self, value: i64) -> Result<T, E> {
        T::try_from(value).map_err(|_| self.misfit())
    }
    fn visit_f64<E: Error>(self, value: f64) -> Result<T, E> {
        // serde_json takes `-0` for a float, so that it keeps its sign.
        if value == 0.0 && value.is_sign_negative() {
            return self.visit_u64(0);
        }
        Err(self.misfit())
    }
}

/// An error text without most of a long string that serde_json repeats in it.
fn clipped(text: String) -> String {
    const CHARS: usize = 100;
    if text.len() <= 4 * CHARS {
        return text;
    }
    let tail = text.char_indices().nth_back(CHARS).map_or(0, |(at, _)| at);
    format!("{}...{}", text.chars().take(CHARS).collect::<String>(), &text[tail..])
}

/// What somebody sent, short enough for an error text.
fn shortened(text: &str) -> Cow<'_, str> {
    if text.len() <= 64 { text.into() } else { text.chars().take(64).collect::<String>().into() }
}
