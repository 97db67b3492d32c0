"""Calls that are made one a record, some at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import TypeVar

from relay.demo.stage import Stage

CALLERS = 8
_T = TypeVar("_T")


def side_by_side(
    stage: Stage, call: Callable[[_T], object], each: Sequence[_T], callers: int = CALLERS
) -> None:
    """Calls `call` with each, some at a time. Raises what the first that fails raises.

    After a failure, or Ctrl-C, the calls that are under way fail too: nobody waits for them.
    """
    pool = ThreadPoolExecutor(callers)
    try:
        for done in as_completed([pool.submit(call, one) for one in each]):
            done.result()
    except BaseException:
        stage.abandon()
        raise
    finally:
        pool.shutdown(cancel_futures=True)
