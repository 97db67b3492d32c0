"""A network on a disk that is full, or read-only, or under a clock that jumps: real processes.

The disk is a small one of its own (tmpfs) where this user may mount one, else each process is
forbidden by the kernel to write beyond what it has (RLIMIT_FSIZE); either fails the write itself.
Callers are told why and what to do, nothing is half-done, and when there is room again everything
goes on where it was.
"""

from __future__ import annotations

import resource
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from random import Random

import pytest

from relay.demo.stage import ASKING, RELAY, ROLES, SOURCE
from relay.errors import Reason
from tests.e2e.conftest import command, environment
from tests.e2e.load import Load
from tests.e2e.network import Network

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
DISK_MEGABYTES = 256


@contextmanager
def mounted(path: Path) -> Iterator[bool]:
    """A small disk at `path`; whether it could be mounted."""
    path.mkdir()
    options = ["-t", "tmpfs", "-o", f"size={DISK_MEGABYTES}m,mode=755", "tmpfs", str(path)]
    mount = subprocess.run(["mount", *options], capture_output=True)
    try:
        yield mount.returncode == 0
    finally:
        if mount.returncode == 0:
            subprocess.run(["umount", "-l", str(path)], check=True)


class Disk:
    """What all nodes write to."""

    def __init__(self, network: Network, path: Path, mounted: bool) -> None:
        self._network = network
        self._ballast = path / "ballast"
        self._mounted = mounted

    def fill(self) -> None:
        if not self._mounted:
            self._limit(0)
            return
        with suppress(OSError), self._ballast.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(65536))
        with suppress(OSError), self._ballast.open("ab", buffering=0) as file:
            while True:
                file.write(bytes(512))

    def free(self) -> None:
        if self._mounted:
            self._ballast.unlink()
        else:
            self._limit(resource.RLIM_INFINITY)

    def _limit(self, size: int) -> None:
        for name in ROLES:
            pid = self._network.stage.processes[name].running.pid
            with suppress(ProcessLookupError):
                resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def _finish(network: Network, load: Load) -> dict[str, int]:
    load.end()
    load.drain()
    counts = load.judge()
    assert counts["records"] > 0
    for told in network.fsck().values():
        assert "all is as it should be" in told
    return counts


@pytest.mark.parametrize("postgresql", [False, True], ids=["sqlite", "postgresql"])
def test_a_full_disk(place: Path, postgresql: bool) -> None:
    random = Random(5)
    with (
        mounted(place / "disk") as really,
        Network(place / "disk", postgresql=postgresql) as network,
    ):
        disk, load = Disk(network, place / "disk", really), Load(network, 5)
        load.prepare()
        load.start()
        try:
            for _ in range(3):
                time.sleep(random.uniform(1, 3))
                before = len(load.attested)
                disk.fill()
                time.sleep(random.uniform(2, 4))
                disk.free()
                if network.server is not None:
                    network.server.start()  # it may have ended, as it does without room for its log
                load.until(SOURCE, lambda _, n=before: len(load.attested) > n)
        finally:
            load.end()
        _finish(network, load)
        met = {Reason.LIMIT_EXCEEDED} | ({Reason.DATABASE_UNREACHABLE} if postgresql else set())
        assert met & load.repeated.keys()
        assert not set(load.repeated) - {
            "LIMIT_EXCEEDED", "DATABASE_UNREACHABLE", "CHAIN_UNREACHABLE",
        }  # fmt: skip
        log = network.stage.processes[ASKING].log.read_text()
        assert "Traceback" not in log


@pytest.mark.parametrize("postgresql", [False, True], ids=["sqlite", "postgresql"])
def test_a_database_that_becomes_read_only_under_load(place: Path, postgresql: bool) -> None:
    """The node goes on: it answers what it is asked, says why it writes nothing, and writes again
    as soon as it may. No process is started anew."""
    with Network(place / "network", postgresql=postgresql) as network:
        load = Load(network, 8)
        load.prepare()
        running = network.stage.processes[SOURCE].running
        load.start()
        try:
            for _ in range(2):
                told, attested = load.repeated[Reason.LIMIT_EXCEEDED], len(load.attested)
                load.until(SOURCE, lambda _, n=attested: len(load.attested) > n)
                with _standing_by(network) if postgresql else _frozen(network, SOURCE):
                    load.until(SOURCE, lambda _, n=told: load.repeated[Reason.LIMIT_EXCEEDED] > n)
                    load.until(SOURCE, lambda client: client.status().head)
                    attested = len(load.attested)
                    time.sleep(1)
                    assert len(load.attested) == attested
                load.until(SOURCE, lambda _, n=attested: len(load.attested) > n)
        finally:
            load.end()
        load.drain()
        assert running is network.stage.processes[SOURCE].running
        assert running.poll() is None
        assert not network.ended
        _finish(network, load)
        assert not set(load.repeated) - (
            {"LIMIT_EXCEEDED"} | ({"DATABASE_UNREACHABLE"} if postgresql else set())
        )
        assert "Traceback" not in network.stage.processes[SOURCE].log.read_text()


