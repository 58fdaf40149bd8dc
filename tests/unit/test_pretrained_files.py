"""A folder of a GPT-2 whose files are not as they should be: the file is named, with the remedy."""

import json
import os
import struct
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from gptlib.model import GPT, GPTConfig
from gptlib.pretrained import load_gpt2, save_gpt2
from gptlib.tokenizers import BPETokenizer, CharTokenizer

BPE = BPETokenizer.train("the cat sat on the mat, the cat sat on the hat. " * 10, 300)
MODEL = GPT(GPTConfig.gpt2(BPE.vocab_size, context_length=24, n_layer=2, n_head=2, n_embd=16))
IDS = torch.randint(BPE.vocab_size, (1, 24), generator=torch.Generator().manual_seed(0))
CONFIG, WEIGHTS, TOKENIZER = "config.json", "model.safetensors", "tokenizer.json"
SHARDS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
INDEX = "model.safetensors.index.json"
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 548105171\n"


@pytest.fixture
def folder(tmp_path):
    save_gpt2(MODEL, BPE, tmp_path)
    return tmp_path


@pytest.fixture
def sharded(folder):
    """The same weights in two files and an index."""
    tensors = load_file(folder / WEIGHTS)
    (folder / WEIGHTS).unlink()
    where = {name: SHARDS[i % 2] for i, name in enumerate(sorted(tensors))}
    for shard in SHARDS:
        save_file({name: tensors[name] for name in tensors if where[name] == shard}, folder / shard)
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": where}), encoding="utf-8")
    return folder


def change(path, **changes):
    """Set some of a JSON file's fields; a field that is set to ... is left out."""
    found = json.loads(path.read_text(encoding="utf-8")) | changes
    path.write_text(json.dumps({k: v for k, v in found.items() if v is not ...}), encoding="utf-8")


def refused(folder, file, *says):
    with pytest.raises(ValueError) as error:
        load_gpt2(folder)
    assert file in str(error.value)
    for part in says:
        assert part in str(error.value)


@pytest.mark.parametrize("file", [CONFIG, WEIGHTS, TOKENIZER])
@pytest.mark.parametrize(
    ("content", "remedy"),
    [
        (POINTER, "git lfs pull"),
        (b"", "is empty"),
        (b"  \n", "is empty"),
        (b"<!DOCTYPE html><html>Not found</html>", "web page"),
        (b"\xff\xfe{\x00}\x00", "again"),
        (b"\x00" * 300, "again"),
        (b"[" * 100_000, "again"),
        (b"null", "again"),
    ],
    ids=["pointer", "empty", "blank", "page", "utf-16", "zeros", "deep", "null"],
)
def test_another_thing_in_a_files_place_is_named_with_the_remedy(folder, file, content, remedy):
    (folder / file).write_bytes(content)
    refused(folder, file, remedy)


@pytest.mark.parametrize("file", [CONFIG, WEIGHTS, TOKENIZER])
@pytest.mark.parametrize("share", [0.001, 0.1, 0.5, 0.999])
def test_a_cut_file_is_named_with_the_remedy(folder, file, share):
    content = (folder / file).read_bytes()
    (folder / file).write_bytes(content[: max(1, int(share * len(content)))])
    refused(folder, file, "cut or damaged", "again")


@pytest.mark.parametrize("file", [CONFIG, TOKENIZER])
@pytest.mark.parametrize("content", ["[]", '"text"', "3", "{}"])
def test_json_that_holds_something_else_is_refused(folder, file, content):
    (folder / file).write_text(content, encoding="utf-8")
    refused(folder, file)


@pytest.mark.parametrize(
    "wrong",
    [
        {"model": []}, {"model": None}, {"model": {"type": "BPE"}},
        {"model": {"type": "BPE", "vocab": 3, "merges": []}},
        {"model": {"type": "BPE", "vocab": {"a": 0}, "merges": ["b c"]}}, {"added_tokens": 5},
    ],
    ids=str,
)  # fmt: skip
def test_a_tokenizer_with_wrong_parts_is_refused(folder, wrong):
    change(folder / TOKENIZER, **wrong)
    refused(folder, TOKENIZER)


@pytest.mark.parametrize("field", ["vocab_size", "n_positions", "n_layer", "n_head", "n_embd"])
@pytest.mark.parametrize("value", [..., None, "12", 1.5, True, 0, -1, [2], {}])
def test_a_config_without_a_right_size_is_refused(folder, field, value):
    change(folder / CONFIG, **{field: value})
    name = {"n_positions": "context_length"}.get(field, field) if value not in (..., None) else field
    refused(folder, CONFIG, name)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("layer_norm_epsilon", "1e-5"),
        ("layer_norm_epsilon", -1.0),
        ("layer_norm_epsilon", None),
        ("tie_word_embeddings", "yes"),
        ("n_inner", 2.5),
        ("n_inner", "64"),
        ("n_head", 3),
        ("model_type", None),
        ("model_type", ["gpt2"]),
        ("activation_function", 7),
    ],
)
def test_a_config_with_a_wrong_value_is_refused(folder, field, value):
    change(folder / CONFIG, **{field: value})
    refused(folder, CONFIG)


