"""What a folder that holds a build remembers, and what is refused so that no finished work is lost."""

from __future__ import annotations

from pathlib import Path

import pytest

from surd.flows.build_record import build_record
from surd.flows.build_request import request_build, request_import
from surd.pipeline.build.folder import Build
from surd.schemas import BuildRecord, SurdError

THRESHOLD = {"select.min_clip_simple": 0.2}


@pytest.fixture
def photos(tmp_path, monkeypatch):
    """A folder with pictures of one's own below the working folder, which also holds a finished demo build."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    record(request_build(out=None, profile=None, parameters={}))
    return "folder:photos"


def record(request):
    """Write the record of a build as if it were made; returns its folder."""
    Build(request.out).write_json("build.json", build_record(request))
    return request.out


def asked(out="mine", profile=None, overwrite=False, **parameters):
    return request_build(out=out, profile=profile, parameters=parameters, overwrite=overwrite)


def test_a_source_of_ones_own_needs_a_folder_of_its_own(photos):
    with pytest.raises(SurdError, match="out is missing"):
        request_build(out=None, profile=None, parameters={"source": photos})


def test_without_a_source_the_folders_own_build_goes_on(photos):
    record(asked(source=photos, limit=7))
    again = asked(**THRESHOLD)
    assert again.config.source == photos
    assert (again.config.limit, again.config.select.min_clip_simple) == (7, 0.2)
    record(again)
    third = asked(**{"fetch.retries": 1})
    assert (third.config.limit, third.config.select.min_clip_simple, third.config.fetch.retries) == (7, 0.2, 1)
    assert third.remembered == {"source": photos, "limit": 7, "select.min_clip_simple": 0.2}


def test_a_parameter_given_again_changes_only_itself(photos):
    record(asked(source=photos, limit=7, **THRESHOLD))
    again = asked(limit=9)
    assert (again.config.limit, again.config.select.min_clip_simple) == (9, 0.2)
    assert "limit" not in again.remembered


@pytest.mark.parametrize("given", [{"source": "demo"}, {"source": "folder:other"}, {"source": "urls:photos"}])
def test_another_source_is_refused(photos, given):
    record(asked(source=photos))
    with pytest.raises(SurdError, match=r"holds a build of 'folder:photos', and source is .*--overwrite"):
        asked(**given)
    assert asked(overwrite=True, **given).config.source == given["source"]


def test_another_profile_is_refused(photos):
    record(asked(source=photos))
    with pytest.raises(SurdError, match=r"build of profile 'demo', and profile is 'small'.*--overwrite"):
        asked(profile="small")
    replaced = asked(profile="small", overwrite=True)
    assert (replaced.profile, replaced.config.source) == ("small", photos)
    assert asked(profile="demo").profile == "demo"


def test_overwrite_forgets_the_parameters_and_keeps_the_source(photos):
    record(asked(source=photos, **THRESHOLD))
    anew = asked(overwrite=True)
    assert (anew.config.source, anew.config.select.min_clip_simple) == (photos, -1.0)


def test_the_same_folder_written_otherwise_is_the_same_source(photos, tmp_path):
    record(asked(source=photos))
    assert asked(source=f"folder:{tmp_path}/photos").config.source == photos
    assert asked(source="folder:./photos/").config.source == photos


def test_a_relative_source_is_not_looked_for_in_another_folder(photos, tmp_path, monkeypatch):
    out = record(asked(source=photos))
    (tmp_path / "elsewhere" / "photos").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "elsewhere")
    with pytest.raises(SurdError, match="relative to another folder"):
        asked(out=out)
    with pytest.raises(SurdError, match="holds a build of"):
        asked(out=out, source="folder:photos")
    assert asked(out=out, source=f"folder:{tmp_path}/photos").config.source == f"folder:{tmp_path}/photos"


def test_a_source_recorded_without_its_key_has_to_be_given_again(photos):
    source = "gallery:https://example.org/api?token=s3cret&sort=New"
    out = record(asked(source=source))
    with pytest.raises(SurdError, match="without its password or key"):
        asked()
    assert asked(source=source).config.source == source
    assert "s3cret" not in Build(out).read_bytes("build.json").decode()


def test_a_key_in_the_environment_is_not_in_the_record_and_need_not_be_given_again(photos, monkeypatch):
    from surd.pipeline.sources import open_source

    source = "gallery:https://example.org/api?token=${GALLERY_TOKEN}"
    monkeypatch.setenv("GALLERY_TOKEN", "s3 cret")
    record(asked(source=source))
    opened = open_source(asked().config)
    assert opened.trusted_url.endswith("/api") and opened._filters["token"] == "s3 cret"
    monkeypatch.delenv("GALLERY_TOKEN")
    with pytest.raises(SurdError, match="GALLERY_TOKEN, which is not set"):
        open_source(asked(source=source).config)


def test_a_folder_with_shards_of_unknown_origin_is_left_alone(photos, tmp_path):
    Build(str(tmp_path / "mine")).write_bytes("shards/surd-00000.tar", b"somebody's")
    with pytest.raises(SurdError, match=r"holds shards and no build\.json.*--overwrite"):
        asked(source=photos)
    with pytest.raises(SurdError, match=r"holds shards and no build\.json"):
        request_import(out="mine", source="finished:huggingface:set", parameters={})
    assert asked(source=photos, overwrite=True).config.source == photos


def test_neither_build_nor_import_takes_the_folder_of_the_other(photos):
    record(request_import(out="mine", source="finished:huggingface:set", parameters={"pack.max_count": 5}))
    with pytest.raises(SurdError, match="made by surd import"):
        asked(**THRESHOLD)
    again = request_import(out="mine", source="finished:huggingface:./set", parameters={})
    assert (again.config.pack.max_count, again.config.embed.layers) == (5, [])
    with pytest.raises(SurdError, match="made by surd build"):
        request_import(out="data/demo", source="finished:huggingface:set", parameters={})


class TestARecordMadeBeforeItSaidMore:
    """A build.json of an earlier version: the whole config, and neither profile nor parameters."""

    @pytest.fixture
    def old(self, photos):
        request = asked(source=photos, limit=7)
        fields = build_record(request).model_dump(exclude={"made_by", "profile", "parameters", "source", "redacted"})
        Build(request.out).write_json("build.json", fields)
        return request

    def test_goes_on_with_its_config(self, old):
        again = asked(**THRESHOLD)
        assert (again.config.source, again.config.limit, again.config.select.min_clip_simple) == (
            "folder:photos",
            7,
            0.2,
        )

    def test_knows_its_profile_by_the_models(self, old):
        assert asked(profile="demo").config.limit == 7
        with pytest.raises(SurdError, match="and profile is 'small'"):
            asked(profile="small")

    def test_is_an_import_if_it_has_shards_and_no_calibration(self, old):
        Build(old.out).write_bytes("shards/manifest.json", b"{}")
        with pytest.raises(SurdError, match="made by surd import"):
            asked()


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"\xff", b'{"config": 3}'])
def test_a_damaged_record_is_one_sentence(photos, content):
    out = record(asked(source=photos))
    Build(out).write_bytes("build.json", content)
    with pytest.raises(SurdError, match=r"build\.json .*--overwrite"):
        asked()


def test_the_record_can_be_read_again(photos):
    out = record(asked(source=photos))
    stored = BuildRecord.model_validate_json(Build(out).read_bytes("build.json"))
    assert (stored.made_by, stored.profile) == ("build", "demo")
    assert stored.source == f"folder:{Path.cwd()}/photos"
