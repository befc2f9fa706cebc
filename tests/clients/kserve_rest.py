"""KServe's InferenceRESTClient, as it comes from PyPI."""

import asyncio
import sys

import httpx
import numpy as np
from kserve import InferenceRESTClient, InferInput, InferRequest
from kserve.inference_client import RESTConfig
from kserve.protocol.infer_type import RequestedOutput

from common import ACME, FRIEND, SAMPLES, SERVER, TEXT, raised_in, run, same

BASE = f"http://{SERVER}"


def client():
    return InferenceRESTClient(RESTConfig(protocol="v2"))


def request(model, name, dtype, array, binary, outputs=None, request_id=None):
    tensor = InferInput(name, list(array.shape), dtype)
    tensor.set_data_from_numpy(array, binary_data=binary)
    return InferRequest(
        model, [tensor], request_id=request_id, request_outputs=outputs, parameters={"binary_data_output": binary}
    )


async def test_health():
    async with client() as kserve:
        assert await kserve.is_server_live(BASE) is True
        assert await kserve.is_server_ready(BASE) is True
        assert await kserve.is_model_ready(BASE, "identity", headers=ACME) is True
        assert await kserve.is_model_ready(BASE, "absent", headers=ACME) is False
        assert await kserve.is_server_live(f"{BASE}/t/acme", headers=FRIEND) is True


async def test_every_dtype():
    async with client() as kserve:
        for dtype, sample in {**SAMPLES, "BYTES": TEXT}.items():
            # The client has no BF16, and its JSON library no NaN.
            if dtype == "BF16":
                continue
            forms = [True] if dtype == "FP16" else [True, False]
            for binary in forms:
                array = sample[:1] if dtype.startswith("FP") and not binary else sample
                asked = request("identity", f"INPUT_{dtype}", dtype, array, binary, request_id="seven")
                said = await kserve.infer(BASE, asked, model_name="identity", headers=dict(ACME))
                assert said.id == "seven" and said.model_name == "identity"
                assert [output.name for output in said.outputs] == [f"OUTPUT_{dtype}"]
                same(said.outputs[0].as_numpy(), array)


async def test_outputs_asked_for():
    picture = np.zeros((2, 64), dtype=np.float32)
    outputs = [
        RequestedOutput("LABEL", parameters={"binary_data": True}),
        RequestedOutput("PROBABILITIES", parameters={"binary_data": False}),
    ]
    async with client() as kserve:
        asked = request("digits", "INPUT0", "FP32", picture, True, outputs)
        said = await kserve.infer(BASE, asked, model_name="digits", headers=dict(ACME))
        assert [output.name for output in said.outputs] == ["LABEL", "PROBABILITIES"]
        assert said.outputs[0].as_numpy().shape == (2,)
        np.testing.assert_allclose(said.outputs[1].as_numpy().sum(axis=1), [1, 1], rtol=1e-5)


async def test_large_answers_come_packed():
    array = np.zeros((256, 256), dtype=np.float32)
    async with client() as kserve:
        headers = {}
        asked = request("identity", "INPUT_FP32", "FP32", array, True)
        said = await kserve.infer(
            BASE, asked, model_name="identity", headers=dict(ACME), response_headers=headers
        )
        same(said.outputs[0].as_numpy(), array)
        assert headers["content-encoding"] == "gzip", headers


async def test_errors_and_base_path():
    row = np.zeros((1, 16), dtype=np.float32)

    def asked():
        return request("add-one", "INPUT0", "FP32", row, False)

    async with client() as kserve:
        for headers, status, text in [({}, 401, "key"), (FRIEND, 404, "add-one")]:
            error = await raised_in(
                httpx.HTTPStatusError,
                kserve.infer(BASE, asked(), model_name="add-one", headers=dict(headers)),
            )
            assert error.response.status_code == status and text in str(error), error
        error = await raised_in(
            httpx.HTTPStatusError,
            kserve.infer(BASE, request("add-one", "INPUT0", "FP32", row[:, :3], False), "add-one", dict(ACME)),
        )
        assert error.response.status_code == 422 and "[1,3]" in str(error), error
        array = SAMPLES["INT8"]
        shared = request("identity", "INPUT_INT8", "INT8", array, False)
        said = await kserve.infer(f"{BASE}/t/acme", shared, model_name="identity", headers=dict(FRIEND))
        same(said.outputs[0].as_numpy(), array)


async def test_many_at_once():
    rows = [np.full((1, 16), n, dtype=np.float32) for n in range(20)]
    async with client() as kserve:
        asked = [request("add-one", "INPUT0", "FP32", row, False) for row in rows]
        said = await asyncio.gather(
            *[kserve.infer(BASE, one, model_name="add-one", headers=dict(ACME)) for one in asked]
        )
        for row, answer in zip(rows, said):
            same(answer.outputs[0].as_numpy(), row + 1)


if __name__ == "__main__":
    run(sys.modules[__name__])
