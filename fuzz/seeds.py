"""Writes inputs for the fuzz targets to start from: small models, files and requests as other software makes them.

    cargo xtask models && cargo xtask test --only clients
    target/venv/bin/python fuzz/seeds.py target target/fuzz/seeds
    cargo xtask fuzz --seconds 600 --keep

The last command replaces fuzz/corpus by the fewest inputs that reach as much as all that were found.
"""

import hashlib
import io
import json
import random
import struct
import sys
import tarfile
from pathlib import Path

import numpy
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton
from tritonclient.grpc import service_pb2

BYTES_MAX = 16 << 10
DTYPES = {
    "BOOL": bool,
    "UINT8": numpy.uint8,
    "UINT16": numpy.uint16,
    "UINT32": numpy.uint32,
    "UINT64": numpy.uint64,
    "INT8": numpy.int8,
    "INT16": numpy.int16,
    "INT32": numpy.int32,
    "INT64": numpy.int64,
    "FP16": numpy.float16,
    "FP32": numpy.float32,
    "FP64": numpy.float64,
    "BYTES": numpy.object_,
}


def onnx(target):
    """The models of ONNX's node tests and the smallest exported ones."""
    for folder in (target / "node-tests", target / "models"):
        for path in sorted(folder.glob("*.onnx")):
            # NAME.K.onnx is a test's data.
            is_model = path.stem.count(".") == 0
            if is_model and path.stat().st_size <= BYTES_MAX:
                yield path.read_bytes()


def safetensors(_):
    """Files of every dtype, aligned or not, with and without metadata."""
    sizes = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1}
    sizes |= {"U64": 8, "U32": 4, "U16": 2, "U8": 1, "BOOL": 1, "F8_E4M3": 1}

    def file(tensors, **more):
        header, data = dict(more), b""
        for name, dtype, shape in tensors:
            length = int(numpy.prod(shape)) * sizes[dtype]
            header[name] = {
                "dtype": dtype,
                "shape": shape,
                "data_offsets": [len(data), len(data) + length],
            }
            data += bytes(i % 2 for i in range(length))
        text = json.dumps(header).encode()
        return struct.pack("<Q", len(text)) + text + data

    for dtype in sizes:
        yield file([("w", dtype, [2, 3])])
    yield file([])
    yield file([("a", "F32", []), ("b", "I8", [3]), ("c", "F64", [2]), ("d", "F32", [0, 7])])
    yield file([("w", "F32", [1])], __metadata__={"format": "pt"})
    yield struct.pack("<Q", 1 << 40) + b"{}"


def requests(binary):
    """What Triton's client sends."""
    for name, dtype in DTYPES.items():
        for shape in ([], [3], [2, 2], [0], [1, 2, 3]):
            if name == "FP16" and not binary:
                continue
            given = triton.InferInput("A", shape, name)
            values = numpy.arange(int(numpy.prod(shape))).reshape(shape)
            if dtype is numpy.object_:
                values = numpy.array([str(value) for value in values.flat], object).reshape(shape)
            given.set_data_from_numpy(values.astype(dtype), binary_data=binary)
            wanted = triton.InferRequestedOutput("Y", binary_data=binary)
            body, length = triton.InferenceServerClient.generate_request_body(
                [given], outputs=[wanted], request_id="seven"
            )
            yield bytes(body), length if length is not None else len(body)


def rest(_):
    """Requests in JSON, of Triton's client and by hand."""
    yield from (body for body, _ in requests(binary=False))
    one = '{"name":"A","shape":[3],"datatype":"%s","data":%s}'
    rows = [
        ("FP32", "[NaN,Infinity,-Infinity]"),
        ("FP64", "[1e308,-0.0,5e-324]"),
        ("FP32", "[[1],[2.5],[-3e-5]]"),
        ("BYTES", '["","a\\"\\\\\\u00e9","\\ud83d\\udca1"]'),
        ("BOOL", "[true,false,1]"),
        ("UINT64", "[0,1,18446744073709551615]"),
        ("INT64", "[-9223372036854775808,0,-0]"),
    ]
    for row in rows:
        yield ('{"inputs":[%s]}' % (one % row)).encode()
    yield (
        b'{"id":"x","parameters":{"a":1.5,"b":"c","binary_data_output":true},"unknown":[{}],'
        b'"inputs":[{"data":[[1,2.5]],"name":"A","shape":[1,2],"datatype":"FP32",'
        b'"parameters":null}],"outputs":[{"name":"Y","parameters":{"binary_data":false}}]}'
    )


