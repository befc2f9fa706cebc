"""What schemathesis has to be told of the OpenAPI document: bodies that are no JSON, what must stay for other requests, and one
more check."""

import schemathesis
from hypothesis import strategies as st

# What other requests need: it is not deleted, not unloaded, and its limits stay.
NEEDED = {"add-one", "embedding", "mlp", "acme", "rows"}

for kind in ["application/x-tar", "application/octet-stream"]:
    schemathesis.openapi.media_type(kind, st.binary(max_size=256))


@schemathesis.hook
def filter_case(context, case):
    """Leaves out what would take away from the requests behind it what they ask for."""
    names = NEEDED & {str(value) for value in (case.path_parameters or {}).values()}
    takes_away = case.method == "DELETE" or case.path.endswith(("/unload", "/limits"))
    return not (names and takes_away and case.method != "GET")


@schemathesis.check
def nothing_is_undocumented(context, response, case):
    """Fails where a success has a key that its schema does not list: the schema would be less than the truth."""
    document = case.operation.schema.raw_schema
    answers = case.operation.definition.raw["responses"].get(str(response.status_code), {})
    schema = answers.get("content", {}).get("application/json", {}).get("schema")
    kind = response.headers.get("content-type", [""])[0]
    if schema and response.status_code < 300 and kind == "application/json":
        unlisted(response.json(), schema, document, "")


def unlisted(value, schema, document, at):
    """Looks at a value with the schemas that it has to satisfy all."""
    schemas = flattened(schema, document)
    if isinstance(value, list):
        for part in schemas:
            for item in value if "items" in part else []:
                unlisted(item, part["items"], document, at + "[]")
    known = {name: one for part in schemas for name, one in part.get("properties", {}).items()}
    if isinstance(value, dict) and known and not any("additionalProperties" in part for part in schemas):
        more = sorted(value.keys() - known.keys())
        assert not more, f"{at or 'the answer'} has {', '.join(more)}, which the document does not list"
    if isinstance(value, dict):
        for name in value.keys() & known.keys():
            unlisted(value[name], known[name], document, f"{at}.{name}")


def flattened(schema, document):
    """A schema, what it refers to and all that it is put together from."""
    if "$ref" in schema:
        name = schema["$ref"].removeprefix("#/components/schemas/")
        return flattened(document["components"]["schemas"][name], document)
    return [schema] + [one for part in schema.get("allOf", []) for one in flattened(part, document)]
