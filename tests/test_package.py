from __future__ import annotations

import subprocess
import sys
from pathlib import Path

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


def test_compare_can_be_called_before_and_after_its_package_was_imported(tmp_path: Path) -> None:
    """Function and package share a name; importing a module of the package puts it in the place of the function."""
    code = (
        "import clipvil\n"
        "from clipvil.errors import UsageError\n"
        "for _ in range(2):\n"
        "    try:\n"
        "        clipvil.compare(out='x')\n"
        "    except UsageError as error:\n"
        "        print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("name a suite") == 2
