"""Real GPT-2: weights and tokenizer in the Hugging Face format into `GPT`, and back; and other models."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from gptlib.model import GPT, GPTConfig
from gptlib.tokenizers import COPY_AGAIN, BPETokenizer, check_characters, read_json, what_is_wrong

CONFIG, WEIGHTS, TOKENIZER = "config.json", "model.safetensors", "tokenizer.json"
INDEX = WEIGHTS + ".index.json"  # of weights in several files: which tensor is in which
REMEDY = "give the path of a folder that transformers' save_pretrained wrote"
# What a GPT-2 by this name may set differently without becoming another model, and what we can follow.
FOLLOWED = {
    "model_type": "gpt2",
    "activation_function": "gelu_new",
    "scale_attn_weights": True,
    "scale_attn_by_inverse_layer_idx": False,
    "reorder_and_upcast_attn": False,
    "add_cross_attention": False,
}

# Our sizes, and by which names a GPT-2's config has them: today, or as older versions and others wrote them.
SIZES = {
    "vocab_size": ("vocab_size",),
    "context_length": ("n_positions", "n_ctx", "max_position_embeddings"),
    "n_layer": ("n_layer", "num_hidden_layers"),
    "n_head": ("n_head", "num_attention_heads"),
    "n_embd": ("n_embd", "hidden_size"),
}


def load_gpt2(path_or_name: str | Path) -> tuple[GPT, BPETokenizer]:
    """Return a GPT-2 with its weights, without dropout, and its tokenizer.

    `path_or_name` is a folder with config.json, model.safetensors (or several such files and their index)
    and tokenizer.json, as transformers writes them, or the name of a model on the Hugging Face hub
    ("openai-community/gpt2"), downloaded once. Raises ValueError when the folder lacks a file, or one is
    damaged or of another architecture, ImportError without the `hub` extra, OSError when the hub cannot be
    reached or has no such model.
    """
    config = _config_from(_file(path_or_name, CONFIG))
    tokenizer = BPETokenizer.load(_file(path_or_name, TOKENIZER))
    listed, files = _weight_files(path_or_name)
    model = GPT(config)
    _read_weights(model, listed, files)
    return model, tokenizer


def save_gpt2(model: GPT, tokenizer: BPETokenizer, folder: str | Path) -> None:
    """Write a model with GPT-2's choices as transformers reads it: AutoModelForCausalLM, AutoTokenizer.

    Raises ValueError when the model makes another choice than GPT-2 (RoPE, RMSNorm, ...), or its tokenizer
    is no BPETokenizer.
    """
    if not isinstance(tokenizer, BPETokenizer):
        raise ValueError(
            f"transformers reads no {type(tokenizer).__name__}: only a model of a BPETokenizer can be saved"
        )
    config, folder = model.config, Path(folder).expanduser()
    sizes = ("vocab_size", "context_length", "n_layer", "n_head", "n_embd", "n_hidden", "dropout", "norm_eps")
    same = GPTConfig.gpt2(**{size: getattr(config, size) for size in sizes})
    same = asdict(same) | {"tie_embeddings": config.tie_embeddings}
    other = [field for field, value in asdict(config).items() if value != same[field]]
    other += ["n_hidden of 0"] * (config.hidden == 0)
    if other:
        raise ValueError(
            f"transformers' GPT-2 has no such {', '.join(other)}: only a model of GPTConfig.gpt2() is one"
        )
    folder.mkdir(parents=True, exist_ok=True)
    ours = dict(model.named_parameters())
    tensors = {}
    for name, (theirs, transposed) in _names(model).items():
        value = ours[name].detach().cpu()
        tensors[f"transformer.{theirs}" if theirs != "lm_head.weight" else theirs] = (
            value.T if transposed else value
        ).contiguous()
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
    (folder / CONFIG).write_text(json.dumps(_config_to(config, tokenizer), indent=2), encoding="utf-8")
    tokenizer.save(folder / TOKENIZER)
    end = BPETokenizer.END_OF_TEXT
    about = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": config.context_length}
    about |= {"bos_token": end, "eos_token": end, "unk_token": end}
    (folder / "tokenizer_config.json").write_text(json.dumps(about, indent=2), encoding="utf-8")


def _names(model: GPT) -> dict[str, tuple[str, bool]]:
    """Map our parameters to GPT-2's names, and whether a matrix is stored transposed there."""
    parts = {"norm1": "ln_1", "attention.qkv": "attn.c_attn", "attention.out": "attn.c_proj"}
    parts |= {"norm2": "ln_2", "mlp.up": "mlp.c_fc", "mlp.out": "mlp.c_proj"}
    names = {"tokens.weight": ("wte.weight", False), "positions.weight": ("wpe.weight", False)}
    for layer in range(model.config.n_layer):
        for ours, theirs in parts.items():
            for kind in ("weight", "bias"):
                is_matrix = kind == "weight" and "ln" not in theirs
                names[f"blocks.{layer}.{ours}.{kind}"] = (f"h.{layer}.{theirs}.{kind}", is_matrix)
    names |= {f"norm.{kind}": (f"ln_f.{kind}", False) for kind in ("weight", "bias")}
    return names if model.config.tie_embeddings else names | {"head.weight": ("lm_head.weight", False)}


