"""Streams that rest while the server is told to end: each hears of it, and none holds it up."""

import queue

import grpc
import numpy as np
from tritonclient.grpc import service_pb2 as pb

from common import ACME, GRPC, raised

KEY = [("authorization", ACME["Authorization"])]

with grpc.insecure_channel(GRPC) as channel:
    watch = channel.unary_stream("/grpc.health.v1.Health/Watch")(b"")
    assert next(watch) == b"\x08\x01"
    requests = queue.Queue()
    tensor = pb.ModelInferRequest.InferInputTensor(name="INPUT0", datatype="FP32", shape=[1, 16])
    row = np.zeros(16, dtype=np.float32).tobytes()
    asked = pb.ModelInferRequest(model_name="m", inputs=[tensor], raw_input_contents=[row])
    requests.put(asked.SerializeToString())
    stream = channel.stream_stream("/inference.GRPCInferenceService/ModelStreamInfer")
    answers = stream(iter(requests.get, None), metadata=KEY)
    assert pb.ModelStreamInferResponse.FromString(next(answers)).error_message == ""
    reflection = channel.stream_stream("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo")
    names = queue.Queue()
    names.put(b"\x3a\x01*")
    services = reflection(iter(names.get, None), metadata=KEY)
    assert b"inference.GRPCInferenceService" in next(services)
    print("ready", flush=True)
    # The server ends now.
    assert list(watch) == [b"\x08\x02"]
    for resting in [answers, services]:
        error = raised(grpc.RpcError, lambda: next(resting))
        assert error.code() == grpc.StatusCode.UNAVAILABLE and "shutting down" in error.details(), error
    requests.put(None)
    names.put(None)
    print("all heard of it")
