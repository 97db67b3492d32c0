"""Keys of institutions, clinicians and validators, in files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from relay.cli import output
from relay.cli.options import Json
from relay.errors import LianqiaoError, Malformed, Reason

if TYPE_CHECKING:
    from relay.keys import SigningKey

app = typer.Typer(no_args_is_help=True)


def load_key(path: Path) -> SigningKey:
    """The private key in a file that the user named.

    Raises Malformed where there is none, and CONFIG_INVALID where others may read it.
    """
    from relay.keys import SigningKey

    try:
        return SigningKey.load(path)
    except LianqiaoError as error:
        if error.reason is Reason.NOT_FOUND:
            raise Malformed(error.detail, hint=f"make one: lianqiao keys new {path}") from None
        raise


@app.command()
def new(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Where to write the private key.")],
    algorithm: Annotated[
        str, typer.Option("--algorithm", help="ed25519, p256 or secp256k1.")
    ] = "ed25519",
    as_json: Json = False,
) -> None:
    """Makes a private key in a new file of mode 0600, and shows its public half.

    Example: lianqiao keys new hospital.pem
    """
    from relay.keys import SigningKey

    key = SigningKey.generate(algorithm)
    try:
        key.save(file)
    except OSError as error:
        raise output.unreadable(file, error) from None
    _show(file, key, as_json)


@app.command()
def show(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A private key's PEM file.")],
    as_json: Json = False,
) -> None:
    """Shows the algorithm and the public half of a key; never the private one.

    Example: lianqiao keys show hospital.pem
    """
    _show(file, load_key(file), as_json)


def _show(file: Path, key: SigningKey, as_json: bool) -> None:
    shown = {"file": file, "algorithm": key.algorithm, "public": key.public}
    if as_json:
        output.print_json(shown)
    else:
        output.fields([(name, output.plain(value)) for name, value in shown.items()])
