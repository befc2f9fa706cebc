//! Failures with an exit code, so that scripts can tell them apart.

use std::fmt;
use std::process::ExitCode;

/// What the process ends with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// It did not work, and none of the others says why.
    Failed = 1,
    /// The command line, or the configuration, is not as it should be.
    Usage = 2,
    /// What was asked for does not exist, or may not be seen.
    NotFound = 3,
    /// The key is missing, wrong, or does not allow this.
    Denied = 4,
    /// Something that exists stands in the way.
    Conflict = 5,
    /// It would go over a limit.
    Limit = 6,
    /// The server cannot be reached.
    Unreachable = 7,
}

/// Why a command ends without success: one line that says what happened, what was wanted and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What the process ends with.
    pub code: Code,
    /// What the user reads.
    pub text: String,
}

impl Failure {
    /// A failure.
    pub fn new(code: Code, text: impl Into<String>) -> Failure {
        Failure { code, text: text.into() }
    }

    /// A command line that cannot be followed.
    pub fn usage(text: impl Into<String>) -> Failure {
        Failure::new(Code::Usage, text)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Failure {}

impl From<Code> for ExitCode {
    fn from(code: Code) -> ExitCode {
        ExitCode::from(code as u8)
    }
}

/// The exit code for an error, wherever in its chain the failure stands that knows.
pub fn code_of(error: &anyhow::Error) -> Code {
    let coded = error.chain().find_map(|cause| {
        let failure = cause.downcast_ref::<Failure>().map(|failure| failure.code);
        failure.or_else(|| cause.is::<crate::serve::ConfigError>().then_some(Code::Usage))
    });
    coded.unwrap_or(Code::Failed)
}
