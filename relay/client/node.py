"""Everything a node answers, as one object."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType

from lianqiao.relay.v1 import operator_service_pb2 as opb
from lianqiao.relay.v1 import operator_service_pb2_grpc as orpc
from relay.client.base import Calls
from relay.client.chain import ClientCalls, EvidenceCalls, PacketCalls
from relay.client.connection import DEFAULT_TIMEOUT_SECONDS, Connection
from relay.client.ledger import RecordCalls, RegistryCalls
from relay.client.money import EscrowCalls, SettlementCalls
from relay.client.recognition import RecognitionCalls
from relay.client.witness import WitnessCalls
from relay.codec.evidence import (
    lane_from_pb,
    lane_to_pb,
    operator_from_pb,
    operator_to_pb,
    policy_from_pb,
    power_to_pb,
    status_from_pb,
)
from relay.codec.fields import each
from relay.codec.undelivered import undelivered_from_pb
from relay.ledger_views import Resent
from relay.light.types import ValidatorSet
from relay.light.validators import validator_set
from relay.powers import MAX_VALIDATORS, Power
from relay.views import Cleared, LaneView, PolicyView, StatusView, Undelivered


class OperatorCalls(Calls):
    """OperatorService."""

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection)
        self._operator = orpc.OperatorServiceStub(connection.channel)

    def status(self) -> StatusView:
        """The node in one glance."""
        return status_from_pb(
            self._connection.call(self._operator.GetStatus, opb.GetStatusRequest())
        )

    def load_policy(self, document: bytes) -> PolicyView:
        """Loads a policy document (RFC 8785 JSON) on a relay."""
        request = opb.LoadPolicyRequest(document=document)
        return policy_from_pb(self._connection.call(self._operator.LoadPolicy, request).policy)

    def propose_powers(self, powers: Sequence[Power]) -> None:
        """Changes who makes blocks of a replicated chain. Raises Refused(APPROVAL_PENDING)."""
        request = opb.ProposePowersRequest(powers=[power_to_pb(power) for power in powers])
        self._connection.call(self._operator.ProposePowers, request)

    def operators(self) -> tuple[ValidatorSet, int]:
        """(who decides for a replicated chain, how many must agree). Raises Denied."""
        response = self._connection.call(self._operator.GetOperators, opb.GetOperatorsRequest())
        found = each(response.operators, "operators", MAX_VALIDATORS, operator_from_pb, least=1)
        return validator_set(found), response.quorum

    def propose_operators(self, operators: ValidatorSet, quorum: int = 0) -> None:
        """Changes who decides for a replicated chain, and how many must agree (0: as many as now).
        Raises Refused(APPROVAL_PENDING)."""
        found = [operator_to_pb(one) for one in operators.validators]
        request = opb.ProposeOperatorsRequest(operators=found, quorum=quorum)
        self._connection.call(self._operator.ProposeOperators, request)

    def policy(self, kind: str, name: str, version: int) -> tuple[PolicyView, bytes]:
        """A policy document and its place. Raises NotFound(POLICY_NOT_FOUND)."""
        request = opb.GetPolicyRequest(kind=kind, name=name, version=version)
        response = self._connection.call(self._operator.GetPolicy, request)
        return policy_from_pb(response.policy), response.document

    def policies(self, kind: str = "") -> Iterator[PolicyView]:
        """Policy documents of a relay, of one kind or all."""
        request = opb.ListPoliciesRequest(kind=kind)
        return self._pages(self._operator.ListPolicies, request, "policies", policy_from_pb)

    def register_lane(
        self,
        client_id: str,
        address: str,
        adapter: str = "lianqiao",
        settings: Mapping[str, str] | None = None,
    ) -> None:
        """Tells a relay where to reach the chain of one of its clients, for good.

        Raises Denied(NOT_PERMITTED) where the node runs no lanes.
        """
        ordered = tuple(sorted((settings or {}).items()))
        lane = lane_to_pb(LaneView(client_id, adapter, address, settings=ordered))
        self._connection.call(self._operator.RegisterLane, opb.RegisterLaneRequest(lane=lane))

    def lanes(self) -> Iterator[LaneView]:
        """The lanes of a relay."""
        request = opb.ListLanesRequest()
        return self._pages(self._operator.ListLanes, request, "lanes", lane_from_pb)

    def resend(self, port: str) -> Resent:
        """Has a contract send again what it could not send, for want of an active client."""
        request = opb.RequestResendRequest(port=port)
        response = self._connection.call(self._operator.RequestResend, request)
        return Resent(response.sent, response.failed)

    def clear_packets(self, client_id: str, first: int = 0, last: int = 0) -> Cleared:
        """Has a relay take undelivered packets up again; 0: from the first, to the last.

        Raises NotFound(CLIENT_NOT_FOUND), Denied(NOT_PERMITTED).
        """
        request = opb.ClearPacketsRequest(
            client_id=client_id, first_sequence=first, last_sequence=last
        )
        done = self._connection.call(self._operator.ClearPackets, request)
        return Cleared(done.waiting, done.dead, done.forgotten, done.reread)

    def undelivered(self, client_id: str = "", sequence: int = 0) -> Iterator[Undelivered]:
        """What a relay could not deliver, of one client or all, of one sequence or all.

        Raises Denied(NOT_PERMITTED) where the node runs no lanes.
        """
        request = opb.ListUndeliveredRequest(client_id=client_id, sequence=sequence)
        return self._pages(
            self._operator.ListUndelivered, request, "undelivered", undelivered_from_pb
        )


class NodeClient(
    ClientCalls,
    PacketCalls,
    EvidenceCalls,
    WitnessCalls,
    OperatorCalls,
    RegistryCalls,
    RecordCalls,
    RecognitionCalls,
    SettlementCalls,
    EscrowCalls,
):
    """A node over gRPC. Thread-safe; a context manager that closes its connection."""

    def __init__(self, address: str, timeout: float = DEFAULT_TIMEOUT_SECONDS) -> None:
        super().__init__(Connection(address, timeout))

    @property
    def address(self) -> str:
        """Where the node listens, `host:port`."""
        return self._connection.address

    def close(self) -> None:
        """Ends the connection and every call on it."""
        self._connection.close()

    def __enter__(self) -> NodeClient:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def connect(address: str, timeout: float = DEFAULT_TIMEOUT_SECONDS) -> NodeClient:
    """A client of the node at `address`, each call of which ends after `timeout` seconds.

    Opens nothing yet: that nobody answers is found out by the first call.
    """
    return NodeClient(address, timeout)
