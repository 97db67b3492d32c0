"""Replicas driven through their real gRPC ABCI, without CometBFT: the test decides the blocks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.timestamp_pb2 import Timestamp

from adapters.cometbft.engine import abci_pb2 as pb
from adapters.cometbft.engine import abci_pb2_grpc as rpc
from adapters.cometbft.engine.application import Application
from adapters.cometbft.engine.asked import encode_asked
from adapters.cometbft.engine.execution import Result
from adapters.cometbft.engine.genesis import Genesis, encode_genesis
from adapters.cometbft.engine.service import AbciServicer, serve_abci
from adapters.cometbft.engine.snapshots import Snapshots
from relay.actions import Action
from relay.channel import Channel
from relay.clients import Clients
from relay.contract import Contract
from relay.fsck import Finding, check, fsck
from relay.keys import SigningKey
from relay.store import BlockRow, Store
from relay.store.blocks import BlockHeads
from relay.store.migrate import migrate
from tests.world import START, TYPES, keys_of, set_of

CHAIN, ORIGIN = "hub", "hub/0"
OPERATORS = keys_of("operator")


def genesis(quorum: int = 1) -> bytes:
    """Four operators, `operator-0` to `operator-3`."""
    return encode_genesis(Genesis("relay", set_of(OPERATORS, "operator"), quorum))


def asked(
    action: Action,
    number: int,
    by: int = 0,
    *,
    now: int = START,
    key: SigningKey | None = None,
    chain: str = ORIGIN,
    expiry: int = 600,
) -> bytes:
    """A transaction whose nonce is drawn from `number`."""
    nonce = sha256(f"{number}".encode()).digest()[:16]
    signer = key or OPERATORS[by]
    return encode_asked(chain, f"operator-{by}", signer, now + expiry, nonce, action)


@dataclass
class Replica:
    """One application with its database, and CometBFT's end of the connection."""

    path: Path
    contracts: Sequence[Contract] = ()
    interval: int = 0
    url: str = ""
    """Of its database; default: the file at `path`."""

    def __post_init__(self) -> None:
        self.results: dict[bytes, Result] = {}
        self.start()

    def start(self, *, begun: bool = True) -> None:
        """Opens the database that is there, or a new one; CometBFT begins with it, or waits."""
        self.store = Store(self.url) if self.url else Store.at(self.path)
        migrate(self.store.engine)
        self.store.heads = BlockHeads(ORIGIN)
        self.channel = Channel(CHAIN, Clients(TYPES), {c.port: c for c in self.contracts})
        self.application = Application(
            self.store, self.channel, origin=ORIGIN, role="relay", told=self._told
        )
        self.snapshots = Snapshots(
            self.store, self.path.with_suffix(".snapshots"), self.interval, self.findings, CHAIN
        )
        servicer = AbciServicer(self.application, self.snapshots)
        self._server, port = serve_abci(servicer, "127.0.0.1:0")
        self._connection = grpc.insecure_channel(f"127.0.0.1:{port}")
        self.abci = rpc.ABCIStub(self._connection)
        if begun:
            self.info()

    def _told(self, block: BlockRow, results: Any) -> None:
        self.results |= results

    def findings(self, connection: Any) -> list[Finding]:
        """What fsck finds on a connection."""
        return check(connection, TYPES, ORIGIN)[1]

    def stop(self) -> None:
        """Ends without a word, as a killed process does."""
        self._connection.close()
        self._server.stop(0).wait()
        self.store.close()

    def restart(self) -> None:
        """Kills it and starts it again on its database."""
        self.stop()
        self.start()

    def init(self, quorum: int = 1, time: int = START) -> bytes:
        """InitChain with four validators; the app hash."""
        request = pb.RequestInitChain(
            time=Timestamp(seconds=time),
            chain_id=ORIGIN,
            initial_height=1,
            app_state_bytes=genesis(quorum),
            validators=[
                pb.ValidatorUpdate(pub_key=pb.PublicKey(ed25519=key.public), power=10)
                for key in keys_of("maker")
            ],
        )
        return bytes(self.abci.InitChain(request).app_hash)

    def finalize(self, height: int, txs: Sequence[bytes], time: int = START) -> Any:
        """FinalizeBlock."""
        return self.abci.FinalizeBlock(
            pb.RequestFinalizeBlock(height=height, txs=txs, time=Timestamp(seconds=time, nanos=7))
        )

    def block(self, height: int, txs: Sequence[bytes], time: int = START) -> Any:
        """FinalizeBlock and Commit."""
        answer = self.finalize(height, txs, time)
        self.abci.Commit(pb.RequestCommit())
        return answer

    def check(self, raw: bytes) -> str:
        """CheckTx: empty where it is spread, else the reason."""
        return str(self.abci.CheckTx(pb.RequestCheckTx(tx=raw)).log)

    def info(self) -> tuple[int, bytes]:
        """Info: height and app hash."""
        answer = self.abci.Info(pb.RequestInfo())
        return answer.last_block_height, bytes(answer.last_block_app_hash)

    def result(self, raw: bytes) -> Result:
        """What became of a committed transaction."""
        return self.results[sha256(raw).digest()]

    def rows(self) -> list[tuple[Any, ...]]:
        """Everything that all replicas hold in common."""
        from relay.store.dump import dump

        with self.store.read() as connection:
            return list(dump(connection))

    def fsck(self) -> list[Finding]:
        """Every finding."""
        return fsck(self.store, TYPES, ORIGIN)[1]
