"""BabyGPT in its page: loaded on a click, the same numbers as gptlib, and plain words where it cannot run."""

import ast
import json
import math
import re
import sys
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import pytest
import torch
from built import ROOT, SITE
from playwright.sync_api import expect

from gptlib.model import GPTConfig
from gptlib.sampling import next_token_probabilities
from gptlib.tokenizers import BPETokenizer
from gptlib.training import TrainConfig

sys.path[:0] = [str(ROOT / "book" / "_ext"), str(ROOT / "book" / "demo")]
demo, recipe = import_module("demo"), import_module("train")

HEAVY = ("babygpt.onnx", "tokenizer.json", ".wasm", "ort.wasm.min.mjs")
READY = 60_000  # milliseconds until the model has started, at most
PROMPT = "Return the absolute"
TEXTS = [
    "",
    PROMPT,
    'def read(self, size=-1):\n    """Read up to size bytes',
    "it's we've I'll they'd 'tis x's",
    "trailing blanks   \n\n\n  \t and\ttabs \r\n",
    "    ",
    "1234567890 3.14159 x1y2z3",
    "naïve Straße Ελληνικά Привет 你好 मानक",
    "emoji 👩‍👩‍👧 and 🇨🇭 flags",
    "no-break\u00a0space thin\u2009space next\u0085line ideographic\u3000space",
    "byte order mark \ufeff inside, \u200b zero width",
    "\ufeffbyte order mark first",
    "<|endoftext|>", "a<|endoftext|>b <|endoftext|>", "<|endof text|>",
    "!!! ??? ... --- === >>> (((x))) [1:2] {3: 4} \\ / | ~ ` @ # $ % ^ & *",
    "\x00\x01\x7f control",
    "supercalifragilisticexpialidocious" * 3,
]  # fmt: skip


@pytest.fixture(scope="module")
def model():
    return demo.load()


@pytest.fixture(scope="module")
def tokenizer():
    return BPETokenizer.load(demo.DEMO / "tokenizer.json")


@pytest.fixture
def visit(browser, site_url):
    """Return a function that opens the page, unloaded, after what it is given did something to it."""
    contexts = []

    def open_page(prepare=lambda page: None):
        contexts.append(browser.new_context())
        page = contexts[-1].new_page()
        page.failures = []
        page.on("pageerror", lambda error: page.failures.append(str(error)))
        prepare(page)
        page.goto(f"{site_url}{demo.PAGE}.html")
        return page

    yield open_page
    for context in contexts:
        context.close()


@pytest.fixture(scope="module")
def shared(browser, site_url):
    """A page in which the model runs; each test writes its own prompt."""
    context = browser.new_context()
    page = context.new_page()
    page.goto(f"{site_url}{demo.PAGE}.html")
    page.click(".load")
    expect(page.locator(".playground")).to_be_visible(timeout=READY)
    yield page
    context.close()


def ask(page, prompt, temperature="1", top_k="50"):
    """Write a prompt and set the sliders, then wait until the bars answer this prompt."""
    page.fill("#babygpt-temperature", temperature)
    page.fill("#babygpt-top-k", top_k)
    page.fill("#babygpt-prompt", "")
    expect(page.locator(".count")).to_contain_text("Write something")
    page.locator(".bars").evaluate("bars => bars.replaceChildren()")
    page.fill("#babygpt-prompt", prompt)
    page.wait_for_selector(".bars button")


def write(page, tokens=40, seed=0):
    """Generate, and return what was written, prompt included."""
    page.fill(".length", str(tokens))
    page.fill(".seed", str(seed))
    page.click(".generate")
    expect(page.locator(".status")).to_contain_text(f"Wrote {tokens} tokens", timeout=READY)
    return page.locator(".text").text_content()


def mulberry32(seed):
    """The generator of sampling.js."""
    state = seed
    while True:
        state = (state + 0x6D2B79F5) & 0xFFFFFFFF
        t = (state ^ state >> 15) * (state | 1) & 0xFFFFFFFF
        t ^= t + ((t ^ t >> 7) * (t | 61) & 0xFFFFFFFF) & 0xFFFFFFFF
        yield ((t ^ t >> 14) & 0xFFFFFFFF) / 2**32


