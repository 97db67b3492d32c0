"""Compiles every .proto next to its source, for wheels and editable installs alike."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class CompileProtos(BuildHookInterface):  # type: ignore[type-arg]
    """Generated twins are not committed: whoever builds has them made from the source."""

    PLUGIN_NAME = "compile-protos"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Runs protoc of the pinned grpcio-tools over all of proto/ and adapters/."""
        compile_protos(Path(self.root, "proto"))
        compile_protos(Path(self.root), "adapters")


def compile_protos(root: Path, below: str = ".") -> None:
    """Makes _pb2.py, _pb2.pyi, _pb2_grpc.py and _pb2_grpc.pyi beside each .proto in `root`/`below`.

    Adapters keep the definitions of other people's wire formats beside the code that needs them.
    """
    protos = sorted(str(path.relative_to(root)) for path in (root / below).rglob("*.proto"))
    scripts = os.pathsep.join([sysconfig.get_path("scripts"), os.environ.get("PATH", "")])
    plugin = shutil.which("protoc-gen-mypy_grpc", path=scripts)
    if plugin is None:
        raise RuntimeError("protoc-gen-mypy_grpc is missing: pip install mypy-protobuf==5.1.0")
    subprocess.run(  # noqa: S603 - our own interpreter and our own file names
        [
            sys.executable,
            "-m",
            "grpc_tools.protoc",
            "-I.",
            f"--plugin=protoc-gen-mypy_grpc={plugin}",
            "--python_out=.",
            "--pyi_out=.",
            "--grpc_python_out=.",
            "--mypy_grpc_out=.",
            *protos,
        ],
        check=True,
        cwd=root,
    )


if __name__ == "__main__":
    compile_protos(Path(__file__).parent)
    compile_protos(Path(__file__).parent.parent, "adapters")
