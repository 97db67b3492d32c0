"""Runs a node until it is told to stop: the one command that has a clock, threads and a socket.

Start: config → lock → keys → database → node → server → lanes. Whatever is wrong is said before the
socket opens. Stop (SIGTERM, SIGINT): no new calls, lanes end their turn, database closed. A node
that is killed at any moment starts again from what is committed.
"""

from __future__ import annotations

import sys
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO, cast

import typer

from relay.cli import output
from relay.cli.clock import MAX_STEP, Clock
from relay.cli.options import ConfigFile
from relay.errors import LianqiaoError, Malformed, Reason
from relay.signals import stop_on_signals

if TYPE_CHECKING:
    from relay.cli.lanes import Lanes
    from relay.config import Config, LogConfig
    from relay.local import LocalChain
    from relay.node import Node
    from relay.views import WitnessView
    from relay.witness import Witness

POLL_SECONDS = 0.5
GRACE_SECONDS = 10.0
REPEAT_TURNS = 120
"""Turns that failed for the same reason until it is told again."""
OLD_HEAD = 7 * 86_400
WITNESS_TIMEOUT_SECONDS = 10.0


def serve(
    config: ConfigFile,
    engine_name: Annotated[
        str, typer.Option("--engine", metavar="NAME", help="Instead of the configuration's.")
    ] = "",
) -> None:
    """Runs a node until Ctrl-C or SIGTERM. Prints one line once it serves; logs go to stderr.

    Example: lianqiao serve --config ./zj/config.toml
    """
    from relay.cli.opening import only_process, open_node, open_witness
    from relay.config import load
    from relay.engine import Engine
    from relay.registry import engines

    loaded, clock = load(config), Clock(wall_clock)
    if engine_name:
        loaded = loaded.model_copy(update={"engine": engine_name})
    engine: Any = engines().named(loaded.engine)
    own = isinstance(engine, Engine)
    with only_process(loaded), ExitStack() as stack:
        _hold(loaded, stack)
        node = engine.open_node(loaded, clock) if own else open_node(loaded, clock)
        stack.callback(node.close)
        stores, lanes = _stores(loaded), _lanes(loaded)
        stores["witness"] = None if own else open_witness(loaded, node)
        configure_logs(loaded.log)
        if own:
            engine = partial(engine.serve, loaded)
        else:
            _warn(loaded)
            _check_age(node, clock)
        _run(loaded, node, engine, stack, clock, stores, lanes)


wall_clock = time.time
"""The machine's clock, the one place where the program reads it."""


def _warn(config: Config) -> None:
    keys = len(config.validators)
    if keys == 1:
        output.note("warning: one key signs the heads of this node; nobody else vouches for them.")
    else:
        output.note(
            f"warning: the {keys} validator keys in this one process show the arithmetic of a "
            "quorum, not independence."
        )
    output.note(
        "In production each key is held by an institution of its own, which verifies before it "
        "signs (at least four of them), and witnesses co-sign."
    )


def _hold(config: Config, stack: ExitStack) -> None:
    """What one process alone may write, whatever database it shares with others."""
    from relay.disk import held

    if config.vault is not None:
        stack.enter_context(held(config.vault.directory, "the vault"))
    if config.witness is not None:
        stack.enter_context(held(config.witness_folder, "what this witness has signed,"))


def _check_age(node: Node, clock: Clock) -> None:
    """A clock that is wrong from the start does not show by itself; its distance from the last
    head may."""
    age = clock() - node.head.time
    if age > OLD_HEAD:
        output.note(
            f"warning: the newest head is {age // 86_400} days old. If this machine's clock is "
            "wrong, stop now: a time that was signed once is never taken back."
        )
    elif age < -MAX_STEP:
        output.note(
            f"warning: the clock is {-age} s behind the newest head. New heads repeat its time "
            "until the clock has come to it; if the clock is wrong, set it right."
        )


