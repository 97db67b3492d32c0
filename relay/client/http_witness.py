"""A witness that is asked over HTTP (relay.tlog_witness): a node of ours, or any of C2SP."""

from __future__ import annotations

import http.client
import ssl
from collections.abc import Sequence
from urllib.parse import urlsplit

from relay.errors import (
    Invalid,
    LianqiaoError,
    Malformed,
    NotFound,
    Reason,
    Refused,
    Unavailable,
)
from relay.posting import Answer, TooLongError, ask
from relay.tlog_witness import (
    MAX_ANSWER_BYTES,
    PATH,
    SIZE_TYPE,
    TEXT_TYPE,
    AddCheckpoint,
    decode_answer,
    decode_size,
    encode_request,
)
from relay.views import Cosigned

MAX_DETAIL = 200


class HttpWitness:
    """One witness. See relay.cosigning.Asked."""

    def __init__(self, address: str, seconds: float) -> None:
        """`address`: http:// or https://, HOST[:PORT] and perhaps a path; `seconds` for a call."""
        parts = urlsplit(address)
        self.address = address
        self._host = parts.netloc
        self._path = parts.path.rstrip("/") + PATH
        self._seconds = seconds
        self._tls = ssl.create_default_context() if parts.scheme == "https" else None

    def add_checkpoint(
        self, old_size: int, proof: Sequence[bytes], note: bytes, validators: bytes
    ) -> Cosigned:
        """See relay.witness.Witness.add_checkpoint. `validators` does not travel.

        Raises Unavailable(CHAIN_UNREACHABLE), Malformed where the answer is not of the protocol,
        and by the status: NotFound(CLIENT_NOT_FOUND) 404, Refused(NOT_PERMITTED) 403,
        Invalid(HEAD_CONFLICT) 409 without a size, Invalid(INVALID_CONSISTENCY) 422.
        """
        body = encode_request(AddCheckpoint(old_size, tuple(proof), note))
        try:
            answer = ask(
                self._host,
                self._path,
                body,
                seconds=self._seconds,
                limit=MAX_ANSWER_BYTES,
                kind=TEXT_TYPE,
                tls=self._tls,
            )
        except TooLongError as error:
            raise Malformed(f"the answer of {self.address} is too long") from error
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise Unavailable(
                Reason.CHAIN_UNREACHABLE,
                f"no witness answers at {self.address}: {_plain(str(error))}",
                hint="it serves this where its configuration says [witness] http",
                address=self.address,
            ) from error
        if answer.status == http.client.OK:
            return Cosigned(decode_answer(answer.body), 0)
        if answer.status == http.client.CONFLICT and answer.kind.partition(";")[0] == SIZE_TYPE:
            return Cosigned((), decode_size(answer.body.removesuffix(b"\n")))
        raise self._refusal(answer)

    def close(self) -> None:
        """Nothing is held between calls."""

    def _refusal(self, answer: Answer) -> LianqiaoError:
        said = _plain(answer.body.decode(errors="replace")) or "no reason"
        detail = f"{self.address} answers {answer.status}: {said}"
        if answer.status == http.client.NOT_FOUND:
            hint = "its operator decides whom it witnesses"
            return NotFound(Reason.CLIENT_NOT_FOUND, detail, hint=hint)
        if answer.status == http.client.FORBIDDEN:
            hint = "it counts other keys than those of this node, or has frozen it"
            return Refused(Reason.NOT_PERMITTED, detail, hint=hint)
        if answer.status == http.client.CONFLICT:
            return Invalid(Reason.HEAD_CONFLICT, detail)
        if answer.status == http.client.UNPROCESSABLE_ENTITY:
            return Invalid(Reason.INVALID_CONSISTENCY, detail)
        if answer.status == http.client.BAD_REQUEST:
            return Malformed(detail)
        return Unavailable(Reason.CHAIN_UNREACHABLE, detail, address=self.address)


def _plain(text: str) -> str:
    """A stranger's words, for a terminal and a table."""
    return "".join(c if c.isprintable() else " " for c in text[:MAX_DETAIL]).strip()
