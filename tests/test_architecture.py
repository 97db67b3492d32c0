"""The architecture as a test: who may import whom, sizes, banned clocks and randomness.

The flow of DESIGN §6 is the import order. A rule that is not tested is a wish.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCES = sorted(
    p for d in ("relay", "adapters") for p in (ROOT / d).rglob("*.py") if "_pb2" not in p.name
)
MAX_FUNCTION_LINES = 70
MAX_MODULE_LINES = 500

PURE_STDLIB = {
    "hashlib",
    "hmac",
    "base64",
    "binascii",
    "struct",
    "re",
    "json",
    "math",
    "itertools",
    "functools",
    "collections",
    "dataclasses",
    "enum",
    "typing",
    "abc",
    "bisect",
    "heapq",
    "contextlib",
    "operator",
    "string",
    "__future__",
    "types",
    "datetime",
    "decimal",
    "importlib",
    "fractions",
}
CRYPTO = {"cryptography", "ed25519_zebra", "coincurve", "sha3"}


def _module(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def _tree(path: Path) -> ast.Module:
    """Parsed once for all rules."""
    return ast.parse(path.read_text())


@cache
def _imports(path: Path) -> tuple[tuple[str, int], ...]:
    return tuple(_found_imports(path))


def _found_imports(path: Path) -> Iterator[tuple[str, int]]:
    package = _module(path) if path.name == "__init__.py" else _module(path).rpartition(".")[0]
    for node in ast.walk(_tree(path)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                up = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*up, base]).strip(".")
            yield base, node.lineno
            for alias in node.names:
                yield f"{base}.{alias.name}", node.lineno


def _below(name: str, *packages: str) -> bool:
    return any(name == p or name.startswith(p + ".") for p in packages)


def _offences(applies: object, forbidden: object) -> list[str]:
    assert callable(applies)
    assert callable(forbidden)
    return [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for path in SOURCES
        if applies(_module(path))
        for name, line in _imports(path)
        if forbidden(name)
    ]


def _only(*allowed: str) -> object:
    roots = PURE_STDLIB | CRYPTO
    return lambda name: name.split(".")[0] not in roots and not _below(name, *allowed)


ERRORS = ("relay.errors",)
BUNDLE = (
    "relay.packet",
    "relay.packet_bytes",
    "relay.bundle",
    "relay.bundle_format",
    "relay.contradictions",
    "relay.trust",
)
PURE = (
    "relay.packet",
    "relay.packet_bytes",
    *BUNDLE,
    "relay.bundle_format",
    "relay.trust",
    "relay.errors",
    "relay.canonical",
    "relay.light",
    "relay.paths",
    "relay.contract",
)


@pytest.mark.parametrize(
    ("rule", "applies", "forbidden"),
    [
        (
            "light: stdlib, crypto, errors",
            lambda m: _below(m, "relay.light"),
            _only("relay.light", "relay.errors"),
        ),
        (
            "adapters' light clients: these and relay.light",
            lambda m: m.startswith("adapters.") and ".light" in m,
            _only("relay.light", "relay.errors", "adapters"),
        ),
        (
            "packet and bundle: the pure core",
            lambda m: _below(m, *BUNDLE),
            lambda n: (
                n.split(".")[0] not in PURE_STDLIB | CRYPTO | {"rfc8785"}
                and n != "relay"
                and not _below(n, *PURE)
            ),
        ),
        (
            "contracts: no store, clock, randomness, socket",
            lambda m: _below(m, "relay.contracts"),
            lambda n: (
                n.split(".")[0] not in PURE_STDLIB | CRYPTO | {"rfc8785"}
                and not _below(n, *PURE, "relay.contracts", "relay.money")
            ),
        ),
        (
            "money: stdlib, errors",
            lambda m: _below(m, "relay.money"),
            lambda n: n.split(".")[0] not in PURE_STDLIB and not _below(n, "relay.money", *ERRORS),
        ),
        (
            "relay never imports adapters",
            lambda m: _below(m, "relay"),
            lambda n: _below(n, "adapters"),
        ),
        (
            "protobuf only at the border",
            lambda m: (
                not _below(m, "relay.codec", "relay.service", "relay.client", "relay.server")
                and not (
                    m.startswith("adapters.")
                    and (m.endswith((".chain", ".engine")) or ".engine." in m)
                )
            ),
            lambda n: "_pb2" in n or _below(n, "google.protobuf", "google.rpc"),
        ),
        (
            "sqlmodel only in the store",
            lambda m: not _below(m, "relay.store"),
            lambda n: _below(n, "sqlmodel", "alembic"),
        ),
        (
            "SQL only in the store and the journal's read side",
            lambda m: (
                not _below(
                    m,
                    "relay.store",
                    "relay.outbox",
                    "relay.journal",
                    "relay.tiles",
                    "relay.query",
                    "relay.undelivered",
                    "relay.evidence",
                    "relay.fsck",
                )
            ),
            lambda n: _below(n, "sqlalchemy"),
        ),
        (
            "grpc only at the border",
            lambda m: (
                not _below(m, "relay.service", "relay.server", "relay.client")
                and not (
                    m.startswith("adapters.")
                    and (m.endswith((".chain", ".engine")) or ".engine." in m)
                )
            ),
            lambda n: _below(n, "grpc", "grpc_status", "grpc_health", "grpc_reflection"),
        ),
        (
            "cli and demo speak to nodes through the client",
            lambda m: (
                _below(m, "relay.demo")
                or (_below(m, "relay.cli") and not _below(m, "relay.cli.serve", "relay.cli.lanes"))
            ),
            lambda n: _below(n, "relay.service", "relay.server", "relay.relayer", "relay.channel"),
        ),
        (
            "nobody imports the cli",
            lambda m: not _below(m, "relay.cli"),
            lambda n: _below(n, "relay.cli"),
        ),
        (
            "nobody below the border imports the border",
            lambda m: (
                not _below(
                    m,
                    "relay.service",
                    "relay.server",
                    "relay.client",
                    "relay.cli",
                    "relay.demo",
                    "relay.codec",
                    "adapters",
                )
            ),
            lambda n: _below(n, "relay.service", "relay.server", "relay.client", "relay.codec"),
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_imports(rule: str, applies: object, forbidden: object) -> None:
    offences = _offences(applies, forbidden)
    assert not offences, rule + "\n" + "\n".join(sorted(set(offences)))


CLOCKS = {
    "time.time",
    "time.time_ns",
    "time.monotonic",
    "datetime.now",
    "datetime.utcnow",
    "datetime.today",
    "date.today",
    "random.random",
    "random.Random",
    "os.urandom",
    "secrets.token_bytes",
    "uuid.uuid4",
    "secrets.token_hex",
}
MAY_READ_CLOCKS = (
    "relay.server",
    "relay.cli",
    "relay.demo",
    "relay.client",
    "relay.service",
    "relay.keys",
    "relay.record.vault",
    "relay.record.seal",
    "adapters.memory",
    "adapters.cometbft.engine.start",
    "adapters.evm.cli",
    "adapters.evm.cli_money",
    "adapters.evm.cli_owner",
    "adapters.evm.cli_parts",
    "adapters.evm.engine.start",
    "adapters.evm.practice",
)


def test_time_and_randomness_are_arguments() -> None:
    found = []
    for path in SOURCES:
        if _below(_module(path), *MAY_READ_CLOCKS):
            continue
        for node in ast.walk(_tree(path)):
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                if any(called == c or called.endswith("." + c) for c in CLOCKS):
                    found.append(f"{path.relative_to(ROOT)}:{node.lineno} {called}")
    assert not found, "\n".join(found)


OF_ONE_SERVER = re.compile(
    r"pg_(try_)?advisory|pg_notify|add_notify_handler|\bnotifies\b|\b(UN)?LISTEN\b|\bNOTIFY\b"
    r"""|^\s*(?i:(un)?listen|notify)\s+("?\w+"?|\*)\s*(,.*)?;?\s*$"""
)
"""Advisory locks, and LISTEN and NOTIFY: engines that are compatible with PostgreSQL have none."""


def _of_one_server(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """(line, what) wherever a string that is no docstring, or a name, asks for them."""
    lone = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in lone:
            said = node.value
        elif isinstance(node, ast.Attribute):
            said = node.attr
        elif isinstance(node, ast.Name):
            said = node.id
        else:
            continue
        if found := OF_ONE_SERVER.search(said):
            yield node.lineno, found.group()


def test_nothing_asks_for_what_only_one_server_has() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{line} {what}"
        for path in SOURCES
        for line, what in _of_one_server(_tree(path))
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    "source",
    [
        'text("SELECT pg_advisory_xact_lock(1)")',
        'text("select pg_try_advisory_lock(:key)")',
        "select(func.pg_advisory_lock(1))",
        'connection.exec_driver_sql("LISTEN entries")',
        "connection.exec_driver_sql('listen \"entries\"')",
        'connection.exec_driver_sql("unlisten *")',
        'connection.exec_driver_sql(f"NOTIFY {channel}")',
        "connection.exec_driver_sql(\"notify entries, '7'\")",
        "select(func.pg_notify('entries', '7'))",
        "for one in driver.notifies(): pass",
        "driver.add_notify_handler(print)",
    ],
)
def test_what_only_one_server_has_would_be_found(source: str) -> None:
    """Wherever it is put in."""
    assert list(_of_one_server(ast.parse(source)))
    assert list(_of_one_server(ast.parse(f"def f():\n    'Words.'\n    {source}")))


def test_no_float_where_things_are_decided() -> None:
    found = []
    for path in SOURCES:
        if not _below(
            _module(path),
            "relay.light",
            "relay.contracts",
            "relay.money",
            "relay.packet",
            "relay.bundle",
            "relay.contradictions",
            "relay.channel",
            "relay.journal",
        ):
            continue
        for node in ast.walk(_tree(path)):
            is_float = isinstance(node, ast.Constant) and isinstance(node.value, float)
            divides = isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div)
            names = isinstance(node, ast.Name) and node.id == "float"
            if is_float or divides or names:
                found.append(f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 0)}")
    # Refusing floats by name is how canonical JSON keeps them out.
    assert not found, "\n".join(found)


def _functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(_tree(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def test_functions_are_short() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{node.lineno} {node.name}: {node.end_lineno - node.lineno + 1}"
        for path in SOURCES
        for node in _functions(path)
        if node.end_lineno and node.end_lineno - node.lineno + 1 > MAX_FUNCTION_LINES
    ]
    assert not found, "\n".join(found)


def test_modules_are_short() -> None:
    sizes = {path: len(path.read_text().splitlines()) for path in SOURCES}
    found = [f"{p.relative_to(ROOT)}: {n}" for p, n in sizes.items() if n > MAX_MODULE_LINES]
    assert not found, "\n".join(found)


def test_everything_public_is_documented() -> None:
    found = []
    for path in SOURCES:
        tree = _tree(path)
        if not ast.get_docstring(tree) and path.read_text().strip():
            found.append(f"{path.relative_to(ROOT)}: module")
        for node in tree.body:
            named = isinstance(node, ast.FunctionDef | ast.ClassDef)
            if named and not node.name.startswith("_") and not ast.get_docstring(node):
                found.append(f"{path.relative_to(ROOT)}:{node.lineno} {node.name}")
    assert not found, "\n".join(found)


def test_verify_raises_and_never_returns_a_bool() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{node.lineno} {node.name}"
        for path in SOURCES
        for node in _functions(path)
        if node.name.startswith("verify_") and node.returns and ast.unparse(node.returns) == "bool"
    ]
    assert not found, "\n".join(found)


def test_the_tree_is_spelled_in_our_words() -> None:
    """British spelling as in the ICS documents, and no American twin beside it."""
    found = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in SOURCES
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if "misbehavior" in line.lower() or "acknowledgment" in line.lower()
    ]
    assert not found, "\n".join(found)


def test_top_level_stays() -> None:
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split("\n")
    top = {name.split("/")[0] for name in listed if name}
    allowed = {
        "pyproject.toml",
        "proto",
        "relay",
        "adapters",
        "tests",
        "deploy",
        "README.md",
        "LICENSE",
    }
    assert {name for name in top if not name.startswith(".")} <= allowed


@pytest.mark.parametrize("arguments", [["--help"], ["verify", "--help"]])
def test_help_and_verify_load_no_grpc_and_no_sql(arguments: list[str]) -> None:
    probe = (
        "import sys\n"
        "from relay.cli import main\n"
        f"sys.argv = ['lianqiao', *{arguments!r}]\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "loaded = {m.split('.')[0] for m in sys.modules}\n"
        "print('LOADED', sorted(loaded & {'grpc', 'sqlalchemy', 'sqlmodel', 'google'}))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", probe], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert "LOADED []" in done.stdout
