import http.server
import json
import os
import subprocess
import sys
import threading

import pytest
import torch
from safetensors.torch import load_file, save_file

from gptlib.in_context import answers, draw_prompts, evaluate_pretrained
from gptlib.model import GPT, GPTConfig
from gptlib.pretrained import HubModel, load_causal_lm, load_gpt2, save_gpt2
from gptlib.sampling import generate
from gptlib.tokenizers import BPETokenizer

transformers = pytest.importorskip("transformers", reason="parity with transformers needs the test extra")
TEXT = "the cat sat on the mat, the cat sat on the hat. " * 10
BPE = BPETokenizer.train(TEXT, 300)
IDS = torch.randint(300, (2, 24), generator=torch.Generator().manual_seed(0))


def write(folder, **other):
    """Let transformers write a GPT-2 with large random weights, and its tokenizer; return the model."""
    sizes = dict(vocab_size=300, n_positions=24, n_layer=2, n_head=4, n_embd=32, initializer_range=0.3)
    config = transformers.GPT2Config(**(sizes | other), bos_token_id=0, eos_token_id=0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = transformers.GPT2LMHeadModel(config).eval()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.1 * torch.randn(parameter.shape))  # biases and norms too
    model.save_pretrained(folder)
    transformers.PreTrainedTokenizerFast(tokenizer_object=BPE._tokenizer).save_pretrained(folder)
    return model


@torch.no_grad()
def assert_same(ours, theirs):
    torch.testing.assert_close(ours(IDS), theirs(IDS).logits, atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    "other",
    [{}, {"n_inner": 48}, {"layer_norm_epsilon": 1e-3}, {"tie_word_embeddings": False}],
    ids=str,
)
def test_what_transformers_wrote_has_the_same_logits_here_and_back(tmp_path, other):
    theirs = write(tmp_path / "theirs", **other)
    ours, tokenizer = load_gpt2(tmp_path / "theirs")
    assert_same(ours.eval(), theirs)
    assert tokenizer.encode(TEXT) == BPE.encode(TEXT)
    save_gpt2(ours, tokenizer, tmp_path / "ours")
    back = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "ours").eval()
    assert type(back) is transformers.GPT2LMHeadModel
    with torch.no_grad():
        assert torch.equal(back(IDS).logits, theirs(IDS).logits)
    written = transformers.AutoTokenizer.from_pretrained(tmp_path / "ours")
    text = "the cat sat <|endoftext|>"
    assert written.encode(text) == BPE.encode(text, special_tokens=True) == [*BPE.encode(text[:12]), 0]


def test_greedy_continuations_are_those_of_transformers(tmp_path):
    theirs = write(tmp_path)
    ours, _ = load_gpt2(tmp_path)
    prompts = IDS[:, :4]
    how = dict(do_sample=False, max_new_tokens=20, pad_token_id=0, eos_token_id=None)
    expected = theirs.generate(prompts, attention_mask=torch.ones_like(prompts), **how)
    assert torch.equal(generate(ours, prompts, max_tokens=20, temperature=0), expected)
    assert expected.unique().numel() > 5


def test_a_model_trained_here_opens_in_transformers(tmp_path):
    model = GPT(GPTConfig.gpt2(300, context_length=24, n_layer=1, n_head=2, n_embd=16, dropout=0.1)).eval()
    save_gpt2(model, BPE, tmp_path)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path)
    assert_same(model, theirs.eval())
    assert theirs.config.resid_pdrop == 0.1


def test_files_from_the_hub_without_the_prefix_and_with_old_buffers_are_read(tmp_path):
    theirs = write(tmp_path)
    file = tmp_path / "model.safetensors"
    tensors = {name.removeprefix("transformer."): tensor for name, tensor in load_file(file).items()}
    save_file(tensors | {"h.0.attn.bias": torch.ones(1, 1, 24, 24)}, file)
    assert_same(load_gpt2(tmp_path)[0].eval(), theirs)


