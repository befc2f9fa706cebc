"""Makes layers.txt: operands and results of neural network layers as PyTorch computes them, in FP64 rounded to FP32.

    python make.py > layers.txt        (PyTorch 2.15.0)

Each case is a line `case NAME`, then one line `NAME DIM,DIM,.. NUMBER NUMBER ..` for each operand, in order, and one for
the result, whose name is `out`.
"""

import torch
import torch.nn.functional as F

torch.manual_seed(7)


def put(name, tensor):
    dims = ",".join(str(dim) for dim in tensor.shape)
    numbers = " ".join(f"{x:.9g}" for x in tensor.float().flatten().tolist())
    print(f"{name} {dims} {numbers}")


def case(name, compute, **operands):
    """`compute` on operands that FP32 holds, in FP64."""
    operands = {key: value.float().double() for key, value in operands.items()}
    print(f"case {name}")
    for key, value in operands.items():
        put(key, value)
    put("out", compute(*operands.values()))


def random(*dims):
    return torch.randn(*dims)


x = random(2, 4, 9, 11)
case("conv", lambda x, w, b: F.relu(F.conv2d(x, w, b, stride=(2, 1), padding=(1, 2), dilation=(1, 2))),
     x=x, w=random(5, 4, 3, 3), b=random(5))
case("conv-grouped", lambda x, w: F.conv2d(x, w, padding=1, groups=2), x=x, w=random(6, 2, 3, 3))
case("conv-depthwise", lambda x, w, b: F.hardtanh(F.conv2d(x, w, b, stride=2, padding=1, groups=4), 0, 6),
     x=x, w=random(4, 1, 3, 3), b=random(4))
case("conv-1d", lambda x, w: F.conv1d(x, w, stride=3, padding=2), x=random(1, 3, 40), w=random(4, 3, 5))
case("conv-residual", lambda x, w, b, r: F.relu(F.conv2d(x, w, b) + r),
     x=x, w=random(3, 4, 1, 1), b=random(3), r=random(2, 3, 9, 11))
case("conv-transpose", lambda x, w, b: F.conv_transpose2d(x, w, b, stride=2, padding=1, output_padding=1, groups=2),
     x=random(1, 4, 5, 6), w=random(4, 3, 3, 3), b=random(6))
case("max-pool-ceil", lambda x: F.max_pool2d(x, 3, 2, 1, ceil_mode=True), x=x)
case("average-pool-ceil", lambda x: F.avg_pool2d(x, 3, 2, 1, ceil_mode=True), x=x)
case("average-pool-inside", lambda x: F.avg_pool2d(x, (3, 2), 2, (1, 1), count_include_pad=False), x=x)
case("layer-norm", lambda x, w, b: F.layer_norm(x, (24,), w, b, 1e-5), x=random(3, 24), w=random(24), b=random(24))
case("rms-norm", lambda x, w: F.rms_norm(x, (24,), w, 1e-6), x=random(3, 24), w=random(24))
case("group-norm", lambda x, w, b: F.group_norm(x, 2, w, b, 1e-5), x=x, w=random(4), b=random(4))
case("instance-norm", lambda x, w, b: F.instance_norm(x, weight=w, bias=b, eps=1e-5), x=x, w=random(4), b=random(4))
case("batch-norm", lambda x, w, b, m, v: F.batch_norm(x, m, v, w, b, eps=1e-5),
     x=x, w=random(4), b=random(4), m=random(4), v=random(4).abs())
case("attention", lambda q, k, v: F.scaled_dot_product_attention(q, k, v),
     q=random(1, 2, 19, 8), k=random(1, 2, 19, 8), v=random(1, 2, 19, 8))
case("attention-causal", lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True),
     q=random(1, 2, 19, 8), k=random(1, 2, 19, 8), v=random(1, 2, 19, 5))
case("attention-grouped", lambda q, k, v, m: F.scaled_dot_product_attention(q, k, v, m, enable_gqa=True),
     q=random(2, 4, 6, 8), k=random(2, 2, 13, 8), v=random(2, 2, 13, 8), m=random(2, 1, 6, 13))
case("gelu", lambda x: F.gelu(x), x=torch.linspace(-9, 9, 61))
case("gelu-tanh", lambda x: F.gelu(x, approximate="tanh"), x=torch.linspace(-4, 9, 61))
case("softmax", lambda x: F.softmax(x, -1), x=4 * random(2, 37))
case("log-softmax", lambda x: F.log_softmax(x, -1), x=4 * random(2, 37))
