"""Compile devices.cpp once and load it, before torch: torch asks for its GPU when it is imported.

Why it exists: these few lines are all of the fake GPUs that Python cannot say.
"""

import ctypes
import hashlib
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

SOURCE = Path(__file__).with_name("devices.cpp")
BUILT = Path(__file__).parents[2] / "_build" / "gpu"


def library(kind: str) -> Path:
    """Return the compiled stand-ins for "cuda" or "mps", made anew for another source or torch."""
    torch = Path(importlib.util.find_spec("torch").origin).parent  # found, not imported
    made_of = SOURCE.read_bytes() + (torch / "version.py").read_bytes()
    built = BUILT / f"{kind}-{hashlib.sha256(made_of).hexdigest()[:12]}.so"
    if not built.exists():
        BUILT.mkdir(parents=True, exist_ok=True)
        temporary = built.with_suffix(f".{os.getpid()}")
        paths = [f"-I{torch}/include", f"-L{torch}/lib", f"-Wl,-rpath,{torch}/lib"]
        how = ["-O0", "-std=c++20", "-fPIC", "-shared", f"-DFAKE_{kind.upper()}"]
        subprocess.run(["g++", *how, SOURCE, "-o", temporary, *paths, "-lc10", "-ltorch_cpu"], check=True)
        os.replace(temporary, built)
    return built


def load(kind: str) -> None:
    """Put the stand-ins where torch will find them. Raises RuntimeError when it has been imported already."""
    if "torch" in sys.modules:
        raise RuntimeError("torch has looked for a GPU already: import the fake one first")
    ctypes.CDLL(str(library(kind)), ctypes.RTLD_GLOBAL)
