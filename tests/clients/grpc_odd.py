"""What no client library sends, by grpcio: bytes of one's own under the names of the calls."""

import queue
import sys
import threading

import grpc
import numpy as np
from tritonclient.grpc import service_pb2 as pb

from common import ACME, FRIEND, GRPC, raised, run

ACME = [("authorization", ACME["Authorization"])]
FRIEND = [("authorization", FRIEND["Authorization"])]
SERVICE = "/inference.GRPCInferenceService/"
ROW = np.arange(16, dtype=np.float32)


def call(channel, method, message=b"", metadata=ACME, **more):
    data = message if isinstance(message, bytes) else message.SerializeToString()
    service = "" if method.startswith("/") else SERVICE
    return channel.unary_unary(service + method)(data, metadata=metadata, timeout=20, **more)


def refused(channel, code, text, method, message=b"", metadata=ACME):
    error = raised(grpc.RpcError, lambda: call(channel, method, message, metadata))
    assert error.code() == code and text in error.details(), error
    assert "x-request-id" in dict(error.initial_metadata() or []) | dict(error.trailing_metadata() or []), error
    return error


def asking(**fields):
    """A request of add-one with its tensor as raw bytes."""
    tensor = pb.ModelInferRequest.InferInputTensor(name="INPUT0", datatype="FP32", shape=[1, 16])
    request = pb.ModelInferRequest(model_name="add-one", inputs=[tensor], raw_input_contents=[ROW.tobytes()])
    for name, value in fields.items():
        if isinstance(value, list):
            request.ClearField(name)
            getattr(request, name).extend(value)
        else:
            setattr(request, name, value)
    return request


def inferred(channel, request):
    return pb.ModelInferResponse.FromString(call(channel, "ModelInfer", request))


def test_both_encodings(channel):
    said = inferred(channel, asking())
    assert not said.outputs[0].HasField("contents")
    assert said.raw_output_contents == [(ROW + 1).tobytes()], said
    request = asking(raw_input_contents=[])
    request.inputs[0].contents.fp32_contents.extend(ROW)
    said = inferred(channel, request)
    assert not said.raw_output_contents, said
    assert list(said.outputs[0].contents.fp32_contents) == list(ROW + 1)


def test_every_typed_field(channel):
    cases = [
        ("BOOL", "bool_contents", [True, False]),
        ("INT8", "int_contents", [-128, 127]),
        ("INT16", "int_contents", [-(1 << 15), (1 << 15) - 1]),
        ("INT32", "int_contents", [-(1 << 31), (1 << 31) - 1]),
        ("INT64", "int64_contents", [-(1 << 63), (1 << 63) - 1]),
        ("UINT8", "uint_contents", [0, 255]),
        ("UINT16", "uint_contents", [0, 65535]),
        ("UINT32", "uint_contents", [0, (1 << 32) - 1]),
        ("UINT64", "uint64_contents", [0, (1 << 64) - 1]),
        ("FP32", "fp32_contents", [0.5, -2.0]),
        ("FP64", "fp64_contents", [0.1, float("inf")]),
        ("BYTES", "bytes_contents", [b"", b"\xff\x00"]),
    ]
    for dtype, field, values in cases:
        tensor = pb.ModelInferRequest.InferInputTensor(name=f"INPUT_{dtype}", datatype=dtype, shape=[1, 2])
        getattr(tensor.contents, field).extend(values)
        said = inferred(channel, pb.ModelInferRequest(model_name="identity", inputs=[tensor]))
        assert list(getattr(said.outputs[0].contents, field)) == values, said


def test_strictness(channel):
    bad = grpc.StatusCode.INVALID_ARGUMENT
    both = asking()
    both.inputs[0].contents.fp32_contents.extend(ROW)
    half = asking(raw_input_contents=[])
    half.inputs[0].datatype = "FP16"
    wrong = asking(raw_input_contents=[])
    wrong.inputs[0].contents.fp64_contents.extend(ROW)
    for request, text in [
        (both, "inputs[0].contents"),
        (half, "raw_input_contents"),
        (wrong, "fp32_contents"),
        (asking(raw_input_contents=[]), "16 elements, got 0"),
        (asking(raw_input_contents=[ROW.tobytes()] * 2), "2 for 1"),
        (asking(raw_input_contents=[ROW.tobytes()[:-1]]), "64 bytes, got 63"),
        (asking(inputs=[], raw_input_contents=[]), "INPUT0"),
        (asking(inputs=[asking().inputs[0]] * 300, raw_input_contents=[]), "more than 256"),
        (asking(id="x" * 2000), "id"),
        (b"\x0a\xff", "message"),
        (b"\xff" * 50, "message"),
        (b"\x0b\x0b\x0b", "message"),
    ]:
        refused(channel, bad, text, "ModelInfer", request)
    sequence = asking()
    sequence.parameters["triton_unheard_of"].int64_param = 1
    refused(channel, bad, "triton_unheard_of", "ModelInfer", sequence)
    labels = asking()
    labels.outputs.add(name="OUTPUT0").parameters["shared_memory_region"].string_param = "x"
    refused(channel, bad, "shared_memory_region", "ModelInfer", labels)
    # After all this the connection is as good as before.
    inferred(channel, asking())


