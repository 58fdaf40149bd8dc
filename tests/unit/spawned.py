"""Train in this process, one of those that torchrun started or the only one; write what came out.

Run by test_distributed.py as `spawned.py OUT CHECKPOINTS STEPS`: it stops early, as if killed, after STEPS.
"""

import json
import sys
from pathlib import Path

import torch
from torch.nn.parallel import DistributedDataParallel

from gptlib.budget import Budget
from gptlib.distributed import rank
from gptlib.model import GPT, GPTConfig
from gptlib.tokenizers import EncodedCorpus
from gptlib.training import TrainConfig, train

CPU = Budget("cpu", torch.device("cpu"), torch.float32)


def main() -> None:
    out, folder, stop = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    ids = torch.randint(20, (2000,), generator=torch.Generator().manual_seed(0))
    data = EncodedCorpus(ids, ids[:500], 1.0, 1.0, 20)
    model = GPT(GPTConfig.modern(20, context_length=8, n_layer=2, n_head=2, n_embd=16))
    config = TrainConfig(steps=12, batch_size=4, accumulate=2, eval_every=4, lr=0.01)
    ranks, unshared = [], []
    no_sync = DistributedDataParallel.no_sync
    DistributedDataParallel.no_sync = lambda model: unshared.append(1) or no_sync(model)

    def watch(record):
        ranks.append(rank())
        if record.step == stop:
            raise SystemExit(3)

    history = train(model, data, config, CPU, watch, checkpoint_dir=folder, checkpoint_every=3, resume=True)
    told = {"train": [r.loss for r in history.train], "validation": [r.loss for r in history.validation]}
    if ranks:
        out.write_text(json.dumps(told | {"ranks": ranks, "unshared": len(unshared)}))


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
