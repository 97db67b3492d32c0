"""The versioned rules of a relay: catalogue, accreditations, clinicians' keys, rules, maps.

A document is activated by an entry of the relay's journal and never changes after that; a new
version is a new document. Files may have any layout; what is loaded is their RFC 8785 form.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from relay.cli import output
from relay.cli.options import Json, Node, node_at, read_file, write_file
from relay.errors import LianqiaoError, Malformed, Reason

if TYPE_CHECKING:
    from relay.client import NodeClient
    from relay.views import PolicyView

app = typer.Typer(no_args_is_help=True)


@app.command()
def load(
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE...", help="Policy documents, JSON, in any order.")
    ],
    node: Node,
    as_json: Json = False,
) -> None:
    """Loads policy documents; the relay decides by each from its effective time on.

    Example: lianqiao policy load catalogue.json rules.json --node 127.0.0.1:7100
    """
    from relay import canonical
    from relay.contracts.policy import MAX_POLICY_BYTES

    documents = []
    for file in files:
        raw = read_file(file, MAX_POLICY_BYTES)
        try:
            documents.append(canonical.encode(canonical.parse(raw, MAX_POLICY_BYTES)))
        except LianqiaoError as error:
            raise Malformed(
                f"{file}: {error.detail}", reason=error.reason, hint=error.hint
            ) from None
    loaded: list[PolicyView] = []
    pending: LianqiaoError | None = None
    with node_at(node) as peer, output.working("loading", quiet=as_json):
        for file, document in zip(files, documents, strict=True):
            try:
                loaded.append(peer.load_policy(document))
            except LianqiaoError as error:
                error.detail = f"{file}: {error.detail}"
                if error.reason is not Reason.APPROVAL_PENDING:
                    raise
                pending = pending or error  # the others are asked for all the same
    if pending is not None:
        raise pending
    if as_json:
        output.print_json({"policies": loaded})
    else:
        _table(loaded)


@app.command()
def show(
    node: Node,
    name: Annotated[
        str,
        typer.Argument(metavar="[KIND/NAME[@VERSION]]", help="One document; without it, a list."),
    ] = "",
    file: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="FILE", help="Write the document to a file."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Lists the policy documents of a relay, or shows one; without a version, the one in force.

    Example: lianqiao policy show catalogue/national@1 --node 127.0.0.1:7100
    """
    with node_at(node) as peer, output.working(f"asking {node}", quiet=as_json):
        if not name:
            views = list(peer.policies())
        else:
            view, document = peer.policy(*_place(peer, name))
    if not name:
        if as_json:
            output.print_json({"policies": views})
        else:
            _table(views)
        return
    if file is not None:
        write_file(file, document)
        output.note(f"wrote {file}, {len(document)} bytes")
        return
    import json

    if as_json:
        output.print_json({**output.plain(view), "document": json.loads(document)})
    else:
        output.fields(_fields(view))
        output.say()
        for line in json.dumps(json.loads(document), ensure_ascii=False, indent=2).splitlines():
            output.say(line)


def _place(peer: NodeClient, text: str) -> tuple[str, str, int]:
    """(kind, name, version) of `kind/name@version`; the version in force where none is named."""
    named, _, version = text.partition("@")
    kind, slash, name = named.partition("/")
    if not (slash and kind and name) or (version and not (version.isascii() and version.isdigit())):
        raise Malformed(
            f"{text[:100]!r} names no policy document",
            hint="write KIND/NAME@VERSION, such as catalogue/national@1; "
            "lianqiao policy show lists them",
        )
    if version:
        return kind, name, int(version[:18])
    for view in peer.policies(kind):
        if view.name == name and view.in_force:
            return kind, name, view.version
    from relay.errors import NotFound

    raise NotFound(
        Reason.POLICY_NOT_FOUND,
        f"no version of {named} is in force",
        hint="lianqiao policy show lists what is loaded",
    )


def _fields(view: PolicyView) -> list[tuple[str, object]]:
    return [
        ("document", f"{view.kind}/{view.name}@{view.version}"),
        ("in force", "yes" if view.in_force else "no"),
        ("from", output.moment(view.effective_from)),
        ("SHA-256", view.digest.hex()),
    ]


def _table(views: list[PolicyView]) -> None:
    output.table(
        ("document", "in force", "from", "SHA-256"),
        [tuple(value for _, value in _fields(view)) for view in views],
        "no policy documents; lianqiao policy load FILE adds one",
    )
