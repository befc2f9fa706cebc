"""tritonclient.http, as it comes from PyPI."""

import sys

import numpy as np
import tritonclient.http as http
from tritonclient.utils import InferenceServerException

from common import (
    ACME,
    FRIEND,
    PICTURES,
    SAMPLES,
    SERVER,
    TEXT,
    WITHOUT_JSON,
    check_classes,
    component,
    raised,
    run,
    same,
)


# Each call gets its own copy of the headers: the client writes into them.


def tensor(name, dtype, array, binary=True):
    return http.InferInput(name, list(array.shape), dtype).set_data_from_numpy(array, binary_data=binary)


def identity(client, dtype, array, binary_in=True, outputs=None, **more):
    return client.infer(
        "identity",
        [tensor(f"INPUT_{dtype}", dtype, array, binary_in)],
        outputs=outputs,
        headers=dict(more.pop("headers", ACME)),
        **more,
    ).as_numpy(f"OUTPUT_{dtype}")


def test_health_and_metadata(client):
    assert client.is_server_live() and client.is_server_ready()
    assert client.is_model_ready("identity", headers=dict(ACME))
    assert client.is_model_ready("identity", "1", headers=dict(ACME))
    assert client.is_model_ready("identity", "stable", headers=dict(ACME))
    assert not client.is_model_ready("identity", "9", headers=dict(ACME))
    assert not client.is_model_ready("absent", headers=dict(ACME))
    server = client.get_server_metadata(headers=dict(ACME))
    assert server["name"] == "innkeeper" and "binary_tensor_data" in server["extensions"], server
    model = client.get_model_metadata("add-one", headers=dict(ACME))
    assert model["inputs"] == [{"name": "INPUT0", "datatype": "FP32", "shape": [-1, 16]}], model
    assert client.get_model_metadata("add-one", "1", headers=dict(ACME)) == model


def test_every_dtype_as_bytes(client):
    for dtype, array in SAMPLES.items():
        same(identity(client, dtype, array), array)
        named = [http.InferRequestedOutput(f"OUTPUT_{dtype}", binary_data=True)]
        same(identity(client, dtype, array, outputs=named), array)


def test_every_dtype_as_json(client):
    for dtype, array in {**SAMPLES, "BYTES": TEXT}.items():
        if dtype in WITHOUT_JSON:
            continue
        as_json = [http.InferRequestedOutput(f"OUTPUT_{dtype}", binary_data=False)]
        as_bytes = [http.InferRequestedOutput(f"OUTPUT_{dtype}", binary_data=True)]
        same(identity(client, dtype, array, binary_in=False, outputs=as_json), array)
        same(identity(client, dtype, array, binary_in=False, outputs=as_bytes), array)
        same(identity(client, dtype, array, binary_in=True, outputs=as_json), array)


def test_no_json_form(client):
    for dtype in WITHOUT_JSON:
        as_json = [http.InferRequestedOutput(f"OUTPUT_{dtype}", binary_data=False)]
        error = raised(
            InferenceServerException,
            lambda: identity(client, dtype, SAMPLES[dtype], outputs=as_json),
        )
        assert error.status() == "400" and "JSON" in error.message(), error


def test_empty_and_large(client):
    for dtype in ["FP32", "BOOL", "BYTES"]:
        array = SAMPLES[dtype][:0]
        for binary in [True, False]:
            outputs = [http.InferRequestedOutput(f"OUTPUT_{dtype}", binary_data=binary)]
            got = identity(client, dtype, array, binary_in=binary, outputs=outputs)
            assert got.shape == array.shape, got
    large = np.arange(1 << 20, dtype=np.float32).reshape(1024, 1024)
    same(identity(client, "FP32", large), large)


def test_several_tensors_and_forms(client):
    inputs = [
        tensor("INPUT_INT32", "INT32", SAMPLES["INT32"], binary=False),
        tensor("INPUT_FP16", "FP16", SAMPLES["FP16"], binary=True),
        tensor("INPUT_BYTES", "BYTES", TEXT, binary=False),
    ]
    outputs = [
        http.InferRequestedOutput("OUTPUT_BYTES", binary_data=True),
        http.InferRequestedOutput("OUTPUT_INT32", binary_data=False),
    ]
    result = client.infer("identity", inputs, outputs=outputs, request_id="seven", headers=dict(ACME))
    said = result.get_response()
    assert said["id"] == "seven" and said["model_name"] == "identity", said
    assert [output["name"] for output in said["outputs"]] == ["OUTPUT_BYTES", "OUTPUT_INT32"]
    same(result.as_numpy("OUTPUT_BYTES"), TEXT)
    same(result.as_numpy("OUTPUT_INT32"), SAMPLES["INT32"])
    assert result.as_numpy("OUTPUT_FP16") is None


