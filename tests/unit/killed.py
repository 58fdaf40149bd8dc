"""Train in a child process and kill it, at random moments or at each step of writing a checkpoint.

Run by test_checkpoints.py in a process of its own, since a fork wants a torch that has no threads yet.
Prints, as JSON, how often a child was killed and whether the run that was started again and again
ended as one that was left alone.
"""

import json
import os
import random
import signal
import sys
import tempfile
import time
import traceback
from pathlib import Path

import torch

from gptlib import checkpoints
from gptlib.budget import Budget
from gptlib.model import GPT, GPTConfig
from gptlib.tokenizers import EncodedCorpus
from gptlib.training import TrainConfig, train

CPU = Budget("cpu", torch.device("cpu"), torch.float32)
CONFIG = TrainConfig(steps=30, batch_size=4, eval_every=7)
MOMENTS = ("mkdir", "save_file", "_sync", "rename", "_remove")  # of writing a checkpoint


def run(folder: Path, out: Path) -> None:
    """Train, or go on training, and leave weights and losses in a file."""
    torch.set_num_threads(1)
    ids = torch.randint(20, (2000,), generator=torch.Generator().manual_seed(0))
    model = GPT(GPTConfig.modern(20, context_length=8, n_layer=1, n_head=2, n_embd=8, dropout=0.1))
    data = EncodedCorpus(ids, ids[:200], 1.0, 1.0, 20)
    history = train(model, data, CONFIG, CPU, checkpoint_dir=folder, checkpoint_every=1, resume=True)
    losses = [
        [(r.step, r.tokens, r.loss) for r in records] for records in (history.train, history.validation)
    ]
    torch.save({"weights": checkpoints.weights(model), "losses": losses}, out)


def die_at(moment: str, call: int) -> None:
    """Let this process kill itself at the n-th call of one of the steps of writing, half of them after it."""
    where = {"mkdir": Path, "rename": os}.get(moment, checkpoints)
    real, left = getattr(where, moment), [call]

    def dying(*args, **kwargs):
        left[0] -= 1
        if left[0] == 0 and call % 2:
            os.kill(os.getpid(), signal.SIGKILL)
        result = real(*args, **kwargs)
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(where, moment, dying)


def child(folder: Path, out: Path, moment: tuple | None = None) -> int:
    """Fork a process that trains."""
    pid = os.fork()
    if pid:
        return pid
    try:
        if moment:
            die_at(*moment)
        run(folder, out)
        os._exit(0)
    except BaseException:
        traceback.print_exc()
        os._exit(1)


def main() -> None:
    """Kill as often as asked, then let the run end, and compare."""
    os.environ["TQDM_DISABLE"] = "1"
    how, kills, draw = sys.argv[1], int(sys.argv[2]), random.Random(0)
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        began = time.monotonic()
        os.waitpid(child(root / "alone", root / "alone.pt"), 0)
        whole = time.monotonic() - began
        killed, n, seen = 0, 0, set()
        while killed < kills:
            n += 1
            folder = root / f"often-{n // 4}"  # a run that has come to its end can no longer be killed
            if how == "random":
                pid = child(folder, root / "ignored.pt")
                time.sleep(draw.uniform(0, whole))
                os.kill(pid, signal.SIGKILL)
            else:
                pid = child(folder, root / "ignored.pt", (MOMENTS[n % len(MOMENTS)], 1 + draw.randrange(8)))
            killed += os.WIFSIGNALED(os.waitpid(pid, 0)[1])
            seen |= {path.name for path in checkpoints.all_in(folder)}
        same = []
        for folder in sorted(root.glob("often-*")):
            os.waitpid(child(folder, root / "often.pt"), 0)
            alone, often = torch.load(root / "alone.pt"), torch.load(root / "often.pt")
            weights = all(torch.equal(alone["weights"][k], often["weights"][k]) for k in alone["weights"])
            same.append(weights and alone["losses"] == often["losses"])
            left = sorted(path.name for path in folder.iterdir())
            same.append(left == ["step-00000029", "step-00000030"])
            (root / "often.pt").unlink()
        print(
            json.dumps(
                {"killed": killed, "checkpoints": len(seen), "same": all(same), "runs": len(same) // 2}
            )
        )


if __name__ == "__main__":
    main()
