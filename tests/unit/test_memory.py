import os
import subprocess
import sys

import pytest

from gptlib.memory import keep_freed_memory

PROGRAM = """
import resource, torch
from gptlib.memory import keep_freed_memory
if {keep}:
    assert keep_freed_memory()
a = torch.ones(500_000)
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def work():
    for _ in range(10):
        kept = [a + 1 for _ in range(20)]  # 40 MB
        del kept
work()
before = faults()
work()
print(faults() - before)
"""


@pytest.mark.skipif(not keep_freed_memory(), reason="this system's C library is not glibc: nothing to set")
def test_memory_that_was_freed_is_used_again_without_asking_the_system():
    def new_pages(keep):
        # Held at its default: left to itself, glibc raises this threshold as blocks are freed, and then
        # keeps them or not, as it happens. What keep_freed_memory sets comes later, and counts.
        system = os.environ | {"MALLOC_MMAP_THRESHOLD_": str(128 * 1024)}
        command = [sys.executable, "-c", PROGRAM.format(keep=keep)]
        ran = subprocess.run(command, env=system, capture_output=True, text=True, check=True)
        return int(ran.stdout)

    # Blocks that the heap has cut up in between may be mapped anew now and then: a share, not a count.
    assert new_pages(True) < 0.25 * new_pages(False)
