"""Verifies a bundle offline. Opens the files it is given and nothing else: no network, no database.

Whatever is wrong with the bundle or the record is a refusal (exit 1), bytes that are no bundle at
all included: one changed byte is a refusal wherever it lies. A trust file that cannot be read, a
file that is not there, or a wrong argument is the user's own matter (exit 2).
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from relay.cli import output
from relay.cli.histories import contradictions_of, tell
from relay.cli.options import Json, read_file, time_of, write_file
from relay.errors import Invalid, LianqiaoError, Malformed, Reason

if TYPE_CHECKING:
    from relay.bundle import BundleClaim, BundlePacket, BundleReport, HopReport, Trust
    from relay.contradictions import Contradiction
    from relay.record.parts import Shown

MAX_PREVIEW = 100


def verify(
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE...", help="The bundle, or several of them.")
    ],
    trust: Annotated[
        Path,
        typer.Option("--trust", metavar="FILE", help="What you trust, such as trust.json."),
    ],
    record: Annotated[
        Path | None,
        typer.Option("--record", metavar="FILE", help="A record file that the bundle is about."),
    ] = None,
    at: Annotated[
        str,
        typer.Option("--at", metavar="TIME", help="Judge as of this moment: an assumption."),
    ] = "",
    evidence: Annotated[
        Path | None,
        typer.Option(
            "--evidence",
            metavar="FILE",
            help="Where to write what a chain contradicts itself by, if the bundles show that.",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Verifies a bundle offline: every signature, every proof, and the record if one is given.

    Of several it is seen too whether a chain tells two histories in them: that is refused, and
    what proves it freezes clients of that chain (lianqiao clients accuse).

    Example: lianqiao verify result.bundle --trust trust.json --record result.record.json
    """
    from relay.bundle import decode_trust
    from relay.bundle_format import MAX_BUNDLE_BYTES
    from relay.record.parts import MAX_FILE_BYTES
    from relay.trust import MAX_TRUST_BYTES

    trusted = decode_trust(read_file(trust, MAX_TRUST_BYTES))
    now = int(time.time())
    moment = time_of(at) if at else None
    if moment is not None and moment > now:
        raise Malformed("--at lies in the future", hint="leave it away to judge as of now")
    if record is not None and len(files) > 1:
        raise Malformed("--record goes with one bundle", hint="give the bundle that is about it")
    original = None if record is None else read_file(record, MAX_FILE_BYTES)
    if evidence is not None and evidence.resolve() in [file.resolve() for file in files]:
        raise Malformed(f"--evidence {evidence} is one of the bundles", hint="name another file")
    with output.working("verifying", quiet=as_json):
        raws = [read_file(file, MAX_BUNDLE_BYTES) for file in files]
        judged = [_judge(raw, trusted, now, moment, original) for raw in raws]
        good = [r for r, j in zip(raws, judged, strict=True) if not isinstance(j, LianqiaoError)]
        found = contradictions_of(good, trusted, now if moment is None else moment)
    if as_json:
        _print_json(files, judged, found)
    refused = [(f, j) for f, j in zip(files, judged, strict=True) if isinstance(j, LianqiaoError)]
    if len(files) == 1 and refused:
        raise refused[0][1]
    if not as_json:
        for file, one in zip(files, judged, strict=True):
            _print_one(file, one, alone=len(files) == 1)
    if found and evidence is not None:
        write_file(evidence, found[0].evidence)
    if not as_json:
        tell(found, evidence)
    if refused or found:
        raise typer.Exit(output.REFUSED)


def _judge(
    raw: bytes, trusted: Trust, now: int, moment: int | None, original: bytes | None
) -> tuple[BundleReport, Shown | None] | LianqiaoError:
    """What one bundle proves, or why it is refused."""
    from relay.bundle import verify_bundle
    from relay.registry import client_types

    try:
        report = verify_bundle(raw, trusted, now, client_types(), at=moment)
        _check_parties(report)
        return report, None if original is None else _check_record(original, report)
    except Malformed as error:
        return _refusal(error)
    except LianqiaoError as error:
        error.hint = error.hint or _HINTS.get(error.reason, "")
        return error


_HINTS = {
    Reason.INVALID_CONSISTENCY: "either it was changed, or it leads from another head than the "
    "trust file holds: lianqiao bundle … --trust FILE makes one that fits",
}


def _refusal(error: Malformed) -> Invalid:
    """A form that is wrong, told as what it is here: a refusal of what was to be judged."""
    return Invalid(
        error.reason,
        error.detail,
        hint=error.hint or "the file was changed, or is not what it is said to be",
        **error.data,
    )


def _check_parties(report: BundleReport) -> None:
    """Whoever speaks in a packet is whose head shows it: a ledger can write a relay's decision
    into a journal of its own, and prove that it did.

    Raises Invalid(CHAIN_ID_MISMATCH).
    """
    from relay.contracts.payloads.parties import parties

    shown = {
        (claim.kind == "commitment", claim.packet): hop.chain.rpartition("/")[0] or hop.chain
        for hop in report.hops
        for claim in hop.claims
        if claim.kind != "entry"
    }
    for index, about in enumerate(report.packets):
        for ends in parties(about.packet, about.acknowledgements):
            for named, chain in zip(
                ends, (shown[True, index], shown.get((False, index))), strict=True
            ):
                if named and chain is not None and named != chain:
                    raise Invalid(
                        Reason.CHAIN_ID_MISMATCH,
                        f"packet {index} speaks for {named}, and it is {chain} that shows it",
                        hint="only the head of the chain itself shows what it said",
                    )


