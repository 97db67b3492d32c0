"""Witnesses of one node: every neighbour co-signs its heads, and clients require some of them.

    node ── Cosigning ── WitnessWire ── relay.witness.Witness of a neighbour

All of it is the product's. From outside come the fate of each call and of each write of a witness's
memory, and an oracle that is told of every co-signature before it is made:

    witness memory    what is co-signed was written before, in the file beside the key
    one history       a witness co-signs one body a size, and one side of two histories
    witnessed         no client that requires witnesses believes a head that too few co-signed
                      (judged by tests.simulation.pairs, from what is noted here)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import TypeVar

from relay.cosigning import Cosigning
from relay.errors import Reason, Unavailable
from relay.light.checkpoint import Signer, parse_body
from relay.light.types import Header
from relay.light.types import Witness as Pinned
from relay.store.cosignatures import Shown
from relay.views import Cosigned
from relay.witness import SeenHeads, Witness
from tests.simulation.cheap import signer
from tests.simulation.fate import CRASHES, Act, Crash, Fate
from tests.simulation.options import Options
from tests.simulation.oracle import Broken
from tests.simulation.process import Process, write_file

_T = TypeVar("_T")
_STAMPED = b"cosignature/v1\n"
Side = Callable[[str, bytes], int]
"""(node, body) -> 0 where both histories of the node hold it or it has one only, else 1 or 2."""


class Witnesses:
    """See the module docstring; nothing where the options name no witnessed node."""

    def __init__(self, options: Options, directory: Path, fate: Fate, side: Side) -> None:
        self.node = options.witnessed
        self.names = _neighbours(options, self.node)
        self._algorithm = options.algorithm
        self._fate = fate
        self._side = side
        self._folders = {name: directory / f"{name}.witness" for name in self.names}
        keys = {name: signer(_seed(name), options.algorithm) for name in self.names}
        self._keys = {name: _Told(name, key, self) for name, key in keys.items()}
        self.pinned = tuple(
            Pinned(name, key.algorithm, key.public) for name, key in sorted(keys.items())
        )
        self.shown = Shown(self.pinned, options.witness_quorum)
        self.wires: dict[str, list[WitnessWire]] = {}
        """Witness -> the ways to it from every process that ever asked it."""
        self._bodies: dict[tuple[str, int], bytes] = {}
        """(witness, size) -> body."""
        self._sides: dict[str, set[int]] = {}
        self._signers: dict[bytes, set[str]] = {}
        """Hash of a body -> who co-signed it."""

    def required(self, of: str) -> tuple[tuple[Pinned, ...], int]:
        """What clients of a node require."""
        return (self.pinned, self.shown.quorum) if of == self.node else ((), 0)

    def started(self, process: Process, processes: Mapping[str, Process]) -> None:
        """A process has started, or is a second history of one: it witnesses, it is witnessed."""
        node = process.node
        assert node is not None
        if process.name in self.names and process is processes[process.name]:
            folder = self._folders[process.name]
            process.witness = Witness(node, process.name, [self._keys[process.name]], folder)
            process.witness._seen = _Remembered(folder, process.name, self._fate)
        if process.name == self.node:
            process.cosignings = []
            for pinned in self.pinned:
                wire = WitnessWire(process, processes[pinned.name], process.fate)
                self.wires.setdefault(pinned.name, []).append(wire)
                process.cosignings.append(Cosigning(node, pinned, f"{pinned.name}:1", wire))

    # --- the oracle

    def signs(self, name: str, body: bytes) -> None:
        """Told by the key of a witness before it signs. Raises Broken."""
        parsed = parse_body(body)
        seen = SeenHeads(self._folders[name]).load(parsed.origin)
        if seen is None or seen.height < parsed.size:
            raise Broken("witness memory", f"{name} co-signs {parsed.size} and remembers {seen}")
        known = self._bodies.setdefault((name, parsed.size), body)
        if known != body:
            raise Broken("one history", f"{name} co-signs two bodies of size {parsed.size}")
        sides = self._sides.setdefault(name, set())
        sides.add(self._side(self.node, body))
        if {1, 2} <= sides:
            raise Broken("one history", f"{name} co-signs both histories, at {parsed.size}")
        self._signers.setdefault(sha256(body).digest(), set()).add(name)

    def check(self, where: str, header_hash: bytes) -> None:
        """A client that requires witnesses believes this head. Raises Broken."""
        found = self._signers.get(header_hash, set())
        if len(found) < self.shown.quorum:
            raise Broken("witnessed", f"{where} believes a head that {sorted(found)} co-signed")

    def is_required_by(self, on: str, of: str) -> bool:
        """Whether the client on a node that carries packets requires witnesses."""
        return of == self.node and on in self.names


class WitnessWire:
    """relay.cosigning.Asked: how one process reaches one witness."""

    def __init__(self, owner: Process, target: Process, fate: Fate) -> None:
        self.reachable = True
        self.owner = owner.name
        self._owner = owner
        self._target = target
        self._fate = fate

    def add_checkpoint(
        self, old_size: int, proof: Sequence[bytes], note: bytes, validators: bytes
    ) -> Cosigned:
        """See relay.cosigning.Asked."""

        def ask(witness: Witness) -> Cosigned:
            now = self._target.clock()
            return witness.add_checkpoint(old_size, proof, note, validators, now)

        act = self._fate.call(self.owner, self._target.name, "add_checkpoint")
        if act is Act.CRASH_BEFORE:
            raise Crash(self.owner)
        try:
            if act in (Act.LOST, Act.LATE) or not self.reachable:
                raise _unreachable(self._target.name)
            answer = self._through(ask)
            if act is Act.DUPLICATE:
                answer = self._through(ask)
            if act is Act.UNSURE:
                raise _unreachable(self._target.name)
            return answer
        finally:
            if act in CRASHES:
                raise Crash(self.owner)

    def _through(self, ask: Callable[[Witness], _T]) -> _T:
        witness = self._target.witness
        if witness is None:
            raise _unreachable(self._target.name)
        try:
            return ask(witness)
        except OSError as err:  # its service answers that it cannot write
            raise _unreachable(self._target.name) from err
        except Crash as crash:
            if crash.name != self._target.name:
                raise
            self._target.crash()
            raise _unreachable(self._target.name) from None


class _Remembered(SeenHeads):
    """The memory of a witness; its writes have a fate."""

    def __init__(self, folder: Path, name: str, fate: Fate) -> None:
        super().__init__(folder)
        self._name = name
        self._fate = fate

    def save(self, origin: str, header: Header) -> None:
        """See SeenHeads."""
        act = self._fate.commit(f"{self._name} SeenHeads.save")
        if act is Act.CRASH_BEFORE:
            raise Crash(self._name)
        if act in (Act.LOST, Act.CONFLICT):
            raise OSError("simulated: no space is left")
        super().save(origin, header)
        if act is Act.CRASH_AFTER:
            raise Crash(self._name)
        if act is Act.UNSURE:
            raise OSError("simulated: the disk does not answer")

    def keep_evidence(self, origin: str, evidence: bytes) -> None:
        """See SeenHeads."""
        keep = super().keep_evidence
        write_file(
            self._fate,
            self._name,
            "SeenHeads.keep_evidence",
            lambda: keep(origin, evidence),
        )


class _Told:
    """The key of a witness, which tells what it signs before it signs."""

    def __init__(self, name: str, inner: Signer, witnesses: Witnesses) -> None:
        self._name = name
        self._inner = inner
        self._witnesses = witnesses
        self.algorithm = inner.algorithm
        self.public = inner.public

    def sign(self, message: bytes) -> bytes:
        body = message
        if message.startswith(_STAMPED):
            body = message.split(b"\n", 2)[2]
        self._witnesses.signs(self._name, body)
        return self._inner.sign(message)


def _neighbours(options: Options, name: str) -> tuple[str, ...]:
    ends = [(e.near, e.far) for e in options.edges]
    return tuple(dict.fromkeys(b for a, b in [*ends, *((b, a) for a, b in ends)] if a == name))


def _seed(name: str) -> bytes:
    return f"witness {name}".encode().ljust(32, b".")[:32]


def _unreachable(name: str) -> Unavailable:
    return Unavailable(Reason.CHAIN_UNREACHABLE, f"the witness {name} does not answer")
