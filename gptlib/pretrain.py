"""Pre-train a GPT from the command line, on one machine or, under torchrun, on all its GPUs.

python -m gptlib.pretrain --preset babygpt --out runs/first
torchrun --nproc-per-node=8 -m gptlib.pretrain --preset gpt2 --corpus my_text.txt --out runs/gpt2
"""

import argparse
import json
import sys
from pathlib import Path

from gptlib.budget import Budget
from gptlib.corpora import Corpus, python_docs, python_source, shakespeare, text_file
from gptlib.distributed import process_group, rank, wait_for_all
from gptlib.files import expanded
from gptlib.history import History, Record
from gptlib.model import GPT, GPTConfig
from gptlib.progress import say
from gptlib.sampling import generate
from gptlib.tokenizers import BPETokenizer, bits_per_character, encode_corpus
from gptlib.training import TrainConfig, train

CORPORA = {"python_docs": python_docs, "python_source": python_source, "shakespeare": shakespeare}
# Sizes of the model; tokens of the vocabulary; windows a forward pass, forward passes an update, steps.
PRESETS = {
    "babygpt": (
        GPTConfig.modern,
        dict(context_length=128, n_layer=4, n_head=4, n_embd=128),
        2048,
        (16, 1, 1000),
    ),
    "gpt2": (
        GPTConfig.gpt2,
        dict(context_length=1024, n_layer=12, n_head=12, n_embd=768),
        50_257,
        (32, 16, 5000),
    ),
    "modern": (
        GPTConfig.modern,
        dict(context_length=1024, n_layer=12, n_head=6, n_embd=768),
        50_257,
        (32, 16, 5000),
    ),
}


def parser() -> argparse.ArgumentParser:
    """Return what the command line may say."""
    p = argparse.ArgumentParser(
        prog="python -m gptlib.pretrain",
        description="Train a GPT to predict the next token of a text, and keep checkpoints of it. Started "
        "again with the same arguments, it goes on where it was stopped. For several GPUs of one machine: "
        "torchrun --nproc-per-node=8 -m gptlib.pretrain, and the same arguments.",
    )
    p.add_argument(
        "--preset",
        choices=PRESETS,
        default="babygpt",
        help="the model: babygpt takes minutes on a "
        "laptop; gpt2 has the shape of GPT-2 124M, modern its size with today's choices; both want a GPU",
    )
    p.add_argument(
        "--corpus",
        default="python_docs",
        metavar="NAME|FILE",
        help=f"what to read: {', '.join(CORPORA)}, or a text file of yours (UTF-8); default: python_docs",
    )
    p.add_argument(
        "--out",
        type=expanded,
        required=True,
        metavar="FOLDER",
        help="where checkpoints, tokenizer and losses are written; two checkpoints are kept",
    )
    p.add_argument("--layers", type=int, help="transformer blocks; default: the preset's")
    p.add_argument("--heads", type=int, help="attention heads a block; default: the preset's")
    p.add_argument("--width", type=int, help="channels; default: the preset's")
    p.add_argument(
        "--context", type=int, help="tokens that a prediction may look back on; default: the preset's"
    )
    p.add_argument(
        "--vocabulary",
        type=int,
        help="tokens of the byte-pair encoding that is learned from the "
        "corpus; fewer where the text has no more pairs to merge; default: the preset's",
    )
    p.add_argument("--steps", type=int, help="updates of the weights; default: the preset's")
    p.add_argument(
        "--batch",
        type=int,
        help="windows of text read at once, by all GPUs together; default: the "
        "preset's. Out of memory? Halve it, and double --accumulate",
    )
    p.add_argument(
        "--accumulate",
        type=int,
        help="batches whose gradients are added up for one update; default: the preset's",
    )
    p.add_argument(
        "--optimizer",
        choices=("muon", "adamw"),
        default="muon",
        help="muon moves the hidden matrices "
        "with Muon and the rest with AdamW; adamw moves all with AdamW; default: muon",
    )
    p.add_argument(
        "--lr",
        type=float,
        help=f"AdamW's peak learning rate; default: {TrainConfig.lr} beside Muon, 0.0006 alone",
    )
    p.add_argument(
        "--muon-lr",
        type=float,
        default=TrainConfig.muon_lr,
        help="Muon's peak learning rate; default: %(default)s",
    )
    p.add_argument("--warmup", type=int, default=0, help="steps over which the rates rise; default: 0")
    p.add_argument("--seed", type=int, default=0, help="of the weights and of the batches; default: 0")
    p.add_argument("--checkpoint-every", type=int, default=100, metavar="STEPS", help="default: 100")
    p.add_argument(
        "--compile",
        action="store_true",
        help="compile the model first: takes a minute, and makes long runs on a GPU faster",
    )
    return p


