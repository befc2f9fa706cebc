"""What the tests of client libraries share: a server from the environment, samples of every datatype, a runner."""

import inspect
import os
import sys
import traceback

import ml_dtypes
import numpy as np

# The server, as host:port.
SERVER = os.environ["INNKEEPER_URL"].removeprefix("http://")
# Its port for gRPC alone, as host:port.
GRPC = os.environ["INNKEEPER_GRPC"]
# Two tenants' keys: acme has published the models of plugins/ and shares identity with friend.
ACME = {"Authorization": "Bearer " + os.environ["ACME_KEY"]}
FRIEND = {"Authorization": "Bearer " + os.environ["FRIEND_KEY"]}


# Handwritten digits, one a row.
PICTURES = os.path.join(os.path.dirname(__file__), "../../plugins/digits/samples/held_out_pixels.npy")


def component():
    """The code of add-one."""
    with open(os.environ["ADD_ONE"], "rb") as file:
        return file.read()


def check_classes(classes, plain):
    """Fails unless the classes are the three largest values of each row, as "value:index"."""
    assert classes.shape == (plain.shape[0], 3), classes
    for row, values in zip(classes, plain):
        read = [text.decode().split(":") if isinstance(text, bytes) else text.split(":") for text in row]
        order = np.argsort(-values, kind="stable")[:3]
        assert [int(index) for _, index in read] == list(order), (read, values)
        same(np.array([value for value, _ in read], dtype=np.float32), values[order])


def integers(dtype):
    """Four values with both ends of the type's range."""
    info = np.iinfo(dtype)
    return np.array([[0, 1], [info.min, info.max]], dtype=dtype)


def floats(dtype):
    """Four values that are exact in every float type, and the ones that JSON has no number for."""
    return np.array([[0.5, -2.0, 1.0, 0.0], [np.nan, np.inf, -np.inf, -0.0]], dtype=dtype)


def texts(values):
    """A tensor of BYTES."""
    return np.array(values, dtype=object)


SAMPLES = {
    "BOOL": np.array([[True, False], [False, True]]),
    "UINT8": integers(np.uint8),
    "UINT16": integers(np.uint16),
    "UINT32": integers(np.uint32),
    "UINT64": integers(np.uint64),
    "INT8": integers(np.int8),
    "INT16": integers(np.int16),
    "INT32": integers(np.int32),
    "INT64": integers(np.int64),
    "FP16": floats(np.float16),
    "FP32": floats(np.float32),
    "FP64": floats(np.float64),
    "BF16": floats(ml_dtypes.bfloat16),
    "BYTES": texts([[b"", b"text"], ["\u00fc\u20ac\U0001f600".encode(), b"\x00\xff\xfe"]]),
}
# Text that is none has no JSON form, as FP16 and BF16 have none.
TEXT = texts([[b"", b"text"], ["\u00fc\u20ac\U0001f600".encode(), b"a\x00b"]])
WITHOUT_JSON = {"FP16", "BF16"}


def same(got, wanted):
    """Fails unless the two arrays are the same, bit for bit: NaN is NaN here, and -0 is not 0."""
    assert got is not None, "no such output"
    assert got.shape == wanted.shape, f"shape {got.shape}, wanted {wanted.shape}"
    if wanted.dtype == object:
        as_bytes = lambda value: value.encode() if isinstance(value, str) else bytes(value)
        assert [as_bytes(value) for value in got.flatten()] == list(wanted.flatten()), got
        return
    assert got.dtype == wanted.dtype, f"{got.dtype}, wanted {wanted.dtype}"
    finite = ~np.isnan(wanted.astype(np.float64)) if wanted.dtype.kind in "fV" else np.ones(wanted.shape, bool)
    assert got[finite].tobytes() == wanted[finite].tobytes(), f"{got}, wanted {wanted}"
    assert not finite.all() or got.tobytes() == wanted.tobytes()
    if not finite.all():
        assert np.isnan(got[~finite].astype(np.float64)).all(), f"{got}, wanted {wanted}"


def raised(kind, call):
    """The exception of this kind that the call raises."""
    try:
        call()
    except kind as error:
        return error
    raise AssertionError(f"nothing was raised; wanted {kind.__name__}")


async def raised_in(kind, awaitable):
    """The exception of this kind that awaiting raises."""
    try:
        await awaitable
    except kind as error:
        return error
    raise AssertionError(f"nothing was raised; wanted {kind.__name__}")


def run(module, *arguments):
    """Runs every test_* function of the module, says how each went, and ends the process."""
    import asyncio

    tests = [(name, test) for name, test in vars(module).items() if name.startswith("test_")]
    failed = 0
    for name, test in tests:
        try:
            if inspect.iscoroutinefunction(test):
                asyncio.run(test())
            else:
                test(*arguments)
            print("ok    ", name)
        except Exception:
            failed += 1
            print("FAILED", name)
            traceback.print_exc(file=sys.stdout)
    print(f"{len(tests) - failed} passed, {failed} failed")
    sys.exit(1 if failed or not tests else 0)