def _run(
    config: Config,
    node: Node,
    engine: Callable[..., Any],
    stack: ExitStack,
    clock: Clock,
    stores: dict[str, Any],
    lanes: Lanes | None,
) -> None:
    stop = threading.Event()
    stop_on_signals(stop)
    if lanes is not None:
        from relay.local import LocalChain

        _start_lanes(config, LocalChain(node, stores["witness"]), lanes, stop, stack, clock)
        stores = {**stores, "lanes": lanes, "remote": lanes.remote}
    if config.witnesses:
        stores = {**stores, "witnesses": _start_cosigning(config, node, stop, stack, clock)}
    server = engine(
        node,
        listen=config.listen,
        clock=clock,
        reflect=config.reflection,
        **stores,
    )
    stack.callback(server.stop, GRACE_SECONDS)
    stack.callback(stop.set)
    host = config.listen.rpartition(":")[0]
    asked = config.witness and config.witness.http
    at = _serve_witness(asked, stores["witness"], stack, clock) if asked else ""
    output.say(f"{config.chain_id} ({config.role}) listens on {host}:{server.port}")
    if at:
        output.say(f"its witness answers at {at}")
    sys.stdout.flush()
    _tick(node, stop)


def _tick(node: Node, stop: threading.Event) -> None:
    """Keeps the head young until `stop`. A disk that is full now may have room later."""
    import structlog

    log, told, quiet = structlog.get_logger("lianqiao.serve"), "", 0
    while not stop.wait(POLL_SECONDS):
        try:
            node.tick()
        except LianqiaoError as error:
            if error.reason != told or quiet >= REPEAT_TURNS:
                log.error("tick", reason=str(error.reason), detail=error.detail, hint=error.hint)
                told, quiet = error.reason, 0
            quiet += 1
        else:
            if told:
                log.info("tick", recovered=str(told))
            told = ""
    log.info("stopping")


def _lanes(config: Config) -> Lanes | None:
    if config.role != "relay":
        return None
    from relay.cli.lanes import Lanes

    return Lanes(config.data / "lanes.json", config.lanes)


def _keep_evidence(directory: Path, chain_id: str, evidence: bytes) -> None:
    """Keeps proof of two histories in a file, for `lianqiao clients accuse` on other nodes."""
    from hashlib import sha256

    path = directory / f"{sha256(evidence).hexdigest()[:32]}.evidence"
    try:
        directory.mkdir(mode=0o700, exist_ok=True)
        path.write_bytes(evidence)
    except OSError as error:
        # Whoever could be reached has it already, and it is on the journals of those.
        output.note(f"evidence against {chain_id} could not be kept: {error.strerror}")
    else:
        output.note(f"warning: {chain_id} signed two histories; evidence: {path}")


def _start_lanes(
    config: Config,
    local: LocalChain,
    lanes: Lanes,
    stop: threading.Event,
    stack: ExitStack,
    clock: Clock,
) -> None:
    import socket

    from relay.relayer import Relayer
    from relay.store.leases import Leases

    node = local.node
    relayer = Relayer(
        node.store,
        local,
        heads_needed=node.heads_needed,
        submit_misbehaviour=node.submit_misbehaviour,
        client_types=node.client_types,
        keep_evidence=partial(_keep_evidence, config.data / "evidence"),
    )
    lanes.start(relayer)

    seen = threading.local()

    def wait(seconds: float) -> bool:
        """Whether the journal has grown since this thread asked last."""
        grown = node.wait_shown(getattr(seen, "size", node.shown_size), seconds)
        seen.size = node.shown_size
        return grown

    leases = Leases(node.store, f"{socket.gethostname()} {config.listen}")
    thread = threading.Thread(
        target=relayer.run, args=(stop, clock, wait, leases.has), name="relayer"
    )
    thread.start()
    stack.callback(leases.give_back)
    stack.callback(thread.join)
    stack.callback(stop.set)