def main(arguments: list[str] | None = None) -> None:
    """Train as the command line says; print the losses on the way and, at the end, one line of JSON."""
    args = parser().parse_args(arguments)
    try:
        with process_group(Budget.detect().device):
            _pretrain(args)
    except (ValueError, OSError) as error:
        sys.exit(f"gptlib.pretrain: {error}")
    except KeyboardInterrupt as stopped:
        sys.exit(
            f"gptlib.pretrain: {stopped or 'stopped'}; the same command goes on from the last checkpoint"
        )


def _pretrain(args: argparse.Namespace) -> None:
    choices, sizes, vocabulary, (batch, accumulate, steps) = PRESETS[args.preset]
    given = dict(context_length=args.context, n_layer=args.layers, n_head=args.heads, n_embd=args.width)
    sizes = sizes | {name: value for name, value in given.items() if value is not None}
    alone = args.optimizer == "adamw"
    config = TrainConfig(
        steps=steps if args.steps is None else args.steps,
        batch_size=batch if args.batch is None else args.batch,
        accumulate=accumulate if args.accumulate is None else args.accumulate,
        optimizer=args.optimizer,
        lr=args.lr if args.lr is not None else 0.0006 if alone else TrainConfig.lr,
        muon_lr=args.muon_lr,
        weight_decay=0.1 if alone else 0.0,
        warmup=args.warmup,
        seed=args.seed,
        compile=args.compile,
    )
    corpus = _corpus(args.corpus)
    tokenizer = _tokenizer(corpus, vocabulary if args.vocabulary is None else args.vocabulary, args.out)
    data = encode_corpus(corpus, tokenizer)
    model = GPT(choices(tokenizer.vocab_size, **sizes), args.seed)
    if rank() == 0:
        say(f"{model.n_params:,} parameters, {len(data.train):,} tokens to learn from")

    def tell(record: Record) -> None:
        say(f"step {record.step}: validation loss {record.loss:.4f}, {record.seconds:.0f} s")

    history = train(
        model,
        data,
        config,
        on_evaluation=tell,
        checkpoint_dir=args.out,
        checkpoint_every=args.checkpoint_every,
        resume=True,
    ).finished()
    if rank() == 0:
        _tell_result(args.out, model, corpus, tokenizer, history, data.characters_per_token)


def _tell_result(
    out: Path, model: GPT, corpus: Corpus, tokenizer: BPETokenizer, history: History, per_token: float
) -> None:
    """Write the losses, then show a sample and print the result: what cannot be shown loses nothing."""
    (out / "history.json").write_text(json.dumps(history.as_rows()), encoding="utf-8")
    bits = bits_per_character(history.final.loss, per_token)
    try:
        say(generate(model, corpus.validation[:20], tokenizer, max_tokens=60, temperature=0.7))
    except (ValueError, RuntimeError) as error:
        say(f"no sample could be written: {error}")
    say(json.dumps({"loss": history.final.loss, "bits_per_character": bits, "out": str(out)}))


def _corpus(name: str) -> Corpus:
    if name in CORPORA:
        return CORPORA[name]()
    if not expanded(name).is_file():
        raise ValueError(f"--corpus is {', '.join(CORPORA)}, or a file; there is no file {name!r}")
    return text_file(name)


def _tokenizer(corpus: Corpus, vocabulary: int, folder: Path) -> BPETokenizer:
    """Let the first process learn the tokenizer, and keep it beside the checkpoints; the others read it."""
    path = folder / f"tokenizer-{corpus.fingerprint}-{vocabulary}.json"
    if rank() == 0 and not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        BPETokenizer.train(corpus.train, vocabulary).save(partial)
        partial.replace(path)
    wait_for_all()
    return BPETokenizer.load(path)


if __name__ == "__main__":
    main()
