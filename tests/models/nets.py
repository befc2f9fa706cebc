"""Networks as people write them in PyTorch, with seeded weights: small siblings of ResNet, MobileNet, GPT and
Llama, and an MLP.
"""

import torch
from torch import nn
from torch.nn import functional as F


def mlp():
    """1000-64-64-10, the network of the serving benchmarks."""
    return seeded(
        lambda: nn.Sequential(
            nn.Linear(1000, 64), nn.ReLU(),
            nn.Linear(64, 64), nn.ReLU(),
            nn.Linear(64, 10), nn.Softmax(dim=-1),
        )
    )  # fmt: skip


def resnet():
    """The plan of ResNet-18 at half its width, for images of 3 x H x W."""
    return seeded(lambda: ResNet(width=32, blocks=(2, 2, 2, 2), classes=100))


def mobilenet():
    """The plan of MobileNetV2 at half its width: inverted residuals with depthwise convolutions."""
    return seeded(lambda: MobileNet(classes=100))


def gpt():
    """A causal language model of 4 layers, pre-norm, GELU by tanh, learnt positions, tied head."""
    return seeded(lambda: Gpt(vocabulary=1000, context=256, width=128, heads=4, layers=4))


def llama():
    """A causal language model of 2 layers: RMS norm, rotary positions, two queries to a key, gated SiLU."""
    return seeded(lambda: Llama(vocabulary=1000, width=128, heads=4, kv_heads=2, layers=2))


def seeded(make):
    """The network in evaluation mode. Norms get statistics that are not the identity: a fold that forgets them shows."""
    torch.manual_seed(7)
    net = make()
    for module in net.modules():
        if isinstance(module, (nn.BatchNorm2d, nn.LayerNorm, nn.RMSNorm)):
            nn.init.uniform_(module.weight, 0.5, 1.5)
        if isinstance(module, (nn.BatchNorm2d, nn.LayerNorm)):
            nn.init.uniform_(module.bias, -0.5, 0.5)
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.5, 0.5)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    return net.eval()


def conv(inputs, outputs, kernel, stride=1, groups=1, activation=None):
    layers = [
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
    ]
    return nn.Sequential(*layers, *([activation] if activation else []))


class Basic(nn.Module):
    """Two 3 x 3 convolutions and a way around them."""

    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.first = conv(inputs, outputs, 3, stride, activation=nn.ReLU())
        self.second = conv(outputs, outputs, 3)
        same = inputs == outputs and stride == 1
        self.around = nn.Identity() if same else conv(inputs, outputs, 1, stride)

    def forward(self, x):
        return F.relu(self.second(self.first(x)) + self.around(x))


class ResNet(nn.Module):
    def __init__(self, width, blocks, classes):
        super().__init__()
        self.stem = conv(3, width, 7, 2, activation=nn.ReLU())
        self.pool = nn.MaxPool2d(3, 2, 1)
        stages, inputs = [], width
        for stage, count in enumerate(blocks):
            outputs = width << stage
            for block in range(count):
                stride = 2 if stage > 0 and block == 0 else 1
                stages.append(Basic(inputs, outputs, stride))
                inputs = outputs
        self.stages = nn.Sequential(*stages)
        self.head = nn.Linear(inputs, classes)

    def forward(self, x):
        x = self.stages(self.pool(self.stem(x)))
        return self.head(F.adaptive_avg_pool2d(x, 1).flatten(1))


class Inverted(nn.Module):
    """Widen, convolve each channel for itself, narrow; a way around where the shape stays."""

    def __init__(self, inputs, outputs, stride, factor):
        super().__init__()
        inner = inputs * factor
        widen = [conv(inputs, inner, 1, activation=nn.ReLU6())] if factor > 1 else []
        depthwise = conv(inner, inner, 3, stride, groups=inner, activation=nn.ReLU6())
        self.path = nn.Sequential(*widen, depthwise, conv(inner, outputs, 1))
        self.same = inputs == outputs and stride == 1

    def forward(self, x):
        return x + self.path(x) if self.same else self.path(x)


class MobileNet(nn.Module):
    # Factor, channels, how many, stride of the first.
    PLAN = (
        (1, 8, 1, 1),
        (6, 16, 2, 2),
        (6, 16, 3, 2),
        (6, 32, 4, 2),
        (6, 48, 3, 1),
        (6, 80, 3, 2),
        (6, 160, 1, 1),
    )

    def __init__(self, classes):
        super().__init__()
        layers, inputs = [conv(3, 16, 3, 2, activation=nn.ReLU6())], 16
        for factor, outputs, count, stride in self.PLAN:
            for block in range(count):
                layers.append(Inverted(inputs, outputs, stride if block == 0 else 1, factor))
                inputs = outputs
        self.features = nn.Sequential(*layers, conv(inputs, 640, 1, activation=nn.ReLU6()))
        self.head = nn.Sequential(nn.Dropout(0.2), nn.Linear(640, classes))

    def forward(self, x):
        return self.head(self.features(x).mean([2, 3]))