@torch.no_grad()
def _read_weights(model: GPT, listed: Path, files: dict[str, Path]) -> None:
    """Copy the tensors, each from its file, into a model, one at a time: no second copy is ever held."""
    ours, names = dict(model.named_parameters()), _names(model)
    there = {key.removeprefix("transformer."): key for key in files}
    for theirs, _ in names.values():
        if theirs not in there:
            raise ValueError(
                f"{listed} has no {theirs}: it holds no whole GPT-2 of its {CONFIG}; {COPY_AGAIN}"
            )
    for path in sorted({files[there[theirs]] for theirs, _ in names.values()}):
        with _opened(path) as file:
            for name, (theirs, transposed) in names.items():
                if files[there[theirs]] == path:
                    value: Tensor = file.get_tensor(there[theirs])
                    value = value.T if transposed else value
                    _check_like(value, ours[name], theirs, path)
                    ours[name].copy_(value)


def _check_like(value: Tensor, ours: Tensor, theirs: str, path: Path) -> None:
    if value.shape != ours.shape:
        raise ValueError(
            f"{theirs} in {path} has the shape {tuple(value.shape)}, its {CONFIG} says "
            f"{tuple(ours.shape)}: the two files are not of one model"
        )
    if not value.is_floating_point():
        raise ValueError(
            f"{theirs} in {path} is of {value.dtype}: gptlib reads no quantised weights, take the original"
        )


@contextmanager
def _opened(path: Path) -> Iterator[safe_open]:
    """Open a file of weights. Raises ValueError, which names it, where it cannot be read, also later on."""
    if re.search("[\ud800-\udfff]", str(path)):  # bytes that are no UTF-8, as Python has them in a name
        raise ValueError(f"safetensors opens no path that is not UTF-8, {str(path)!r}: rename the folder")
    try:
        with safe_open(path, "pt") as file:
            yield file
    except SafetensorError as error:
        raise ValueError(f"{path} {what_is_wrong(path)} ({error})") from error


def _weight_files(path_or_name: str | Path) -> tuple[Path, dict[str, Path]]:
    """Return the file that lists all tensors, and in which file each is: in this one, or by the index."""
    try:
        one = _file(path_or_name, WEIGHTS)
    except (ValueError, OSError) as missing:
        try:
            index = _file(path_or_name, INDEX)
        except (ValueError, OSError):
            raise missing from None
    else:
        with _opened(one) as file:
            return one, dict.fromkeys(file.keys(), one)
    where = read_json(index).get("weight_map")
    if not isinstance(where, dict) or not all(
        isinstance(name, str) and re.fullmatch(r"[^/\\]+\.safetensors", name) for name in where.values()
    ):
        raise ValueError(f"{index} says not in which files of its folder the tensors are: {COPY_AGAIN}")
    files = {name: _file(path_or_name, name) for name in sorted(set(where.values()))}
    return index, {key: files[name] for key, name in where.items()}


def _config_from(path: Path) -> GPTConfig:
    theirs = read_json(path)
    for field, expected in FOLLOWED.items():
        if theirs.get(field, expected) != expected:
            raise ValueError(
                f"{path} says {field} {theirs[field]!r}: gptlib knows GPT-2 with {expected!r}; try "
                "load_causal_lm, which opens other architectures with transformers"
            )
    sizes = {}
    for field, names in SIZES.items():
        given = [theirs[name] for name in names if theirs.get(name) is not None]
        if not given:
            raise ValueError(f"{path} says no {' or '.join(names)}: it is no whole config; {COPY_AGAIN}")
        sizes[field] = given[0]
    try:
        return GPTConfig.gpt2(
            **sizes,
            n_hidden=theirs.get("n_inner"),
            norm_eps=theirs.get("layer_norm_epsilon", 1e-5),
            tie_embeddings=theirs.get("tie_word_embeddings", True),
        )
    except ValueError as error:
        raise ValueError(f"{path} describes no GPT-2: {error}") from error


def _config_to(config: GPTConfig, tokenizer: BPETokenizer) -> dict:
    return FOLLOWED | {
        "architectures": ["GPT2LMHeadModel"],
        "vocab_size": config.vocab_size,
        "n_positions": config.context_length,
        "n_layer": config.n_layer,
        "n_head": config.n_head,
        "n_embd": config.n_embd,
        "n_inner": config.n_hidden,
        "layer_norm_epsilon": config.norm_eps,
        "tie_word_embeddings": config.tie_embeddings,
        "resid_pdrop": config.dropout,
        "embd_pdrop": config.dropout,
        "attn_pdrop": config.dropout,
        "bos_token_id": tokenizer.end_of_text,
        "eos_token_id": tokenizer.end_of_text,
    }


