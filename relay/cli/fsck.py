"""fsck: whether a node's own files are what was signed, and the newest of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from relay.cli import output
from relay.cli.options import ConfigFile, Json
from relay.errors import Invalid, Reason, Refused

if TYPE_CHECKING:
    from collections.abc import Sequence

    from relay.config import Config
    from relay.fsck import Checked, Finding
    from relay.signing import HighWaterMark
    from relay.store import Store


def fsck(config: ConfigFile, as_json: Json = False) -> None:
    """Checks a whole node offline: database, tree, signatures, tables, every stored proof.

    Example: lianqiao fsck --config ./zj/config.toml
    """
    from relay.cli.opening import check_configured, open_store
    from relay.config import load
    from relay.fsck import database
    from relay.fsck import fsck as check
    from relay.registry import client_types, contracts

    loaded = load(config)
    _check_own_journal(loaded.engine)
    mark = _mark(loaded)  # read before the database, which a running node may raise both of
    store = open_store(loaded)
    try:
        check_configured(store, loaded)
        with output.working("checking every entry, signature and proof", quiet=as_json):
            origin = f"{loaded.chain_id}/{loaded.epoch}"
            checked, findings = None, database(store)
            if not findings:
                checked, findings = check(store, client_types(), origin, contracts=contracts())
        _tell(checked, findings, as_json)
        if mark is not None:
            _check_newest(store, mark)
    finally:
        store.close()
    if as_json:
        return
    output.say("all is as it should be")
    if mark is None and loaded.engine == "journal":
        output.say(f"whether it is the newest copy is not known: no mark {loaded.mark_file}")


def _check_own_journal(engine: str) -> None:
    from relay.registry import engines

    if engine != "journal" and getattr(engines().named(engine), "alone", False):
        raise Refused(
            Reason.NOT_PERMITTED,
            "this node's tables are a copy of what its chain tells, and no journal of its own",
            hint=f"lianqiao {engine} reread makes them again from the chain",
        )


def _mark(config: Config) -> HighWaterMark | None:
    """The mark beside the keys; None for a copy that is checked without them, and where heads are
    not signed here. A mark that is missing beside its key counts as none signed, as in `serve`."""
    from relay.signing import HighWaterMark

    if config.engine != "journal":
        return None
    key = next(iter(config.validators[0].keys.values()))
    here = config.mark_file.exists() or key.exists()
    return HighWaterMark(config.mark_file) if here else None


def _check_newest(store: Store, mark: HighWaterMark) -> None:
    """Raises Refused(STALE_RESTORE) where more was signed than is here, as `serve` would."""
    from relay.signing import CheckpointSigner
    from relay.store.identity import last_checkpoint, last_signed

    with store.read() as connection:
        signed, last = last_signed(connection), last_checkpoint(connection)
    signer = CheckpointSigner([], mark)
    if signed is not None:
        signer.check_mark_kept(signed.size)
    if last is not None:
        signer.check_not_stale(last.size, last.body)


def _tell(checked: Checked | None, findings: Sequence[Finding], as_json: bool) -> None:
    """What was looked at and found. Raises Invalid(JOURNAL_CORRUPT) where anything was."""
    if as_json:
        output.print_json({"checked": checked, "findings": findings})
    else:
        if checked is not None:
            counts = {**output.plain(checked), "books": ", ".join(checked.books) or "none"}
            output.fields(sorted(counts.items()))
        for finding in findings:
            output.say(f"{finding.where}: {finding.detail}")
    if findings:
        raise Invalid(
            Reason.JOURNAL_CORRUPT,
            f"{len(findings)} finding(s)" if as_json else f"{len(findings)} finding(s), see above",
            hint="stop this node and restore its newest backup; keep this directory as evidence",
            findings=len(findings),
        )