def test_weights_in_several_files_are_found_by_their_index(tmp_path):
    theirs = write(tmp_path / "one")
    theirs.save_pretrained(tmp_path, max_shard_size="20KB")
    for file in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / "one" / file).rename(tmp_path / file)
    assert len(list(tmp_path.glob("model-0*.safetensors"))) > 3
    assert_same(load_gpt2(tmp_path)[0].eval(), theirs)
    assert_same(load_causal_lm(str(tmp_path))[0].eval(), theirs)


def llama(folder, **how):
    """Let transformers write a small model of another architecture."""
    sizes = dict(vocab_size=340, hidden_size=16, intermediate_size=16, num_hidden_layers=1)
    heads = dict(num_attention_heads=2, num_key_value_heads=2, max_position_embeddings=50)
    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**sizes, **heads))
    model.save_pretrained(folder, **how)
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=BPE._tokenizer)
    tokenizer.save_pretrained(folder)
    return model


def test_another_models_weights_are_never_unpickled(tmp_path):
    model = llama(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(ValueError, match=r"has no model.safetensors.*save_pretrained"):
        load_causal_lm(tmp_path)


def test_another_models_code_is_never_run(tmp_path):
    llama(tmp_path)
    change_config(
        tmp_path, model_type="ours", auto_map={"AutoConfig": "evil.C", "AutoModelForCausalLM": "evil.M"}
    )
    (tmp_path / "evil.py").write_text("raise SystemExit('this ran')", encoding="utf-8")
    with pytest.raises(ValueError, match="cannot open"):
        load_causal_lm(tmp_path)


@pytest.mark.parametrize("file", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_damaged_file_of_another_architecture_is_named(tmp_path, file):
    llama(tmp_path)
    content = (tmp_path / file).read_bytes()
    (tmp_path / file).write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match=str(tmp_path)):
        load_causal_lm(tmp_path)


def test_ids_that_only_fill_up_another_models_vocabulary_are_never_drawn(tmp_path):
    llama(tmp_path)
    model, tokenizer = load_causal_lm(tmp_path)
    assert tokenizer.vocab_size < model.inner.config.vocab_size == 340
    rows = generate(model, [[1], [2, 3]], tokenizer, max_tokens=40, temperature=100.0)
    assert max(map(max, rows)) < tokenizer.vocab_size


def change_config(folder, **changes):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changes))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"model_type": "llama"}, "model_type 'llama'"),
        ({"activation_function": "relu"}, "activation_function 'relu'"),
        ({"n_layer": 3}, "has no h.2"),
        ({"n_positions": 30}, "not of one model"),
    ],
)
def test_a_folder_that_holds_another_model_is_refused(tmp_path, changes, says):
    write(tmp_path)
    change_config(tmp_path, **changes)
    with pytest.raises(ValueError, match=says):
        load_gpt2(tmp_path)


