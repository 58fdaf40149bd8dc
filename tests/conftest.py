"""Which tests stay together where tests run side by side: those that share what is made at a price."""

import re

SHARED = ("test_class.py", "test_stand_ins.py", "test_babygpt.py")  # a class, a student's process, a page
ID = re.compile(r"<.+?>")  # in a test's parameters: what it shares with the other tests that have it


def together(nodeid: str) -> str:
    """Return the name of the group that a test belongs to; one that shares nothing is its own."""
    if shared := ID.search(nodeid):
        return shared[0]
    file = nodeid.partition("::")[0]
    return file if file.endswith(SHARED) else nodeid


def pytest_xdist_make_scheduler(config, log):
    """Group tests for `--dist loadgroup`: the marks of xdist 3.8 do nothing under pytest 9.2."""
    if config.option.dist != "loadgroup":
        return None
    from xdist.scheduler import LoadScopeScheduling

    class Together(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return together(nodeid)

    return Together(config, log)