class Block(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(approximate="tanh"), nn.Linear(4 * width, width)
        )

    def forward(self, x):
        q, k, v = self.projected(x)
        return self.mixed(x, F.scaled_dot_product_attention(q, k, v, is_causal=True))

    def after(self, x, past, mask):
        """As `forward`, for tokens that follow those whose keys and values are in `past`."""
        q, k, v = self.projected(x)
        k, v = torch.cat((past[0], k), 2), torch.cat((past[1], v), 2)
        x = self.mixed(x, F.scaled_dot_product_attention(q, k, v, attn_mask=mask))
        return x, torch.stack((k, v))

    def projected(self, x):
        batch, length, width = x.shape
        split = (batch, length, self.heads, width // self.heads)
        return [part.view(split).transpose(1, 2) for part in self.qkv(self.norm1(x)).chunk(3, -1)]

    def mixed(self, x, values):
        x = x + self.out(values.transpose(1, 2).reshape(x.shape))
        return x + self.mlp(self.norm2(x))


class Gpt(nn.Module):
    def __init__(self, vocabulary, context, width, heads, layers):
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, width)
        self.positions = nn.Embedding(context, width)
        self.blocks = nn.Sequential(*(Block(width, heads) for _ in range(layers)))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, vocabulary, bias=False)
        self.head.weight = self.tokens.weight

    def forward(self, ids):
        positions = torch.arange(ids.shape[1], device=ids.device)
        x = self.tokens(ids) + self.positions(positions)
        return self.head(self.norm(self.blocks(x)))


class Cached(nn.Module):
    """A step of generation: tokens and the keys and values of those before them, `[layers, 2, batch, heads, t, d]`."""

    def __init__(self, gpt):
        super().__init__()
        self.gpt = gpt

    def forward(self, ids, past):
        gpt, before, length = self.gpt, past.shape[4], ids.shape[1]
        positions = torch.arange(before, before + length)
        mask = positions[:, None] >= torch.arange(before + length)[None, :]
        x = gpt.tokens(ids) + gpt.positions(positions)
        present = []
        for block, cache in zip(gpt.blocks, past.unbind(0)):
            x, cache = block.after(x, cache, mask)
            present.append(cache)
        return gpt.head(gpt.norm(x)), torch.stack(present)


def rotated(x, base=10000.0):
    """The halves of each head turned by an angle that grows with the position (Su et al., "RoFormer")."""
    length, width = x.shape[-2:]
    frequencies = base ** (-torch.arange(0, width, 2, device=x.device) / width)
    angles = torch.arange(length, device=x.device)[:, None] * frequencies
    cosine, sine = angles.cos().repeat(1, 2), angles.sin().repeat(1, 2)
    first, second = x.chunk(2, -1)
    return x * cosine + torch.cat((-second, first), -1) * sine


class LlamaBlock(nn.Module):
    def __init__(self, width, heads, kv_heads):
        super().__init__()
        self.head_width = width // heads
        self.norm1, self.norm2 = nn.RMSNorm(width, eps=1e-6), nn.RMSNorm(width, eps=1e-6)
        self.q = nn.Linear(width, width, bias=False)
        self.k = nn.Linear(width, kv_heads * self.head_width, bias=False)
        self.v = nn.Linear(width, kv_heads * self.head_width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.gate = nn.Linear(width, 3 * width, bias=False)
        self.up = nn.Linear(width, 3 * width, bias=False)
        self.down = nn.Linear(3 * width, width, bias=False)

    def forward(self, x):
        normal = self.norm1(x)
        q, k, v = (self.split(part(normal)) for part in (self.q, self.k, self.v))
        mixed = F.scaled_dot_product_attention(
            rotated(q), rotated(k), v, is_causal=True, enable_gqa=True
        )
        x = x + self.out(mixed.transpose(1, 2).reshape(x.shape))
        normal = self.norm2(x)
        return x + self.down(F.silu(self.gate(normal)) * self.up(normal))

    def split(self, x):
        return x.view(x.shape[0], x.shape[1], -1, self.head_width).transpose(1, 2)


class Llama(nn.Module):
    def __init__(self, vocabulary, width, heads, kv_heads, layers):
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, width)
        self.blocks = nn.Sequential(*(LlamaBlock(width, heads, kv_heads) for _ in range(layers)))
        self.norm = nn.RMSNorm(width, eps=1e-6)
        self.head = nn.Linear(width, vocabulary, bias=False)

    def forward(self, ids):
        return self.head(self.norm(self.blocks(self.tokens(ids))))