def test_compression(client):
    array = np.zeros((64, 64), dtype=np.float32)
    for sent in [None, "gzip", "deflate"]:
        for taken in [None, "gzip", "deflate"]:
            for binary in [True, False]:
                outputs = [http.InferRequestedOutput("OUTPUT_FP32", binary_data=binary)]
                got = identity(
                    client,
                    "FP32",
                    array,
                    binary_in=binary,
                    outputs=outputs,
                    request_compression_algorithm=sent,
                    response_compression_algorithm=taken,
                )
                same(got, array)


def test_versions_and_aliases(client):
    row = np.zeros((1, 16), dtype=np.float32)
    for version in ["", "1", "stable"]:
        inputs = [tensor("INPUT0", "FP32", row)]
        result = client.infer("add-one", inputs, model_version=version, headers=dict(ACME))
        assert result.get_response()["model_version"] == "1"
        same(result.as_numpy("OUTPUT0"), row + 1)


def test_many_at_once(client):
    rows = [np.full((1, 16), n, dtype=np.float32) for n in range(20)]
    asked = [client.async_infer("add-one", [tensor("INPUT0", "FP32", row)], headers=dict(ACME)) for row in rows]
    for row, answer in zip(rows, asked):
        same(answer.get_result().as_numpy("OUTPUT0"), row + 1)


def test_parameters(client):
    inputs = [tensor("INPUT0", "FP32", np.zeros((1, 16), dtype=np.float32))]
    client.infer("add-one", inputs, parameters={"text": "x", "n": 1.5, "yes": True}, headers=dict(ACME))
    error = raised(
        InferenceServerException,
        lambda: client.infer("add-one", inputs, sequence_id=5, headers=dict(ACME)),
    )
    assert error.status() == "400" and "sequence_id" in error.message(), error


def sums(stats):
    """What a model's statistics come to over its versions."""
    return sum(each["inference_stats"]["success"]["count"] for each in stats["model_stats"])


def test_statistics(client):
    before = client.get_inference_statistics("digits", "1", headers=dict(ACME))
    zeros = np.zeros((3, 64), dtype=np.float32)
    client.infer("digits", [tensor("INPUT0", "FP32", zeros)], headers=dict(ACME))
    after = client.get_inference_statistics("digits", headers=dict(ACME))
    assert sums(after) == sums(before) + 1, after
    [stats] = after["model_stats"]
    assert stats["name"] == "digits" and stats["version"] == "1" and stats["last_inference"] > 0, stats
    assert {"batch_size": 3} in [{"batch_size": batch["batch_size"]} for batch in stats["batch_stats"]], stats
    everything = client.get_inference_statistics(headers=dict(ACME))
    assert {each["name"] for each in everything["model_stats"]} >= {"digits", "add-one"}, everything


def test_config(client):
    config = client.get_model_config("digits", headers=dict(ACME))
    assert config["name"] == "digits" and config["backend"] == "innkeeper", config
    assert config["input"] == [{"name": "INPUT0", "data_type": "TYPE_FP32", "dims": [64], "optional": False}]
    assert config["max_batch_size"] > 0 and "sequence_batching" not in config, config
    counting = client.get_model_config("counting", "1", headers=dict(ACME))
    assert counting["sequence_batching"] == {"max_sequence_idle_microseconds": 60_000_000}, counting
    assert client.get_model_config("embedding", headers=dict(ACME))["response_cache"] == {"enable": True}


def test_the_repository(client):
    state = lambda: {
        each["name"]: each["state"] for each in client.get_model_repository_index(headers=dict(ACME))
    }
    assert state()["mlp"] == "READY", state()
    client.unload_model("mlp", headers=dict(ACME))
    assert state()["mlp"] in ["UNLOADING", "UNAVAILABLE"] and not client.is_model_ready("mlp", headers=dict(ACME))
    client.load_model("mlp", config='{"name": "mlp"}', headers=dict(ACME))
    assert state()["mlp"] == "READY" and client.is_model_ready("mlp", headers=dict(ACME))
    for more, text in [({"config": '{"max_batch_size": 1}'}, "max_batch_size"), ({"config": "["}, "JSON")]:
        error = raised(InferenceServerException, lambda: client.load_model("mlp", headers=dict(ACME), **more))
        assert error.status() == "400" and text in error.message(), error
    error = raised(InferenceServerException, lambda: client.load_model("absent", headers=dict(ACME)))
    assert error.status() == "404", error
    # A component is uploaded by the same call.
    files = {"file:7/model.wasm": component()}
    client.load_model("by-triton", config="{}", files=files, headers=dict(ACME))
    row = np.zeros((1, 16), dtype=np.float32)
    result = client.infer("by-triton", [tensor("INPUT0", "FP32", row)], model_version="7", headers=dict(ACME))
    same(result.as_numpy("OUTPUT0"), row + 1)
    error = raised(InferenceServerException, lambda: client.load_model("x", files=files, headers=dict(ACME)))
    assert "config" in error.message(), error


