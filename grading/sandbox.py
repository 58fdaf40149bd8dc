"""The wall around a student's process: bubblewrap where it works, another user where it does not.

Inside bubblewrap there is no network, an empty file system in memory beside the programs (read-only), and
no process but the student's own.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import gptlib
from grading.wire import Channel, Died

HERE = Path(__file__).parent
SEEN = ("__init__.py", "wire.py", "student.py")  # of the grader, by the student's process
NOBODY = 65534  # the user that owns nothing
SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/etc/alternatives", "/etc/ld.so.cache")


@dataclass(frozen=True)
class Limits:
    """What a submission may use."""

    cell: float = 60.0  # seconds of work, a cell
    test: float = 20.0  # seconds of work, a call of the student's in a test
    waits: float = 3.0  # times as long by the clock, then the process is ended
    total: float = 900.0  # seconds by the clock, after which nothing new begins
    megabytes: int = 6144  # of addresses, a process; torch alone takes about two thousand
    memory: int = 4096  # MB in use, all processes together
    files: int = 256  # MB, written
    processes: int = 32
    start: float = 120.0  # seconds, until torch is imported


def has_bubblewrap() -> str:
    """Return why bubblewrap cannot be used, or nothing."""
    if not shutil.which("bwrap"):
        return "bubblewrap is not installed: on Debian and Ubuntu, apt install bubblewrap"
    tried = subprocess.run(
        ["bwrap", "--unshare-all", "--ro-bind", "/", "/", "--proc", "/proc", "true"],
        capture_output=True,
        text=True,
        check=False,
    )
    if tried.returncode == 0:
        return ""
    return (
        f"bubblewrap cannot make a sandbox here ({tried.stderr.strip()}): user namespaces are forbidden. "
        "In a container, allow them (--security-opt seccomp=unconfined, or --privileged); "
        "on Ubuntu 24.04 or later, sysctl kernel.apparmor_restrict_unprivileged_userns=0"
    )


def _environment(home: str, path: str) -> dict[str, str]:
    return {
        "HOME": home,
        "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
        "PYTHONPATH": path,
        "PYTHONDONTWRITEBYTECODE": "1",
        "LANG": "C.UTF-8",
        "MPLBACKEND": "agg",
        "MPLCONFIGDIR": home,
        "IPYTHONDIR": home,
        "TQDM_DISABLE": "1",
        "OMP_NUM_THREADS": "1",
        "GPTLIB_BUDGET": "cpu",
    }


def _bubblewrap(submission: Path, limits: Limits) -> tuple[list[str], dict]:
    """Return the command up to Python, and how to start it."""
    package = Path(gptlib.__file__).parent
    visible = {Path(place).resolve() for place in (sys.prefix, sys.base_prefix, package)}
    places = [*SYSTEM, *sorted(map(str, visible)), sys.prefix]
    command = ["bwrap", "--unshare-all", "--die-with-parent", "--new-session", "--cap-drop", "ALL"]
    command += ["--clearenv", "--hostname", "sandbox", "--proc", "/proc", "--dev", "/dev"]
    for tree in ("/tmp", "/home"):
        command += ["--size", str(limits.files << 20), "--tmpfs", tree]
    for place in dict.fromkeys(places):
        if Path(place).is_symlink() and place in SYSTEM:
            command += ["--symlink", os.readlink(place), place]
        elif Path(place).exists():
            command += ["--ro-bind", place, place]
    for name in SEEN:
        command += ["--ro-bind", str(HERE / name), f"/home/grader/grading/{name}"]
    command += ["--ro-bind", str(submission.resolve()), "/home/submission.ipynb", "--chdir", "/tmp"]
    for name, value in _environment("/tmp", "/home/grader").items():
        command += ["--setenv", name, value]
    return [*command, "--"], {}


class Sandbox:
    """One student's process behind a wall, and the channel to it. Use it in a `with`."""

    def __init__(self, submission: Path, limits: Limits, wall: str = "bubblewrap"):
        self.submission, self.limits, self.wall = submission, limits, wall

    def __enter__(self) -> "Sandbox":
        self.folder = tempfile.TemporaryDirectory(prefix="grading-")
        make = _bubblewrap if self.wall == "bubblewrap" else self._another_user
        command, how = make(self.submission, self.limits)
        limits = map(str, (self.limits.megabytes, self.limits.files, self.limits.processes))
        python = [sys.executable, "-m", "grading.student", *limits]
        pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        how |= dict(bufsize=0, start_new_session=True)
        self.process = subprocess.Popen([*command, *python], **pipes, **how)
        self.channel = Channel(self.process.stdout.fileno(), self.process.stdin.fileno())
        self.killed, self.most = "", 0
        self.watch = threading.Thread(target=self._watch, daemon=True)
        self.watch.start()
        try:
            self.channel.receive(self.limits.start)
        except Died:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_) -> None:
        self.kill()
        self.process.wait()
        self.watch.join()
        self.process.stdin.close()
        self.process.stdout.close()
        self.folder.cleanup()

    @property
    def path(self) -> str:
        """Where the student's process finds the notebook."""
        folder = "/home" if self.wall == "bubblewrap" else self.folder.name
        return f"{folder}/submission.ipynb"

    def kill(self) -> None:
        """End the process and all that it started, and nothing that was given one of their numbers since."""
        if self.process.poll() is not None:
            return
        others = [] if self.wall == "bubblewrap" else descendants(self.process.pid)  # it ends all by itself
        family = {pid: born(pid) for pid in others}
        self.process.kill()
        for pid, when in family.items():
            if when and born(pid) == when:
                with suppress(ProcessLookupError):
                    os.kill(pid, 9)

    def _another_user(self, submission: Path, limits: Limits) -> tuple[list[str], dict]:
        """Return how to start Python as nobody, in a folder of its own, where bubblewrap cannot be used."""
        if os.getuid() != 0:
            raise RuntimeError("only root can start a submission as another user")
        folder = Path(self.folder.name)
        (folder / "grading").mkdir()
        for name in SEEN:
            shutil.copy(HERE / name, folder / "grading" / name)
        shutil.copy(submission, folder / "submission.ipynb")
        home = folder / "home"
        home.mkdir()
        for place, mode in ((folder, 0o755), (folder / "submission.ipynb", 0o644), (home, 0o777)):
            place.chmod(mode)
        how = dict(user=NOBODY, group=NOBODY, extra_groups=[], cwd=home)
        return [], how | dict(env=_environment(str(home), str(folder)))

    def _watch(self) -> None:
        """End it where all its processes together are too many, or use too much memory."""
        while self.process.poll() is None:
            family = descendants(self.process.pid)
            used = sum(map(memory, family))
            self.most = max(self.most, used)
            if len(family) > self.limits.processes:
                self.killed = f"it started more than {self.limits.processes} processes"
            elif used > self.limits.memory:
                self.killed = f"it used more than {self.limits.memory} MB of memory"
            if self.killed:
                self.kill()
            time.sleep(0.1)


def descendants(pid: int) -> list[int]:
    """Return the processes that a process has started, and those that these have."""
    children: dict[int, list[int]] = {}
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            try:
                parent = Path(entry.path, "stat").read_text(errors="replace").rpartition(")")[2].split()[1]
            except (OSError, IndexError):  # it has just ended
                continue
            children.setdefault(int(parent), []).append(int(entry.name))
    found = []
    waiting = [pid]
    while waiting:
        new = children.get(waiting.pop(), [])
        found += new
        waiting += new
    return found


def born(pid: int) -> str:
    """Return when a process began, in ticks since the machine did; nothing where there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""


def memory(pid: int) -> float:
    """Return the MB that a process uses for itself, without what it shares with files."""
    try:
        resident, shared = map(int, Path(f"/proc/{pid}/statm").read_text().split()[1:3])
    except (OSError, ValueError):
        return 0.0
    return (resident - shared) * os.sysconf("SC_PAGE_SIZE") / 2**20
