"""tritonclient.grpc over TLS, at both ports."""

import os

import numpy as np
import tritonclient.grpc as grpc

from common import ACME, GRPC, SERVER, same

for address in [GRPC, SERVER.removeprefix("https://")]:
    with grpc.InferenceServerClient(address, ssl=True, root_certificates=os.environ["TRUSTED"]) as client:
        assert client.is_server_ready()
        row = np.ones((1, 16), dtype=np.float32)
        tensor = grpc.InferInput("INPUT0", [1, 16], "FP32").set_data_from_numpy(row)
        headers = {"authorization": ACME["Authorization"]}
        same(client.infer("add-one", [tensor], headers=headers).as_numpy("OUTPUT0"), row + 1)
print("ok")
