"""ABCI over gRPC: CometBFT's questions to an Application, and its answers.

A replica that cannot execute a block stops, it does not go on with another state: what the
application cannot answer ends the call with an error. CometBFT then makes no more blocks, and stays
where it is until it is started again; the same where its application ended in mid-call and is back.
Being asked to check a transaction and getting an error is what ends it. So a CometBFT that has not
begun with this process (Info), or to which a block could not be answered, gets errors, and
`ReplicatedNode.tick` has it asked. Whoever started it starts it again; it begins with Info and goes
on from the last committed block.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import grpc
import structlog

from adapters.cometbft.engine import abci_pb2 as pb
from adapters.cometbft.engine import abci_pb2_grpc as rpc
from adapters.cometbft.engine.application import Application
from adapters.cometbft.engine.execution import Outcome, Result
from adapters.cometbft.engine.snapshots import Snapshots
from relay.errors import (
    Conflict,
    Exhausted,
    LianqiaoError,
    Malformed,
    Reason,
    Refused,
    Unavailable,
)
from relay.packet import be64
from relay.powers import Power
from relay.store.blocks import app_hash

APP_VERSION = 1
REFUSED = 1
"""The code of every refusal; the reason is in the log, which is no part of consensus."""
CODESPACE = "lianqiao"
MAX_MESSAGE_BYTES = 64 * 1024 * 1024
THREADS = 8
_log = structlog.get_logger("lianqiao.abci")
_T = TypeVar("_T")


class AbciServicer(rpc.ABCIServicer):
    """Answers for one application."""

    def __init__(self, application: Application, snapshots: Snapshots) -> None:
        self._app = application
        self._snapshots = snapshots

    def Echo(self, request: pb.RequestEcho, context: grpc.ServicerContext) -> pb.ResponseEcho:
        """The same words."""
        return pb.ResponseEcho(message=request.message)

    def Flush(self, request: pb.RequestFlush, context: grpc.ServicerContext) -> pb.ResponseFlush:
        """Nothing is buffered."""
        return pb.ResponseFlush()

    def Info(self, request: pb.RequestInfo, context: grpc.ServicerContext) -> pb.ResponseInfo:
        """Application.info: how CometBFT begins with an application."""
        height, digest = self._app.info()
        self._app.met = True
        return pb.ResponseInfo(
            data="lianqiao",
            app_version=APP_VERSION,
            last_block_height=height,
            last_block_app_hash=digest,
        )

    def Query(self, request: pb.RequestQuery, context: grpc.ServicerContext) -> pb.ResponseQuery:
        """The node's own services answer questions."""
        return pb.ResponseQuery(code=REFUSED, log="ask the node by its gRPC services")

    def InitChain(
        self, request: pb.RequestInitChain, context: grpc.ServicerContext
    ) -> pb.ResponseInitChain:
        """Application.init_chain."""

        def init() -> bytes:
            powers = [_power(update) for update in request.validators]
            return self._app.init_chain(
                request.chain_id,
                request.time.seconds,
                request.initial_height,
                request.app_state_bytes,
                powers,
            )

        return pb.ResponseInitChain(app_hash=_do("InitChain", init, context))

    def CheckTx(
        self, request: pb.RequestCheckTx, context: grpc.ServicerContext
    ) -> pb.ResponseCheckTx:
        """Application.check. What is asked by one operator must not end CometBFT on every replica,
        as an error of this call would, so whatever befalls its check is a refusal."""
        self._require_met(context)
        try:
            self._app.check(request.tx)
        except LianqiaoError as err:
            return pb.ResponseCheckTx(code=REFUSED, log=str(err.reason), codespace=CODESPACE)
        except Exception as err:
            _log.error("check_failed", kind=type(err).__name__, exc_info=err)
            log = str(Reason.INTERNAL)
            return pb.ResponseCheckTx(code=REFUSED, log=log, codespace=CODESPACE)
        return pb.ResponseCheckTx()

    def PrepareProposal(
        self, request: pb.RequestPrepareProposal, context: grpc.ServicerContext
    ) -> pb.ResponsePrepareProposal:
        """Application.prepare."""

        def prepare() -> list[bytes]:
            return self._app.prepare(list(request.txs), request.max_tx_bytes, request.time.seconds)

        return pb.ResponsePrepareProposal(txs=self._block("PrepareProposal", prepare, context))

    def ProcessProposal(
        self, request: pb.RequestProcessProposal, context: grpc.ServicerContext
    ) -> pb.ResponseProcessProposal:
        """Application.process."""

        def process() -> bool:
            try:
                self._app.process(list(request.txs), request.time.seconds)
            except LianqiaoError as err:
                _log.warning("proposal_rejected", height=request.height, reason=str(err.reason))
                return False
            return True

        sound = self._block("ProcessProposal", process, context)
        answer = pb.ResponseProcessProposal
        return answer(status=answer.ACCEPT if sound else answer.REJECT)

    def ExtendVote(
        self, request: pb.RequestExtendVote, context: grpc.ServicerContext
    ) -> pb.ResponseExtendVote:
        """Votes are not extended."""
        return pb.ResponseExtendVote()

    def VerifyVoteExtension(
        self, request: pb.RequestVerifyVoteExtension, context: grpc.ServicerContext
    ) -> pb.ResponseVerifyVoteExtension:
        """Votes are not extended."""
        return pb.ResponseVerifyVoteExtension(status=pb.ResponseVerifyVoteExtension.ACCEPT)

    def FinalizeBlock(
        self, request: pb.RequestFinalizeBlock, context: grpc.ServicerContext
    ) -> pb.ResponseFinalizeBlock:
        """Application.finalize. A block's time is that of its header, in whole seconds."""

        def finalize() -> Outcome:
            return self._app.finalize(request.height, request.time.seconds, list(request.txs))

        outcome = self._block("FinalizeBlock", finalize, context)
        return pb.ResponseFinalizeBlock(
            tx_results=[_result(result) for result in outcome.results],
            validator_updates=[_update(power) for power in outcome.powers],
            app_hash=app_hash(outcome.block),
        )

    def Commit(self, request: pb.RequestCommit, context: grpc.ServicerContext) -> pb.ResponseCommit:
        """Application.commit."""
        block = self._block("Commit", self._app.commit, context)
        self._snapshots.committed(block)
        return pb.ResponseCommit()

    def ListSnapshots(
        self, request: pb.RequestListSnapshots, context: grpc.ServicerContext
    ) -> pb.ResponseListSnapshots:
        """Snapshots.list."""
        return pb.ResponseListSnapshots(
            snapshots=[
                pb.Snapshot(
                    height=one.height,
                    format=one.format,
                    chunks=len(one.chunks),
                    hash=one.hash,
                    metadata=b"".join(one.chunks),
                )
                for one in self._snapshots.list()
            ]
        )

    def OfferSnapshot(
        self, request: pb.RequestOfferSnapshot, context: grpc.ServicerContext
    ) -> pb.ResponseOfferSnapshot:
        """Snapshots.offer."""
        one, answer = request.snapshot, pb.ResponseOfferSnapshot
        if one.format != self._snapshots.FORMAT:
            return answer(result=answer.REJECT_FORMAT)
        try:
            self._snapshots.offer(one.height, one.chunks, one.hash, one.metadata, request.app_hash)
        except Exhausted as err:
            _log.error("snapshot_not_restored", height=one.height, reason=str(err))
            return answer(result=answer.ABORT)
        except LianqiaoError as err:
            _log.warning("snapshot_rejected", height=one.height, reason=str(err))
            return answer(result=answer.REJECT)
        return answer(result=answer.ACCEPT)

    def LoadSnapshotChunk(
        self, request: pb.RequestLoadSnapshotChunk, context: grpc.ServicerContext
    ) -> pb.ResponseLoadSnapshotChunk:
        """Snapshots.chunk."""
        return pb.ResponseLoadSnapshotChunk(
            chunk=self._snapshots.chunk(request.height, request.chunk)
        )

    def ApplySnapshotChunk(
        self, request: pb.RequestApplySnapshotChunk, context: grpc.ServicerContext
    ) -> pb.ResponseApplySnapshotChunk:
        """Snapshots.apply; the database is verified before the last chunk is accepted."""
        answer = pb.ResponseApplySnapshotChunk
        try:
            restored = self._snapshots.apply(request.index, request.chunk)
        except Malformed as err:
            _log.warning("chunk_rejected", index=request.index, reason=str(err))
            return answer(
                result=answer.RETRY,
                refetch_chunks=[request.index],
                reject_senders=[request.sender],
            )
        except (Exhausted, Unavailable, Conflict) as err:  # ours, not the snapshot's fault
            _log.error("snapshot_not_restored", reason=str(err))
            return answer(result=answer.ABORT)
        except LianqiaoError as err:
            _log.warning("snapshot_rejected", reason=str(err))
            return answer(result=answer.REJECT_SNAPSHOT)
        if restored:
            self._app.reload()
            self._app.met = True
        return answer(result=answer.ACCEPT)

    def _require_met(self, context: grpc.ServicerContext) -> None:
        """Ends the call of a CometBFT that did not begin with this process."""
        if not self._app.met:
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, "begin anew: no Info came before")

    def _block(self, name: str, call: Callable[[], _T], context: grpc.ServicerContext) -> _T:
        """A call about a block. After one that failed, CometBFT has to begin anew."""
        self._require_met(context)
        try:
            return call()
        except Exception as err:
            self._app.met = False
            _abort(name, err, context)
            raise AssertionError("unreachable") from err


