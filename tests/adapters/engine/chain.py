"""A chain of several institutions whose blocks a test makes: replicas are real, and so are their
API, headers and proofs; CometBFT's place is taken by a server of its RPC that orders what is spread
and signs with the validators' keys."""

from __future__ import annotations

import threading
from base64 import b64decode
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from itertools import count
from pathlib import Path
from typing import Any

from adapters.cometbft.engine.execution import Result
from adapters.cometbft.engine.genesis import Genesis, encode_genesis
from adapters.cometbft.engine.local_rpc import LocalRpc
from adapters.cometbft.engine.node import Operator, ReplicatedNode
from adapters.cometbft.light.block import Timestamp
from adapters.cometbft.light.client import CometHeader
from relay.client import NodeClient, connect
from relay.contract import Contract
from relay.errors import LianqiaoError
from relay.fsck import Finding, fsck
from relay.powers import Power
from relay.server import RunningServer
from relay.server import start as start_server
from relay.store import BlockRow
from relay.store.blocks import app_hash
from relay.store.dump import dump
from tests.adapters.cometbft.maker import decoded, raw_header, validator
from tests.adapters.cometbft.rpc_server import RpcServer, Served
from tests.databases import new_store, sqlite_url
from tests.world import TYPES, World, keys_of, set_of


class Single:
    """A node of one institution with its API, beside the chain."""

    def __init__(
        self, world: World, name: str, role: str = "ledger", contracts: Sequence[Contract] = ()
    ) -> None:
        self.node = world.node(name, role, contracts)
        self.clock = world.clock
        self.server = start_server(self.node, clock=world.clock)
        self.address = f"127.0.0.1:{self.server.port}"

    def client(self) -> NodeClient:
        """A connection to its API."""
        return connect(self.address, 60.0)

    def stop(self) -> None:
        """Ends it."""
        self.server.stop(0)
        self.node.close()


MAKERS = ("a", "b", "c", "d")
"""Who signs blocks (tests.adapters.cometbft.maker)."""
MAX_PROOF_BLOCKS = 4


class Institution:
    """One replica with its API and its end of CometBFT's RPC."""

    def __init__(self, chain: Chain, number: int, url: str, lanes: Any) -> None:
        self.rpc = RpcServer(lambda method, params: chain.answer(self, method, params))
        name = f"{chain.name}-op-{number}"
        drawn = count()
        self.node = ReplicatedNode(
            chain_id=chain.name,
            role=chain.role,
            store=new_store(url),
            operator=Operator(name, chain.operators[number]),
            rpc=LocalRpc(self.rpc.address),
            client_types=TYPES,
            contracts={contract.port: contract for contract in chain.contracts()},
            clock=chain.clock,
            random=lambda n: sha256(b"%s %d" % (name.encode(), next(drawn))).digest()[:n],
        )
        self.server: RunningServer = start_server(self.node, clock=chain.clock, lanes=lanes)  # type: ignore[arg-type]
        self.address = f"127.0.0.1:{self.server.port}"
        self.results: dict[bytes, Result] = {}

    def client(self) -> NodeClient:
        """A connection to its API."""
        return connect(self.address, 60.0)

    def rows(self) -> list[tuple[Any, ...]]:
        """Everything that all replicas hold in common."""
        with self.node.store.read() as connection:
            return list(dump(connection))

    def fsck(self) -> list[Finding]:
        """Every finding."""
        node = self.node
        return fsck(node.store, TYPES, node.origin, contracts=node.contracts)[1]

    def stop(self) -> None:
        """Ends all of it."""
        self.server.stop(0)
        self.rpc.close()
        self.node.close()


class Chain:
    """See the module docstring."""

    def __init__(
        self,
        path: Path,
        clock: Callable[[], int],
        *,
        name: str = "hub",
        role: str = "relay",
        quorum: int = 1,
        replicas: int = 3,
        contracts: Callable[[], Sequence[Contract]] = tuple,
        urls: Sequence[str] = (),
        lanes: Mapping[int, Any] | None = None,
        late: bool = False,
    ) -> None:
        """`late`: a block has the time of the block before, as on CometBFT after a rest."""
        self._late, self._voted = late, clock()
        self.name, self.role, self.clock = name, role, clock
        self.contracts = contracts
        self.operators = keys_of(f"{name}-op", replicas)
        self._lock = threading.Lock()
        self._headers: dict[int, CometHeader] = {}
        self._app_hash = b""
        path.mkdir(exist_ok=True)
        self.institutions = [
            Institution(
                self,
                number,
                urls[number] if number < len(urls) else sqlite_url(path / f"{name}-{number}.db"),
                (lanes or {}).get(number),
            )
            for number in range(replicas)
        ]
        genesis = encode_genesis(Genesis(role, set_of(self.operators, f"{name}-op"), quorum))
        powers = [Power("ed25519", validator(one).keys[0][1], 10) for one in MAKERS]
        for one in self.institutions:
            self._app_hash = one.node.application.init_chain(
                f"{name}/0", clock(), 1, genesis, powers
            )
        self.served = Served(f"{name}/0", self._headers.__getitem__, lambda: len(self._headers))
        self.block()

    @property
    def nodes(self) -> list[ReplicatedNode]:
        """Every replica."""
        return [one.node for one in self.institutions]

    def block(self, *transactions: bytes) -> BlockRow:
        """One block at every replica, and empty ones until what it did can be proven."""
        with self._lock:
            block = self._block(transactions)
            for _ in range(MAX_PROOF_BLOCKS):
                if app_hash(self._block(())) == app_hash(block):
                    break
            return block

    def _block(self, transactions: Sequence[bytes]) -> BlockRow:
        height, now = len(self._headers) + 1, self._voted if self._late else self.clock()
        self._voted = self.clock()
        hashes, made = set(), None
        for one in self.institutions:
            one.node.application.finalize(height, now, transactions)
            made = one.node.application.commit()
            hashes.add(app_hash(made))
        assert made is not None
        assert len(hashes) == 1, "replicas part"
        fields = {"time": Timestamp(now, height), "app_hash": self._app_hash}
        raw = raw_header(height, MAKERS, chain_id=f"{self.name}/0", **fields)
        self._headers[height] = decoded(raw)
        self._app_hash = hashes.pop()
        return made

    def answer(self, asked: Institution, method: str, params: dict[str, Any]) -> Any:
        """What the CometBFT of one institution answers."""
        if method != "broadcast_tx_sync":
            return self.served(method, params)
        raw = b64decode(params["tx"])
        try:
            asked.node.application.check(raw)
        except LianqiaoError as error:
            return {"code": 1, "log": str(error.reason)}
        self.block(raw)
        return {"code": 0, "log": ""}

    def stop(self) -> None:
        """Every replica."""
        for one in self.institutions:
            one.stop()
