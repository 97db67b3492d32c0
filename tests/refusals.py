"""What is refused, and why: a call of the product that must end with a typed error of a reason."""

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from relay.errors import LianqiaoError, Reason


@contextmanager
def refusing(
    reason: Reason | Collection[Reason],
    kind: type[LianqiaoError] = LianqiaoError,
    said: str = "",
) -> Iterator[None]:
    """What stands in it must be refused for this reason, or for one of these.

    `kind` is the class that the error must be of, where that is part of the rule; `said` stands in
    what it says, where one reason has several causes.
    """
    with pytest.raises(kind) as err:
        yield
    _hold(err.value, reason, said)


def refused(
    reason: Reason | Collection[Reason],
    call: Callable[..., object],
    *arguments: Any,
    kind: type[LianqiaoError] = LianqiaoError,
    said: str = "",
) -> LianqiaoError:
    """The error of a call that must be refused, as `refusing` asks for."""
    error = refusal(call, *arguments, kind=kind)
    _hold(error, reason, said)
    return error


def refusal(
    call: Callable[..., object], *arguments: Any, kind: type[LianqiaoError] = LianqiaoError
) -> LianqiaoError:
    """The error of a call that must be refused; the caller looks at its reason."""
    with pytest.raises(kind) as err:
        call(*arguments)
    return err.value


def _hold(error: LianqiaoError, reason: Reason | Collection[Reason], said: str) -> None:
    reasons = (reason,) if isinstance(reason, Reason) else tuple(reason)
    assert error.reason in reasons, repr(error)
    assert said in error.detail, repr(error)
