"""What is refused, and why: a call of the product that must end with a typed error of a reason."""

from collections.abc import Callable, Collection
from typing import Any

import pytest

from relay.errors import LianqiaoError, Reason


def refused(
    reason: Reason | Collection[Reason],
    call: Callable[..., object],
    *arguments: Any,
    kind: type[LianqiaoError] = LianqiaoError,
    said: str = "",
) -> LianqiaoError:
    """The error of a call that must be refused for this reason, or for one of these.

    `kind` is the class that it must be of, where that is part of the rule; `said` stands in what
    it says, where one reason has several causes.
    """
    error = refusal(call, *arguments, kind=kind)
    reasons = (reason,) if isinstance(reason, Reason) else tuple(reason)
    assert error.reason in reasons, repr(error)
    assert said in error.detail, repr(error)
    return error


def refusal(
    call: Callable[..., object], *arguments: Any, kind: type[LianqiaoError] = LianqiaoError
) -> LianqiaoError:
    """The error of a call that must be refused; the caller looks at its reason."""
    with pytest.raises(kind) as err:
        call(*arguments)
    return err.value