def _check_record(raw: bytes, report: BundleReport) -> Shown:
    """What the record file shows, if a packet of the bundle names its commitment.

    Raises Invalid(RECORD_MISMATCH), Malformed.
    """
    from relay.record.parts import decode_record, verify_record

    claimed, _ = decode_record(raw)
    named = {c for about in report.packets for c in commitments_of(about)}
    if claimed not in named:
        raise Invalid(
            Reason.RECORD_MISMATCH,
            f"the bundle is not about record {claimed.hex()}",
            hint="its records: " + (", ".join(sorted(c.hex() for c in named)) or "none"),
        )
    return verify_record(raw, claimed)


def commitments_of(about: BundlePacket) -> list[bytes]:
    """Commitments of the records that a packet's payloads name."""
    from relay.canonical import decode

    found = []
    for payload in about.packet.payloads:
        try:
            value = decode(payload.value, len(payload.value))
            named = value.get("commitment") if isinstance(value, dict) else None
            found.append(bytes.fromhex(named) if isinstance(named, str) else b"")
        except (LianqiaoError, ValueError):
            continue  # another application's payload, in a format of its own
    return [commitment for commitment in found if len(commitment) == 32]


def _record(shown: Shown | None) -> dict[str, object] | None:
    if shown is None:
        return None
    return {
        "commitment": shown.commitment,
        "parts": shown.count,
        "shown": [index for index, _ in shown.parts],
    }


# --- for people


def _print_json(
    files: list[Path], judged: list[Any], contradictions: tuple[Contradiction, ...]
) -> None:
    bundles: list[dict[str, object]] = []
    for file, one in zip(files, judged, strict=True):
        if isinstance(one, LianqiaoError):
            failed = {"reason": one.reason, "detail": one.detail, "hint": one.hint}
            bundles.append({"file": file, "verified": False, **failed})
        else:
            report, shown = one
            found = {**output.plain(report), "record": _record(shown)}
            bundles.append({"file": file, "verified": True, **found})
    verified = all(b["verified"] for b in bundles) and not contradictions
    told = {"verified": verified, "bundles": bundles, "contradictions": list(contradictions)}
    output.print_json(told)


def _print_one(file: Path, one: Any, *, alone: bool) -> None:
    """All of one bundle; of several, a line each."""
    if isinstance(one, LianqiaoError):
        output.note(f"{file}: {one.reason}: {one.detail}")
    elif alone:
        _print(*one)
    else:
        hops = ", ".join(f"{hop.chain} at {hop.height}" for hop in one[0].hops)
        output.say(f"{file}: verified, {hops}")


def _print(report: BundleReport, shown: Shown | None) -> None:
    packets, hops = len(report.packets), len(report.hops)
    output.say(f"verified: {_count(packets, 'packet')}, {_count(hops, 'hop')}")
    for number, about in enumerate(report.packets):
        inner = about.packet
        ports = ", ".join(f"{p.source_port} → {p.destination_port}" for p in inner.payloads)
        output.say()
        output.say(f"packet {number}: {ports}, sequence {inner.sequence}")
        output.say(f"  from {inner.source_client} to {inner.destination_client}")
        for commitment in commitments_of(about):
            output.say(f"  about record {commitment.hex()}")
        for acknowledgement in about.acknowledgements:
            for line in answer_in_words(acknowledgement):
                output.say(f"  {line}")
    for number, hop in enumerate(report.hops, 1):
        output.say()
        _print_hop(number, hop)
    if shown is not None:
        output.say()
        output.say(
            f"record {shown.commitment.hex()}: {len(shown.parts)} of {shown.count} parts shown, "
            "each exactly as committed to"
        )
    if report.assumed_time is not None:
        output.say()
        output.say(
            f"assumption: judged as of {output.moment(report.assumed_time)} because --at says so; "
            "nothing in the bundle shows that it was that time"
        )


def _print_hop(number: int, hop: HopReport) -> None:
    signers = ", ".join(hop.signers) or "no one anew: it is the trusted head itself"
    output.say(f"hop {number}: {hop.chain}, height {hop.height}, {output.moment(hop.time)}")
    output.say(f"  signed by {signers}")
    if hop.witnesses:
        output.say(f"  witnessed by {', '.join(hop.witnesses)}")
    for claim in hop.claims:
        output.say(f"  proven: {in_words(claim)}")
    output.say(f"  means: {hop.assurance}")


def answer_in_words(acknowledgement: bytes) -> list[str]:
    """What was answered: a decision item by item, a short answer, or the bytes of another kind."""
    from relay.contracts.payloads import Answer, Decision

    try:
        decision = Decision.decode(acknowledgement)
    except LianqiaoError:
        pass
    else:
        decided = output.moment(decision.decided)
        return [f"answered by a decision of {decision.relay}, {decided}"] + [
            f"  part {item.part} {item.item or '(not in the catalogue)'}: "
            + ", ".join(str(word) for word in (item.verdict, *item.reasons, *item.flags))
            for item in decision.items
        ]
    try:
        answer = Answer.decode(acknowledgement)
    except LianqiaoError:
        return [f"answered {_preview(acknowledgement)}"]
    return [f"answered {'accepted' if answer.accepted else f'refused, {answer.reason}'}"]


_WORDS = {
    "commitment": "was sent from here",
    "receipt": "was received here",
    "acknowledgement": "was answered here, as shown",
    "absent": "was never received here, and never will be",
}


def in_words(claim: BundleClaim) -> str:
    """What a claim says."""
    if claim.kind == "entry":
        return f"entry {_preview(claim.path)} holds {_preview(claim.value)}"
    return f"packet {claim.packet} {_WORDS[str(claim.kind)]}"


def _preview(raw: bytes) -> str:
    try:
        text = output.visible(raw.decode())
    except UnicodeDecodeError:
        text = raw.hex()
    return text if len(text) <= MAX_PREVIEW else f"{text[:MAX_PREVIEW]}…"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
