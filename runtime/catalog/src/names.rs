//! Names that came from outside and can no longer be wrong.

use std::{fmt, str::FromStr, sync::Arc};

/// A text that is no valid name, and the rule it broke.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{given:?} is not a valid {kind} name: wanted {rule}")]
pub struct NameError {
    /// What the text should have named: `tenant`, `model`, `version`, `alias` or `dataset`.
    pub kind: &'static str,
    /// The rule for such names, in words.
    pub rule: &'static str,
    /// The text as given, cut after 200 characters.
    pub given: String,
}

const TENANT_RULE: &str = "1 to 63 characters out of a-z, 0-9 and '-', the first a letter or digit";
const TENANT_BYTES_MAX: usize = 63;
const OTHER_RULE: &str =
    "1 to 128 characters out of A-Z, a-z, 0-9, '.', '_' and '-', the first a letter or digit";
const OTHER_BYTES_MAX: usize = 128;
/// How much of a wrong name an error repeats: enough to see, too little to flood a log.
const GIVEN_CHARS_MAX: usize = 200;

macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $kind:literal, $rule:ident, $valid:ident) => {
        $(#[$doc])*
        ///
        /// Cheap to clone. Made by [`FromStr`], which is the only way in.
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[derive(serde::Serialize, serde::Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $type(Arc<str>);

        impl $type {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $type {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                if $valid(text) {
                    return Ok(Self(text.into()));
                }
                let given = text.chars().take(GIVEN_CHARS_MAX).collect();
                Err(NameError { kind: $kind, rule: $rule, given })
            }
        }

        impl TryFrom<String> for $type {
            type Error = NameError;

            fn try_from(text: String) -> Result<Self, NameError> {
                text.parse()
            }
        }

        impl From<$type> for String {
            fn from(name: $type) -> String {
                name.as_str().to_owned()
            }
        }

        // Equality and hash are the text's own, so maps keyed by a name can be asked by its text.
        impl std::borrow::Borrow<str> for $type {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl AsRef<str> for $type {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }
    };
}

name! {
    /// Who owns models, keys and blobs: `[a-z0-9][a-z0-9-]{0,62}`.
    TenantName, "tenant", TENANT_RULE, is_tenant
}
name! {
    /// A model in its owner's namespace: `[A-Za-z0-9][A-Za-z0-9._-]{0,127}`.
    ModelName, "model", OTHER_RULE, is_other
}
name! {
    /// An immutable version of a model: `[A-Za-z0-9][A-Za-z0-9._-]{0,127}`.
    VersionName, "version", OTHER_RULE, is_other
}
name! {
    /// A movable name for a version: `[A-Za-z0-9][A-Za-z0-9._-]{0,127}`.
    AliasName, "alias", OTHER_RULE, is_other
}
name! {
    /// Data to learn from, in its owner's namespace: `[A-Za-z0-9][A-Za-z0-9._-]{0,127}`.
    DatasetName, "dataset", OTHER_RULE, is_other
}

/// A model, named in full.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ModelKey {
    /// The tenant in whose namespace the model lives.
    pub owner: TenantName,
    /// The model's name there.
    pub name: ModelName,
}

impl ModelKey {
    /// Puts the two names together.
    pub fn new(owner: TenantName, name: ModelName) -> Self {
        Self { owner, name }
    }
}

impl fmt::Display for ModelKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.owner, self.name)
    }
}

fn is_tenant(text: &str) -> bool {
    text.len() <= TENANT_BYTES_MAX
        && text.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-'))
        && text.bytes().next().is_some_and(|b| b != b'-')
}

fn is_other(text: &str) -> bool {
    text.len() <= OTHER_BYTES_MAX
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
        && text.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_their_rules() {
        let (longest, longer) = ("a".repeat(128), "a".repeat(129));
        let (tenant, long_tenant) = ("a".repeat(63), "a".repeat(64));
        // text, is a tenant name, is another name
        let rows: [(&str, bool, bool); 17] = [
            ("a", true, true),
            ("0", true, true),
            ("acme-2", true, true),
            ("Acme", false, true),
            ("1.0.0-rc_1", false, true),
            ("", false, false),
            ("-a", false, false),
            (".", false, false),
            ("..", false, false),
            ("_a", false, false),
            ("a/b", false, false),
            ("a b", false, false),
            ("a\0", false, false),
            ("\u{e9}", false, false),
            (&tenant, true, true),
            (&long_tenant, false, true),
            (&longer, false, false),
        ];
        for (text, is_tenant, is_other) in rows {
            assert_eq!(text.parse::<TenantName>().is_ok(), is_tenant, "tenant {text:?}");
            assert_eq!(text.parse::<ModelName>().is_ok(), is_other, "model {text:?}");
            assert_eq!(text.parse::<VersionName>().is_ok(), is_other, "version {text:?}");
            assert_eq!(text.parse::<AliasName>().is_ok(), is_other, "alias {text:?}");
        }
        assert!(longest.parse::<ModelName>().is_ok());
    }

    #[test]
    fn errors_say_the_rule_and_stay_short() {
        let error = "Ä".repeat(5000).parse::<TenantName>().expect_err("no tenant name");
        assert!(error.to_string().contains("a-z, 0-9 and '-'"), "{error}");
        assert_eq!(error.given.chars().count(), GIVEN_CHARS_MAX);
    }

    #[test]
    fn names_pass_through_json_checked() {
        let name: ModelName = serde_json::from_str("\"digits\"").expect("a name");
        assert_eq!(serde_json::to_string(&name).expect("json"), "\"digits\"");
        assert!(serde_json::from_str::<ModelName>("\"../digits\"").is_err());
    }
}
