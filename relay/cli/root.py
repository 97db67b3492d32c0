"""The root command: what groups there are, and how every error ends."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from functools import cache
from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from relay.cli import output
from relay.errors import LianqiaoError, Malformed, Reason
from relay.registry import commands

_LAZY = {"demo": ("relay.demo.cli", "Three nodes on this machine, real records, and attacks.")}
"""Groups that are loaded only when they are used: name -> (module with `app`, one line)."""
_OF_ADAPTERS = "Commands of the adapter {}, for its kind of chain."

_UsageError: Any = typer.BadParameter.__mro__[1]
_ClickError: Any = typer.BadParameter.__mro__[2]


class _Root(TyperGroup):
    """Loads what stands in _LAZY, and what adapters bring, when it is called; lists it without."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Every command, the lazy ones last."""
        return [*super().list_commands(ctx), *_LAZY, *commands()]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """A command; a lazy one as its line of help alone."""
        found = super().get_command(ctx, cmd_name)
        lazy = found is None and (cmd_name in _LAZY or cmd_name in commands())
        return _placeholder(cmd_name) if lazy else found

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """What the arguments call."""
        own = args and super().get_command(ctx, args[0]) is not None
        if args and not own and (args[0] in _LAZY or args[0] in commands()):
            return args[0], _load(args[0]), args[1:]
        return super().resolve_command(ctx, args)


def _placeholder(name: str) -> Any:
    stub = typer.Typer(add_completion=False)
    told = _LAZY[name][1] if name in _LAZY else _OF_ADAPTERS.format(name)
    stub.command(name, help=told)(lambda: None)
    return typer.main.get_command(stub)


def _load(name: str) -> Any:
    app = import_module(_LAZY[name][0]).app if name in _LAZY else commands().named(name)
    return typer.main.get_command(app)


def _print_version(value: bool) -> None:
    if value:
        from importlib.metadata import PackageNotFoundError, version

        try:
            output.say(f"lianqiao {version('lianqiao')}")
        except PackageNotFoundError:
            output.say("lianqiao 0+source")
        raise typer.Exit


app = typer.Typer(
    name="lianqiao",
    cls=_Root,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def root(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    """Lianqiao joins permissioned ledgers and verifies each of them itself.

    Start here: [bold]lianqiao demo[/bold]

    Exit codes: 0 done or verified, 1 refused with a reason, 2 usage or unreadable input.
    """


def _register() -> None:
    from relay.cli import (
        access,
        accounts,
        attest,
        clients,
        connect,
        epoch,
        evidence,
        found,
        fsck,
        keys,
        operators,
        packets,
        policy,
        powers,
        recognise,
        reconcile,
        records,
        serve,
        settlement,
        setup,
        statements,
        status,
        verify,
        witness,
    )

    setup.register(app)
    app.command("fsck")(fsck.fsck)
    app.command("found")(found.found)
    app.command("serve")(serve.serve)
    app.command("powers")(powers.powers)
    app.add_typer(operators.app, name="operators", help="Who decides for a replicated chain.")
    app.add_typer(keys.app, name="keys", help="Make and show keys.")
    app.command("connect")(connect.connect)
    app.add_typer(epoch.app, name="epoch", help="Go on after entries were lost for good.")
    app.command("witness")(witness.witness)
    app.command("status")(status.status)
    app.add_typer(clients.app, name="clients", help="Light clients: what a node verifies.")
    app.add_typer(packets.app, name="packets", help="Packets: what became of them.")
    app.add_typer(policy.app, name="policy", help="The versioned rules of a relay.")
    app.add_typer(access.institutions, name="institutions", help="Who may attest on a ledger.")
    app.command("attest")(attest.attest)
    app.add_typer(records.app, name="records", help="Records: list, show, find, fetch, amend.")
    app.add_typer(recognise.app, name="recognise", help="Consent, request, decision, outcome.")
    app.command("access-log")(access.access_log)
    app.add_typer(settlement.app, name="settlement", help="Money across ledgers: both or none.")
    settlement.app.command("statement")(statements.statement)
    settlement.app.command("documents")(statements.documents)
    app.add_typer(accounts.app, name="accounts", help="Accounts of a money ledger.")
    app.command("reconcile")(reconcile.reconcile)
    app.command("bundle")(evidence.bundle)
    app.command("trust")(evidence.trust)
    app.command("verify")(verify.verify)


_register()


@cache
def _root() -> Any:
    """The whole tree of commands."""
    return typer.main.get_command(app)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs one command and ends the process with its exit code. No traceback for bad input."""
    # gRPC's C core writes lines of its own to standard error, where ours say what is wrong.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    sys.exit(run(list(sys.argv[1:] if arguments is None else arguments)))


def run(args: Sequence[str]) -> int:
    """Runs one command; its exit code."""
    as_json = "--json" in args
    try:
        code = _root().main(list(args), prog_name="lianqiao", standalone_mode=False)
        sys.stdout.flush()
        return code if isinstance(code, int) else output.DONE
    except LianqiaoError as error:
        return _end(error, args, as_json)
    except BrokenPipeError:
        # The reader has gone, as `| head` does; Python must not complain of it once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return output.REFUSED
    except (typer.Abort, KeyboardInterrupt):
        output.note("stopped")
        return 130
    except Exception as error:
        return _unexpected(error, args, as_json)


def _unexpected(error: Exception, args: Sequence[str], as_json: bool) -> int:
    """A mistake in the arguments, a file that fails, or a fault of ours."""
    if isinstance(error, _ClickError):
        if type(error).__name__ == "NoArgsIsHelpError":
            sys.stderr.write(str(error.format_message()).rstrip() + "\n")
            return output.USAGE
        context = getattr(error, "ctx", None)
        path = context.command_path if context else "lianqiao"
        detail = str(error.format_message())
        shown: LianqiaoError = Malformed(detail, hint=f"{path} --help")
    elif isinstance(error, OSError):
        named = f"{error.filename}: " if error.filename else ""
        shown = Malformed(f"{named}{error.strerror or error}", hint="check the path and the disk")
    else:
        if os.environ.get("LIANQIAO_TRACEBACK"):
            raise error
        shown = LianqiaoError(
            Reason.INTERNAL,
            f"{type(error).__name__}: {error}",
            hint="a fault of this program; LIANQIAO_TRACEBACK=1 shows where",
        )
    return _end(shown, args, as_json)


def _end(error: LianqiaoError, args: Sequence[str], as_json: bool) -> int:
    """Tells a refusal, with something to do next in any case."""
    code = output.exit_code(error)
    if not error.hint:
        called = " ".join(["lianqiao", *_command(args)])
        usage = f"{called} --help shows an example"
        error.hint = usage if code == output.USAGE else "relay/README.md explains every reason"
    output.print_error(error, as_json=as_json)
    return code


def _command(args: Sequence[str]) -> list[str]:
    """The words among the arguments that name a command."""
    found: list[str] = []
    here = _root()
    for word in args:
        here = getattr(here, "commands", {}).get(word)
        if here is None:
            break
        found.append(word)
    return found
