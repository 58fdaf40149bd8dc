"""Make this copy of the book yours: `make adopt REPO=https://github.com/you/fork`.

The repository's address rules from one place, _config.yml. The new one is written there and wherever else it
stands: set-up cells, citation, package, pages. Needs nothing but Python.
"""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
CONFIG = "_config.yml"
# _config.yml comes last: a run that was interrupted can then be started again.
PLACES = ("notebooks/**/*.ipynb", "book/*.md", "*.md", "*.cff", "*.toml", CONFIG)
IN_CONFIG = re.compile(r"^repository:\n(?:[ #].*\n)*?  url: https://github\.com/(\S+)$", re.MULTILINE)
HINT = "run: make adopt REPO=https://github.com/you/fork"


def slug(address: str) -> str:
    """Return the owner/name of a repository on GitHub; raises ValueError for any other address."""
    if not address:
        raise ValueError(f"which repository? {HINT}")
    if not (at := re.match(r"https://([^/]+)/", address)):
        raise ValueError(f"{address} does not start with https:// and a host; {HINT}")
    if at[1] != "github.com":
        raise ValueError(f"{at[1]} is not github.com, and Colab opens notebooks from GitHub alone; {HINT}")
    name = address[at.end() :].removesuffix("/").removesuffix(".git")
    if not re.fullmatch(r"[\w-]+/(?!\.{0,2}$)[\w.-]+", name, re.ASCII):
        raise ValueError(f"{address} must name an owner and a repository, and nothing after them; {HINT}")
    return name


def adopt(root: Path, address: str) -> list[Path]:
    """Write a repository's address wherever the book under `root` names its own; return the files changed.

    A set-up cell is rewritten whatever it names, since one that was merged from another copy names that.
    Raises ValueError when the address is none of a repository on GitHub, or _config.yml names none.
    """
    new = slug(address)
    if not (old := IN_CONFIG.search((root / CONFIG).read_text(encoding="utf-8"))):
        raise ValueError(f"{CONFIG} has no line `url: https://github.com/...` under `repository:`")
    named = re.compile(
        r"(gptlib @ git\+https://github\.com/)[\w-]+/[\w.-]*[\w-]"
        rf"|((?:github\.com|google\.com/github)/){re.escape(old[1])}(?![\w-]|\.(?!git\b)\w)"
    )
    changed = []
    for path in [path for place in PLACES for path in sorted(root.glob(place))]:
        before = path.read_bytes()  # bytes, so that line ends stay as they are
        after = named.sub(lambda found: (found[1] or found[2]) + new, before.decode()).encode()
        if after != before:
            path.write_bytes(after)
            changed.append(path)
    return changed


def main() -> None:
    """Adopt the address on the command line, and say which files changed."""
    try:
        changed = adopt(ROOT, " ".join(sys.argv[1:]).strip())
    except ValueError as wrong:
        sys.exit(f"adopt: {wrong}")
    for path in changed:
        print(path.relative_to(ROOT))
    print(f"Files changed: {len(changed)}. Commit them." if changed else "Nothing to change.")


if __name__ == "__main__":
    main()
