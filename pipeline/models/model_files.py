"""The files of a model without its weights: in a folder, in the hub's cache, or on the hub itself."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from surd.schemas import SurdError, resolve_model
from surd.schemas.errors import one_line
from surd.schemas.model_ref import check_model_folder, existing_path, shown

_SECONDS = 10.0  # for the hub to answer; transformers' own retries of all files take three minutes


@dataclass(frozen=True, kw_only=True)
class ModelFiles:
    """``names`` of a model's files, with ``/``; ``folder``: where they lie, None while they are on the hub alone."""

    field: str
    ref: str
    names: frozenset[str]
    folder: Path | None

    def read_json(self, name: str) -> dict[str, Any]:
        """A JSON file of the model, fetched where need be; {} when there is none. Raises SurdError if it is damaged."""
        if name not in self.names:
            return {}
        try:
            document = json.loads(self.read_text(name))
        except (OSError, ValueError, RecursionError) as error:
            raise self.fault(f"its {name} cannot be read ({one_line(error)}); copy the whole model") from None
        if not isinstance(document, dict):
            raise self.fault(f"its {name} is not a JSON object; copy the whole model")
        return document

    def read_text(self, name: str) -> str:
        """A text file among ``names``, fetched where need be. Raises SurdError if it cannot be read."""
        try:
            file = self.folder / name if self.folder else _fetched(self.ref, name)
            return file.read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            raise self.fault(f"its {name} cannot be read ({one_line(error)}); copy the whole model") from None

    def fault(self, why: str) -> SurdError:
        """The error that says what is wrong with this model, and what to do."""
        return SurdError(f"{self.field} is {shown(self.ref)}: {why}")


def model_files(field: str, ref: str, given: str | None = None) -> ModelFiles:
    """The files of a local model, or of one on the hub, from its cache where the weights are there too.

    ``field`` and ``given`` (where the user wrote something else than ``ref``) are what errors call it.

    Raises SurdError when it is nowhere, or the hub cannot be asked.
    """
    try:
        path = existing_path(resolve_model(ref))
        if path:
            check_model_folder(ref, path)
    except SurdError as error:
        raise SurdError(f"{field}: {error}") from None
    folder = path or _cached(ref)
    if folder is None:
        return ModelFiles(field=field, ref=ref, names=_on_hub(field, ref, given or ref), folder=None)
    files = (file for pattern in ("*", "*/*") for file in folder.glob(pattern))
    names = frozenset(file.relative_to(folder).as_posix() for file in files if file.is_file())
    return ModelFiles(field=field, ref=ref, names=names, folder=folder)


def _cached(repository: str) -> Path | None:
    """The hub cache's folder of a repository, if it holds weights."""
    from huggingface_hub import snapshot_download

    try:
        folder = Path(snapshot_download(repository, local_files_only=True))
    except Exception:  # not there, or no valid name: then the hub is asked, which says so
        return None
    weights = (file for pattern in ("*.safetensors", "*/*.safetensors", "*.bin") for file in folder.glob(pattern))
    return folder if any(file.exists() for file in weights) else None


def _on_hub(field: str, repository: str, given: str) -> frozenset[str]:
    from huggingface_hub import HfApi
    from huggingface_hub.errors import RepositoryNotFoundError

    try:
        found = HfApi().model_info(repository, timeout=_SECONDS)
    except RepositoryNotFoundError:
        raise SurdError(
            f"{field} is {shown(given)}: it is neither on this machine nor on the hub, or not open to you; check"
            " the name, log in with: hf auth login, or name a local folder"
        ) from None
    except Exception as error:  # all that a network, a proxy or the hub can do
        raise SurdError(
            f"{field} is {shown(given)}: it is not on this machine, and the hub cannot be reached"
            f" ({one_line(error, 120)}); connect to the network, or name the folder of a model"
        ) from None
    return frozenset(file.rfilename for file in found.siblings or ())


def _fetched(repository: str, name: str) -> Path:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import GatedRepoError

    try:
        return Path(hf_hub_download(repository, name, etag_timeout=_SECONDS))
    except GatedRepoError:
        raise ValueError("accept its licence on its page, and log in with: hf auth login") from None
    except OSError:
        raise
    except Exception as error:
        raise OSError(one_line(error, 120)) from None