def serve_abci(servicer: AbciServicer, listen: str) -> tuple[grpc.Server, int]:
    """Serves ABCI on a loopback address; the running server and its port.

    Raises Refused(CONFIG_INVALID) where the address is taken.
    """
    server = grpc.server(
        ThreadPoolExecutor(THREADS, thread_name_prefix="abci"),
        options=[
            ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
            ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
            ("grpc.so_reuseport", 0),
        ],
    )
    rpc.add_ABCIServicer_to_server(servicer, server)
    try:
        port = server.add_insecure_port(listen)
    except RuntimeError as err:
        raise Refused(
            Reason.CONFIG_INVALID,
            f"cannot listen on {listen} for CometBFT",
            hint="another program has the port; change `abci` in [engine_settings]",
        ) from err
    server.start()
    return server, port


def _do(name: str, call: Callable[[], _T], context: grpc.ServicerContext) -> _T:
    try:
        return call()
    except Exception as err:
        _abort(name, err, context)
        raise AssertionError("unreachable") from err


def _abort(name: str, err: Exception, context: grpc.ServicerContext) -> None:
    _log.error("abci_failed", method=name, kind=type(err).__name__, exc_info=err)
    context.abort(grpc.StatusCode.INTERNAL, f"{name}: {err}"[:500])


def _result(result: Result) -> pb.ExecTxResult:
    """Code and data are under the next header; what is for people is not."""
    data = be64(result.size)
    if result.error is None:
        return pb.ExecTxResult(data=data)
    reason = str(result.error.reason)
    return pb.ExecTxResult(code=REFUSED, data=data, log=reason, codespace=CODESPACE)


def _power(update: pb.ValidatorUpdate) -> Power:
    kind = update.pub_key.WhichOneof("sum")
    if kind not in ("ed25519", "secp256k1"):
        raise Malformed("a validator has a key of a kind that is not supported")
    return Power(kind, getattr(update.pub_key, kind), update.power)


def _update(power: Power) -> pb.ValidatorUpdate:
    key = pb.PublicKey(**{power.algorithm: power.key})
    return pb.ValidatorUpdate(pub_key=key, power=power.power)
