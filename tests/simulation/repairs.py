"""What is mended by hand: a chain whose keys were stolen, one that has lost entries for good, and
clients that slept for too long.

    stolen   a thief signs a second history and shows it to one relayer, which must catch it and
             tell everybody it reaches; then new keys, and a recovery of every client, one of them
             withdrawn and proposed again
    witnessed  a second history is brought to a witness of the first, which tells its clients
    lapsed   a node is restored from an old copy and opens the next epoch; it passes over the
             sequences that it had used, its counterparty recovers its client; then a night in
             which every client expires
"""

from __future__ import annotations

from relay.actions import Tick
from relay.epoch import open_epoch
from relay.errors import LianqiaoError, Reason
from relay.journal import Kind, host_path
from relay.light.types import ClientState
from relay.node import Node
from relay.query import get_client
from relay.recovery import MIN_DELAY
from relay.store import PacketState
from relay.views import ClientView
from relay.witness import SeenHeads
from tests.simulation.fate import Single
from tests.simulation.fork import Fork, twin_directory
from tests.simulation.network import Door
from tests.simulation.oracle import Broken, Observer
from tests.simulation.upkeep import Upkeep
from tests.simulation.world import World

_NEVER = 1 << 40
"""`tick_seconds` of a node that states nothing: each step of it is one entry, under one head."""


_NOT_NOW = (Reason.RECOVERY_NOT_NEEDED, Reason.CLIENT_EXPIRED, Reason.HEADER_FROM_FUTURE)
"""The client judges still, or its chain has no young head yet."""


