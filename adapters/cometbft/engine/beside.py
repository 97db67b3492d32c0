"""CometBFT beside a replica, run by it: where no service manager does."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
from pathlib import Path

import structlog

from relay.errors import Reason, Refused
from relay.keeper import end, keep, kill

RESTART_SECONDS = 1.0
STOP_SECONDS = 10.0
MAX_LAST = 400
_log = structlog.get_logger("lianqiao.cometbft")


def program(binary: str) -> str:
    """The path of CometBFT; empty where somebody else runs it. Raises Refused(CONFIG_INVALID)."""
    found = shutil.which(binary) if binary else ""
    if found is None:
        raise Refused(
            Reason.CONFIG_INVALID,
            f"[engine_settings] binary: there is no program {binary!r}",
            hint="GOBIN=~/.cache/lianqiao/bin go install github.com/cometbft/cometbft/cmd/"
            "cometbft@v0.38.25, and its path there; or empty, where a service manager runs it",
        )
    return found


class Beside:
    """CometBFT beside this process: started again when it ends, as it does when it lost its
    application, and never left behind (relay.keeper)."""

    def __init__(self, binary: str, home: Path) -> None:
        self._command = [binary, "start", "--home", str(home)]
        self._log_path = home / "cometbft.log"
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._thread = threading.Thread(target=self._run, name="cometbft", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                told = self._once()
            except OSError as err:  # no process or no file more may be had, now
                told = {"detail": str(err)}
            if not self._stopping.wait(RESTART_SECONDS):
                _log.warning("cometbft_ended", log=str(self._log_path), **told)

    def _once(self) -> dict[str, object]:
        """Runs it until it ends; how it did. Raises OSError where it cannot be started."""
        with self._lock, self._log_path.open("ab") as log:
            if self._stopping.is_set():
                return {}
            self._process = keep(self._command, told=log)
        code = self._process.wait()
        if code < 0:
            kill(self._process)  # somebody killed the keeper: what it kept goes with it
        return {"code": code, "last": self._last()}

    def _last(self) -> str:
        """The last line of its log, which says why it has ended."""
        with self._log_path.open("rb") as log:
            log.seek(max(0, log.seek(0, os.SEEK_END) - MAX_LAST))
            lines = log.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else ""

    def stop(self) -> None:
        """Ends it; waits until it is gone."""
        with self._lock:
            self._stopping.set()
        if self._process is not None:
            end(self._process, STOP_SECONDS)
        self._thread.join(STOP_SECONDS)