def test_logging_and_tracing(client):
    kept = client.get_log_settings(headers=dict(ACME))
    assert kept["log_file"] == "" and kept["log_info"] is True, kept
    now = client.update_log_settings({"log_info": False, "log_verbose_level": 1}, headers=dict(ACME))
    assert (now["log_info"], now["log_verbose_level"]) == (False, 1), now
    client.update_log_settings({"log_info": True, "log_verbose_level": 0}, headers=dict(ACME))
    for setting in [{"log_file": "/tmp/x"}, {"log_format": "ISO8601"}, {"unheard_of": 1}]:
        error = raised(InferenceServerException, lambda: client.update_log_settings(setting, headers=dict(ACME)))
        assert error.status() == "400", error
    for model in [None, "digits"]:
        off = client.get_trace_settings(model, headers=dict(ACME))
        assert off["trace_level"] == ["OFF"], off
        client.update_trace_settings(model, {"trace_level": ["OFF"], "trace_rate": None}, headers=dict(ACME))
        error = raised(
            InferenceServerException,
            lambda: client.update_trace_settings(model, {"trace_level": ["TIMESTAMPS"]}, headers=dict(ACME)),
        )
        assert error.status() == "501", error


def test_classification(client):
    pictures = np.load(PICTURES).astype(np.float32)[:2]
    inputs = [tensor("INPUT0", "FP32", pictures)]
    plain = client.infer("digits", inputs, headers=dict(ACME)).as_numpy("PROBABILITIES")
    for binary in [True, False]:
        outputs = [http.InferRequestedOutput("PROBABILITIES", binary_data=binary, class_count=3)]
        classes = client.infer("digits", inputs, outputs=outputs, headers=dict(ACME)).as_numpy("PROBABILITIES")
        check_classes(classes, plain)


def test_sequences(client):
    one = [tensor("X", "INT64", np.array([[1]], dtype=np.int64))]
    call = lambda **more: client.infer("counting", one, headers=dict(ACME), **more).as_numpy("TOLD")[0, 1]
    for id in [11, "eleven"]:
        assert call(sequence_id=id, sequence_start=True) == 1
        assert [call(sequence_id=id), call(sequence_id=id, sequence_end=True)] == [2, 3]
        error = raised(InferenceServerException, lambda: call(sequence_id=id))
        assert error.status() == "400" and "has begun" in error.message(), error


def test_errors(client):
    row = np.zeros((1, 16), dtype=np.float32)
    good = [tensor("INPUT0", "FP32", row)]
    wrong_shape = [tensor("INPUT0", "FP32", row[:, :15])]
    wrong_dtype = [tensor("INPUT0", "FP64", row.astype(np.float64))]
    wrong_name = [tensor("INPUT1", "FP32", row)]
    stranger = {"Authorization": "Bearer ink_nobody_nothing"}
    cases = [
        ("absent", good, {"headers": dict(ACME)}, "404", "absent"),
        ("add-one", good, {"headers": dict(ACME), "model_version": "9"}, "404", "9"),
        ("add-one", wrong_shape, {"headers": dict(ACME)}, "422", "[1,15]"),
        ("add-one", wrong_dtype, {"headers": dict(ACME)}, "422", "FP64"),
        ("add-one", wrong_name, {"headers": dict(ACME)}, "422", "INPUT1"),
        ("add-one", good, {}, "401", "key"),
        ("add-one", good, {"headers": stranger}, "401", "key"),
        ("add-one", good, {"headers": dict(FRIEND)}, "404", "add-one"),
    ]
    for model, inputs, more, status, text in cases:
        error = raised(InferenceServerException, lambda: client.infer(model, inputs, **more))
        assert error.status() == status and text in error.message(), (model, more, error)
    outputs = [http.InferRequestedOutput("OUTPUT9")]
    error = raised(
        InferenceServerException,
        lambda: client.infer("add-one", good, outputs=outputs, headers=dict(ACME)),
    )
    assert error.status() == "422" and "OUTPUT9" in error.message(), error
    # The connection is as good as before.
    same(client.infer("add-one", good, headers=dict(ACME)).as_numpy("OUTPUT0"), row + 1)


def test_base_path(client):
    with http.InferenceServerClient(f"{SERVER}/t/acme") as acme:
        assert acme.is_server_live(headers=dict(FRIEND)) and acme.is_server_ready(headers=dict(FRIEND))
        assert acme.is_model_ready("identity", headers=dict(FRIEND))
        assert acme.get_model_metadata("identity", headers=dict(FRIEND))["name"] == "identity"
        array = SAMPLES["INT64"]
        same(identity(acme, "INT64", array, headers=dict(FRIEND)), array)
        same(identity(acme, "INT64", array, headers=dict(ACME)), array)
        # What acme keeps to itself is not there, to others.
        assert not acme.is_model_ready("add-one", headers=dict(FRIEND))
        assert acme.is_model_ready("add-one", headers=dict(ACME))
    error = raised(
        InferenceServerException,
        lambda: identity(client, "INT64", SAMPLES["INT64"], headers=dict(FRIEND)),
    )
    assert error.status() == "404", error


if __name__ == "__main__":
    with http.InferenceServerClient(SERVER, concurrency=4) as the_client:
        run(sys.modules[__name__], the_client)
