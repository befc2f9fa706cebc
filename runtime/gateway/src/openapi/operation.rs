//! One operation of the API, as a row of a table says it.

/// What a request or an answer carries.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Carries {
    Nothing,
    /// JSON of this schema.
    Json(&'static str),
    /// JSON of this schema, or else anything of this type.
    Either(&'static str, &'static str),
    /// Anything of this type.
    Other(&'static str),
    /// A form with the fields of this schema.
    Form(&'static str),
}

/// One operation.
#[derive(Clone, Copy)]
pub(super) struct Operation {
    pub(super) method: &'static str,
    pub(super) path: &'static str,
    pub(super) summary: &'static str,
    pub(super) takes: Carries,
    /// Whether a request must have a body.
    pub(super) needs_body: bool,
    /// Keys of the query and headers, by the names of their definitions.
    pub(super) parameters: &'static [&'static str],
    /// The status of a success.
    pub(super) status: u16,
    pub(super) gives: Carries,
    /// Other statuses with the same body as a success.
    pub(super) also: &'static [u16],
    /// Statuses of errors, beside those that every operation may answer.
    pub(super) fails: &'static [u16],
}

const fn operation(
    method: &'static str,
    path: &'static str,
    summary: &'static str,
    takes: Carries,
) -> Operation {
    Operation {
        method,
        path,
        summary,
        takes,
        needs_body: !matches!(takes, Carries::Nothing),
        parameters: &[],
        status: 200,
        gives: Carries::Nothing,
        also: &[],
        fails: &[],
    }
}

/// An operation that looks, and answers JSON of a schema.
pub(super) const fn get(
    path: &'static str,
    summary: &'static str,
    schema: &'static str,
) -> Operation {
    operation("get", path, summary, Carries::Nothing).gives(Carries::Json(schema))
}

/// An operation that takes a body.
pub(super) const fn post(
    path: &'static str,
    summary: &'static str,
    takes: Carries,
    schema: &'static str,
) -> Operation {
    operation("post", path, summary, takes).gives(Carries::Json(schema))
}

/// An operation that sets.
pub(super) const fn put(
    path: &'static str,
    summary: &'static str,
    takes: Carries,
    schema: &'static str,
) -> Operation {
    operation("put", path, summary, takes).gives(Carries::Json(schema))
}

/// An operation that appends.
pub(super) const fn patch(
    path: &'static str,
    summary: &'static str,
    takes: Carries,
    schema: &'static str,
) -> Operation {
    operation("patch", path, summary, takes).gives(Carries::Json(schema))
}

/// An operation that deletes, and answers nothing.
pub(super) const fn delete(path: &'static str, summary: &'static str) -> Operation {
    operation("delete", path, summary, Carries::Nothing).status(204)
}

impl Operation {
    pub(super) const fn gives(self, gives: Carries) -> Operation {
        Operation { gives, ..self }
    }

    pub(super) const fn status(self, status: u16) -> Operation {
        Operation { status, ..self }
    }

    pub(super) const fn also(self, also: &'static [u16]) -> Operation {
        Operation { also, ..self }
    }

    pub(super) const fn with(self, parameters: &'static [&'static str]) -> Operation {
        Operation { parameters, ..self }
    }

    pub(super) const fn fails(self, fails: &'static [u16]) -> Operation {
        Operation { fails, ..self }
    }

    /// A body may be left out.
    pub(super) const fn at_will(self) -> Operation {
        Operation { needs_body: false, ..self }
    }
}