@torch.no_grad()
def continued(model, ids, tokens, temperature, top_k, seed):
    """Continue ids by drawing as sampling.js does, from gptlib's probabilities."""
    ids, numbers = list(ids), mulberry32(seed)
    for _ in range(tokens):
        logits = model(torch.tensor([ids[-model.context_length :]]))[0, -1:]
        p = next_token_probabilities(logits.double(), temperature, top_k)[0]
        best, order = p.sort(descending=True, stable=True)
        u, reached = next(numbers), best.cumsum(0)
        ids.append(order[min(int((reached <= u).sum()), top_k - 1)].item())
    return ids


def test_the_model_in_the_page_is_chapter_1s_trained_for_longer():
    notebook = json.loads((ROOT / "notebooks" / "01_babygpt.ipynb").read_text(encoding="utf-8"))
    sources = ["".join(cell["source"]) for cell in notebook["cells"]]
    [cell] = [source for source in sources if re.search(r"^recipe = TrainConfig", source, re.MULTILINE)]

    class Budget:
        def pick(self, cpu, gpu):
            return cpu

    class Pieces:
        vocab_size = recipe.VOCAB_SIZE

    names = {"GPTConfig": GPTConfig, "TrainConfig": TrainConfig, "budget": Budget(), "pieces": Pieces}
    kept = [
        node
        for node in ast.parse(cell).body
        if isinstance(node, ast.Assign) and node.targets[0].id in ("shape", "config", "recipe")
    ]
    exec(compile(ast.Module(kept, []), "01_babygpt", "exec"), names)
    assert names["config"] == recipe.CONFIG and names["recipe"].steps <= recipe.RECIPE.steps
    assert replace(names["recipe"], steps=recipe.RECIPE.steps) == recipe.RECIPE
    [line] = [s for s in sources if re.search(r"^pieces = ", s, re.MULTILINE)]
    assert f"pieces = BPETokenizer.train(corpus.train, vocab_size={recipe.VOCAB_SIZE})" in line
    [made] = [s for s in sources if re.search(r"^babygpt = ", s, re.MULTILINE)]
    assert "babygpt = GPT(config)\n" in made and recipe.SEED == 0  # GPT's own default
    assert "history = train(babygpt, piece_data, recipe, budget)" in made


def test_the_kept_model_is_what_the_recipe_makes(model):
    about = demo.about()
    assert GPTConfig(**about["config"]) == recipe.CONFIG
    training = {name: tuple(v) if isinstance(v, list) else v for name, v in about["training"].items()}
    assert TrainConfig(**training) == recipe.RECIPE and about["seed"] == recipe.SEED
    assert about["params"] == model.n_params


def test_the_page_states_the_numbers_of_the_kept_model():
    page = (SITE / f"{demo.PAGE}.html").read_text(encoding="utf-8")
    assert f"{demo.about()['params']:,} parameters" in page
    assert f"{demo.about()['validation_bits_per_character']:.2f} bits per character" in page


def test_nothing_of_the_model_is_fetched_before_the_click(visit):
    fetched = []
    page = visit(lambda page: page.on("request", lambda request: fetched.append(request.url)))
    expect(page.locator(".load")).to_be_visible()
    page.wait_for_load_state("networkidle")
    assert fetched and not [url for url in fetched if url.endswith(HEAVY)]
    page.click(".load")
    expect(page.locator(".playground")).to_be_visible(timeout=READY)
    assert all(any(url.endswith(name) for url in fetched) for name in HEAVY)


def test_loading_shows_how_far_it_is(visit):
    page = visit()
    page.evaluate("""() => {
      window.seen = [];
      const loaded = document.querySelector(".loaded"), bar = document.querySelector("progress");
      const note = () => window.seen.push([bar.value, bar.max]);
      new MutationObserver(note).observe(loaded, { childList: true });
    }""")
    expect(page.get_by_role("progressbar")).to_have_count(0)
    page.click(".load")
    expect(page.locator(".status")).to_have_text("BabyGPT is ready.", timeout=READY)
    seen = page.evaluate("window.seen")
    values = [value for value, _ in seen]
    assert len(values) > 2 and values == sorted(values) and 0 < values[0] < values[-1]
    assert values[-1] == seen[-1][1]  # the bar is full: all that was promised has come, and no more
    assert not page.failures


