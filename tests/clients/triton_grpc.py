"""tritonclient.grpc, as it comes from PyPI, at the port for gRPC and at the port for everything."""

import os
import queue
import sys

import numpy as np
import tritonclient.grpc as grpc
from tritonclient.utils import InferenceServerException

from common import ACME, FRIEND, GRPC, SAMPLES, SERVER, raised, run, same

# Metadata has its names in lower case.
ACME = {"authorization": ACME["Authorization"]}
FRIEND = {"authorization": FRIEND["Authorization"]}


def tensor(name, dtype, array):
    return grpc.InferInput(name, list(array.shape), dtype).set_data_from_numpy(array)


def identity(client, dtype, array, model="identity", **more):
    headers = more.pop("headers", ACME)
    result = client.infer(model, [tensor(f"INPUT_{dtype}", dtype, array)], headers=headers, **more)
    return result.as_numpy(f"OUTPUT_{dtype}")


def test_health_and_metadata(client):
    assert client.is_server_live() and client.is_server_ready()
    assert client.is_model_ready("identity", headers=ACME)
    assert client.is_model_ready("identity", "1", headers=ACME)
    assert client.is_model_ready("identity", "stable", headers=ACME)
    assert not client.is_model_ready("identity", "9", headers=ACME)
    assert not client.is_model_ready("absent", headers=ACME)
    server = client.get_server_metadata(headers=ACME)
    assert server.name == "innkeeper" and "parameters" in server.extensions, server
    model = client.get_model_metadata("add-one", headers=ACME, as_json=True)
    assert model["inputs"] == [{"name": "INPUT0", "datatype": "FP32", "shape": ["-1", "16"]}], model
    assert model["versions"] == ["1"] and model["platform"] == "wasm_component", model


def test_every_dtype(client):
    for dtype, array in SAMPLES.items():
        same(identity(client, dtype, array), array)
        same(identity(client, dtype, array[:0]), array[:0])


def test_large(client):
    large = np.arange(4 << 20, dtype=np.float32).reshape(2048, 2048)
    same(identity(client, "FP32", large), large)


def test_compression(client):
    array = np.zeros((512, 64), dtype=np.float32)
    for algorithm in [None, "gzip", "deflate"]:
        same(identity(client, "FP32", array, compression_algorithm=algorithm), array)


def test_outputs_ids_and_versions(client):
    inputs = [tensor(f"INPUT_{dtype}", dtype, SAMPLES[dtype]) for dtype in ["INT32", "BYTES"]]
    outputs = [grpc.InferRequestedOutput(f"OUTPUT_{dtype}") for dtype in ["BYTES", "INT32"]]
    result = client.infer("identity", inputs, outputs=outputs, request_id="seven", headers=ACME)
    said = result.get_response()
    assert (said.id, said.model_name, said.model_version) == ("seven", "identity", "1"), said
    assert [output.name for output in said.outputs] == ["OUTPUT_BYTES", "OUTPUT_INT32"]
    same(result.as_numpy("OUTPUT_BYTES"), SAMPLES["BYTES"])
    same(result.as_numpy("OUTPUT_INT32"), SAMPLES["INT32"])
    row = np.zeros((1, 16), dtype=np.float32)
    for version in ["", "1", "stable"]:
        inputs = [tensor("INPUT0", "FP32", row)]
        result = client.infer("add-one", inputs, model_version=version, headers=ACME)
        same(result.as_numpy("OUTPUT0"), row + 1)


def test_parameters(client):
    inputs = [tensor("INPUT0", "FP32", np.zeros((1, 16), dtype=np.float32))]
    parameters = {"text": "x", "n": 7, "yes": True, "half": 0.5}
    client.infer("add-one", inputs, parameters=parameters, headers=ACME)


def test_of_another_tenant(client):
    array = SAMPLES["INT64"]
    same(identity(client, "INT64", array, model="acme/identity", headers=FRIEND), array)
    same(identity(client, "INT64", array, model="acme/identity"), array)
    assert client.is_model_ready("acme/identity", headers=FRIEND)
    assert not client.is_model_ready("acme/add-one", headers=FRIEND)