def _serve_witness(listen: str, witness: Witness | None, stack: ExitStack, clock: Clock) -> str:
    """Where the witness answers over HTTP as well. Raises CONFIG_INVALID."""
    from relay.service.http_witness import HttpWitnessServer

    try:
        if witness is None:
            raise Malformed(
                "a replicated node is nobody's witness",
                reason=Reason.CONFIG_INVALID,
                hint="remove [witness] from its configuration",
            )
        served = HttpWitnessServer(witness, listen, clock)
    except OSError as error:
        raise Malformed(
            f"cannot listen on {listen}: {error.strerror or error}",
            reason=Reason.CONFIG_INVALID,
            hint="another program may have that port; change [witness] http",
        ) from error
    stack.callback(served.stop)
    return f"http://{listen.rpartition(':')[0]}:{served.port}"


def _start_cosigning(
    config: Config, node: Node, stop: threading.Event, stack: ExitStack, clock: Clock
) -> Callable[[], list[WitnessView]]:
    """A thread for each witness, so that none waits for another; tells how it stands with them."""
    from relay.client import connect
    from relay.client.http_witness import HttpWitness
    from relay.cosigning import Cosigning

    running = []
    for peer in config.witnesses:
        ask = HttpWitness if "://" in peer.address else connect
        client = ask(peer.address, WITNESS_TIMEOUT_SECONDS)
        stack.callback(client.close)
        cosigning = Cosigning(node, peer.pinned, peer.address, client)
        thread = threading.Thread(
            target=cosigning.run, args=(stop, clock), name=f"witness {peer.name}"
        )
        thread.start()
        stack.callback(thread.join)
        running.append(cosigning)
    stack.callback(stop.set)
    return lambda: [cosigning.view() for cosigning in running]


def _stores(config: Config) -> dict[str, Any]:
    """Where a ledger keeps originals, and who read them."""
    if config.vault is None:
        return {}
    import os

    from relay.record.audit import AuditStore
    from relay.record.seal import load_key
    from relay.record.vault import Vault

    directory, ledger = config.vault.directory, config.chain_id
    try:
        key = load_key(config.vault.key)
    except LianqiaoError as error:
        raise Malformed(
            error.detail,
            reason=Reason.CONFIG_INVALID,
            hint=error.hint or "[vault] key in the configuration names the file",
        ) from None
    try:
        return {
            "vault": Vault(directory, key, ledger, os.urandom),
            "audit": AuditStore(directory / "audit", key, ledger, os.urandom),
        }
    except OSError as error:
        raise output.unreadable(directory, error) from None


# --- logs


def configure_logs(config: LogConfig) -> None:
    """structlog to standard error: one line an RPC and a turn, JSON unless it is a terminal."""
    import structlog

    as_json = config.format == "json" or (config.format == "auto" and not sys.stderr.isatty())
    renderer: Callable[..., Any] = (
        structlog.processors.JSONRenderer(ensure_ascii=False)
        if as_json
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            places_only,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(config.level),
        logger_factory=structlog.PrintLoggerFactory(cast(TextIO, Forgiving(sys.stderr))),
        cache_logger_on_first_use=True,
    )


class Forgiving:
    """Standard error, without its mistakes: what a full disk does to the log is no reason for a
    node to stop."""

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def write(self, text: str) -> None:
        """See TextIO."""
        with suppress(OSError, ValueError):
            self._file.write(text)

    def flush(self) -> None:
        """See TextIO."""
        with suppress(OSError, ValueError):
            self._file.flush()


def places_only(_logger: Any, _method: str, entry: Any) -> Any:
    """An exception as its kind and the places it passed; its text might be a patient's."""
    error = entry.pop("exc_info", None)
    if isinstance(error, BaseException):
        frames = traceback.extract_tb(error.__traceback__)[-8:]
        entry["kind"] = type(error).__name__
        entry["places"] = [f"{f.filename.rpartition('/')[2]}:{f.lineno}" for f in frames]
    return entry