@pytest.mark.parametrize(("temperature", "top_k"), [("1", "200"), ("0.5", "50"), ("1.5", "5"), ("0", "50")])
def test_the_bars_are_gptlibs_probabilities(shared, model, tokenizer, temperature, top_k):
    told = []
    for prompt in (PROMPT, PROMPT + " value"):
        ask(shared, prompt, temperature, top_k)
        with torch.no_grad():
            logits = model(torch.tensor([tokenizer.encode(prompt)]))[:, -1]
        p = next_token_probabilities(logits, float(temperature), int(top_k))[0].sort(descending=True).values
        shown = [
            float(text.removesuffix(" %")) / 100 for text in shared.locator(".percent").all_text_contents()
        ]
        assert len(shown) == (1 if temperature == "0" else min(10, int(top_k)))
        assert shown == pytest.approx(p[: len(shown)].tolist(), abs=1e-3)
        told.append(shared.locator(".bars").inner_text())
    assert told[0] != told[1]


def test_a_pressed_bar_is_appended(shared, model, tokenizer):
    ask(shared, PROMPT)
    with torch.no_grad():
        best = model(torch.tensor([tokenizer.encode(PROMPT)]))[0, -1].argmax().item()
    shared.locator(".bars button").first.click()
    expect(shared.locator("#babygpt-prompt")).to_have_value(PROMPT + tokenizer.decode([best]))


def test_the_tokenizers_are_one(shared, tokenizer):
    texts = [*TEXTS, *(tokenizer.decode(list(range(start, start + 61))) for start in range(0, 1950, 61))]
    found = shared.evaluate(
        """async ({ base, texts }) => {
          const { BPE } = await import(`${base}bpe.js`);
          const bpe = new BPE(await (await fetch(`${base}tokenizer.json`)).json());
          return texts.map((text) => [bpe.encode(text), bpe.decode(bpe.encode(text))]);
        }""",
        {"base": shared.evaluate("new URL('../_static/demo/', location.href).href"), "texts": texts},
    )
    assert [ids for ids, _ in found] == [tokenizer.encode(text) for text in texts]
    assert [text for _, text in found] == texts


def test_bytes_that_are_no_text_are_shown_alike(shared, tokenizer):
    halves = [tokenizer.encode("é")[:1], tokenizer.encode("👩")[:2] + tokenizer.encode("x")]
    found = shared.evaluate(
        """async ({ base, halves }) => {
          const { BPE } = await import(`${base}bpe.js`);
          const bpe = new BPE(await (await fetch(`${base}tokenizer.json`)).json());
          return halves.map((ids) => bpe.decode(ids));
        }""",
        {"base": shared.evaluate("new URL('../_static/demo/', location.href).href"), "halves": halves},
    )
    assert found == [tokenizer.decode(ids) for ids in halves] and "�" in found[0]


@pytest.mark.parametrize(
    ("temperature", "top_k", "seed"), [("0", "1", 0), ("1", "50", 7), ("1.5", "200", 4_294_967_295)]
)
def test_it_writes_what_gptlib_would(shared, model, tokenizer, temperature, top_k, seed):
    ask(shared, PROMPT, temperature, top_k)
    ids = continued(model, tokenizer.encode(PROMPT), 40, float(temperature), int(top_k), seed)
    assert write(shared, 40, seed) == tokenizer.decode(ids)


def test_past_the_context_it_reads_the_end(shared, model, tokenizer):
    prompt = "".join(f"x{i} = {i}\n" for i in range(40))
    assert len(tokenizer.encode(prompt)) > model.context_length
    ask(shared, prompt, "1", "50")
    expect(shared.locator(".count")).to_contain_text("reads the last 128")
    ids = continued(model, tokenizer.encode(prompt), 10, 1.0, 50, 3)
    assert write(shared, 10, 3) == tokenizer.decode(ids)


