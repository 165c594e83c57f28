"""Config of acquisition: the sources of records and how their images are fetched."""

from __future__ import annotations

import ipaddress
import re

from pydantic import Field, field_validator

from surd.schemas.config.section import Section


class DemoConfig(Section):
    """The embedded demo world, served by a local gallery when source is ``demo``."""

    count: int = Field(default=480, ge=0, description="Images in the gallery.")
    defects: float = Field(
        default=0.0, ge=0, le=1, description="Share of the records with a planted defect, its kinds evenly mixed."
    )


class CollectConfig(Section):
    """Paging through a source."""

    page_size: int = Field(default=100, ge=1, le=200, description="Records per request (galleries cap it at 200).")
    retries: int = Field(default=4, ge=0, description="Further tries of a failed request, with exponential backoff.")
    timeout: float = Field(default=30.0, gt=0, description="Seconds per request.")
    respect_robots: bool = Field(
        default=True,
        description="Ask no API that its site's robots.txt disallows, unless it is documented for programs.",
    )


class UrlsConfig(Section):
    """Columns of a list of images, for sources that read one: urls, img2dataset, huggingface."""

    url_column: str | None = Field(default=None, description="Column of the image URL; null: guessed by its name.")
    prompt_column: str | None = Field(default=None, description="Column of the prompt; null: guessed by its name.")
    image_column: str | None = Field(
        default=None, description="Column of the pictures in a parquet file; null: guessed by its name."
    )
    simple_column: str | None = Field(
        default=None, description="Column of the simple prompt, which surd import takes; null: guessed by its name."
    )
    whole_rows: bool = Field(default=False, description="Keep each column in extra, unshortened, as surd import does.")


class CivitaiConfig(Section):
    """The source civitai; its API key is in the environment as CIVITAI_API_KEY."""

    url: str = Field(default="https://civitai.com/api/v1", description="Address of the API, without images or models.")
    original: bool = Field(
        default=False, description="Ask for the file as it was uploaded, not for the size that the API names."
    )


class LexicaConfig(Section):
    """The source lexica."""

    url: str = Field(default="https://lexica.art/api", description="Address of the API.")
    endless: bool = Field(
        default=False, description="Page through infinite-prompts, as the site itself does, not v1/search (50 images)."
    )


class FetchConfig(Section):
    """Getting and verifying the bytes."""

    processes: int | None = Field(
        default=None,
        ge=1,
        description="Partitions fetched at once, each in a process of its own; null: one for each core where each has "
        "4,000 records or more to get. Requests at once are divided between them.",
    )
    concurrency: int = Field(default=32, ge=1, description="Requests under way at once.")
    per_host_concurrency: int = Field(default=8, ge=1, description="Requests under way at once at one host.")
    per_host_rate: float | None = Field(
        default=None,
        gt=0,
        description="Requests a second to one host; null: 10, but no limit where the source is this machine.",
    )
    retries: int = Field(default=3, ge=0, description="Further tries of a failed request, with exponential backoff.")
    connect_timeout: float = Field(default=10.0, gt=0, description="Seconds until a connection stands.")
    first_byte_timeout: float = Field(default=20.0, gt=0, description="Seconds until an answer begins or goes on.")
    timeout: float = Field(default=30.0, gt=0, description="Seconds for each try of an image as a whole.")
    allow_hosts: list[str] = Field(
        default=[],
        description="Host names, addresses and networks (10.0.0.0/8) that may be fetched from although not public.",
    )
    respect_robots: bool = Field(default=True, description="Leave what a site's robots.txt disallows.")
    respect_opt_outs: bool = Field(
        default=True, description="Leave images whose answer says noai or noimageai, or that are reserved (TDMRep)."
    )
    max_bytes: int = Field(default=50_000_000, gt=0, description="Larger files are rejected while streaming.")
    max_pixels: int = Field(
        default=36_000_000,
        gt=0,
        description="Larger images are rejected before decoding; those of a WebP count "
        "double, of a progressive or CMYK JPEG 1.5 times.",
    )
    max_aspect: float = Field(
        default=50,
        ge=1,
        le=200,
        description="Images whose longer side is more than so many times the shorter one are rejected before decoding.",
    )
    image_size: int | None = Field(
        default=None,
        ge=32,
        description="Keep a JPEG with at most so many pixels on the longer side; null: the original bytes, untouched.",
    )
    quality: int = Field(default=95, ge=1, le=100, description="Of the JPEGs where image_size is set.")

    @field_validator("allow_hosts")
    @classmethod
    def _are_hosts(cls, entries: list[str]) -> list[str]:
        for entry in entries:
            if not _is_host(entry):
                raise ValueError(f"{entry!r} is not a host name, address or network; give example.org or 10.0.0.0/8")
        return entries


def _is_host(entry: str) -> bool:
    try:
        ipaddress.ip_network(entry.strip("[]"), strict=False)
    except ValueError:
        return bool(re.fullmatch(r"[\w-]+(\.[\w-]+)*\.?", entry))
    return True