@contextmanager
def _standing_by(network: Network) -> Iterator[None]:
    """The database server as after a failover to a replica that nobody has promoted yet."""
    assert network.server is not None
    network.server.stand_by()
    try:
        yield
    finally:
        network.server.promote()


@contextmanager
def _frozen(network: Network, name: str) -> Iterator[None]:
    """A node's files as they are on a disk that has become read-only, under the process that has
    them open: a remount would be refused while it has. By the flag that forbids every write, to
    open files too, where the file system and the user may set it; else by RLIMIT_FSIZE."""
    where = network.config(name).parent
    folders = [where, *(path for path in where.rglob("*") if path.is_dir())]
    if subprocess.run(["chattr", "+i", *folders], capture_output=True).returncode:
        pid = network.stage.processes[name].running.pid
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
        try:
            yield
        finally:
            limits = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
            resource.prlimit(pid, resource.RLIMIT_FSIZE, limits)
        return
    # What is mapped into memory is left out: a write there would be a fault of the processor's.
    files = [p for p in where.rglob("*") if p.is_file() and not p.name.endswith("-shm")]
    try:
        subprocess.run(["chattr", "+i", *files], check=True)
        yield
    finally:
        subprocess.run(["chattr", "-i", *folders, *files], check=True)


def test_clocks_that_jump(tmp_path: Path) -> None:
    """Back and far forward while the nodes run, and back over a restart."""
    hour, year = 3600, 366 * 86_400
    with Network(tmp_path, postgresql=False, clocks=True) as network:
        load = Load(network, 6)
        load.prepare()
        load.start()
        try:
            for name, seconds in (
                (SOURCE, -hour), (RELAY, year), (ASKING, -hour), (SOURCE, year), (RELAY, -hour),
            ):  # fmt: skip
                time.sleep(1.5)
                network.clock(name, seconds)
                time.sleep(1.5)
                before = _size(network, name)
                time.sleep(1)
                assert _size(network, name) == before  # nothing is committed meanwhile
                network.clock(name, 0)
            assert load.repeated[Reason.CLOCK_JUMPED] > 0
            load.end()
            for name in (SOURCE, RELAY):
                network.kill(name)
                network.clock(name, -hour)
                network.start(name)
                network.wait_serving(name)
                assert "behind the newest head" in network.stage.processes[name].log.read_text()
                time.sleep(2)
                network.kill(name)
                network.clock(name, 0)
                network.start(name)
                network.wait_serving(name)
            load.start(len(load.attested) + 4)
            while load.attesting:
                time.sleep(0.1)
        finally:
            load.end()
        _finish(network, load)
        log = network.stage.processes[RELAY].log.read_text()
        assert "CLOCK_JUMPED" in log
        assert "set the clock right" in log


def _size(network: Network, name: str) -> int:
    with network.client(name) as client:
        head = client.status().head
        assert head is not None
        return head.size


def test_a_directory_that_became_read_only(tmp_path: Path) -> None:
    """A node does not start there, and says why; where it can write again, it goes on."""
    with Network(tmp_path, postgresql=False) as network:
        load = Load(network, 7)
        load.prepare()
        load.start(4)
        load.end()
        load.drain()
        network.stop(SOURCE)
        with _read_only(network.config(SOURCE).parent):
            told = subprocess.run(
                _serve(network, SOURCE),
                capture_output=True,
                text=True,
                env=environment(),
                timeout=60,
            )
        assert told.returncode == 2
        assert "CONFIG_INVALID" in told.stderr
        assert "that this user can write" in told.stderr
        network.start(SOURCE)
        network.wait_serving(SOURCE)
        _finish(network, load)


@contextmanager
def _read_only(path: Path) -> Iterator[None]:
    """The directory mounted read-only over itself, or its right to be written taken away."""
    bind = subprocess.run(["mount", "--bind", path, path], capture_output=True)
    if bind.returncode == 0:
        subprocess.run(["mount", "-o", "remount,bind,ro", path], check=True)
    else:
        path.chmod(0o500)
        (path / "node.lock").chmod(0o400)
    try:
        yield
    finally:
        if bind.returncode == 0:
            subprocess.run(["umount", path], check=True)
        else:
            path.chmod(0o700)
            (path / "node.lock").chmod(0o600)


def _serve(network: Network, name: str) -> list[str]:
    return command("serve", "--config", network.config(name))