class Repaired(Upkeep):
    """A world in which operators recover clients."""

    late = ()

    def __init__(self, *arguments: object) -> None:
        self.fork: Fork | None = None
        """The second history, while there is one."""
        self.shown_to = ""
        self.troubled: set[str] = set()
        """Chains that have two histories, or lack entries."""
        self.broken = ""
        """The node that was restored from an old copy, until its next epoch is open."""
        super().__init__(*arguments)

    def propose(self, on: str, of: str, count: int = 1) -> None:
        """Has the client on a node recovered to the newest head of its chain. More than once:
        what was proposed is withdrawn, and proposed again."""
        client_id = self.clients[on, of]

        def propose(node: Node) -> bool:
            """One step each turn: how things stand is read from the journal."""
            if of in self.troubled or self.processes[of].node is None:
                return False
            prefix = host_path(Kind.RECOVERY, client_id)
            made = sum(path.startswith(prefix) for path in self.observers[on].values)
            if made >= count:
                return True
            if get_client(node.store, client_id).recovery is not None:
                node.cancel_recovery(client_id)
                return False
            self.reasons.recovering.add(frozenset((on, of)))
            chain = self.doors[of]
            raw = chain.headers(0, chain.latest_height(), self.options.algorithm)[-1]
            try:
                node.propose_recovery(client_id, self._state_now(of), raw, MIN_DELAY)
            except LianqiaoError as err:
                if err.reason not in _NOT_NOW:
                    raise
            return False

        self.oblige(on, "propose", propose)

    def _state_now(self, of: str) -> ClientState:
        """What is pinned of a chain in its epoch."""
        state = self._state(of)
        return ClientState(
            state.client_type,
            f"{of}/{self.processes[of].epoch}",
            algorithm=state.algorithm,
            trusting_period=state.trusting_period,
        )

    def complete(self, on: str, of: str) -> None:
        """Has a recovery completed by hand, which its node would do by itself."""
        client_id = self.clients[on, of]

        def complete(node: Node) -> bool:
            view = get_client(node.store, client_id)
            if view.recovery is not None and view.recovery.due <= node.now():
                node.complete_recovery(client_id)
            return view.recovery is None

        self.oblige(on, "complete", complete)

    def wait(self, on: str, *names: str) -> None:
        """Lets time pass until every client of these chains may be recovered."""

        def wait(_: Node) -> bool:
            views = [self._view(on, client) for on, of, client in self.all_clients if of in names]
            dues = [view.recovery.due for view in views if view and view.recovery]
            if any(view is None or self._needs(view) for view in views):
                return False  # nothing is proposed for that one yet
            self.clock.now = max([self.clock.now, *dues])
            return True

        self.oblige(on, "wait", wait)

    def _needs(self, view: ClientView) -> bool:
        return view.recovery is None and (view.frozen or self.clock.now >= view.expires)

    def sleep(self, on: str) -> None:
        """A night longer than the trusting period."""

        def sleep(_: Node) -> bool:
            self.clock.now += self.options.trusting_period
            self.marks["night"] += 1
            return True

        self.oblige(on, "sleep", sleep)

    def judging(self, on: str, of: str) -> None:
        """Waits until a client judges again."""

        def judging(node: Node) -> bool:
            view = get_client(node.store, self.clients[on, of])
            return not view.frozen and view.recovery is None and node.now() < view.expires

        self.oblige(on, "judging", judging)

    def recovered(self, on: str, of: str) -> None:
        """Waits until a client was recovered."""
        self.oblige(on, "recovered", lambda _: self.clients[on, of] in self.observers[on].recovered)

    def _view(self, on: str, client_id: str) -> ClientView | None:
        node = self.processes[on].node
        return None if node is None else get_client(node.store, client_id)

    # --- a second history

    def steal(self, name: str, to: str) -> None:
        """Somebody has the keys of a node, and shows one of its neighbours another history."""

        def show(node: Node) -> bool:
            if self.fork is None:
                return False
            height = get_client(node.store, self.clients[to, name]).latest.height
            if height <= self.fork.size:
                return False  # what it knows both histories hold
            twin, client_id = self.fork.node, self.clients[name, to]
            body = f"{client_id}\n{self.clock.now + 600}\necho:0".encode()
            twin.call("tally", "send", body)  # a tick alone may be the same in both histories
            while twin.head.size <= height:
                twin.run(Tick())
            twin.call("tally", "send", body)
            self.shown_to = to
            self._show()
            return True

        self.oblige(name, "steal", lambda _: self._copy(name))
        self.oblige(to, "show", show)

    def _copy(self, name: str) -> bool:
        """Another process has the keys and what was written until now."""
        process = self.processes[name]
        self.check()
        twin = self._process(name, twin_directory(self.directory, name))
        twin.fate, twin.tick_seconds = Single(), _NEVER
        self.liars.add(name)
        self.troubled.add(name)
        self.fork = Fork(process, twin, self.observers[name])
        self.witnesses.started(twin, self.processes)
        return True

    def ask_witness(self, name: str, witness: str) -> None:
        """The second history is brought to a witness of the first, at the size that it co-signed
        last."""

        def ask(_: Node) -> bool:
            assert self.fork is not None
            twin, process = self.fork.node, self.fork.twin
            if twin.head.size == self.fork.size:
                body = f"{self.clients[name, witness]}\n{self.clock.now + 600}\necho:0"
                twin.call("tally", "send", body.encode())
            seen = SeenHeads(self.directory / f"{witness}.witness").load(twin.origin)
            if seen is not None and seen.height >= twin.head.size:
                while twin.head.size < seen.height:
                    twin.run(Tick())
                self.cosign(process)
            frozen = self.observers[witness].frozen
            return all(client in frozen for on, _, client in self.all_clients if on == witness)

        self.oblige(name, "steal", lambda _: self._copy(name))
        self.oblige(name, "ask a witness", ask)

    def _show(self) -> None:
        assert self.fork is not None
        for wire in self.wires[self.shown_to, self.fork.process.name]:
            wire.memory.inner = Door(self.fork.twin, self)

    def _run_relayers(self, name: str) -> None:
        super()._run_relayers(name)
        if name == self.shown_to:
            self._show()

    def caught(self, on: str, of: str) -> None:
        """Waits until a client is frozen, by what the relayer has told it."""
        self.oblige(on, "caught", lambda _: self.clients[on, of] in self.observers[on].frozen)

    def secure(self, name: str) -> None:
        """The thief is found once everybody knows, and the node gets new keys."""

        def secure(_: Node) -> bool:
            follow = [(on, client) for on, of, client in self.all_clients if of == name]
            if self.fork is None or any(c not in self.observers[on].frozen for on, c in follow):
                return False
            for wire in self.wires[self.shown_to, name]:
                wire.memory.inner = self.doors[name]
            self.fork.close()
            self.fork, self.shown_to = None, ""
            self.troubled.discard(name)
            self.rotate(name)
            return True

        self.oblige(name, "secure", secure)

    def trust_again(self, name: str) -> None:
        """Once every client is recovered, there is one history as far as anybody knows."""

        def trust(_: Node) -> bool:
            self.check()
            follow = [(on, client) for on, of, client in self.all_clients if of == name]
            done = all(client in self.observers[on].recovered for on, client in follow)
            if done:
                self.liars.discard(name)
            return done

        self.oblige(name, "trust again", trust)

    def close(self) -> None:
        """See World."""
        if self.fork is not None:
            self.fork.close()
        super().close()

    # --- lost entries

    def lose(self, name: str, sent: int) -> None:
        """A node is copied, sends packets, and is restored from the copy: what it sent is lost."""
        process, observer = self.processes[name], self.observers[name]
        copy = self.directory / f"{name}.backup"
        to = next(of for on, of in self.clients if on == name)
        bodies: list[bytes] = []

        def back_up(node: Node) -> bool:
            self.check()
            if self._left_open() or observer.unsigned():
                return False
            process.copy(copy)
            return True

        def use(node: Node) -> bool:
            while len(bodies) < sent:
                body = f"{self.clients[name, to]}\n{self.clock.now + 600}\necho:0"
                bodies.append(body.encode())
            for number, body in enumerate(bodies):
                node.call("tally", "send", body, f"lost {number}")
            return True

        def break_(_: Node) -> bool:
            self.check()
            if self._left_open() or observer.unsigned():
                return False
            process.stop()
            self.broken = name
            self.troubled.add(name)
            self.liars.add(name)  # until it is recovered, nothing is required between the two
            for ending in ("", "-wal", "-shm"):
                process.path.with_name(process.path.name + ending).unlink(missing_ok=True)
            process.path.write_bytes(copy.read_bytes())
            self._refuses_to_start(name)
            return True

        self.oblige(name, "back up", back_up)
        self.oblige(name, "use", use)
        self.oblige(name, "break", break_)

    def _left_open(self) -> bool:
        """Whether a packet of any node is not closed."""
        return not self.users.resting or any(
            packet.state in (PacketState.SENT, PacketState.DEFERRED)
            for observer in self.observers.values()
            for packet in observer.fold.packets.values()
        )

    def _refuses_to_start(self, name: str) -> None:
        try:
            self.processes[name].start()
        except LianqiaoError as err:
            if err.reason is not Reason.STALE_RESTORE:
                raise Broken("stale restore", f"{name} refuses with {err.reason}") from err
        else:
            raise Broken("stale restore", f"{name} starts on a copy from before it signed")

    def restart(self, name: str) -> None:
        """See World; a node that lacks entries is started once its next epoch is open."""
        process = self.processes[name]
        if name == self.broken:
            store = process.disk()
            try:
                with self.alive(process), self.unanswered(process):
                    open_epoch(store, f"{name}/0", process.mark(), self.clock.now)
                    self.broken = ""
                    self.troubled.discard(name)
            finally:
                store.close()
            if self.broken:
                return
            old = self.observers[name]
            process.epoch, process.mark_path = 1, process.path.with_suffix(".1.mark")
            new = self.observers[name] = Observer(name, process.path, process.mark_path)
            new.look()
            new.signed = {
                size: body for size, body in new.bodies.items() if old.signed.get(size) == body
            }
            old.close()
        super().restart(name)

    def skip(self, name: str, to: str, count: int) -> None:
        """Has the sequences passed over that were used and are lost."""
        client_id = self.clients[name, to]

        def skip(node: Node) -> bool:
            if self.processes[name].epoch == 0:
                return False
            used = max(
                s for c, _, s in self.observers[to].fold.packets if c == self.clients[to, name]
            )
            node.skip_sequences(client_id, used + 1)
            return True

        self.oblige(name, "skip", skip)