def binary(_):
    """Binary requests of Triton's client, and raw ones, as the target `binary` reads them."""
    for body, length in requests(binary=True):
        yield b"\0" + struct.pack("<H", length) + body
    for dtype in range(14):
        # Each dimension is a flag that it has a size, and the size; then the dtype and the batch axis.
        yield bytes([1, 0, 2, 1, 2, 0, dtype, 0, 0]) + bytes(range(16))
        yield bytes([1, 0, 1, 0, dtype, 0, 1, 0]) + bytes(8)


def grpc(_):
    """Requests of Triton's client over gRPC, raw as it sends them, and typed."""
    for name, dtype in DTYPES.items():
        for shape in ([], [3], [2, 2], [0], [1, 2, 3]):
            values = numpy.arange(int(numpy.prod(shape))).reshape(shape)
            if dtype is numpy.object_:
                values = numpy.array([str(value).encode() for value in values.flat], object).reshape(shape)
            given = triton_grpc.InferInput("A", shape, name)
            given.set_data_from_numpy(values.astype(dtype))
            raw = service_pb2.ModelInferRequest(model_name="m", id="seven")
            raw.inputs.append(given._get_tensor())
            raw.raw_input_contents.append(given._get_content())
            yield raw.SerializeToString()
            if name == "FP16":
                continue
            typed = service_pb2.ModelInferRequest(model_name="m", model_version="1")
            typed.parameters["priority"].int64_param = 2
            typed.inputs.append(given._get_tensor())
            field = {"BOOL": "bool", "INT64": "int64", "UINT64": "uint64", "FP32": "fp32", "FP64": "fp64", "BYTES": "bytes"}
            field = field.get(name, "uint" if name.startswith("UINT") else "int") + "_contents"
            plain = [value if dtype is numpy.object_ else numpy.array(value).astype(dtype).item() for value in values.flat]
            getattr(typed.inputs[0].contents, field).extend(plain)
            output = typed.outputs.add(name="Y")
            output.parameters["classification"].int64_param = 3
            yield typed.SerializeToString()


def bundle(_):
    """Manifests, descriptions of plugins, tars, and what tars are made of, as the target `bundle` reads them."""
    root = Path(__file__).parent.parent
    code, weights = b"code", b"weights"

    def manifest(component, asset, **more):
        parts = {
            "innkeeper": 1,
            "name": "m",
            "version": "1",
            "description": "a model",
            "component": {"digest": f"sha256:{component}", "size": len(code)},
            "assets": [{"name": "a", "digest": f"sha256:{asset}", "size": len(weights)}],
            "isolation": "tenant",
            "limits": {"deadline_ms_max": 5},
        }
        return json.dumps(parts | more).encode()

    sums = [hashlib.sha256(part).hexdigest() for part in (code, weights)]
    text = manifest(*sums)
    yield b"\0" + text
    yield b"\0" + manifest(*sums, device="cuda:0", isolation="request", assets=[])
    for path in sorted(root.glob("plugins/*/innkeeper.toml")):
        yield b"\1" + path.read_bytes()
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, data in (("manifest.json", text), ("component.wasm", code), ("assets/a", weights)):
            about = tarfile.TarInfo(name)
            about.size = len(data)
            tar.addfile(about, io.BytesIO(data))
    yield b"\2" + packed.getvalue()
    entries = b"\3\3"
    parts = [manifest("$1", "$2"), code, weights]
    for kind, data in enumerate(parts):
        # Not of an odd kind, the name's number, and the data with its length.
        entries += bytes([0, kind]) + struct.pack("<H", len(data)) + data
    yield entries + b"\0"


def operations(_):
    """Any bytes, beginning with each of the operations."""
    chance = random.Random(7)
    for operation in range(39):
        for length in (8, 24, 48, 96, 96, 96, 200, 200):
            # Mostly small numbers, which more often fit.
            rest = [chance.choice((chance.randrange(8), chance.randrange(256))) for _ in range(length)]
            yield bytes([operation, *rest])


def main(target, folder):
    for make in (onnx, safetensors, rest, binary, grpc, bundle, operations):
        into = folder / make.__name__
        into.mkdir(parents=True, exist_ok=True)
        for data in make(target):
            if len(data) <= BYTES_MAX:
                (into / hashlib.sha1(data).hexdigest()).write_bytes(data)
        print(f"{make.__name__}: {len(list(into.iterdir()))} inputs")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
