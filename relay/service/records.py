"""RecordService: queries and fetches, as relay.disclosure decides them."""

from __future__ import annotations

from collections.abc import Iterator

import grpc

from lianqiao.ledger.v1 import record_service_pb2 as pb
from lianqiao.ledger.v1 import record_service_pb2_grpc as rpc
from relay.codec import disclosure as codec
from relay.codec.fields import each
from relay.disclosure.asks import MAX_FETCHES, Withheld
from relay.service.parts import Parts, Source


class RecordServicer(rpc.RecordServiceServicer):
    """The desk, over gRPC."""

    def __init__(self, parts: Parts, source: Source) -> None:
        self._parts = parts
        self._source = source

    def FindRecords(
        self, request: pb.FindRecordsRequest, context: grpc.ServicerContext
    ) -> pb.FindRecordsResponse:
        """Desk.find."""
        found = self._source.desk.find(codec.query_from_pb(request), self._parts.clock())
        return pb.FindRecordsResponse(records=[codec.found_to_pb(r) for r in found])

    def FetchRecord(
        self, request: pb.FetchRecordRequest, context: grpc.ServicerContext
    ) -> Iterator[pb.FetchRecordResponse]:
        """Desk.fetch; one message a part."""
        fetches = each(request.fetches, "fetches", MAX_FETCHES, codec.fetch_from_pb, least=1)
        for number, answer in enumerate(self._source.desk.fetch(fetches, self._parts.clock())):
            if isinstance(answer, Withheld):
                yield codec.withheld_to_pb(number, answer)
                continue
            for index, part in enumerate(answer.parts):
                yield codec.fetched_part_to_pb(number, index, len(answer.parts), part)
