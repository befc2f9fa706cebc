//! The query of a URL, and percent-encoding.

use std::borrow::Cow;

use crate::error::Failure;

/// More than any route here takes.
const PAIRS_MAX: usize = 64;

/// The pairs of a query, decoded.
#[derive(Debug)]
pub(crate) struct Query<'a>(Vec<(Cow<'a, str>, Cow<'a, str>)>);

impl<'a> Query<'a> {
    /// Reads a query, in which only the keys in `known` may stand.
    ///
    /// # Errors
    /// 400 for another key, which may be a misspelt one, and for bad encoding.
    pub(crate) fn read(text: Option<&'a str>, known: &[&str]) -> Result<Query<'a>, Failure> {
        let mut pairs = Vec::new();
        for pair in text.unwrap_or("").split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let decoded = decode(key).zip(decode(value));
            let (key, value) = decoded
                .ok_or_else(|| Failure::bad_request("the query is not percent-encoded UTF-8"))?;
            if pairs.len() == PAIRS_MAX || !known.contains(&key.as_ref()) {
                let known = if known.is_empty() { "nothing".into() } else { known.join(", ") };
                let key: String = key.chars().take(64).collect();
                return Err(Failure::bad_request(format!(
                    "unknown query key {key:?}; this path takes {known}"
                )));
            }
            pairs.push((key, value));
        }
        Ok(Query(pairs))
    }

    /// Every value of a key.
    pub(crate) fn all(&self, key: &str) -> impl Iterator<Item = &str> {
        self.0.iter().filter(move |(k, _)| k == key).map(|(_, value)| value.as_ref())
    }

    /// The value of a key, parsed.
    ///
    /// # Errors
    /// 400 when it stands twice or does not parse.
    pub(crate) fn one<T: std::str::FromStr>(&self, key: &str) -> Result<Option<T>, Failure>
    where
        T::Err: std::fmt::Display,
    {
        let mut values = self.all(key);
        let Some(value) = values.next() else { return Ok(None) };
        if values.next().is_some() {
            return Err(Failure::bad_request(format!("{key} stands twice in the query")));
        }
        value.parse().map(Some).map_err(|error| Failure::bad_request(format!("{key}: {error}")))
    }
}

/// Undoes percent-encoding; `None` when it is broken or not UTF-8.
pub(crate) fn decode(text: &str) -> Option<Cow<'_, str>> {
    if !text.contains('%') {
        return Some(text.into());
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let (digits, after) = rest.split_at_checked(2)?;
        let digit = |at: usize| char::from(digits[at]).to_digit(16);
        bytes.push((digit(0)? * 16 + digit(1)?) as u8);
        rest = after;
    }
    String::from_utf8(bytes).ok().map(Cow::Owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decodes() {
        assert_eq!(decode("sha256%3Aab").as_deref(), Some("sha256:ab"));
        assert_eq!(decode("%c3%a9").as_deref(), Some("é"));
        for bad in ["%", "%4", "%zz", "%ff", "%é1"] {
            assert_eq!(decode(bad), None, "{bad}");
        }
    }

    #[test]
    fn keys_are_known_and_values_parse() {
        let query = Query::read(Some("alias=a&alias=b&max=7"), &["alias", "max"]).unwrap();
        assert_eq!(query.all("alias").collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(query.one::<u64>("max").unwrap(), Some(7));
        assert_eq!(query.one::<u64>("min").unwrap(), None);
        assert!(query.one::<String>("alias").is_err());
        let error = Query::read(Some("alais=a"), &["alias"]).unwrap_err();
        assert_eq!(error.message, r#"unknown query key "alais"; this path takes alias"#);
    }
}
