"""Whose pictures a dataset holds, and on what terms: counted over the JSON of every sample in its shards."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from io import SEEK_CUR
from urllib.parse import urlsplit

from pydantic import ValidationError

from surd.pipeline.build.damage import DamagedFile
from surd.pipeline.build.folder import Build
from surd.pipeline.dataset.columns.spec import shard_manifest
from surd.schemas import Sample
from surd.schemas.shard_format.captions import CAPTIONS
from surd.schemas.shard_format.tar import BLOCK, InvalidTar, check_extended, padded, parse_header

_MAX_JSON = 1 << 24
_LOCAL = re.compile(r"(?:^|[:=\s'\"])(?:file:/{2})?(?:/|[A-Za-z]:\\)[^/\s]")
#: Lower edges of the classes of the shorter side, in pixels.
_SIDES = (0, 256, 512, 768, 1024, 1536, 2048)


@dataclass
class Provenance:
    """Counts of samples: by (licence, terms), by site, by kind of file, by class of shorter side, by origin of the
    simple prompt, by program. ``captions``: those with several; ``local``: whose source is a path on this machine;
    ``removed``: those that must not leave."""

    count: int = 0
    removed: int = 0
    authors: int = 0
    captions: int = 0
    local: int = 0
    licences: Counter[tuple[str | None, str | None]] = field(default_factory=Counter)
    sites: Counter[str] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)
    sides: Counter[int] = field(default_factory=Counter)
    methods: Counter[str] = field(default_factory=Counter)
    tools: Counter[str] = field(default_factory=Counter)

    @property
    def without_licence(self) -> int:
        return sum(count for (licence, _), count in self.licences.items() if licence is None)

    def add(self, sample: Sample) -> None:
        self.count += 1
        self.authors += bool(_stated(sample.author))
        self.local += bool(_LOCAL.search(sample.source))
        self.licences[_stated(sample.licence), _stated(sample.terms)] += 1
        self.sites[_site(sample)] += 1
        self.kinds[sample.ext] += 1
        self.sides[max(side for side in _SIDES if side <= max(0, min(sample.width, sample.height)))] += 1
        self.methods[sample.method] += 1
        if tool := _stated(sample.tool):
            self.tools[tool] += 1


def read_provenance(build: Build, keeps: Callable[[Sample], bool] = lambda sample: True) -> Provenance:
    """Of all shards; of the tars only the JSON of samples is read. Raises SurdError where it is not valid."""
    found = Provenance()
    for shard in shard_manifest(build).shards:
        file = f"shards/{shard.name}"
        try:
            for suffix, data in _members(build, file):
                if suffix == CAPTIONS:
                    found.captions += 1
                else:
                    sample = Sample.model_validate_json(data)
                    found.add(sample)
                    found.removed += not keeps(sample)
        except (InvalidTar, ValidationError) as error:
            why = f"is not valid ({error})" if isinstance(error, InvalidTar) else "holds JSON that is not of a sample"
            raise DamagedFile(build, file, why) from None
    return found


def _members(build: Build, file: str) -> Iterator[tuple[str, bytes]]:
    """Suffix and bytes of each sample's JSON; the suffix alone of its captions. Pictures are passed over."""
    with build.open(file) as tar:
        while (block := tar.read(BLOCK)).strip(b"\0"):
            if len(block) < BLOCK:
                raise InvalidTar(None, "it is cut off")
            header = parse_header(block)
            suffix = header.name.partition(".")[2]
            if header.extended or suffix == "json":
                if header.size > _MAX_JSON:
                    raise InvalidTar(header.name, f"it has {header.size:,} bytes")
                data = tar.read(padded(header.size))[: header.size]
                if header.extended:
                    check_extended(header, data)
                else:
                    yield suffix, data
            else:
                tar.seek(padded(header.size), SEEK_CUR)
                if suffix == CAPTIONS:
                    yield suffix, b""


def _stated(text: str | None) -> str | None:
    """A text that says something."""
    return " ".join(text.split()) or None if text else None


def _site(sample: Sample) -> str:
    """The host of a sample's page, else that of its source, else the kind of the source."""
    kind, _, rest = sample.source.partition(":")
    for url in (sample.page_url, rest):
        try:
            host = urlsplit(url or "").hostname
        except ValueError:
            host = None
        if host:
            return host.removeprefix("www.")
    return kind
