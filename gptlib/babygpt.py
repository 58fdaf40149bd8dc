"""The book's pre-trained model: a BabyGPT that has read Python's documentation, trained once and kept."""

from dataclasses import asdict, dataclass
from hashlib import sha256

from gptlib.budget import Budget
from gptlib.corpora import Corpus, cached
from gptlib.history import History
from gptlib.model import GPT, GPTConfig
from gptlib.tokenizers import BPETokenizer, EncodedCorpus, encode_corpus
from gptlib.training import TrainConfig, train

VOCAB_SIZE = 2048


@dataclass(frozen=True)
class BabyGPT:
    """A trained model with all that goes with it."""

    model: GPT
    tokenizer: BPETokenizer
    data: EncodedCorpus
    history: History  # of its training, also where that was in an earlier session


def babygpt(corpus: Corpus, budget: Budget | None = None, seed: int = 0) -> BabyGPT:
    """Train the book's model on a corpus, or fetch it from the cache when it was trained before.

    About one million parameters, two minutes, on two CPU cores; eight million on a GPU. Interrupted, it
    goes on from its newest checkpoint. It is kept in GPTLIB_CACHE, else the user's cache folder, under a
    name that changes with the text and with the settings; delete that folder to train anew. Of several
    processes that ask for it at once, one trains and the others wait. Raises KeyboardInterrupt when the
    training is stopped before its end; OSError, naming GPTLIB_CACHE, when the cache cannot be used.
    """
    budget = budget or Budget.detect()
    tokenizer = BPETokenizer.train(corpus.train, VOCAB_SIZE)
    data = encode_corpus(corpus, tokenizer)
    sizes = budget.pick(
        cpu=dict(n_layer=4, n_head=4, n_embd=128), gpu=dict(n_layer=6, n_head=6, n_embd=384, dropout=0.1)
    )
    # Tied: the output's gradients then also teach the embeddings, from which fine-tuning starts.
    config = GPTConfig.modern(tokenizer.vocab_size, tie_embeddings=True, **sizes)
    how = TrainConfig(steps=budget.pick(cpu=800, gpu=2000), batch_size=budget.pick(cpu=16, gpu=64), seed=seed)
    model = GPT(config, seed)
    name = sha256(repr((corpus.fingerprint, asdict(config), asdict(how))).encode()).hexdigest()[:12]
    with cached(f"babygpt-{corpus.name}-{name}") as folder:
        history = train(model, data, how, budget, checkpoint_dir=folder, resume=True).finished()
    return BabyGPT(model.eval(), tokenizer, data, history)
