"""A decoder-only transformer, from GPT-2 (2019) to what is usual today, every choice a named field.

Shapes: B batch, T time (tokens), C channels (n_embd), V vocabulary, nh heads, H head size.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gptlib.checks import check_choice, check_least, check_types
from gptlib.layers import Linear, causal_attention, rotate, rotation_table


@dataclass(frozen=True)
class GPTConfig:
    """The shape of a GPT and the choices in it. Sizes default to a BabyGPT; presets set the choices."""

    vocab_size: int  # V, tokens
    context_length: int = 128  # tokens that a prediction may look back on
    n_layer: int = 4
    n_head: int = 4
    n_embd: int = 128  # C, channels
    n_kv_head: int | None = None  # heads of keys and values; None: n_head; fewer: grouped (Ainslie 2023)
    n_hidden: int | None = None  # in the MLP; None: 4 C, or 8/3 C for swiglu (as many weights); 0: no MLP
    positions: str = "learned"  # a vector per position; or "rope", rotated queries and keys (Su 2021)
    norm: str = "layernorm"  # or "rmsnorm" (Zhang and Sennrich 2019)
    qk_norm: bool = False  # normalise queries and keys, which bounds the attention logits (Henry 2020)
    activation: str = "gelu"  # "gelu", "relu", "relu2" (So 2021) or "swiglu" (Shazeer 2020)
    bias: bool = True  # in linear layers and LayerNorm
    tie_embeddings: bool = True  # one matrix reads tokens in and scores them out (Press and Wolf 2017)
    scale_embeddings: bool = False  # times sqrt(C) when looked up (Vaswani 2017, section 3.4)
    zero_init: bool = False  # projections into the residual stream start at 0: blocks start as identity
    dropout: float = 0.0  # probability, in [0, 1)
    rope_base: float = 10_000.0  # the slowest rotation has a wavelength of about 2 pi rope_base tokens
    norm_eps: float = 1e-5

    def __post_init__(self):
        check_types(self)
        _check_sizes(self)
        check_choice("positions", self.positions, ("learned", "rope"))
        check_choice("norm", self.norm, ("layernorm", "rmsnorm"))
        check_choice("activation", self.activation, ("gelu", "relu", "relu2", "swiglu"))
        if self.positions == "rope" and self.head_size % 2:
            raise ValueError(
                f"rope rotates pairs of channels: n_embd / n_head must be even, not {self.head_size}"
            )
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout is a probability in [0, 1), not {self.dropout}")
        for field in ("rope_base", "norm_eps"):
            if not 0 < getattr(self, field) < math.inf:
                raise ValueError(f"{field} must be above 0, and finite, not {getattr(self, field)}")

    @classmethod
    def gpt2(cls, vocab_size: int = 50_257, **sizes) -> "GPTConfig":
        """GPT-2's choices (Radford et al. 2019). `sizes` names any other field."""
        return cls(vocab_size, **sizes)

    @classmethod
    def modern(cls, vocab_size: int, **sizes) -> "GPTConfig":
        """The choices usual in 2025: RoPE, RMSNorm, QK-norm, ReLU squared, no biases, untied.

        The embeddings are scaled, which also lets them learn sqrt(C) times as fast beside the rest.
        """
        choices = dict(positions="rope", norm="rmsnorm", qk_norm=True, activation="relu2")
        choices |= dict(bias=False, tie_embeddings=False, scale_embeddings=True, zero_init=True)
        return cls(vocab_size, **(choices | sizes))

    @classmethod
    def aligned(cls, vocab_size: int, **sizes) -> "GPTConfig":
        """`modern`, for rows in which each token has its place, such as sums: the place is what counts.

        So positions are learned; and attention may become as sharp as it likes.
        """
        return cls.modern(vocab_size, **(dict(positions="learned", qk_norm=False) | sizes))

    @classmethod
    def of_width(cls, vocab_size: int, width: int, **sizes) -> "GPTConfig":
        """`modern`, in heads of 16 channels, one at least: a family whose members differ in width alone."""
        return cls.modern(vocab_size, n_head=max(width // 16, 1), n_embd=width, **sizes)

    @property
    def head_size(self) -> int:
        """The channels of one head, H."""
        return self.n_embd // self.n_head

    @property
    def kv_heads(self) -> int:
        """The number of heads that have keys and values of their own."""
        return self.n_head if self.n_kv_head is None else self.n_kv_head

    @property
    def hidden(self) -> int:
        """The width of the MLP between its two layers."""
        usual = 8 * self.n_embd // 3 if self.activation == "swiglu" else 4 * self.n_embd
        return usual if self.n_hidden is None else self.n_hidden

    @property
    def matrix_params(self) -> int:
        """Weights that every token is multiplied with: the blocks' matrices and the output head."""
        attention = self.n_embd * self.head_size * (2 * self.n_head + 2 * self.kv_heads)
        mlp = self.n_embd * self.hidden * (3 if self.activation == "swiglu" else 2)
        return self.n_layer * (attention + mlp) + self.vocab_size * self.n_embd

    @property
    def n_params(self) -> int:
        """The number of trained numbers, exactly."""
        C = self.n_embd
        embeddings = 0 if self.tie_embeddings else self.vocab_size * C
        positions = self.context_length * C if self.positions == "learned" else 0
        parts = self.n_layer * (2 if self.hidden else 1)  # that read and add to the residual stream
        norms = (parts + 1) * C * (2 if self.norm == "layernorm" and self.bias else 1)
        qkv = (self.n_head + 2 * self.kv_heads) * self.head_size
        mlp = (2 if self.activation == "swiglu" else 1) * self.hidden + C if self.hidden else 0
        biases = self.n_layer * (qkv + C + mlp) if self.bias else 0
        return self.matrix_params + embeddings + positions + norms + biases

    def flops_per_token(self, context_length: int | None = None) -> int:
        """Return the floating-point operations of the forward pass per token, in matrix products, exactly.

        A multiplication and an addition count as two. The attention term is that of the full T x T
        product, as the hardware does it unless a kernel skips the masked half. Training costs three
        times this: the backward pass multiplies twice for each product of the forward pass
        (Kaplan et al. 2020, table 1).
        """
        T = context_length or self.context_length
        return 2 * self.matrix_params + 4 * self.n_layer * T * self.n_embd


def _check_sizes(config: GPTConfig) -> None:
    check_least(config, 1, "vocab_size", "context_length", "n_layer", "n_head", "n_embd", "n_kv_head")
    check_least(config, 0, "n_hidden")
    if config.n_embd % config.n_head:
        unequal = f"{config.n_embd} channels do not divide into {config.n_head} heads"
        raise ValueError(f"n_embd must be a multiple of n_head: {unequal}")
    if config.n_head % config.kv_heads:
        unequal = f"{config.n_head} heads do not divide into {config.kv_heads} groups"
        raise ValueError(f"n_head must be a multiple of n_kv_head: {unequal}")


def make_norm(config: GPTConfig) -> nn.Module:
    """Return LayerNorm (Ba et al. 2016) or RMSNorm (Zhang and Sennrich 2019) over the channels."""
    if config.norm == "rmsnorm":
        return nn.RMSNorm(config.n_embd, eps=config.norm_eps)
    return nn.LayerNorm(config.n_embd, eps=config.norm_eps, bias=config.bias)


class KVCache:
    """The keys and values of the tokens that a model has read, so that it need not read them again.

    Give it to `model(ids, cache)` together with the tokens that follow those it holds.
    """

    def __init__(self, config: GPTConfig, B: int, device: torch.device | str = "cpu", dtype=torch.float32):
        shape = (config.n_layer, 2, B, config.kv_heads, config.context_length, config.head_size)
        self.kept = torch.zeros(shape, device=device, dtype=dtype)  # (n_layer, 2, B, n_kv_head, context, H)
        self.length = 0  # tokens held; the model moves it on

    def extend(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Keep what T new tokens offer; return all that is kept: each (B, n_kv_head, length + T, H)."""
        end = self.length + k.shape[2]
        self.kept[layer, 0, :, :, self.length : end] = k
        self.kept[layer, 1, :, :, self.length : end] = v
        return self.kept[layer, 0, :, :, :end], self.kept[layer, 1, :, :, :end]


class CausalSelfAttention(nn.Module):
    """Every position reads itself and its past (Vaswani et al. 2017, equation 1, masked)."""

    def __init__(self, config: GPTConfig):
        super().__init__()
        self.config = config
        self.heads = (config.n_head, config.kv_heads, config.kv_heads)  # of queries, keys, values
        self.qkv = Linear(config.n_embd, sum(self.heads) * config.head_size, bias=config.bias)
        self.out = Linear(config.n_embd, config.n_embd, bias=config.bias)
        if config.positions == "rope":
            table = rotation_table(config.context_length, config.head_size, config.rope_base)
            self.register_buffer("rotation", table, persistent=False)

    def queries_keys_values(self, x: Tensor, start: int = 0) -> tuple[Tensor, Tensor, Tensor]:
        """Project to queries, keys and values, from position `start` on.

        (B, T, C) -> queries (B, nh, T, H), keys and values (B, n_kv_head, T, H).
        """
        B, T, _ = x.shape
        qkv = self.qkv(x).view(B, T, sum(self.heads), -1).transpose(1, 2)  # (B, nh + 2 n_kv_head, T, H)
        qk, v = qkv.split([sum(self.heads[:2]), self.heads[2]], dim=1)
        if self.config.qk_norm:
            qk = F.rms_norm(qk, (qk.shape[-1],), eps=self.config.norm_eps)
        if self.config.positions == "rope":
            qk = rotate(qk, self.rotation[:, start : start + T])
        q, k = qk.split(self.heads[:2], dim=1)
        return q, k, v

    def forward(
        self, x: Tensor, cache: KVCache | None = None, layer: int = 0, last: int | None = None
    ) -> Tensor:
        """Let every position read itself and its past, that in the cache included: (B, T, C) -> (B, T, C).

        `last` computes only that many of the last positions, which still read all: (B, last, C).
        """
        B, T, C = x.shape
        start, dropout = cache.length if cache else 0, self.config.dropout if self.training else 0.0
        q, k, v = self.queries_keys_values(x, start)
        dtype = v.dtype
        if cache:
            k, v = cache.extend(layer, k, v)  # each (B, n_kv_head, start + T, H)
            q = q.to(k.dtype)
        q = q[:, :, -(last or T) :]  # (B, nh, T or last, H)
        if x.device.type == "cpu":  # where half precision would make the kernels several times slower
            q, k, v = q.float(), k.float(), v.float()
        with torch.autocast("cpu", enabled=False):
            mixed = causal_attention(q, k, v, not (start or last), dropout)  # (B, nh, T or last, H)
        return self.out(mixed.to(dtype).transpose(1, 2).reshape(B, -1, C))  # (B, T, C)

    def weights(self, x: Tensor) -> Tensor:
        """Return who reads whom, for looking at: (B, T, C) -> (B, nh, T, T), rows sum to one."""
        q, k, _ = self.queries_keys_values(x)
        k = k.repeat_interleave(self.config.n_head // self.config.kv_heads, dim=1)  # (B, nh, T, H)
        scores = q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])  # (B, nh, T, T)
        future = torch.ones_like(scores, dtype=torch.bool).triu(1)
        return scores.masked_fill(future, -torch.inf).softmax(-1)  # (B, nh, T, T)


class MLP(nn.Module):
    """Each position thinks for itself: up, a non-linearity, down."""

    def __init__(self, config: GPTConfig):
        super().__init__()
        self.activation = config.activation
        branches = 2 if config.activation == "swiglu" else 1
        self.up = Linear(config.n_embd, branches * config.hidden, bias=config.bias)
        self.out = Linear(config.hidden, config.n_embd, bias=config.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, C) -> (B, T, C)."""
        h = self.up(x)  # (B, T, hidden), twice as wide for swiglu
        if self.activation == "swiglu":
            gate, h = h.chunk(2, dim=-1)  # each (B, T, hidden)
            h = F.silu(gate) * h
        elif self.activation == "gelu":
            h = F.gelu(h, approximate="tanh")  # as in GPT-2 (Hendrycks and Gimpel 2016)
        else:
            h = F.relu(h)
            h = h.square() if self.activation == "relu2" else h
        return self.out(h)  # (B, T, C)


class Block(nn.Module):
    """Communicate, then compute; each adds its result to the residual stream."""

    def __init__(self, config: GPTConfig):
        super().__init__()
        self.norm1, self.attention = make_norm(config), CausalSelfAttention(config)
        if config.hidden:  # without it the model is attention-only
            self.norm2, self.mlp = make_norm(config), MLP(config)
        self.config = config
        self.dropout = nn.Dropout(config.dropout)

    def forward(
        self, x: Tensor, cache: KVCache | None = None, layer: int = 0, last: int | None = None
    ) -> Tensor:
        """(B, T, C) -> (B, T, C), or (B, last, C): see CausalSelfAttention."""
        mixed = self.attention(self.norm1(x), cache, layer, last)
        x = x[:, -mixed.shape[1] :] + self.dropout(mixed)
        if not self.config.hidden:
            return x
        return x + self.dropout(self.mlp(self.norm2(x)))


class GPT(nn.Module):
    """Token ids in, a score for every possible next token out, at every position."""

    def __init__(self, config: GPTConfig, seed: int = 0):
        super().__init__()
        self.config = config
        self.tokens = nn.Embedding(config.vocab_size, config.n_embd)
        if config.positions == "learned":
            self.positions = nn.Embedding(config.context_length, config.n_embd)
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.n_layer))
        self.norm = make_norm(config)
        self.head = Linear(config.n_embd, config.vocab_size, bias=False)
        if config.tie_embeddings:
            self.head.weight = self.tokens.weight
        self._initialise(torch.Generator().manual_seed(seed))

    @torch.no_grad()
    def _initialise(self, generator: torch.Generator) -> None:
        """GPT-2's start: normal(0, 0.02), residual projections smaller by sqrt(2 n_layer), or at 0."""
        into_residual = 0.0 if self.config.zero_init else 0.02 / math.sqrt(2 * self.config.n_layer)
        for name, parameter in self.named_parameters():
            if name.endswith("bias"):
                parameter.zero_()
            elif parameter.ndim == 2:
                std = into_residual if name.endswith("out.weight") else 0.02
                parameter.normal_(0, std, generator=generator)

    @property
    def context_length(self) -> int:
        """The most tokens that the model reads at once, T."""
        return self.config.context_length

    @property
    def n_params(self) -> int:
        """The number of trained numbers, counted; `config.n_params` is the same on paper."""
        return sum(parameter.numel() for parameter in self.parameters())

    def embed(self, ids: Tensor, start: int = 0) -> Tensor:
        """Look the tokens and their positions up, from position `start` on: (B, T) -> (B, T, C)."""
        end = start + ids.shape[1]
        if self.config.context_length < end:
            raise ValueError(f"{end} tokens do not fit into a context of {self.context_length}: give fewer")
        x = self.tokens(ids)  # (B, T, C)
        if self.config.scale_embeddings:
            x = x * math.sqrt(self.config.n_embd)
        if self.config.positions == "learned":
            x = x + self.positions.weight[start:end]  # (B, T, C)
        return self.dropout(x)

    def states(self, ids: Tensor, cache: KVCache | None = None, last: int | None = None) -> Tensor:
        """Return what the head reads: (B, T) -> (B, T, C). The arguments are those of `forward`.

        With `last`, of that many of the last positions alone, at less cost: (B, last, C).
        """
        x = self.embed(ids, cache.length if cache else 0)
        for layer, block in enumerate(self.blocks, 1):
            x = block(x, cache, layer - 1, last if layer == len(self.blocks) else None)  # (B, T, C)
        if cache:
            cache.length += ids.shape[1]
        return self.norm(x)  # (B, T, C)

    def forward(self, ids: Tensor, cache: KVCache | None = None) -> Tensor:
        """Score every possible next token at every position: (B, T) int64 -> logits (B, T, V).

        With a cache, ids are the T tokens after those it holds. Raises ValueError when all of them
        together exceed the context.
        """
        return self.head(self.states(ids, cache))  # (B, T, V)

    @torch.no_grad()
    def attention_maps(self, ids: Tensor) -> Tensor:
        """Return every head's attention weights: (B, T) -> (n_layer, B, nh, T, T)."""
        x, maps = self.embed(ids), []
        for block in self.blocks:
            maps.append(block.attention.weights(block.norm1(x)))
            x = block(x)
        return torch.stack(maps)