def _file(path_or_name: str | Path, file: str) -> Path:
    """Return a file of a model: in its folder, or from the hub, unless it was fetched before."""
    folder, name = Path(path_or_name).expanduser(), str(path_or_name)
    if folder.exists():
        if not folder.is_dir():
            raise ValueError(f"{folder} is a file: {REMEDY}")
        if not (folder / file).is_file():
            raise ValueError(
                f"{folder} has no {file}: copy it there, or save the model with save_pretrained(folder), "
                f"which writes {CONFIG} and {WEIGHTS}, and its fast tokenizer too, which writes {TOKENIZER}"
            )
        return folder / file
    try:
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
    except ImportError:
        raise ImportError(
            f"there is no folder {name!r}; to download a model of that name: pip install "
            f"'gptlib[hub]' (or huggingface_hub). Or {REMEDY}"
        ) from None
    try:
        try:
            return Path(hf_hub_download(name, file, local_files_only=True))
        except LocalEntryNotFoundError:
            _reach(name)
            return Path(hf_hub_download(name, file))
    except HFValidationError:
        raise ValueError(f"there is no folder {name!r}, and no model can have that name: {REMEDY}") from None
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        first = str(error).strip().splitlines()[0]
        raise OSError(
            f"there is no folder {name!r}, and the hub did not give a model of that name ({first}): "
            f"check the name and the network, or {REMEDY}"
        ) from error


def _reach(name: str) -> None:
    """Raise OSError when the hub does not answer: a download would try for half a minute."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url
    from huggingface_hub.errors import HfHubHTTPError

    try:
        get_hf_file_metadata(hf_hub_url(name, CONFIG))
    except HfHubHTTPError:
        pass  # it answered; the download will say what is wrong
    except Exception as error:  # of whichever HTTP library the hub's client uses
        raise OSError(str(error)) from error


class HubModel(nn.Module):
    """A causal language model of another architecture, opened by transformers and used as a `GPT` is."""

    def __init__(self, inner: nn.Module):
        super().__init__()
        self.inner = inner
        self.context_length = getattr(inner.config, "max_position_embeddings", 1024)  # some have no limit

    def forward(self, ids: Tensor) -> Tensor:
        """(B, T) -> logits (B, T, V)."""
        return self.inner(ids, use_cache=False).logits


class HubTokenizer:
    """Its tokenizer, used as ours are."""

    def __init__(self, inner):
        self.inner = inner
        self.vocab_size = max(inner.get_vocab().values()) + 1
        self.may_cut = False  # a blank at a part's beginning may be another token than within a text

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text, none added to begin or end it, what spells a special token as text."""
        check_characters(text)
        return self.inner.encode(text, add_special_tokens=False, split_special_tokens=True)

    def decode(self, ids: list[int]) -> str:
        """Return the text that the ids stand for."""
        return self.inner.decode(ids)


def load_causal_lm(path_or_name: str | Path) -> tuple[GPT | HubModel, BPETokenizer | HubTokenizer]:
    """Open any causal language model: GPT-2 as our own `GPT`, any other through transformers.

    `path_or_name` is a folder or a name on the hub, as for `load_gpt2`. Nothing that a model brings along is
    run: weights are read from safetensors alone, never unpickled. Raises what `load_gpt2` raises, and
    ImportError without transformers.
    """
    theirs = read_json(_file(path_or_name, CONFIG))
    if theirs.get("model_type") == "gpt2":
        return load_gpt2(path_or_name)
    try:
        import transformers
    except ImportError:
        raise ImportError(
            f"{path_or_name} has the architecture {theirs.get('model_type')!r}, which needs "
            "transformers: pip install transformers"
        ) from None
    transformers.utils.logging.disable_progress_bar()
    for path in sorted(set(_weight_files(path_or_name)[1].values())):
        with _opened(path):
            pass  # so that what is damaged is named
    folder = Path(path_or_name).expanduser()
    place = folder if folder.exists() else path_or_name
    how = dict(trust_remote_code=False)
    try:
        inner = transformers.AutoModelForCausalLM.from_pretrained(place, use_safetensors=True, **how)
        tokenizer = transformers.AutoTokenizer.from_pretrained(place, **how)
    except OSError:
        raise
    except Exception as error:  # of whichever kind: a model of the hub may be anything
        raise ValueError(
            f"transformers cannot open {place} ({error}): {COPY_AGAIN}, or take another"
        ) from error
    return HubModel(inner.eval()), HubTokenizer(tokenizer)
