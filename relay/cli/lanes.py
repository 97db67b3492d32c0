"""The lanes of a running relay: those of its configuration, and those that `connect` added.

Added lanes are remembered in `<data>/lanes.json`, written whole under another name and renamed, so
that a crash leaves the old file or the new one. A lane says how to reach a chain and nothing about
trust, so a wrong one costs delays and nothing else.
"""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from relay.cli.output import unreadable
from relay.config import LaneConfig
from relay.disk import replace_file, writing
from relay.errors import Malformed, Reason, Refused, Unavailable
from relay.nesting import loads
from relay.registry import connect_chain
from relay.views import Cleared, LaneView

if TYPE_CHECKING:
    from relay.chain import Chain
    from relay.relayer import Relayer

MAX_FILE_BYTES = 1024 * 1024


class Lanes:
    """What a relay serves. `add` may be called from any thread, `start` once."""

    def __init__(self, path: Path, configured: tuple[LaneConfig, ...]) -> None:
        """Raises Malformed(CONFIG_INVALID) where the file of added lanes cannot be read."""
        self._path = path
        self._lock = threading.Lock()
        self._relayer: Relayer | None = None
        self._configured = {lane.client: _view(lane) for lane in configured}
        self._added = _read(path)

    def start(self, relayer: Relayer) -> None:
        """Gives a relayer every lane. Raises what an adapter raises, CONFIG_INVALID first."""
        for lane in self.list():
            relayer.add_lane(lane.client_id, _chain(lane))
        self._relayer = relayer

    def remote(self, client_id: str) -> Chain | None:
        """The chain behind a client, where a lane reaches it."""
        lanes = self._relayer.lanes if self._relayer else ()
        return next((lane.remote for lane in lanes if lane.client_id == client_id), None)

    def list(self) -> list[LaneView]:
        """Every lane in order of its client id, with why it stands still where it does.

        What the configuration says comes first.
        """
        lanes = {**self._added, **self._configured}
        running = self._relayer.lanes if self._relayer else ()
        stopped = {lane.client_id: lane.stopped for lane in running}
        return [
            replace(lanes[name], reason=reason, detail=detail)
            for name in sorted(lanes)
            for reason, detail in (stopped.get(name, ("", "")),)
        ]

    def clear(self, client_id: str, now: int, sequences: tuple[int, int]) -> Cleared:
        """Takes undelivered packets of a client up again. Raises NotFound(CLIENT_NOT_FOUND),
        Unavailable(SHUTTING_DOWN) before `start`."""
        if self._relayer is None:
            raise Unavailable(Reason.SHUTTING_DOWN, "the lanes of this relay do not run yet")
        return self._relayer.clear(client_id, now, sequences)

    def add(self, lane: LaneView) -> None:
        """Serves one more chain from now on, also after a restart. The same again is a no-op.

        Raises Malformed, Refused(CONFIG_INVALID) where the configuration says otherwise,
        Refused(LIMIT_EXCEEDED) past what a relay can serve when it starts again, and
        Exhausted(LIMIT_EXCEEDED) where the disk refuses.
        """
        lane = _checked(lane)
        client_id = lane.client_id
        with self._lock:
            configured = self._configured.get(client_id)
            if configured == lane:
                return
            if configured is not None:
                raise Refused(
                    Reason.CONFIG_INVALID,
                    f"the configuration says that {client_id} is reached at {configured.address}",
                    hint="change [[lanes]] in the relay's configuration and start it again",
                    client_id=client_id,
                )
            chain = _chain(lane)
            added = {**self._added, client_id: lane}
            _write(self._path, added, len({*added, *self._configured}))
            self._added = added
            if self._relayer is not None:
                self._relayer.add_lane(client_id, chain)


def _chain(lane: LaneView) -> Any:
    return connect_chain(lane.adapter, {**dict(lane.settings), "address": lane.address})


def _view(lane: LaneConfig) -> LaneView:
    return LaneView(lane.client, lane.adapter, lane.address, settings=lane.ordered)


def _as_config(lane: LaneView) -> dict[str, Any]:
    """The lane as the configuration says it, in lanes.json as well."""
    said: dict[str, Any] = {
        "client": lane.client_id,
        "adapter": lane.adapter,
        "address": lane.address,
    }
    return {**said, "settings": dict(lane.settings)} if lane.settings else said


def _checked(lane: LaneView) -> LaneView:
    """The lane by the rules of the configuration. Raises Malformed."""
    try:
        return _view(LaneConfig(**_as_config(lane)))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        name = ".".join(str(part) for part in first["loc"])
        raise Malformed(
            f"lane: {name[:64]}: {first['msg'].removeprefix('Value error, ')}"
        ) from None


def _read(path: Path) -> dict[str, LaneView]:
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise unreadable(path, error) from None
    try:
        value = loads(raw, 16) if len(raw) <= MAX_FILE_BYTES else None
        lanes = [LaneConfig(**lane) for lane in value["lanes"]]  # type: ignore[index]
    except (ValueError, TypeError, KeyError):
        raise Malformed(
            f"{path} is not a list of lanes",
            reason=Reason.CONFIG_INVALID,
            hint="move it away and run lianqiao connect again; nothing else is lost with it",
        ) from None
    return {lane.client: _view(lane) for lane in lanes}


def _write(path: Path, lanes: dict[str, LaneView], served: int) -> None:
    """Nothing that could not be read or served at the next start is written."""
    from relay.relayer import MAX_LANES

    listed = [_as_config(lane) for _, lane in sorted(lanes.items())]
    raw = json.dumps({"lanes": listed}, indent=2).encode()
    if served > MAX_LANES or len(raw) > MAX_FILE_BYTES:
        raise Refused(
            Reason.LIMIT_EXCEEDED,
            f"a relay runs at most {MAX_LANES} lanes, listed in {MAX_FILE_BYTES} bytes",
            hint="take lanes that are not needed out of lanes.json, and start the relay again",
        )
    with writing(f"the list of lanes {path}"):
        replace_file(path, raw)