def test_stop_stops(shared):
    ask(shared, PROMPT)
    shared.fill(".length", "1000")
    shared.click(".generate")
    expect(shared.locator(".text .new")).not_to_be_empty(timeout=READY)
    shared.keyboard.press("Enter")  # the focus is on Stop
    expect(shared.locator(".generate")).to_be_enabled(timeout=READY)
    [count] = re.findall(r"Wrote (\d+) tokens", shared.locator(".status").inner_text())
    assert 0 < int(count) < 1000
    expect(shared.locator(".speed")).to_have_text(re.compile(r"^[1-9]\d* tokens per second$"))


def test_attention_is_gptlibs_and_its_rows_sum_to_one(shared, model, tokenizer):
    ids = tokenizer.encode(PROMPT + " pathname of the file")
    found = shared.evaluate(
        """async ({ base, ids }) => {
          const { load } = await import(`${base}model.js`);
          const { attention } = await (await load()).run(ids);
          return [attention.dims, Array.from(attention.data)];
        }""",
        {"base": shared.evaluate("new URL('../_static/demo/', location.href).href"), "ids": ids},
    )
    maps = torch.tensor(found[1]).view(*found[0])
    torch.testing.assert_close(maps, model.attention_maps(torch.tensor([ids]))[:, 0], atol=1e-4, rtol=0)
    torch.testing.assert_close(maps.sum(-1), torch.ones(maps.shape[:-1]), atol=1e-4, rtol=0)
    assert maps.triu(1).abs().max() == 0


def test_the_page_tells_what_a_head_reads(shared, model, tokenizer):
    ask(shared, PROMPT)
    maps = model.attention_maps(torch.tensor([tokenizer.encode(PROMPT)]))[:, 0]
    shared.get_by_role("button", name="layer 1, head 2").click()
    expect(shared.get_by_role("button", name="layer 1, head 2")).to_have_attribute("aria-pressed", "true")
    most = maps[1, 2, -1].max().item()
    told = shared.locator(".reading").inner_text()
    assert f" {100 * most:.1f} %" in told and told.startswith("In layer 1, head 2")
    before = maps[1, 2].diagonal(-1).mean().item()
    assert math.isclose(float(re.findall(r"puts ([\d.]+) %", told)[0]), 100 * before, abs_tol=0.1)


def test_a_browser_without_webassembly_is_told(visit):
    page = visit(lambda page: page.add_init_script("delete window.WebAssembly"))
    expect(page.locator(".status")).to_contain_text("no WebAssembly,")
    expect(page.locator(".load")).to_be_hidden()
    assert not page.failures


def test_a_browser_without_vector_instructions_is_told(visit):
    page = visit(lambda page: page.add_init_script("WebAssembly.validate = () => false"))
    expect(page.locator(".status")).to_contain_text("no WebAssembly SIMD")
    expect(page.locator(".load")).to_be_hidden()


def test_a_failed_download_can_be_tried_again(visit):
    page = visit()
    page.route("**/babygpt.onnx", lambda route: route.abort())
    page.click(".load")
    expect(page.locator(".status")).to_contain_text("could not be loaded")
    page.unroute("**/babygpt.onnx")
    page.get_by_role("button", name="Retry").click()
    expect(page.locator(".playground")).to_be_visible(timeout=READY)
    assert not page.failures


def test_a_file_that_is_missing_is_named(visit):
    page = visit()
    page.route("**/tokenizer.json", lambda route: route.fulfill(status=404, body="not here"))
    page.click(".load")
    expect(page.locator(".status")).to_contain_text("tokenizer.json answered 404")


def test_from_the_file_system_the_page_says_how_to_serve_it(browser):
    page = browser.new_page()
    page.goto(Path(SITE / f"{demo.PAGE}.html").resolve().as_uri())
    expect(page.locator(".babygpt .wait")).to_be_visible()
    expect(page.locator(".babygpt .wait")).to_contain_text("make serve")
    expect(page.locator(".load")).to_be_hidden()
    page.close()