def test_codes(channel):
    codes = grpc.StatusCode
    refused(channel, codes.UNAUTHENTICATED, "key", "ModelInfer", asking(), [])
    refused(channel, codes.UNAUTHENTICATED, "key", "NoSuchCall", b"", [])
    refused(channel, codes.UNAUTHENTICATED, "key", "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", b"", [])
    refused(channel, codes.UNIMPLEMENTED, "no such call", "NoSuchCall")
    refused(channel, codes.UNIMPLEMENTED, "no such call", "/x.Y/Z")
    refused(channel, codes.UNIMPLEMENTED, "shared memory", "SystemSharedMemoryRegister")
    refused(channel, codes.NOT_FOUND, "absent", "ModelInfer", asking(model_name="absent"))
    refused(channel, codes.NOT_FOUND, "absent", "ModelMetadata", pb.ModelMetadataRequest(name="absent"))
    refused(channel, codes.NOT_FOUND, "add-one", "ModelInfer", asking(), FRIEND)
    refused(channel, codes.NOT_FOUND, "add-one", "ModelInfer", asking(model_name="acme/add-one"), FRIEND)
    huge = asking(raw_input_contents=[bytes(65 << 20)])
    refused(channel, codes.RESOURCE_EXHAUSTED, "body_bytes_max", "ModelInfer", huge)


def test_request_ids(channel):
    method = channel.unary_unary(SERVICE + "ModelInfer")
    _, done = method.with_call(asking().SerializeToString(), metadata=[*ACME, ("x-request-id", "mine-1")])
    assert dict(done.initial_metadata())["x-request-id"] == "mine-1"
    _, done = method.with_call(asking().SerializeToString(), metadata=ACME)
    assert len(dict(done.initial_metadata())["x-request-id"]) == 24


def test_health(channel):
    check, watch = "/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch"
    for service in [b"", b"\x0a\x1einference.GRPCInferenceService"]:
        assert call(channel, check, service, []) == b"\x08\x01"
    error = raised(grpc.RpcError, lambda: call(channel, check, b"\x0a\x01x", []))
    assert error.code() == grpc.StatusCode.NOT_FOUND
    for service, wanted in [(b"", b"\x08\x01"), (b"\x0a\x01x", b"\x08\x03")]:
        told = channel.unary_stream(watch)(service)
        assert next(told) == wanted
        told.cancel()


def test_reflection(channel):
    for version in ["v1", "v1alpha"]:
        name = f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo"
        asked = iter([b"\x3a\x01*", b"\x22\x1einference.GRPCInferenceService"])
        services, definition = channel.stream_stream(name)(asked, metadata=ACME)
        assert b"inference.GRPCInferenceService" in services and b"grpc.health.v1.Health" in services
        assert b"raw_input_contents" in definition and b"ModelStreamInfer" in definition


def test_a_stream_of_bad_bytes_ends(channel):
    stream = channel.stream_stream(SERVICE + "ModelStreamInfer")
    answers = stream(iter([asking(id="1").SerializeToString(), b"\xff\xff", asking(id="2").SerializeToString()]), metadata=ACME)
    said = [pb.ModelStreamInferResponse.FromString(answer) for answer in answers]
    assert [each.infer_response.id for each in said] == ["1", "", "2"], said
    assert "message" in said[1].error_message and not said[0].error_message, said
    answers = stream(iter([asking(raw_input_contents=[bytes(65 << 20)]).SerializeToString()]), metadata=ACME)
    error = raised(grpc.RpcError, lambda: next(answers))
    assert error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED, error
    error = raised(grpc.RpcError, lambda: next(stream(iter([]), metadata=[])))
    assert error.code() == grpc.StatusCode.UNAUTHENTICATED, error


def test_a_refused_stream_is_told_at_once(channel):
    requests = queue.Queue()
    stream = channel.stream_stream(SERVICE + "ModelStreamInfer")
    # The stream goes on for as long as nobody ends it.
    answers = stream(iter(requests.get, None), metadata=[], timeout=60)
    error = raised(grpc.RpcError, lambda: next(answers))
    assert error.code() == grpc.StatusCode.UNAUTHENTICATED, error
    requests.put(None)


def test_loading_takes_what_it_says(channel):
    bad, code = grpc.StatusCode.INVALID_ARGUMENT, pb.ModelRepositoryParameter(bytes_param=b"x")
    load = pb.RepositoryModelLoadRequest(model_name="add-one")
    load.parameters["unheard_of"].string_param = "x"
    refused(channel, bad, "unheard_of", "RepositoryModelLoad", load)
    many = pb.RepositoryModelLoadRequest(model_name="add-one")
    for n in range(1_025):
        many.parameters[f"file:1/{n}"].CopyFrom(code)
    refused(channel, bad, "more than 1024", "RepositoryModelLoad", many)
    unload = pb.RepositoryModelUnloadRequest(model_name="add-one")
    unload.parameters["unheard_of"].bool_param = True
    refused(channel, bad, "unheard_of", "RepositoryModelUnload", unload)
    strange = pb.RepositoryModelUnloadRequest(repository_name="acme", model_name="add-one")
    refused(channel, grpc.StatusCode.NOT_FOUND, "owners", "RepositoryModelUnload", strange, FRIEND)
    setting = pb.LogSettingsRequest()
    setting.settings["log_info"].string_param = "yes"
    refused(channel, bad, "log_info", "LogSettings", setting)


def test_many_threads(channel):
    failed = []

    def work():
        for _ in range(100):
            try:
                assert inferred(channel, asking()).raw_output_contents == [(ROW + 1).tobytes()]
            except Exception as error:  # noqa: BLE001
                failed.append(error)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed, failed[0]


if __name__ == "__main__":
    options = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
    with grpc.insecure_channel(GRPC, options=options) as the_channel:
        run(sys.modules[__name__], the_channel)
