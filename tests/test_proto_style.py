"""The manner of the API, held: names, comments, paging, and that nothing published ever changes.

`python -m tests.test_proto_style` writes the frozen surface anew (tests/vectors/api.txt) after an
addition; a removal or a change of what stands there needs a new package version instead.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from google.protobuf import descriptor_pb2 as d

ROOT = Path(__file__).parent.parent
PROTO = ROOT / "proto"
SURFACE = Path(__file__).parent / "vectors" / "api.txt"
TYPE = d.FieldDescriptorProto.Type
SNAKE = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
PASCAL = re.compile(r"([A-Z][a-z0-9]*)+")
VERBS = (
    "Create", "Register", "Get", "List", "Submit", "Deliver", "Trace", "Watch", "Prove", "Load",
    "Count", "Add", "Attest", "Amend", "Retract", "Request", "Report", "Find", "Fetch",
    "Propose", "Cancel", "Skip", "Clear",
)  # fmt: skip
BANNED = re.compile(
    r"(?i)(event|job|task|bridge|connector|driver|manager|helper|util|misbehavior"
    r"|acknowledgment|status)(s|_|$|[A-Z])"
)


@cache
def files() -> tuple[d.FileDescriptorProto, ...]:
    """Our files as protoc sees them, with comments."""
    names = sorted(str(path.relative_to(PROTO)) for path in PROTO.rglob("*.proto"))
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "set.binpb")
        command = [sys.executable, "-m", "grpc_tools.protoc", "-I.", "--include_source_info"]
        subprocess.run([*command, f"--descriptor_set_out={out}", *names], check=True, cwd=PROTO)
        return tuple(d.FileDescriptorSet.FromString(out.read_bytes()).file)


def elements(file: d.FileDescriptorProto) -> Iterator[tuple[tuple[int, ...], str, str]]:
    """(source path, kind, full name) of everything that a reader of the file meets."""

    def message(path: tuple[int, ...], scope: str, m: d.DescriptorProto) -> Iterator:
        name = f"{scope}.{m.name}"
        yield path, "message", name
        for i, field in enumerate(m.field):
            yield (*path, 2, i), "field", f"{name}.{field.name}"
        for i, oneof in enumerate(m.oneof_decl):
            yield (*path, 8, i), "oneof", f"{name}.{oneof.name}"
        for i, nested in enumerate(m.nested_type):
            yield from message((*path, 3, i), name, nested)
        for i, nested_enum in enumerate(m.enum_type):
            yield from enum((*path, 4, i), name, nested_enum)

    def enum(path: tuple[int, ...], scope: str, e: d.EnumDescriptorProto) -> Iterator:
        name = f"{scope}.{e.name}"
        yield path, "enum", name
        for i, value in enumerate(e.value):
            yield (*path, 2, i), "value", f"{name}.{value.name}"

    for i, m in enumerate(file.message_type):
        yield from message((4, i), file.package, m)
    for i, e in enumerate(file.enum_type):
        yield from enum((5, i), file.package, e)
    for i, service in enumerate(file.service):
        yield (6, i), "service", f"{file.package}.{service.name}"
        for j, method in enumerate(service.method):
            yield (6, i, 2, j), "method", f"{file.package}.{service.name}.{method.name}"


def messages() -> Iterator[tuple[str, d.DescriptorProto]]:
    for file in files():
        for message in file.message_type:
            assert not message.nested_type, f"{message.name}: messages stand at the top of a file"
            yield f"{file.package}.{message.name}", message


def methods() -> Iterator[tuple[str, d.MethodDescriptorProto]]:
    for file in files():
        for service in file.service:
            for method in service.method:
                yield f"{file.package}.{service.name}", method


def surface() -> list[str]:
    """One line for each thing a foreign program may depend on."""
    lines = []
    for file in files():
        for message in file.message_type:
            name = f"{file.package}.{message.name}"
            lines.append(f"message {name}")
            for f in message.field:
                kind = f.type_name.lstrip(".") or TYPE.Name(f.type).removeprefix("TYPE_").lower()
                many = "repeated " if f.label == f.LABEL_REPEATED else ""
                optional = "optional " if f.proto3_optional else ""
                lines.append(f"field {name}.{f.name} = {f.number} {optional}{many}{kind}")
        for e in file.enum_type:
            lines += [f"value {file.package}.{e.name}.{v.name} = {v.number}" for v in e.value]
        for service in file.service:
            for m in service.method:
                stream = "stream " if m.server_streaming else ""
                name = f"{file.package}.{service.name}/{m.name}"
                lines.append(f"rpc {name} {m.input_type[1:]} {stream}{m.output_type[1:]}")
    return sorted(lines)


def test_every_element_is_commented_with_a_sentence() -> None:
    missing = []
    for file in files():
        comments = {tuple(x.path): x.leading_comments for x in file.source_code_info.location}
        for path, kind, name in elements(file):
            text = comments.get(path, "").strip()
            if not (text.endswith((".", ":")) and (text[0].isupper() or text[0] == "`")):
                missing.append(f"{kind} {name}: {text!r}")
    assert not missing, "\n".join(missing)


def test_package_is_the_folder_and_ends_in_its_version() -> None:
    for file in files():
        assert file.syntax == "proto3"
        assert file.package == str(Path(file.name).parent).replace("/", ".")
        assert re.fullmatch(r"lianqiao\.(relay|ledger)\.v1", file.package), file.name
        assert SNAKE.fullmatch(Path(file.name).stem), file.name


def test_names() -> None:
    wrong = []
    for file in files():
        for _, kind, full in elements(file):
            name = full.rsplit(".", 1)[1]
            pattern = {"field": SNAKE, "oneof": SNAKE}.get(kind, PASCAL)
            if kind != "value" and not pattern.fullmatch(name):
                wrong.append(f"{kind} {full}")
            if BANNED.search(name) and not re.fullmatch(r"GetStatus(Request|Response)?", name):
                wrong.append(f"{kind} {full}: not one of our words")
        for e in file.enum_type:
            prefix = re.sub(r"(?<!^)(?=[A-Z])", "_", e.name).upper() + "_"
            wrong += [v.name for v in e.value if not v.name.startswith(prefix)]
            if e.value[0].name != f"{prefix}UNSPECIFIED" or e.value[0].number != 0:
                wrong.append(f"{e.name}: the first value is {prefix}UNSPECIFIED = 0")
    assert not wrong, "\n".join(wrong)


def test_each_rpc_has_a_verb_and_its_own_request_and_response() -> None:
    seen: set[str] = set()
    for service, method in methods():
        package = service.rsplit(".", 1)[0]
        assert service.endswith("Service")
        assert method.name.startswith(VERBS), f"{method.name}: a verb of {VERBS}"
        assert method.input_type == f".{package}.{method.name}Request"
        assert method.output_type == f".{package}.{method.name}Response"
        assert not {method.input_type, method.output_type} & seen, method.name
        assert not method.client_streaming
        seen |= {method.input_type, method.output_type}


def test_requests_and_responses_are_used() -> None:
    used = {name[1:] for _, m in methods() for name in (m.input_type, m.output_type)}
    made = {name for name, _ in messages() if name.endswith(("Request", "Response"))}
    assert made == used


def test_services_stand_in_files_of_their_name_with_requests_in_order() -> None:
    for file in files():
        if not file.service:
            assert not Path(file.name).stem.endswith("_service"), file.name
            continue
        (service,) = file.service
        stem = re.sub(r"(?<!^)(?=[A-Z])", "_", service.name).lower()
        assert Path(file.name).stem == stem
        wanted = [f"{m.name}{end}" for m in service.method for end in ("Request", "Response")]
        found = [m.name for m in file.message_type if m.name.endswith(("Request", "Response"))]
        assert found == wanted, file.name


def test_no_float_no_map_no_any_no_required() -> None:
    for name, message in messages():
        for field in message.field:
            where = f"{name}.{field.name}"
            assert field.type not in (TYPE.TYPE_FLOAT, TYPE.TYPE_DOUBLE), where
            assert not field.type_name.startswith(".google.protobuf"), where
            assert field.type != TYPE.TYPE_GROUP, where


def test_integers_name_their_unit() -> None:
    for name, message in messages():
        for field in message.field:
            if re.search(r"(time|period|timestamp|drift|age)$", field.name):
                pytest.fail(f"{name}.{field.name}: name the unit, _seconds")


def test_lists_page_by_token() -> None:
    by_name = dict(messages())
    for service, method in methods():
        if not method.name.startswith("List"):
            continue
        package = service.rsplit(".", 1)[0]
        request = {f.name: f for f in by_name[f"{package}.{method.name}Request"].field}
        response = {f.number: f for f in by_name[f"{package}.{method.name}Response"].field}
        assert request["page_size"].type == TYPE.TYPE_INT32, method.name
        assert request["page_token"].type == TYPE.TYPE_STRING, method.name
        assert response[1].label == response[1].LABEL_REPEATED, method.name
        assert response[2].name == "next_page_token", method.name
        assert not method.server_streaming, method.name


def test_nothing_published_has_changed() -> None:
    frozen, now = SURFACE.read_text().splitlines(), surface()
    gone = sorted(set(frozen) - set(now))
    added = sorted(set(now) - set(frozen))
    assert not gone, "published and gone (make a new version beside it):\n" + "\n".join(gone)
    assert not added, "new: run `python -m tests.test_proto_style`\n" + "\n".join(added)


if __name__ == "__main__":
    SURFACE.write_text("\n".join(surface()) + "\n")
    print(f"{SURFACE}: {len(surface())} lines")
