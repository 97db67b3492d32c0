"""Who uses the nodes: sends packets, repeats what was not answered, answers what was deferred.

Every packet that is wanted has a number in its value. A call with a request id is repeated until
it is answered; then there must be exactly one packet of that number. A call without one is never
repeated; where it was not answered there may be one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random

from relay.errors import Conflict, Exhausted, LianqiaoError, Unavailable
from tests.simulation.fate import Crash
from tests.simulation.options import Options
from tests.simulation.process import Process

_COMMANDS = ("echo",) * 6 + (
    "defer",
    "fail",
    "error",
    "empty",
    "crash",
    "fresh",
    "fail-callback",
)


@dataclass(slots=True)
class Intent:
    """One packet that somebody wants to send."""

    number: int
    node: str
    port: str
    body: bytes
    request_id: str
    sequence: int = 0
    """Of the packet; 0 until it was answered."""
    refused: str = ""
    unsure: bool = False
    """A call was made and not answered."""

    @property
    def pending(self) -> bool:
        """Whether it is to be repeated."""
        return not (self.sequence or self.refused or (self.unsure and not self.request_id))


class Users:
    """Everybody who calls nodes."""

    def __init__(
        self,
        options: Options,
        processes: Mapping[str, Process],
        clients: Mapping[tuple[str, str], str],
        random: Random,
        marks: Counter[str],
    ) -> None:
        self._options = options
        self._processes = processes
        self._clients = clients
        self._random = random
        self._marks = marks
        self.intents: list[Intent] = []
        self._pending: list[Intent] = []
        self.refusals: Counter[str] = Counter()

    @property
    def resting(self) -> bool:
        """Whether nobody waits for an answer."""
        return not self._pending

    def want(self, now: int) -> None:
        """New packets."""
        for name in self._options.nodes:
            if self._random.random() < self._options.traffic:
                for _ in range(self._random.choice((1, 1, 1, 2, 5))):
                    self._new(name, now)

    def _new(self, name: str, now: int) -> None:
        random, number = self._random, len(self.intents) + 1
        to = random.choice(self._neighbours(name))
        timeout = now + random.randint(2, self._options.timeout_seconds)
        if random.random() < 0.25:
            port, walk = "rally", [to]
            while len(walk) < 4:
                walk.append(random.choice(self._neighbours(walk[-1])))
            value = f"{random.randint(0, 3)}:{number}:{','.join(walk)}"
        else:
            port, value = "tally", f"{random.choice(_COMMANDS)}:{number}"
        self.send(name, to, port, value, timeout, again=random.random() < 0.7)

    def send(self, name: str, to: str, port: str, value: str, timeout: int, *, again: bool) -> None:
        """One packet more is wanted; `again`: the call has a request id and is repeated."""
        number = len(self.intents) + 1
        body = f"{self._clients[name, to]}\n{timeout}\n{value}".encode()
        request_id = f"request-{number}" if again else ""
        self.intents.append(Intent(number, name, port, body, request_id))
        self._pending.append(self.intents[-1])

    def _neighbours(self, name: str) -> Sequence[str]:
        return [of for on, of in self._clients if on == name]

    def call(self) -> None:
        """Makes every call that is not answered yet."""
        for intent in self._pending:
            self._try(intent)
        self._pending = [intent for intent in self._pending if intent.pending]

    def _try(self, intent: Intent) -> None:
        process = self._processes[intent.node]
        if process.node is None:
            return
        try:
            answer = process.node.call(intent.port, "send", intent.body, intent.request_id)
            intent.sequence = int(answer)
            self._marks["repeated call"] += intent.unsure
        except Crash:
            process.crash()
            intent.unsure = True
        except (Unavailable, Conflict, Exhausted):
            intent.unsure = True
        except LianqiaoError as err:
            intent.refused = err.reason.value
            self.refusals[err.reason.value] += 1

    def answer(self, name: str, deferred: Sequence[tuple[str, int]], likelihood: float) -> None:
        """Answers deferred packets, given as (client id, sequence)."""
        for client_id, sequence in deferred:
            process = self._processes[name]
            if process.node is None or self._random.random() >= likelihood:
                continue
            body = f"{client_id}\n{sequence}\nlater:{sequence}".encode()
            try:
                process.node.call("tally", "answer", body)
            except Crash:
                process.crash()
            except (Unavailable, Conflict, Exhausted):
                continue
            except LianqiaoError as err:
                self.refusals[err.reason.value] += 1