@pytest.mark.parametrize("missing", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_missing_file_is_named_with_the_way_to_get_it(tmp_path, missing):
    write(tmp_path)
    (tmp_path / missing).unlink()
    with pytest.raises(ValueError, match=rf"has no {missing}.*save_pretrained"):
        load_gpt2(tmp_path)


def test_only_gpt2_is_written_as_gpt2(tmp_path):
    with pytest.raises(ValueError, match=r"positions, norm, qk_norm.*GPTConfig.gpt2"):
        save_gpt2(GPT(GPTConfig.modern(300, n_layer=1)), BPE, tmp_path)
    with pytest.raises(ValueError, match="n_hidden"):
        save_gpt2(GPT(GPTConfig.gpt2(300, n_layer=1, n_hidden=0)), BPE, tmp_path)


# -- the hub, played by a server of our own -----------------------------------------------------------


class Hub(http.server.SimpleHTTPRequestHandler):
    """Answers /owner/name/resolve/main/FILE as the Hugging Face hub does."""

    folder = None

    def do_GET(self):
        path = self.folder / self.path.split("/")[-1]
        found = self.path.startswith("/team/tiny/resolve/") and path.exists()
        content = path.read_bytes() if found else b"{}"
        self.send_response(200 if found else 404)
        self.send_header("Content-Length", str(len(content)))
        if found:
            self.send_header("ETag", f'"{len(content):064x}"')
            self.send_header("X-Repo-Commit", "0" * 40)
        else:
            self.send_header("X-Error-Code", "RepoNotFound")
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    do_HEAD = do_GET

    def log_message(self, *_):
        pass


def ask(tmp_path, name, endpoint, *options):
    """Load a model by its name in a fresh process, which talks to an endpoint of ours; return its error."""
    program = f"""
import torch
from gptlib.pretrained import load_gpt2
model, tokenizer = load_gpt2({name!r})
print(model.n_params, tokenizer.vocab_size)
"""
    hub = {"HF_ENDPOINT": endpoint, "HF_HOME": str(tmp_path / "cache"), "HF_HUB_DISABLE_XET": "1"}
    ran = subprocess.run(
        [sys.executable, *options, "-c", program],
        env=os.environ | hub,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    return ran.stdout.strip() or ran.stderr.strip().splitlines()[-1]


@pytest.mark.slow
def test_a_name_is_downloaded_from_the_hub(tmp_path):
    Hub.folder = tmp_path / "served"
    theirs = write(Hub.folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        expected = f"{theirs.num_parameters()} {BPE.vocab_size}"
        endpoint = f"http://127.0.0.1:{server.server_port}"
        assert ask(tmp_path, "team/tiny", endpoint) == expected
        wrong = ask(tmp_path, "team/other", endpoint)
        server.shutdown()
    assert wrong.startswith("OSError") and "check the name" in wrong
    assert ask(tmp_path, "team/tiny", endpoint) == expected  # from the cache
    offline = ask(tmp_path, "team/third", endpoint)
    assert offline.startswith("OSError") and "the network" in offline and "save_pretrained" in offline


def test_a_name_that_cannot_be_one_is_refused():
    with pytest.raises(ValueError, match="save_pretrained"):
        load_gpt2("no such/folder/anywhere")


def test_without_the_extra_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ImportError, match=r"gptlib\[hub\]"):
        load_gpt2("team/tiny")


def test_pretrained_models_of_two_architectures_are_asked_and_missing_ones_named(
    tmp_path, capsys, monkeypatch
):
    monkeypatch.setenv("GPTLIB_BUDGET", "cpu")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    write(tmp_path / "tiny", n_positions=200, vocab_size=BPE.vocab_size)
    sizes = dict(vocab_size=BPE.vocab_size, hidden_size=32, intermediate_size=64, num_hidden_layers=2)
    heads = dict(num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=200)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        transformers.LlamaForCausalLM(transformers.LlamaConfig(**sizes, **heads)).save_pretrained(
            tmp_path / "llama"
        )
    transformers.PreTrainedTokenizerFast(tokenizer_object=BPE._tokenizer).save_pretrained(tmp_path / "llama")
    (tmp_path / "gpt2-empty").mkdir()
    names = [tmp_path / "tiny", tmp_path / "llama", "no-such/model", "no model", tmp_path / "gpt2-empty"]
    rows = evaluate_pretrained(names, ["English to French"], (0, 2), n=4)
    said = capsys.readouterr().out
    assert said.count("is left out") == 3 and "no-such/model" in said and "has no config.json" in said
    assert rows["model"].tolist() == [str(name) for name in names[:2] for _ in (0, 2)]
    prompts = draw_prompts("English to French", 2, 6, 0)
    ours, _ = load_causal_lm(names[0])
    assert isinstance(ours, GPT)
    theirs = HubModel(transformers.AutoModelForCausalLM.from_pretrained(names[0]).eval())
    given = answers(ours, BPE, prompts, 6)
    assert given == answers(theirs, BPE, prompts, 6) and len(set(given)) > 1
    llama, tokenizer = load_causal_lm(names[1])
    assert isinstance(llama, HubModel) and llama.context_length == 200
    text = "the cat<|endoftext|> sat"  # a text that spells the token, not the token
    assert tokenizer.decode(tokenizer.encode(text)) == text and tokenizer.encode(text) == BPE.encode(text)


def test_without_transformers_the_error_says_what_to_install(tmp_path, monkeypatch):
    (tmp_path / "config.json").write_text('{"model_type": "llama"}', encoding="utf-8")
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ImportError, match=r"'llama'.*pip install transformers"):
        load_causal_lm(tmp_path)
