"""Trainings go on where they stopped, models appear whole or not at all, and closed-form parts are exact."""

from itertools import islice

import numpy as np
import pytest
import torch

from surd.pipeline.demo.training import checkpoint, train_vae
from surd.pipeline.demo.training.train_captioner import states_all
from surd.pipeline.demo.world.dataset import batches, pictures, pixels
from surd.pipeline.demo.world.scenes import scene


def trained(model, optimizer, steps):
    for step in steps:
        optimizer.zero_grad()
        model(torch.full((2, 3), float(step))).square().sum().backward()
        optimizer.step()


def fresh():
    torch.manual_seed(0)
    model = torch.nn.Linear(3, 2)
    return model, torch.optim.AdamW(model.parameters(), lr=0.01)


def test_a_training_resumed_ends_where_one_without_a_break_does(tmp_path):
    whole, optimizer = fresh()
    trained(whole, optimizer, range(6))
    broken, optimizer = fresh()
    trained(broken, optimizer, range(3))
    checkpoint.save(tmp_path / "c.safetensors", 3, broken, optimizer, seconds=torch.tensor(1.5))
    resumed, optimizer = fresh()
    step, extra = checkpoint.resume(tmp_path / "c.safetensors", resumed, optimizer)
    trained(resumed, optimizer, range(step, 6))
    assert step == 3 and float(extra["seconds"]) == 1.5
    assert torch.equal(whole.weight, resumed.weight)


def test_batches_resume_in_the_same_order_and_cover_an_epoch():
    whole = list(islice(batches(1, 20, 4, 0), 12))
    assert list(islice(batches(1, 20, 4, 7), 5)) == whole[7:]
    assert sorted(index for _, indices in whole[:5] for index in indices) == list(range(20))


def test_a_model_folder_is_replaced_whole_or_stays(tmp_path):
    folder = tmp_path / "model"
    checkpoint.export(folder, lambda fresh: (fresh / "a.txt").write_text("old"))

    def fails(fresh):
        (fresh / "a.txt").write_text("half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        checkpoint.export(folder, fails)
    assert (folder / "a.txt").read_text() == "old"
    checkpoint.export(folder, lambda fresh: (fresh / "b.txt").write_text("new"))
    assert [path.name for path in folder.iterdir()] == ["b.txt"]
    assert list(tmp_path.glob("model*")) == [folder]


def test_pictures_are_drawn_once_and_kept(tmp_path):
    first = pictures(tmp_path, 3, 4)
    assert np.array_equal(first[2], pixels([scene(3, 2)])[0])
    (path,) = tmp_path.iterdir()
    before = path.stat().st_mtime_ns
    assert np.array_equal(pictures(tmp_path, 3, 4), first) and path.stat().st_mtime_ns == before


def test_the_fitted_encoder_computes_the_principal_components():
    images = pixels([scene(3, index) for index in range(40)])
    model = train_vae.build()
    train_vae.fit_encoder(model, images[:32])
    centre, projection = train_vae.components(images[:32])
    wanted = ((train_vae.patches(images[32:]) - centre) @ projection).permute(0, 3, 1, 2)
    with torch.inference_mode():
        picture = train_vae.normalised(images[32:], train_vae.MEAN, train_vae.STD)
        coded = model.encode(picture).latent_dist
    assert torch.allclose(coded.mean, wanted, atol=0.02) and coded.std.max() < 0.05


def test_a_caption_counts_as_right_only_if_it_states_every_fact():
    shown = next(one for index in range(99) if (one := scene(3, index)).kind == "action" and one.style == "sketch")
    who = "someone" if shown.count == 1 else f"{('', '', 'two', 'three')[shown.count]} people"
    right = f"{who} {shown.action} on a {shown.background} background, drawn as a pencil sketch."
    assert states_all(right, shown)
    assert not states_all(right.replace(shown.background, "grey"), shown)
    assert not states_all(right.replace(", drawn as a pencil sketch", ""), shown)
    assert not states_all(right.replace(who, "five people"), shown)
