"""tritonclient.grpc, as it comes from PyPI, at the port for gRPC and at the port for everything."""

import os
import queue
import sys

import numpy as np
import tritonclient.grpc as grpc
from tritonclient.utils import InferenceServerException

from common import (
    ACME,
    FRIEND,
    GRPC,
    PICTURES,
    SAMPLES,
    SERVER,
    check_classes,
    component,
    raised,
    run,
    same,
)

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


def test_statistics(client):
    sums = lambda stats: sum(each.inference_stats.success.count for each in stats.model_stats)
    before = client.get_inference_statistics("digits", "1", headers=ACME)
    client.infer("digits", [tensor("INPUT0", "FP32", np.zeros((5, 64), dtype=np.float32))], headers=ACME)
    after = client.get_inference_statistics("digits", headers=ACME)
    assert sums(after) >= sums(before) + 1, after
    [stats] = after.model_stats
    assert (stats.name, stats.version) == ("digits", "1") and stats.last_inference > 0, stats
    assert 5 in [batch.batch_size for batch in stats.batch_stats], stats
    everything = client.get_inference_statistics(headers=ACME)
    assert {each.name for each in everything.model_stats} >= {"digits", "add-one"}, everything
    error = raised(InferenceServerException, lambda: client.get_inference_statistics("absent", headers=ACME))
    assert error.status() == "StatusCode.NOT_FOUND", error


def test_config(client):
    config = client.get_model_config("digits", headers=ACME).config
    assert (config.name, config.backend, config.platform) == ("digits", "innkeeper", "wasm_component"), config
    assert config.max_batch_size > 0 and config.version_policy.HasField("all"), config
    [given] = config.input
    assert (given.name, given.data_type, list(given.dims)) == ("INPUT0", 11, [64]), config
    assert [(each.name, each.data_type) for each in config.output] == [("PROBABILITIES", 11), ("LABEL", 9)], config
    assert config.instance_group[0].kind == 2 and config.instance_group[0].count > 0, config
    assert config.parameters["task"].string_value == "image-classification", config
    counting = client.get_model_config("counting", "1", headers=ACME).config
    assert counting.sequence_batching.max_sequence_idle_microseconds == 60_000_000, counting
    assert client.get_model_config("embedding", headers=ACME).config.response_cache.enable
    error = raised(InferenceServerException, lambda: client.get_model_config("digits", headers=FRIEND))
    assert error.status() == "StatusCode.NOT_FOUND", error


def test_the_repository(client):
    name = f"by-grpc-{os.environ['AT']}"
    state = lambda: {each.name: each.state for each in client.get_model_repository_index(headers=ACME).models}
    files = {"file:7/model.wasm": component()}
    client.load_model(name, config="{}", files=files, headers=ACME)
    assert state()[name] == "READY", state()
    row = np.zeros((1, 16), dtype=np.float32)
    result = client.infer(name, [tensor("INPUT0", "FP32", row)], model_version="7", headers=ACME)
    same(result.as_numpy("OUTPUT0"), row + 1)
    client.unload_model(name, headers=ACME)
    assert state()[name] in ["UNLOADING", "UNAVAILABLE"] and not client.is_model_ready(name, headers=ACME)
    client.load_model(name, headers=ACME)
    assert client.is_model_ready(name, headers=ACME)
    for more, text in [({"config": '{"max_batch_size": 1}'}, "max_batch_size"), ({"config": "["}, "JSON")]:
        error = raised(InferenceServerException, lambda: client.load_model(name, headers=ACME, **more))
        assert error.status() == "StatusCode.INVALID_ARGUMENT" and text in error.message(), error
    error = raised(InferenceServerException, lambda: client.unload_model("absent", headers=ACME))
    assert error.status() == "StatusCode.NOT_FOUND", error
    assert "add-one" not in [each.name for each in client.get_model_repository_index(headers=FRIEND).models]


def test_logging_and_tracing(client):
    said = client.get_log_settings(headers=FRIEND).settings
    assert said["log_file"].string_param == "" and said["log_info"].bool_param, said
    now = client.update_log_settings({"log_warning": False, "log_verbose_level": 1}, headers=FRIEND).settings
    assert not now["log_warning"].bool_param and now["log_verbose_level"].uint32_param == 1, now
    client.update_log_settings({"log_warning": True, "log_verbose_level": 0}, headers=FRIEND)
    error = raised(InferenceServerException, lambda: client.update_log_settings({"log_file": "/tmp/x"}, headers=FRIEND))
    assert error.status() == "StatusCode.INVALID_ARGUMENT" and "log_file" in error.message(), error
    for model in [None, "digits"]:
        assert list(client.get_trace_settings(model, headers=ACME).settings["trace_level"].value) == ["OFF"]
        client.update_trace_settings(model, {"trace_level": ["OFF"]}, headers=ACME)
        error = raised(
            InferenceServerException,
            lambda: client.update_trace_settings(model, {"trace_level": ["TIMESTAMPS"]}, headers=ACME),
        )
        assert error.status() == "StatusCode.UNIMPLEMENTED", error


def test_classification(client):
    pictures = np.load(PICTURES).astype(np.float32)[:2]
    inputs = [tensor("INPUT0", "FP32", pictures)]
    plain = client.infer("digits", inputs, headers=ACME).as_numpy("PROBABILITIES")
    outputs = [grpc.InferRequestedOutput("PROBABILITIES", class_count=3)]
    check_classes(client.infer("digits", inputs, outputs=outputs, headers=ACME).as_numpy("PROBABILITIES"), plain)
    texts = [tensor("INPUT_BYTES", "BYTES", SAMPLES["BYTES"])]
    for model, inputs, name, count in [("identity", texts, "OUTPUT_BYTES", 1), ("digits", inputs, "LABEL", 1 << 40)]:
        outputs = [grpc.InferRequestedOutput(name, class_count=count)]
        error = raised(InferenceServerException, lambda: client.infer(model, inputs, outputs=outputs, headers=ACME))
        assert error.status() == "StatusCode.INVALID_ARGUMENT" and "classes" in error.message(), error


def test_sequences(client):
    first = 100 if os.environ["AT"] == "http" else 200
    one = [tensor("X", "INT64", np.array([[1]], dtype=np.int64))]
    call = lambda **more: client.infer("counting", one, headers=ACME, **more).as_numpy("TOLD")[0, 1]
    for id in [first, f"text {first}"]:
        assert call(sequence_id=id, sequence_start=True) == 1
        assert [call(sequence_id=id), call(sequence_id=id, sequence_end=True)] == [2, 3]
        error = raised(InferenceServerException, lambda: call(sequence_id=id))
        assert error.status() == "StatusCode.INVALID_ARGUMENT" and "has begun" in error.message(), error
    # In a stream, requests of a sequence are answered in their order.
    answers = queue.Queue()
    client.start_stream(callback=lambda result, error: answers.put((result, error)), headers=ACME)
    for n in range(10):
        more = {"sequence_start": n == 0, "sequence_end": n == 9}
        client.async_stream_infer("counting", one, sequence_id=first + 1, **more)
    for n in range(10):
        result, error = answers.get(timeout=20)
        assert error is None and result.as_numpy("TOLD")[0, 1] == n + 1, (n, error)
    client.stop_stream()


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
