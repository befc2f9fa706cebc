"""tritonclient.grpc.aio, as it comes from PyPI."""

import asyncio
import sys

import numpy as np
import tritonclient.grpc.aio as grpc
from tritonclient.utils import InferenceServerException

from common import ACME, FRIEND, GRPC, SAMPLES, raised_in, run, same

ACME = {"authorization": ACME["Authorization"]}
FRIEND = {"authorization": FRIEND["Authorization"]}


def tensor(name, dtype, array):
    return grpc.InferInput(name, list(array.shape), dtype).set_data_from_numpy(array)


async def test_health_and_metadata():
    async with grpc.InferenceServerClient(GRPC) as client:
        assert await client.is_server_live() and await client.is_server_ready()
        assert await client.is_model_ready("digits", headers=ACME)
        assert not await client.is_model_ready("absent", headers=ACME)
        digits = await client.get_model_metadata("digits", headers=ACME)
        assert [output.name for output in digits.outputs] == ["PROBABILITIES", "LABEL"]


async def test_every_dtype():
    async with grpc.InferenceServerClient(GRPC) as client:
        for dtype, array in SAMPLES.items():
            inputs = [tensor(f"INPUT_{dtype}", dtype, array)]
            result = await client.infer("identity", inputs, headers=ACME)
            same(result.as_numpy(f"OUTPUT_{dtype}"), array)


async def test_many_at_once():
    async with grpc.InferenceServerClient(GRPC) as client:
        rows = [np.full((1, 16), n, dtype=np.float32) for n in range(100)]
        answers = await asyncio.gather(
            *[client.infer("add-one", [tensor("INPUT0", "FP32", row)], headers=ACME) for row in rows]
        )
        for row, answer in zip(rows, answers):
            same(answer.as_numpy("OUTPUT0"), row + 1)


async def test_a_stream():
    rows = [np.full((1, 16), n, dtype=np.float32) for n in range(20)]

    async def requests():
        for n, row in enumerate(rows):
            yield {"model_name": "add-one", "inputs": [tensor("INPUT0", "FP32", row)], "request_id": str(n)}

    async with grpc.InferenceServerClient(GRPC) as client:
        count = 0
        async for result, error in client.stream_infer(requests(), headers=ACME):
            assert error is None, error
            assert result.get_response().id == str(count)
            same(result.as_numpy("OUTPUT0"), rows[count] + 1)
            count += 1
        assert count == len(rows)


async def test_the_extensions():
    async with grpc.InferenceServerClient(GRPC) as client:
        assert (await client.get_model_config("digits", headers=ACME)).config.name == "digits"
        stats = await client.get_inference_statistics("digits", headers=ACME)
        assert [each.name for each in stats.model_stats] == ["digits"], stats
        index = await client.get_model_repository_index(headers=ACME)
        assert "digits" in [each.name for each in index.models], index
        await client.load_model("digits", headers=ACME)
        error = await raised_in(InferenceServerException, client.unload_model("absent", headers=ACME))
        assert error.status() == "StatusCode.NOT_FOUND", error
        assert (await client.get_log_settings(headers=ACME)).settings["log_error"].bool_param
        await client.update_log_settings({"log_error": True}, headers=ACME)
        off = await client.get_trace_settings(headers=ACME)
        assert list(off.settings["trace_level"].value) == ["OFF"], off
        await client.update_trace_settings(settings={"trace_level": ["OFF"]}, headers=ACME)


async def test_errors():
    row = np.zeros((1, 16), dtype=np.float32)
    async with grpc.InferenceServerClient(GRPC) as client:
        inputs = [tensor("INPUT0", "FP32", row)]
        for headers, status in [(None, "UNAUTHENTICATED"), (FRIEND, "NOT_FOUND")]:
            error = await raised_in(
                InferenceServerException, client.infer("add-one", inputs, headers=headers)
            )
            assert error.status() == f"StatusCode.{status}", error


if __name__ == "__main__":
    run(sys.modules[__name__])
