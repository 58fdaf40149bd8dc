"""Train the model that runs in the page "BabyGPT in your browser", and keep it here: `make demo`.

It is chapter 1's BabyGPT: the same text, tokenizer, model, recipe and seeds, but more steps than a chapter
has minutes for. A test compares both. The book is built from the files that this leaves in its folder:
the weights, packed, the tokenizer, and about.json, which says what made them.
"""

import json
from dataclasses import asdict
from pathlib import Path

from gptlib.budget import Budget
from gptlib.checkpoints import pack, set_weights, unpack, weights
from gptlib.corpora import python_docs
from gptlib.model import GPT, GPTConfig
from gptlib.record import provenance
from gptlib.tokenizers import BPETokenizer, bits_per_character, encode_corpus
from gptlib.training import TrainConfig, evaluate, train

FOLDER = Path(__file__).parent
VOCAB_SIZE = 2048
CONFIG = GPTConfig.modern(VOCAB_SIZE, context_length=128, n_layer=4, n_head=4, n_embd=128)
RECIPE = TrainConfig(steps=600, batch_size=16, eval_every=100)
SEED = 0  # of the weights at the start; RECIPE has that of the batches


def main() -> None:
    """Train, pack the weights, measure what is left of them, write the three files."""
    budget, corpus = Budget.detect(), python_docs()
    tokenizer = BPETokenizer.train(corpus.train, VOCAB_SIZE)
    data = encode_corpus(corpus, tokenizer)
    model = GPT(CONFIG, SEED)
    final = train(model, data, RECIPE, budget).final
    packed = pack(weights(model))
    set_weights(model.cpu(), unpack(packed))
    loss = evaluate(model, data.validation)
    about = {
        "config": asdict(CONFIG),
        "training": asdict(RECIPE),
        "seed": SEED,
        "params": model.n_params,
        "tokens": final.tokens,
        "flops": final.flops,
        "corpus": corpus.fingerprint,
        "characters": len(corpus.train),
        "validation_loss": loss,  # nats per token, of the packed weights on the whole validation text
        "validation_bits_per_character": bits_per_character(loss, data.characters_per_token),
        **provenance(final.seconds / 60, budget),
    }
    (FOLDER / "babygpt.safetensors.xz").write_bytes(packed)
    tokenizer.save(FOLDER / "tokenizer.json")
    (FOLDER / "about.json").write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
    print(f"{final.seconds:.0f} seconds, {about['validation_bits_per_character']:.3f} bits per character")


if __name__ == "__main__":
    main()
