"""Layers that the larger networks lack, from PyTorch: recurrent ones, resampling, boxes; and networks in 8 bits."""

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quant_pre_process,
    quantize_static,
)
from torch import nn
from torch.nn import functional as F

import golden
import nets
from torch_models import both, exported, floats, original, traced


class Recurrent(nn.Module):
    """Two layers in both directions, over sequences of vectors, and a layer on what is left at the end."""

    def __init__(self, kind, width=24, hidden=32, classes=5):
        super().__init__()
        self.layer = kind(width, hidden, num_layers=2, bidirectional=True, batch_first=True)
        self.head = nn.Linear(4 * hidden, classes)

    def forward(self, x):
        states, last = self.layer(x)
        last = last[0] if isinstance(last, tuple) else last
        return states, self.head(torch.cat((states[:, -1], last[-1], last[-2]), -1))


class Pyramid(nn.Module):
    """Down and up again, by every way of resampling."""

    def __init__(self, width=8):
        super().__init__()
        self.down = nn.Sequential(nn.Conv2d(3, width, 3, 2, 1), nn.ReLU())
        self.up = nn.ConvTranspose2d(width, width, 3, 2, 1, output_padding=1)
        self.join = nn.Conv2d(4 * width, 3, 1)

    def forward(self, image):
        x = self.down(image)
        size = image.shape[2:]
        return self.join(
            torch.cat(
                (
                    F.interpolate(x, size=size, mode="nearest"),
                    F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False),
                    F.interpolate(x, scale_factor=2, mode="bicubic", align_corners=True),
                    self.up(x),
                ),
                1,
            )
        )


class Detector(nn.Module):
    """Boxes and scores of two classes for each pixel of a small image."""

    def __init__(self, width=8):
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, width, 3, 2, 1), nn.ReLU())
        self.boxes, self.scores = nn.Conv2d(width, 4, 1), nn.Conv2d(width, 2, 1)

    def forward(self, image):
        x = self.features(image)
        corners = self.boxes(x).flatten(2).transpose(1, 2).sigmoid()
        return corners, self.scores(x).flatten(2).sigmoid()


def export():
    torch.manual_seed(7)
    sequences = {"one": {"x": floats(1, 7, 24)}, "many": {"x": floats(3, 40, 24)}}
    for name, kind in (("lstm", nn.LSTM), ("gru", nn.GRU), ("rnn", nn.RNN)):
        net = Recurrent(kind).eval()
        outputs = ["states", "scores"]
        traced(f"{name}-ts", net, sequences["many"], {"x": {0: "batch", 1: "length"}}, outputs)
        golden.write(f"{name}-ts", sequences, lambda inputs: original(net, inputs))
        # This exporter takes the length of a sequence as given.
        same = {"one": {"x": floats(1, 40, 24)}, "many": sequences["many"]}
        exported(f"{name}-dynamo", net, same["many"], {"x": {0: "batch"}}, outputs)
        golden.write(f"{name}-dynamo", same, lambda inputs: original(net, inputs))
    images = {"one": {"image": floats(1, 3, 32, 48)}, "many": {"image": floats(2, 3, 24, 16)}}
    free = {"image": {0: "batch", 2: "height", 3: "width"}}
    both("pyramid", Pyramid().eval(), images, free, ["image2"])
    detector()
    quantised()


def detector():
    """The boxes that are left, by ONNX's own operator behind the network."""
    traced(
        "detector",
        Detector().eval(),
        {"image": floats(2, 3, 32, 32)},
        {"image": {0: "batch"}},
        ["boxes", "scores"],
    )
    model = onnx.load(golden.path("detector"))
    constants = [
        helper.make_tensor("most", TensorProto.INT64, [1], [10]),
        helper.make_tensor("overlap", TensorProto.FLOAT, [1], [0.4]),
        helper.make_tensor("least", TensorProto.FLOAT, [1], [0.5]),
    ]
    model.graph.initializer.extend(constants)
    inputs = ["boxes", "scores", "most", "overlap", "least"]
    model.graph.node.append(helper.make_node("NonMaxSuppression", inputs, ["kept"]))
    model.graph.output.append(helper.make_tensor_value_info("kept", TensorProto.INT64, ["n", 3]))
    golden.path("detector").write_bytes(model.SerializeToString())
    cases = {"one": {"image": floats(1, 3, 32, 32)}, "many": {"image": floats(3, 3, 32, 32)}}
    golden.write("detector", cases)


class Samples(CalibrationDataReader):
    def __init__(self, samples):
        self.rest = iter(samples)

    def get_next(self):
        return next(self.rest, None)


def quantised():
    """A convolution network and an MLP in 8 bits, written in both of ONNX Runtime's formats."""
    nets_of = {
        "resnet": (nets.resnet(), {"image": {0: "batch"}}, ("image", (3, 64, 64))),
        "mlp": (nets.mlp(), {"x": {0: "batch"}}, ("x", (1000,))),
    }
    formats = {"qdq": QuantFormat.QDQ, "qlinear": QuantFormat.QOperator}
    for name, (net, dynamic, (key, shape)) in nets_of.items():
        plain, ready = golden.path(f"{name}-plain"), golden.path(f"{name}-ready")
        traced(f"{name}-plain", net, {key: floats(2, *shape)}, dynamic, ["out"])
        quant_pre_process(plain, ready)
        for suffix, layout in formats.items():
            samples = Samples([{key: floats(8, *shape)}, {key: floats(9, *shape)}])
            quantize_static(
                ready,
                golden.path(f"{name}-{suffix}"),
                samples,
                quant_format=layout,
                per_channel=suffix == "qdq",
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
            )
            golden.write(f"{name}-{suffix}", {"one": {key: floats(1, *shape)}, "many": {key: floats(5, *shape)}})
        plain.unlink()
        ready.unlink()
