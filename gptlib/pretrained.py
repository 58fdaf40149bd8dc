"""Real GPT-2: weights and tokenizer in the Hugging Face format into `GPT`, and back; and other models."""

import json
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from gptlib.model import GPT, GPTConfig
from gptlib.tokenizers import BPETokenizer

CONFIG, WEIGHTS, TOKENIZER = "config.json", "model.safetensors", "tokenizer.json"
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


def load_gpt2(path_or_name: str | Path) -> tuple[GPT, BPETokenizer]:
    """Return a GPT-2 with its weights, without dropout, and its tokenizer.

    `path_or_name` is a folder with config.json, model.safetensors and tokenizer.json, as transformers
    writes them, or the name of a model on the Hugging Face hub ("openai-community/gpt2"), downloaded once.
    Raises ValueError when the folder lacks a file or holds another architecture, ImportError without the
    `hub` extra, OSError when the hub cannot be reached or has no such model.
    """
    theirs = json.loads(_file(path_or_name, CONFIG).read_text(encoding="utf-8"))
    model = GPT(_config_from(theirs, path_or_name))
    tokenizer = BPETokenizer.load(_file(path_or_name, TOKENIZER))
    _read_weights(model, _file(path_or_name, WEIGHTS))
    return model, tokenizer


def save_gpt2(model: GPT, tokenizer: BPETokenizer, folder: str | Path) -> None:
    """Write a model with GPT-2's choices as transformers reads it: AutoModelForCausalLM, AutoTokenizer.

    Raises ValueError when the model makes another choice than GPT-2 (RoPE, RMSNorm, ...).
    """
    config, folder = model.config, Path(folder)
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
def _read_weights(model: GPT, path: Path) -> None:
    """Copy a file's tensors into a model, one at a time: no second copy of the weights is ever held."""
    ours = dict(model.named_parameters())
    with safe_open(path, "pt") as file:
        there = {key.removeprefix("transformer."): key for key in file.keys()}  # noqa: SIM118, no dict
        for name, (theirs, transposed) in _names(model).items():
            if theirs not in there:
                raise ValueError(f"{path} has no {theirs}: it holds no whole GPT-2 of its {CONFIG}")
            value: Tensor = file.get_tensor(there[theirs])
            value = value.T if transposed else value
            if value.shape != ours[name].shape:
                raise ValueError(
                    f"{theirs} in {path} has the shape {tuple(value.shape)}, its {CONFIG} says "
                    f"{tuple(ours[name].shape)}: the two files are not of one model"
                )
            ours[name].copy_(value)


def _config_from(theirs: dict, name: str | Path) -> GPTConfig:
    for field, expected in FOLLOWED.items():
        if theirs.get(field, expected) != expected:
            raise ValueError(
                f"the {CONFIG} of {name} says {field} {theirs[field]!r}: gptlib knows GPT-2 with {expected!r}"
            )
    return GPTConfig.gpt2(
        theirs["vocab_size"],
        context_length=theirs["n_positions"],
        n_layer=theirs["n_layer"],
        n_head=theirs["n_head"],
        n_embd=theirs["n_embd"],
        n_hidden=theirs.get("n_inner"),
        norm_eps=theirs.get("layer_norm_epsilon", 1e-5),
        tie_embeddings=theirs.get("tie_word_embeddings", True),
    )


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
    folder, name = Path(path_or_name), str(path_or_name)
    if folder.exists():
        if not (folder / file).is_file():
            raise ValueError(
                f"{folder} has no {file}: save the model with save_pretrained(folder), which writes "
                f"{CONFIG} and {WEIGHTS}, and its fast tokenizer too, which writes {TOKENIZER}"
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
        self.vocab_size = len(inner)

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text, none added to begin or end it."""
        return self.inner.encode(text, add_special_tokens=False)

    def decode(self, ids: list[int]) -> str:
        """Return the text that the ids stand for."""
        return self.inner.decode(ids)


def load_causal_lm(path_or_name: str | Path) -> tuple[GPT | HubModel, BPETokenizer | HubTokenizer]:
    """Open any causal language model: GPT-2 as our own `GPT`, any other through transformers.

    `path_or_name` is a folder or a name on the hub, as for `load_gpt2`. Raises what that raises, and
    ImportError without transformers.
    """
    theirs = json.loads(_file(path_or_name, CONFIG).read_text(encoding="utf-8"))
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
    inner = transformers.AutoModelForCausalLM.from_pretrained(path_or_name)
    tokenizer = transformers.AutoTokenizer.from_pretrained(path_or_name)
    return HubModel(inner.eval()), HubTokenizer(tokenizer)
