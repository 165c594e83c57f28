"""A tiny installed package: a module and its .dist-info, in a folder to put on sys.path."""

from pathlib import Path


def install(root: Path, code: str, group: str, name: str, attribute: str, *, version: str = "1", module: str) -> Path:
    """Write a distribution ``MODULE`` whose entry point ``name`` of ``group`` is ``attribute`` of its one module."""
    info = root / f"{module}-{version}.dist-info"
    info.mkdir(parents=True)
    (root / f"{module}.py").write_text(code)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: {version}\n")
    (info / "entry_points.txt").write_text(f"[{group}]\n{name} = {module}:{attribute}\n")
    return root