@pytest.mark.parametrize("name", ["n_ctx", "max_position_embeddings"])
def test_an_old_config_has_the_context_under_another_name(folder, name):
    change(folder / CONFIG, n_positions=..., **{name: 24})
    assert torch.equal(load_gpt2(folder)[0](IDS), MODEL(IDS))


def test_a_file_with_a_byte_order_mark_is_read(folder):
    for file in (CONFIG, TOKENIZER):
        (folder / file).write_text((folder / file).read_text(encoding="utf-8"), encoding="utf-8-sig")
    assert torch.equal(load_gpt2(folder)[0](IDS), MODEL(IDS))


def test_weights_without_a_tensor_or_of_another_kind_are_refused(folder):
    tensors = load_file(folder / WEIGHTS)
    save_file({}, folder / WEIGHTS)
    refused(folder, WEIGHTS, "has no wte.weight")
    save_file(
        tensors | {"transformer.wte.weight": tensors["transformer.wte.weight"].to(torch.int8)},
        folder / WEIGHTS,
    )
    refused(folder, WEIGHTS, "quantised")


def test_a_header_that_promises_more_than_there_is_is_refused(folder):
    content = (folder / WEIGHTS).read_bytes()
    for size in (0, len(content) * 2, 2**62):
        (folder / WEIGHTS).write_bytes(struct.pack("<Q", size) + content[8:])
        refused(folder, WEIGHTS, "damaged")


def test_shards_are_read_by_their_index(sharded):
    assert torch.equal(load_gpt2(sharded)[0](IDS), MODEL(IDS))


@pytest.mark.parametrize("shard", SHARDS)
def test_a_missing_or_cut_shard_is_named(sharded, shard):
    (sharded / shard).write_bytes((sharded / shard).read_bytes()[:-5])
    refused(sharded, shard, "cut or damaged")
    (sharded / shard).write_bytes(POINTER)
    refused(sharded, shard, "git lfs pull")
    (sharded / shard).unlink()
    refused(sharded, shard, "has no", "copy it there")


@pytest.mark.parametrize(
    "where",
    [..., None, [], "all", {"wte.weight": 3}, {"wte.weight": "../model.safetensors"}, {"wte.weight": ""},
     {"wte.weight": ".."}, {"wte.weight": "/etc/passwd"}],
    ids=str,
)  # fmt: skip
def test_an_index_that_names_no_files_of_its_folder_is_refused(sharded, where):
    change(sharded / INDEX, weight_map=where)
    refused(sharded, INDEX, "again")


@pytest.mark.parametrize("content", [POINTER, b"", b"[1]", b'{"weight_map": {}}'])
def test_a_broken_index_is_refused(sharded, content):
    (sharded / INDEX).write_bytes(content)
    refused(sharded, INDEX)


def test_a_tensor_that_its_shard_lacks_is_named(sharded):
    where = json.loads((sharded / INDEX).read_text(encoding="utf-8"))["weight_map"]
    change(sharded / INDEX, weight_map=dict.fromkeys(where, SHARDS[0]))
    refused(sharded, SHARDS[0], "transformer.")


def test_a_file_in_place_of_a_folder_is_refused(folder):
    refused(folder / WEIGHTS, "is a file", "folder that transformers")


@pytest.mark.parametrize("name", ["with a blank", "ünïcode", "👩‍👩‍👧", "%41#?&'\"", "~"])
def test_a_folder_may_have_any_name(tmp_path, monkeypatch, name):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    there = "~/gpt2" if name == "~" else tmp_path / name
    save_gpt2(MODEL, BPE, there)
    model, tokenizer = load_gpt2(there)
    assert torch.equal(model(IDS), MODEL(IDS)) and tokenizer.encode("the cat") == BPE.encode("the cat")
    assert Path(there).expanduser().parent == (tmp_path / "home" if name == "~" else tmp_path)


def test_a_folder_whose_name_is_no_utf8_is_to_be_renamed(tmp_path):
    there = tmp_path / os.fsdecode(b"no-utf-8-\xff")
    save_gpt2(MODEL, BPE, there)
    refused(there, "no-utf-8", "rename the folder")


def test_a_tokenizer_that_transformers_cannot_read_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(ValueError, match="BPETokenizer"):
        save_gpt2(MODEL, CharTokenizer("ab"), tmp_path / "new")
    assert not (tmp_path / "new").exists()
