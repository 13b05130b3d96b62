"""A whole GPT in NumPy alone: forward, backward, AdamW, training and sampling, without PyTorch.

python examples/by_hand.py                      # trains on its own source code
python examples/by_hand.py book.txt --arch llama

Weights have the names and shapes of Scriven's models (models/gpt2.py, models/llama.py), and a test
compares the loss, every gradient and three AdamW steps with theirs. Shapes in comments: B rows,
T positions, C d_model, H query heads, K key/value heads, D head_dim, F d_ff, V vocabulary.

A layer is a function x -> (y, backward), where backward(dy) adds the gradients of its weights to
`gradients` and returns dx. `dy` means d loss / d y, an array of y's shape.
"""

import argparse
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial, reduce
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]
Backward = Callable[[Array], Array]
Layer = Callable[[Array], tuple[Array, Backward]]


@dataclass(frozen=True)
class Config:
    """The shape of a model.

    gpt2 has LayerNorm, learned positions, GELU and biases; llama has RMSNorm, also of queries and
    keys, rotary positions, SwiGLU, no biases, and fewer key/value heads than query heads (GQA).
    """

    arch: str = "gpt2"
    vocab_size: int = 0
    context_length: int = 64
    layers: int = 2
    d_model: int = 64
    heads: int = 4
    kv_heads: int = 2  # of llama
    d_ff: int = 128

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of every weight by name. A matrix is (outputs, inputs), as in PyTorch."""
        c, f, d, gpt2 = self.d_model, self.d_ff, self.d_model // self.heads, self.arch == "gpt2"
        qkv = (self.heads + 2 * (self.heads if gpt2 else self.kv_heads)) * d
        up, width = ("mlp.up", f) if gpt2 else ("mlp.gate_up", 2 * f)
        layers = {"attention_norm": (c,), "attention.qkv": (qkv, c), "attention.out": (c, c)}
        layers |= {"mlp_norm": (c,), up: (width, c), "mlp.down": (c, f)}
        if not gpt2:
            layers |= {"attention.query_norm": (d,), "attention.key_norm": (d,)}
        blocks = [f"blocks.{n}." for n in range(self.layers)]
        shapes = {f"{at}{name}.weight": shape for at in blocks for name, shape in layers.items()}
        shapes["norm.weight"] = (c,)
        if gpt2:  # every norm and every matrix has a bias, but no embedding
            shapes |= {name[: -len("weight")] + "bias": shapes[name][:1] for name in shapes}
            shapes["embed.position.weight"] = (self.context_length, c)
        return shapes | {"embed.token.weight": (self.vocab_size, c)}


def initial_weights(config: Config, rng: np.random.Generator) -> dict[str, Array]:
    """Biases 0, norms 1, matrices normal with deviation 0.02, smaller where a sublayer ends."""
    weights: dict[str, Array] = {}
    for name, shape in config.shapes().items():
        last = name.endswith(("out.weight", "down.weight"))
        std = 0.02 / (2 * config.layers) ** 0.5 if last else 0.02
        drawn = std * rng.standard_normal(shape) if len(shape) == 2 else np.ones(shape)
        weights[name] = (0 * drawn if name.endswith("bias") else drawn).astype(np.float32)
    return weights


def chain(x: Array, *layers: Layer) -> tuple[Array, Backward]:
    """Layers one after the other. Backward goes through them from last to first: the chain rule."""
    backwards = []
    for layer in layers:
        x, backward = layer(x)
        backwards.append(backward)
    return x, lambda dy: reduce(lambda d, backward: backward(d), reversed(backwards), dy)


def residual(x: Array, *layers: Layer) -> tuple[Array, Backward]:
    """x + layers(x): two paths from x to y, so dx is the sum of two gradients."""
    y, backward = chain(x, *layers)
    return x + y, lambda dy: dy + backward(dy)


def gelu(x: Array) -> tuple[Array, Backward]:
    """x times (about) the probability that a standard normal number is below x."""
    a, b = (2 / np.pi) ** 0.5, 0.044715
    t = np.tanh(a * (x + b * x * x * x))
    slope = 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * a * (1 + 3 * b * x * x)
    return 0.5 * x * (1 + t), lambda dy: dy * slope


def swiglu(x: Array) -> tuple[Array, Backward]:
    """silu(gate) * up, where x (.., 2 F) is gate and up side by side; silu(g) = g sigmoid(g)."""
    gate, up = np.split(x, 2, -1)
    sigmoid = 1 / (1 + np.exp(-gate))
    silu = gate * sigmoid
    slope = sigmoid + silu * (1 - sigmoid)
    return silu * up, lambda dy: np.concatenate((dy * up * slope, dy * silu), -1)


def rotate(x: Array, sign: int = 1) -> tuple[Array, Backward]:
    """Rotary positions of x (B, heads, T, D): the pair (i, i + D/2) turns by t / 10000^(2i/D)."""
    half, length = x.shape[-1] // 2, x.shape[-2]
    periods = 10000.0 ** (np.arange(half) / half)
    angle = np.arange(length)[:, None] / periods  # (T, D/2)
    cos, sin = np.cos(angle).astype(x.dtype), sign * np.sin(angle).astype(x.dtype)
    first, second = x[..., :half], x[..., half:]
    y = np.concatenate((first * cos - second * sin, second * cos + first * sin), -1)
    return y, lambda dy: rotate(dy, -sign)[0]  # the inverse of a rotation is its transpose


def softmax(x: Array) -> Array:
    """exp(x) / sum exp(x) over the last dimension; the largest is subtracted against overflow."""
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def attend(q: Array, k: Array, v: Array) -> tuple[Array, Callable[..., tuple[Array, ...]]]:
    """softmax(q kᵀ / sqrt(D)) v of (B, H, T, D) each; a position sees itself and earlier ones."""
    scale, length = q.shape[-1] ** -0.5, q.shape[-2]
    scores = scale * q @ k.swapaxes(-1, -2)  # (B, H, T, T)
    scores[..., np.triu(np.ones((length, length), bool), 1)] = -np.inf
    p = softmax(scores)

    def backward(dy: Array) -> tuple[Array, ...]:
        dp = dy @ v.swapaxes(-1, -2)
        ds = scale * p * (dp - (dp * p).sum(-1, keepdims=True))  # through the softmax
        return ds @ k, ds.swapaxes(-1, -2) @ q, p.swapaxes(-1, -2) @ dy

    return p @ v, backward


class GPT:
    """Weights, the gradient of each, and the layers that use them."""

    def __init__(self, config: Config, weights: dict[str, Array]) -> None:
        self.config, self.weights = config, weights
        self.gradients: dict[str, Array] = defaultdict(float)  # a weight used twice gets a sum

    def linear(self, name: str, x: Array) -> tuple[Array, Backward]:
        """y = x Wᵀ + b: (.., inputs) -> (.., outputs)."""
        w, b = self.weights[f"{name}.weight"], self.weights.get(f"{name}.bias")

        def backward(dy: Array) -> Array:
            rows, inputs = dy.reshape(-1, len(w)), x.reshape(-1, w.shape[1])  # (B T, ..)
            self.gradients[f"{name}.weight"] += rows.T @ inputs
            if b is not None:
                self.gradients[f"{name}.bias"] += rows.sum(0)
            return dy @ w

        return x @ w.T + (0 if b is None else b), backward

    def norm(self, name: str, x: Array) -> tuple[Array, Backward]:
        """LayerNorm for gpt2, with a bias; RMSNorm for llama, which subtracts no mean."""
        w, b = self.weights[f"{name}.weight"], self.weights.get(f"{name}.bias")
        centred = x if b is None else x - x.mean(-1, keepdims=True)
        eps = 1e-6 if b is None else 1e-5
        scale = 1 / np.sqrt((centred * centred).mean(-1, keepdims=True) + eps)
        unit = centred * scale

        def backward(dy: Array) -> Array:
            self.gradients[f"{name}.weight"] += (dy * unit).reshape(-1, len(w)).sum(0)
            d_unit = dy * w
            dx = d_unit - unit * (d_unit * unit).mean(-1, keepdims=True)
            if b is not None:
                self.gradients[f"{name}.bias"] += dy.reshape(-1, len(w)).sum(0)
                dx = dx - d_unit.mean(-1, keepdims=True)
            return scale * dx

        return unit * w + (0 if b is None else b), backward

    def attention(self, at: str, x: Array) -> tuple[Array, Backward]:
        """Multi-head attention (B, T, C) -> (B, T, C)."""
        config, llama, (b, t, c) = self.config, self.config.arch == "llama", x.shape
        h, kv = config.heads, config.kv_heads if llama else config.heads
        d, groups = c // h, h // kv
        # 1. all projections at once, then heads as a dimension: (B, H + 2 K, T, D)
        y, project_back = self.linear(f"{at}.qkv", x)
        heads = y.reshape(b, t, h + 2 * kv, d).swapaxes(1, 2)
        q, k, v = heads[:, :h], heads[:, h : h + kv], heads[:, h + kv :]
        # 2. norms and rotations of queries and keys
        norms = partial(self.norm, f"{at}.query_norm"), partial(self.norm, f"{at}.key_norm")
        q, q_back = chain(q, norms[0], rotate) if llama else (q, lambda dq: dq)
        k, k_back = chain(k, norms[1], rotate) if llama else (k, lambda dk: dk)
        # 3. a group of query heads shares one head of keys and values
        z, attend_back = attend(q, k.repeat(groups, 1), v.repeat(groups, 1))
        z, out_back = self.linear(f"{at}.out", z.swapaxes(1, 2).reshape(b, t, h * d))

        def backward(dz: Array) -> Array:
            dz = out_back(dz).reshape(b, t, h, d).swapaxes(1, 2)
            dq, dk, dv = attend_back(dz)
            dk, dv = (each.reshape(b, kv, groups, t, d).sum(2) for each in (dk, dv))
            dy = np.concatenate((q_back(dq), k_back(dk), dv), 1)
            return project_back(dy.swapaxes(1, 2).reshape(b, t, -1))

        return z, backward

    def block(self, at: str, x: Array) -> tuple[Array, Backward]:
        """One layer: attention, then the feed-forward layer, each behind a norm."""
        up, activation = ("up", gelu) if self.config.arch == "gpt2" else ("gate_up", swiglu)
        norms = partial(self.norm, f"{at}.attention_norm"), partial(self.norm, f"{at}.mlp_norm")
        x, attention_back = residual(x, norms[0], partial(self.attention, f"{at}.attention"))
        up_down = partial(self.linear, f"{at}.mlp.{up}"), partial(self.linear, f"{at}.mlp.down")
        x, mlp_back = residual(x, norms[1], up_down[0], activation, up_down[1])
        return x, lambda dy: attention_back(mlp_back(dy))

    def embed(self, ids: Array) -> tuple[Array, Backward]:
        """Token ids (B, T) -> vectors (B, T, C), plus those of the positions for gpt2."""
        positions = np.broadcast_to(np.arange(ids.shape[1]), ids.shape)
        rows = {"embed.token.weight": ids, "embed.position.weight": positions}
        rows = {name: rows[name] for name in rows if name in self.weights}

        def backward(dx: Array) -> Array:
            for name, indices in rows.items():
                gradient = np.zeros_like(self.weights[name])
                np.add.at(gradient, indices, dx)  # a row that is read twice gets both gradients
                self.gradients[name] += gradient
            return dx

        return sum(self.weights[name][indices] for name, indices in rows.items()), backward

    def forward(self, ids: Array) -> tuple[Array, Backward]:
        """Token ids (B, T) -> logits (B, T, V). The output matrix is the embedding matrix."""
        blocks = [partial(self.block, f"blocks.{n}") for n in range(self.config.layers)]
        norm, head = partial(self.norm, "norm"), partial(self.linear, "embed.token")
        return chain(ids, self.embed, *blocks, norm, head)

    def loss(self, ids: Array, targets: Array) -> float:
        """Cross entropy in nats per token; fills `self.gradients`."""
        self.gradients.clear()
        logits, backward = self.forward(ids)
        p = softmax(logits)
        at_target = (*np.indices(targets.shape), targets)
        loss = -np.log(p[at_target]).mean()
        p[at_target] -= 1  # d loss / d logits = (p - one-hot(target)) / number of targets
        backward(p / targets.size)
        return float(loss)

    def sample(self, ids: list[int], count: int, rng: np.random.Generator) -> list[int]:
        """Draws `count` further tokens, one after the other, each from the probabilities."""
        for _ in range(count):
            window = np.array([ids[-self.config.context_length :]])
            p = softmax(self.forward(window)[0][0, -1].astype(np.float64) / 0.8)  # temperature
            ids = [*ids, int(rng.choice(len(p), p=p))]
        return ids


class AdamW:
    """Adam with decoupled weight decay; vectors (norms and biases) are not decayed."""

    def __init__(self, beta1: float = 0.9, beta2: float = 0.95, decay: float = 0.1) -> None:
        self.beta1, self.beta2, self.decay, self.steps = beta1, beta2, decay, 0
        self.m: dict[str, Array] = defaultdict(float)  # average of the gradient
        self.v: dict[str, Array] = defaultdict(float)  # average of its square

    def step(self, weights: dict[str, Array], gradients: dict[str, Array], lr: float) -> None:
        """One update of all weights, in place."""
        self.steps += 1
        for name, g in gradients.items():
            self.m[name] = self.beta1 * self.m[name] + (1 - self.beta1) * g
            self.v[name] = self.beta2 * self.v[name] + (1 - self.beta2) * g * g
            m = self.m[name] / (1 - self.beta1**self.steps)  # both averages began at zero
            v = self.v[name] / (1 - self.beta2**self.steps)
            weights[name] *= 1 - lr * self.decay * (g.ndim > 1)  # matrices only
            weights[name] -= lr * m / (np.sqrt(v) + 1e-10)


def main() -> None:
    """Trains on the characters of a text, and prints the loss and a sample."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("text", nargs="?", default=__file__)
    parser.add_argument("--arch", choices=("gpt2", "llama"), default="gpt2")
    parser.add_argument("--steps", type=int, default=1000)
    options = parser.parse_args()
    text = Path(options.text).read_text(encoding="utf-8")  # 1. characters as numbers
    characters, rng = sorted(set(text)), np.random.default_rng(0)
    data = np.array([characters.index(each) for each in text])
    config = Config(options.arch, vocab_size=len(characters))
    model, optimizer = GPT(config, initial_weights(config, rng)), AdamW()
    print(f"{sum(w.size for w in model.weights.values()):,} weights, {len(data):,} characters")
    for step in range(options.steps + 1):  # 2. training
        starts = rng.integers(0, len(data) - config.context_length - 1, 16)
        rows = data[starts[:, None] + np.arange(config.context_length + 1)]  # (B, T + 1)
        loss = model.loss(rows[:, :-1], rows[:, 1:])  # each token predicts the one after it
        if step % 100 == 0:
            print(f"step {step:4d}: loss {loss:.3f} nats per character")
        optimizer.step(model.weights, model.gradients, 3e-3 * (1 - step / (options.steps + 1)))
    ids = model.sample([int(data[0])], 300, rng)  # 3. a sample
    print("".join(characters[i] for i in ids))


if __name__ == "__main__":
    main()