def test_errors(client):
    row = np.zeros((1, 16), dtype=np.float32)
    good = [tensor("INPUT0", "FP32", row)]
    cases = [
        ("absent", good, {"headers": ACME}, "NOT_FOUND", "absent"),
        ("add-one", good, {"headers": ACME, "model_version": "9"}, "NOT_FOUND", "9"),
        ("add-one", [tensor("INPUT0", "FP32", row[:, :15])], {"headers": ACME}, "INVALID_ARGUMENT", "[1,15]"),
        ("add-one", [tensor("INPUT1", "FP32", row)], {"headers": ACME}, "INVALID_ARGUMENT", "INPUT1"),
        ("add-one", good, {}, "UNAUTHENTICATED", "key"),
        ("add-one", good, {"headers": {"authorization": "Bearer ink_no_body"}}, "UNAUTHENTICATED", "key"),
        ("add-one", good, {"headers": FRIEND}, "NOT_FOUND", "add-one"),
        ("acme/add-one", good, {"headers": FRIEND}, "NOT_FOUND", "add-one"),
    ]
    for model, inputs, more, status, text in cases:
        error = raised(InferenceServerException, lambda: client.infer(model, inputs, **more))
        assert error.status() == f"StatusCode.{status}" and text in error.message(), (model, more, error)
    outputs = [grpc.InferRequestedOutput("OUTPUT9")]
    error = raised(InferenceServerException, lambda: client.infer("add-one", good, outputs=outputs, headers=ACME))
    assert error.status() == "StatusCode.INVALID_ARGUMENT" and "OUTPUT9" in error.message(), error
    same(client.infer("add-one", good, headers=ACME).as_numpy("OUTPUT0"), row + 1)


def test_many_at_once(client):
    answers = queue.Queue()
    rows = [np.full((1, 16), n, dtype=np.float32) for n in range(50)]
    for n, row in enumerate(rows):
        client.async_infer(
            "add-one",
            [tensor("INPUT0", "FP32", row)],
            callback=lambda result, error: answers.put((result, error)),
            request_id=str(n),
            headers=ACME,
        )
    for _ in rows:
        result, error = answers.get(timeout=20)
        assert error is None, error
        same(result.as_numpy("OUTPUT0"), rows[int(result.get_response().id)] + 1)


def test_a_stream_keeps_its_order(client):
    answers = queue.Queue()
    client.start_stream(callback=lambda result, error: answers.put((result, error)), headers=ACME)
    rows = [np.full((1, 16), n, dtype=np.float32) for n in range(100)]
    for n, row in enumerate(rows):
        model = "absent" if n % 10 == 7 else "add-one"
        client.async_stream_infer(
            model,
            [tensor("INPUT0", "FP32", row)],
            request_id=str(n),
            enable_empty_final_response=n % 2 == 0,
        )
    for n, row in enumerate(rows):
        result, error = answers.get(timeout=20)
        if n % 10 == 7:
            # One that fails is told in its place, and the others go on.
            assert "absent" in str(error), error
            continue
        assert error is None, error
        said = result.get_response()
        assert said.id == str(n), said
        final = said.parameters["triton_final_response"].bool_param if said.parameters else None
        assert final == (True if n % 2 == 0 else None), said
        same(result.as_numpy("OUTPUT0"), row + 1)
    client.stop_stream()


def test_shared_memory_is_refused(client):
    for call in [client.get_system_shared_memory_status, client.get_cuda_shared_memory_status]:
        error = raised(InferenceServerException, lambda: call(headers=ACME))
        assert error.status() == "StatusCode.UNIMPLEMENTED" and "shared memory" in error.message(), error
    inputs = [grpc.InferInput("INPUT0", [1, 16], "FP32")]
    inputs[0].set_shared_memory("region", 64)
    error = raised(InferenceServerException, lambda: client.infer("add-one", inputs, headers=ACME))
    assert error.status() == "StatusCode.INVALID_ARGUMENT", error
    assert "shared_memory" in error.message(), error


if __name__ == "__main__":
    address = GRPC if os.environ.get("AT") != "http" else SERVER
    with grpc.InferenceServerClient(address) as the_client:
        run(sys.modules[__name__], the_client)
