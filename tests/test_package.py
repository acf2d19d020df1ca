from __future__ import annotations

import subprocess
import sys

import clipvil

# What must not be loaded by a mere import or a help text: each costs from a tenth of a second to seconds.
HEAVY = ("torch", "numpy", "PIL", "transformers", "timm", "open_clip", "pydantic", "scipy")


def _loaded_by(code: str) -> list[str]:
    probe = f"import sys; {code}; print('|'.join(m for m in {HEAVY!r} if m in sys.modules))"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    return [name for name in done.stdout.strip().splitlines()[-1:] if name]


def test_importing_the_package_loads_nothing_heavy():
    assert _loaded_by("import clipvil") == []


def test_building_the_command_table_loads_nothing_heavy():
    assert _loaded_by("from clipvil.cli.main import build_app; build_app()") == []


def test_every_public_name_resolves():
    for name in clipvil.__all__:
        assert getattr(clipvil, name) is not None
