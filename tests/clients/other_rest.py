"""TensorFlow Serving's and KServe's first REST interface, by requests; OpenAI's, by the package openai from PyPI."""

import base64
import sys

import numpy as np
import openai
import requests

from common import ACME, FRIEND, SERVER, raised, run, same

BASE = f"http://{SERVER}/v1/models"
ROWS = np.arange(32, dtype=np.float32).reshape(2, 16)


def post(path, body, key=ACME):
    return requests.post(f"{BASE}/{path}", json=body, headers=key, timeout=20)


def get(path, key=ACME):
    return requests.get(f"{BASE}/{path}", headers=key, timeout=20)


def openai_client(key=ACME, path="/v1"):
    secret = key["Authorization"].removeprefix("Bearer ")
    return openai.OpenAI(base_url=f"http://{SERVER}{path}", api_key=secret, max_retries=0)


def test_rows():
    for body in [{"instances": ROWS.tolist()}, {"instances": [{"INPUT0": row} for row in ROWS.tolist()]}]:
        answer = post("add-one:predict", body)
        assert answer.status_code == 200, answer.text
        assert answer.json() == {"predictions": (ROWS + 1).tolist()}, answer.text
    named = {"signature_name": "serving_default", "instances": ROWS.tolist()}
    assert post("add-one:predict", named).status_code == 200
    # Several outputs stand by name in each row.
    answer = post("digits:predict", {"instances": np.zeros((2, 64)).tolist()}).json()
    assert [sorted(row) for row in answer["predictions"]] == [["LABEL", "PROBABILITIES"]] * 2, answer


def test_columns():
    for body in [{"inputs": ROWS.tolist()}, {"inputs": {"INPUT0": ROWS.tolist()}}]:
        answer = post("add-one:predict", body)
        assert answer.json() == {"outputs": (ROWS + 1).tolist()}, answer.text
    answer = post("digits:predict", {"inputs": np.zeros((2, 64)).tolist()}).json()
    assert sorted(answer["outputs"]) == ["LABEL", "PROBABILITIES"], answer
    assert np.shape(answer["outputs"]["PROBABILITIES"]) == (2, 10), answer


def test_versions_and_labels():
    for slot in ["versions/1", "labels/stable"]:
        answer = post(f"add-one/{slot}:predict", {"instances": ROWS.tolist()})
        assert answer.json() == {"predictions": (ROWS + 1).tolist()}, (slot, answer.text)
        state = get(f"add-one/{slot}").json()["model_version_status"]
        assert [(each["version"], each["state"]) for each in state] == [("1", "AVAILABLE")], state
    metadata = get("add-one/metadata").json()
    assert metadata["model_spec"]["name"] == "add-one", metadata
    assert "INPUT0" in str(metadata["metadata"]["signature_def"]), metadata


def test_what_is_wrong():
    for path, body, status, text in [
        ("add-one:predict", {"instances": [[1.0]]}, 422, "[1,1]"),
        ("add-one:predict", {}, 400, "instances"),
        ("add-one:predict", {"instances": [[0.0] * 16], "inputs": [[0.0] * 16]}, 400, "either"),
        ("add-one:predict", {"instances": [[0.0] * 16, [0.0] * 15]}, 400, ""),
        ("add-one:predict", {"signature_name": "other", "instances": ROWS.tolist()}, 400, "other"),
        ("add-one/labels/absent:predict", {"instances": ROWS.tolist()}, 404, "absent"),
        ("absent:predict", {"instances": ROWS.tolist()}, 404, "absent"),
    ]:
        answer = post(path, body)
        assert answer.status_code == status, (path, body, answer.text)
        assert list(answer.json()) == ["error"] and text in answer.json()["error"], answer.text
    assert post("add-one:predict", {"instances": ROWS.tolist()}, {}).status_code == 401
    assert post("add-one:predict", {"instances": ROWS.tolist()}, FRIEND).status_code == 404


def test_openais_models():
    client = openai_client()
    names = [model.id for model in client.models.list()]
    assert {"embedding", "add-one"} <= set(names), names
    model = client.models.retrieve("embedding")
    assert (model.id, model.object, model.owned_by) == ("embedding", "model", "acme") and model.created > 0, model
    raised(openai.NotFoundError, lambda: client.models.retrieve("absent"))
    raised(openai.AuthenticationError, lambda: openai_client({"Authorization": "Bearer ink_no_body"}).models.list())


def test_openais_embeddings():
    client = openai_client()
    texts = ["a banana", "x", "\u00fc"]
    wanted = [[8, 4, 1], [1, 0, 0], [2, 0, 0]]
    # The package asks for base64 by itself.
    for more in [{}, {"encoding_format": "float"}]:
        answer = client.embeddings.create(model="embedding", input=texts, **more)
        assert [item.embedding for item in answer.data] == wanted, answer
        assert [item.index for item in answer.data] == [0, 1, 2]
        assert answer.usage.prompt_tokens == 4 and answer.usage.total_tokens == 4, answer
    assert client.embeddings.create(model="embedding", input="a").data[0].embedding == [1, 1, 0]
    plain = requests.post(
        f"http://{SERVER}/v1/embeddings",
        json={"model": "embedding", "input": "aa", "encoding_format": "base64"},
        headers=ACME,
        timeout=20,
    ).json()
    floats = np.frombuffer(base64.b64decode(plain["data"][0]["embedding"]), dtype="<f4")
    same(floats, np.array([2, 2, 0], dtype=np.float32))


def test_openais_errors():
    client = openai_client()
    for kind, call in [
        (openai.NotFoundError, lambda: client.embeddings.create(model="absent", input="a")),
        (openai.BadRequestError, lambda: client.embeddings.create(model="add-one", input="a")),
        (openai.BadRequestError, lambda: client.embeddings.create(model="embedding", input=[1, 2])),
        (openai.NotFoundError, lambda: openai_client(FRIEND, "/t/acme/v1").embeddings.create(model="embedding", input="a")),
    ]:
        error = raised(kind, call)
        assert error.body["message"] and error.request_id, error


if __name__ == "__main__":
    run(sys.modules[__name__])
