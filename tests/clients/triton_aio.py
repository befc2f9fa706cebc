"""tritonclient.http.aio, as it comes from PyPI."""

import asyncio
import sys

import numpy as np
import tritonclient.http.aio as http
from tritonclient.utils import InferenceServerException

from common import ACME, FRIEND, SAMPLES, SERVER, TEXT, WITHOUT_JSON, raised_in, run, same


def tensor(name, dtype, array, binary=True):
    return http.InferInput(name, list(array.shape), dtype).set_data_from_numpy(array, binary_data=binary)


async def test_health_and_metadata():
    async with http.InferenceServerClient(SERVER) as client:
        assert await client.is_server_live() and await client.is_server_ready()
        assert await client.is_model_ready("digits", headers=dict(ACME))
        assert not await client.is_model_ready("absent", headers=dict(ACME))
        assert (await client.get_server_metadata(headers=dict(ACME)))["name"] == "innkeeper"
        digits = await client.get_model_metadata("digits", headers=dict(ACME))
        assert [output["name"] for output in digits["outputs"]] == ["PROBABILITIES", "LABEL"]


async def test_every_dtype():
    async with http.InferenceServerClient(SERVER) as client:
        for dtype, array in {**SAMPLES, "BYTES": TEXT}.items():
            forms = [True] if dtype in WITHOUT_JSON else [True, False]
            for binary in forms:
                result = await client.infer(
                    "identity",
                    [tensor(f"INPUT_{dtype}", dtype, array, binary)],
                    outputs=[http.InferRequestedOutput(f"OUTPUT_{dtype}", binary_data=binary)],
                    headers=dict(ACME),
                )
                same(result.as_numpy(f"OUTPUT_{dtype}"), array)


async def test_compression():
    array = np.zeros((64, 64), dtype=np.float32)
    async with http.InferenceServerClient(SERVER) as client:
        for sent in [None, "gzip", "deflate"]:
            for taken in [None, "gzip", "deflate"]:
                result = await client.infer(
                    "identity",
                    [tensor("INPUT_FP32", "FP32", array)],
                    headers=dict(ACME),
                    request_compression_algorithm=sent,
                    response_compression_algorithm=taken,
                )
                same(result.as_numpy("OUTPUT_FP32"), array)


async def test_many_at_once():
    async with http.InferenceServerClient(SERVER, conn_limit=8) as client:
        rows = [np.full((1, 16), n, dtype=np.float32) for n in range(50)]
        answers = await asyncio.gather(
            *[client.infer("add-one", [tensor("INPUT0", "FP32", row)], headers=dict(ACME)) for row in rows]
        )
        for row, answer in zip(rows, answers):
            same(answer.as_numpy("OUTPUT0"), row + 1)


async def test_the_extensions():
    async with http.InferenceServerClient(SERVER) as client:
        assert (await client.get_model_config("digits", headers=dict(ACME)))["name"] == "digits"
        stats = await client.get_inference_statistics("digits", headers=dict(ACME))
        assert [each["name"] for each in stats["model_stats"]] == ["digits"], stats
        index = await client.get_model_repository_index(headers=dict(ACME))
        assert "digits" in [each["name"] for each in index], index
        await client.load_model("digits", headers=dict(ACME))
        error = await raised_in(InferenceServerException, client.unload_model("absent", headers=dict(ACME)))
        assert error.status() == "404", error
        assert (await client.get_log_settings(headers=dict(ACME)))["log_error"] is True
        await client.update_log_settings({"log_error": True}, headers=dict(ACME))
        assert (await client.get_trace_settings(headers=dict(ACME)))["trace_level"] == ["OFF"]
        await client.update_trace_settings(settings={"trace_level": ["OFF"]}, headers=dict(ACME))


async def test_errors_and_base_path():
    row = np.zeros((1, 16), dtype=np.float32)
    async with http.InferenceServerClient(SERVER) as client:
        inputs = [tensor("INPUT0", "FP32", row)]
        for headers, status in [(None, "401"), (FRIEND, "404")]:
            error = await raised_in(
                InferenceServerException, client.infer("add-one", inputs, headers=headers and dict(headers))
            )
            assert error.status() == status, error
    async with http.InferenceServerClient(f"{SERVER}/t/acme") as client:
        array = SAMPLES["UINT64"]
        result = await client.infer(
            "identity", [tensor("INPUT_UINT64", "UINT64", array)], headers=dict(FRIEND)
        )
        same(result.as_numpy("OUTPUT_UINT64"), array)


if __name__ == "__main__":
    run(sys.modules[__name__])
