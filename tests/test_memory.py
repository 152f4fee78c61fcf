"""The allocator's setting: what it changes in a fresh process, and where it does nothing."""

import os
import platform
import subprocess
import sys

import pytest

on_glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="a setting of glibc")
# Page faults of ten blocks of 40 MB, one after the other, after a first one; in this thread, or in another.
SCRIPT = """
import ctypes, resource, sys, threading
from maskrcnn.memory import keep_memory
print(keep_memory(), "torch" in sys.modules)
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
def block():
    place = ctypes.c_void_p(libc.malloc(ctypes.c_size_t(40_000_000)))
    ctypes.memset(place, 1, 40_000_000)
    libc.free(place)
def blocks():
    block()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        block()
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
blocks()
thread = threading.Thread(target=blocks)
thread.start()
thread.join()
"""


def run(**environment: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], env=os.environ | environment, capture_output=True, text=True, check=True
    )
    return done.stdout.split()


@on_glibc
def test_freed_memory_is_used_again_in_every_thread() -> None:
    changed, torch, main, other = run(MASKRCNN_KEEP_MEMORY="1")
    assert (changed, torch) == ("True", "False")
    assert int(main) < 1000  # 98,000 pages were written
    assert int(other) < 1000


@on_glibc
def test_a_variable_leaves_the_allocator_alone() -> None:
    assert run(MASKRCNN_KEEP_MEMORY="0")[0] == "False"


def test_other_systems_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    from maskrcnn.memory import keep_memory

    monkeypatch.setattr(platform, "libc_ver", lambda: ("musl", "1.2"))
    assert not keep_memory()
    monkeypatch.setattr(sys, "platform", "darwin")
    assert not keep_memory()