# --- the scenarios


def play_stolen(world: World, turn: int) -> None:
    """See the module docstring."""
    assert isinstance(world, Repaired)
    if turn == 0:
        world.send("zj", "hub", "echo")
        world.send("zj", "sh", "echo")
    if turn == 1:
        world.steal("zj", "hub")
        world.send("zj", "hub", "echo")
        world.caught("hub", "zj")
        world.caught("sh", "zj")
        world.secure("zj")
        world.propose("hub", "zj", 2)
        world.propose("sh", "zj")
        world.wait("hub", "zj")
        world.complete("sh", "zj")
        world.trust_again("zj")
        world.send("zj", "hub", "echo")
        world.send("zj", "sh", "fresh")
        world.send("hub", "zj", "echo")


def play_witnessed(world: World, turn: int) -> None:
    """See the module docstring."""
    assert isinstance(world, Repaired)
    if turn == 0:
        world.send("zj", "hub", "echo")
        world.ask_witness("hub", "zj")
    if turn in (1, 2):
        world.send("hub", "zj", "echo")


def play_lapsed(world: World, turn: int) -> None:
    """See the module docstring."""
    assert isinstance(world, Repaired)
    if turn == 0:
        world.send("zj", "hub", "echo")
        world.send("hub", "zj", "echo")
    if turn == 1:
        world.lose("zj", 2)
        world.skip("zj", "hub", 2)
        world.propose("hub", "zj")
        world.wait("hub", "zj")
        world.recovered("hub", "zj")
        world.trust_again("zj")
        world.send("zj", "hub", "fresh")
        world.sleep("zj")
        world.propose("zj", "hub")
        world.propose("hub", "zj", 2)
        world.wait("hub", "zj", "hub")
        for on, of in (("zj", "hub"), ("hub", "zj")):
            world.judging(on, of)
            world.send(on, of, "echo")
