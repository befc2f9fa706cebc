"""Networks exported from PyTorch, by both of its exporters: tracing (`-ts`), and `torch.export` (`-dynamo`)."""

import logging
import warnings

import numpy as np
import torch

import golden
import nets

OPSET_TRACED = 17
# The tracing exporter warns about Python values that it takes as constants, and the other about its versions.
warnings.filterwarnings("ignore")
logging.getLogger("torch.onnx").setLevel(logging.ERROR)


def export():
    one, free = {0: "batch"}, {0: "batch", 2: "height", 3: "width"}
    both(
        "mlp",
        nets.mlp(),
        {"one": {"x": floats(1, 1000)}, "many": {"x": floats(32, 1000)}},
        {"x": one},
        ["probabilities"],
    )
    both(
        "resnet",
        nets.resnet(),
        {"one": {"image": floats(1, 3, 128, 128)}, "many": {"image": floats(3, 3, 96, 160)}},
        {"image": free},
        ["logits"],
    )
    traced(
        "resnet-opset7",
        nets.resnet(),
        {"image": floats(2, 3, 64, 64)},
        {"image": one},
        ["logits"],
        opset_version=7,
    )
    golden.write("resnet-opset7", {"one": {"image": floats(1, 3, 64, 64)}})
    # Exporters fold batch norms into convolutions; here they stay.
    traced(
        "resnet-norms",
        nets.resnet(),
        {"image": floats(2, 3, 64, 64)},
        {"image": one},
        ["logits"],
        training=torch.onnx.TrainingMode.PRESERVE,
    )
    golden.write("resnet-norms", {"one": {"image": floats(1, 3, 64, 64)}})
    both(
        "mobilenet",
        nets.mobilenet(),
        {"one": {"image": floats(1, 3, 128, 128)}, "many": {"image": floats(4, 3, 128, 128)}},
        {"image": one},
        ["logits"],
    )
    gpt = nets.gpt()
    sentences = {"one": {"ids": ids(1000, 1, 17)}, "many": {"ids": ids(1000, 3, 64)}}
    open_ids = {"ids": {0: "batch", 1: "length"}}
    both("gpt", gpt, sentences, open_ids, ["logits"])
    # From opset 23 on ONNX has attention and RMS norm as operators.
    llama = nets.llama()
    for name, net, opset in (
        ("gpt-opset25", gpt, 25),
        ("llama-opset25", llama, 25),
        ("llama-dynamo", llama, None),
    ):
        exported(name, net, sentences["many"], open_ids, ["logits"], opset_version=opset)
        golden.write(name, sentences, lambda inputs: original(net, inputs))
    both(
        "gpt-step",
        nets.Cached(gpt).eval(),
        {
            "one": {"ids": ids(1000, 1, 1), "past": floats(4, 2, 1, 4, 40, 32)},
            "first": {"ids": ids(1000, 2, 9), "past": floats(4, 2, 2, 4, 0, 32)},
            "many": {"ids": ids(1000, 2, 5), "past": floats(4, 2, 2, 4, 30, 32)},
        },
        {"ids": {0: "batch", 1: "length"}, "past": {2: "batch", 4: "before"}},
        ["logits", "present"],
    )


def both(name, net, cases, dynamic, outputs):
    """Exports by both ways. Examples are cases of a batch above one, since a size of 1 is taken as a constant."""
    example = list(cases.values())[-1]
    traced(f"{name}-ts", net, example, dynamic, outputs)
    golden.write(f"{name}-ts", cases, lambda inputs: original(net, inputs))
    exported(f"{name}-dynamo", net, example, dynamic, outputs)
    golden.write(f"{name}-dynamo", cases, lambda inputs: original(net, inputs))


def traced(name, net, example, dynamic, outputs, **options):
    torch.onnx.export(
        net,
        tuple(torch.from_numpy(value) for value in example.values()),
        golden.path(name),
        input_names=list(example),
        output_names=outputs,
        dynamic_axes=dynamic,
        dynamo=False,
        **{"opset_version": OPSET_TRACED, **options},
    )


def exported(name, net, example, dynamic, outputs, **options):
    shapes = {
        key: {axis: torch.export.Dim.DYNAMIC for axis in axes} for key, axes in dynamic.items()
    }
    program = torch.onnx.export(
        net,
        tuple(torch.from_numpy(value) for value in example.values()),
        input_names=list(example),
        output_names=outputs,
        dynamic_shapes=tuple(shapes[key] for key in example),
        dynamo=True,
        verbose=False,
        **options,
    )
    program.save(golden.path(name), external_data=False)


def original(net, inputs):
    with torch.inference_mode():
        answer = net(*(torch.from_numpy(value) for value in inputs.values()))
    answers = [answer] if isinstance(answer, torch.Tensor) else answer
    return [answer.numpy() for answer in answers]


def floats(*shape):
    return np.random.default_rng(shape).standard_normal(shape).astype(np.float32)


def ids(vocabulary, *shape):
    return np.random.default_rng(shape).integers(0, vocabulary, shape)
