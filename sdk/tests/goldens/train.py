"""Trains small networks with PyTorch and writes what they began with and every step's loss.

    pip install torch==2.15.0 safetensors
    python train.py

Each file next to this one holds a run: `begin.NAME` the parameters by PyTorch's names, the data, and `loss` of each step.
Seeds are fixed; everything is FP32 on the CPU.
"""

from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

HERE = Path(__file__).parent
STEPS = 20


def main():
    torch.manual_seed(20)
    torch.set_num_threads(1)
    mlp()
    transformer()
    images()


def mlp():
    x, labels = torch.randn(16, 12), torch.randint(0, 5, (16,))
    for name, make in OPTIMISERS.items():
        torch.manual_seed(3)
        model = nn.Sequential(
            nn.Linear(12, 16), nn.ReLU(), nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, 5)
        )
        loss = lambda: nn.functional.cross_entropy(model(x), labels)
        run(f"mlp-{name}", model, make(model.parameters()), loss, {"x": x, "labels": labels})


OPTIMISERS = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.3),
    "nesterov": lambda p: torch.optim.SGD(
        p, lr=0.1, momentum=0.9, nesterov=True, weight_decay=1e-2
    ),
    "adam": lambda p: torch.optim.Adam(p, lr=1e-2, weight_decay=1e-2),
    "adamw": lambda p: torch.optim.AdamW(p, lr=1e-2, weight_decay=1e-1),
}


class Transformer(nn.Module):
    """One block that reads words and says the next, as small as it can be."""

    def __init__(self, words=11, size=8, heads=2, length=6):
        super().__init__()
        self.words = nn.Embedding(words, size)
        self.places = nn.Embedding(length, size)
        self.norm1 = nn.LayerNorm(size)
        self.attention = nn.MultiheadAttention(size, heads, batch_first=True)
        self.norm2 = nn.LayerNorm(size)
        self.up = nn.Linear(size, 4 * size)
        self.down = nn.Linear(4 * size, size)
        self.norm3 = nn.LayerNorm(size)
        self.head = nn.Linear(size, words, bias=False)
        self.length = length

    def forward(self, tokens):
        x = self.words(tokens) + self.places(torch.arange(self.length))
        h = self.norm1(x)
        mask = nn.Transformer.generate_square_subsequent_mask(self.length)
        x = x + self.attention(h, h, h, attn_mask=mask, need_weights=False)[0]
        x = x + self.down(nn.functional.gelu(self.up(self.norm2(x))))
        return self.head(self.norm3(x))


def transformer():
    model = Transformer()
    tokens = torch.randint(0, 11, (4, 7))
    seen, next_tokens = tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous()

    def loss():
        return nn.functional.cross_entropy(
            model(seen).reshape(-1, 11), next_tokens.reshape(-1), label_smoothing=0.1
        )

    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=1e-2)
    data = {"tokens": seen, "labels": next_tokens}
    run("transformer", model, optimiser, loss, data, norm_max=1.0)


class Images(nn.Module):
    """Two convolutions, the second in groups, with both kinds of pooling."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(1, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.second = nn.Conv2d(4, 6, (3, 2), stride=(1, 2), groups=2)
        self.head = nn.Linear(6, 5)

    def forward(self, x):
        x = nn.functional.max_pool2d(torch.relu(self.norm(self.first(x))), 2)
        x = nn.functional.avg_pool2d(torch.relu(self.second(x)), 2)
        return self.head(x.flatten(1))


def images():
    torch.manual_seed(5)
    model = Images()
    x, labels = torch.randn(16, 1, 8, 8), torch.randint(0, 5, (16,))
    loss = lambda: nn.functional.cross_entropy(model(x), labels)
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    run("images", model, optimiser, loss, {"x": x, "labels": labels})


def run(name, model, optimiser, loss, data, norm_max=None):
    begin = {f"begin.{name}": p.detach().clone() for name, p in model.named_parameters()}
    losses = []
    for _ in range(STEPS):
        optimiser.zero_grad()
        value = loss()
        losses.append(value.item())
        value.backward()
        if norm_max is not None:
            nn.utils.clip_grad_norm_(model.parameters(), norm_max)
        optimiser.step()
    path = HERE / f"{name}.safetensors"
    save_file({**begin, **data, "loss": torch.tensor(losses, dtype=torch.float64)}, path)
    path.chmod(0o644)
    print(f"{name}: {losses[0]:.4f} to {losses[-1]:.4f}")


if __name__ == "__main__":
    main()
