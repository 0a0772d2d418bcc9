"""Loader processes that are spawned, as on Windows and macOS: they get the data set by pickling and import the package anew."""

import multiprocessing
import pickle

import pytest
from commands import run

from seg_det.data.imagefolder import read_imagefolder
from seg_det.data.loaders import evaluation_loader, train_loader
from seg_det.data.shapes import read_shapes
from seg_det.evaluation import measure
from seg_det.kinds.lookup import KINDS
from seg_det.predict.preprocessing import Preprocessing
from seg_det.registry import AUGMENTATIONS

TINY = (
    "backbone.width=0.35", "data.size=64", "data.batch_size=8", "data.num_workers=1", "trainer.max_epochs=1",
    "recipe.backbone_weights=null", "logger=[csv]", "callbacks=[]",
)  # fmt: skip


@pytest.mark.parametrize(
    "name", ["ssd_augmentation", "segmentation_augmentation", "inception_augmentation", "flip_only"]
)
@pytest.mark.parametrize("kind", KINDS)
def test_what_loader_processes_get_can_be_pickled(kind, name, tiny_shapes, tiny_imagefolder):
    settings = {"kind": kind} if name == "flip_only" else {}
    transform = AUGMENTATIONS.get(name)(size=(32, 32), **settings)
    if not isinstance(transform, KINDS[kind].transform):
        return  # of another kind
    if "class" in KINDS[kind].data:
        source = read_imagefolder(root=tiny_imagefolder, split="train")
    else:
        source = read_shapes(tiny_shapes, "val", kind=kind, train_images=24, val_images=8)
    loading = {"batch_size": 2, "num_workers": 0}
    loaders = [
        train_loader(source, transform, seed=0, **loading),
        evaluation_loader(source, transform, **loading),
        measure.loader(KINDS[kind], Preprocessing("stretch", (32, 32)), source, **loading),
    ]
    for one in loaders:
        parts = (one.dataset, one.collate_fn, one.worker_init_fn, one.batch_sampler)
        dataset, collate, _, sampler = pickle.loads(pickle.dumps(parts))
        collate([dataset[place] for place in next(iter(sampler))])


@pytest.fixture
def spawned():
    """Processes of this test are spawned."""
    before = multiprocessing.get_start_method(allow_none=True)
    multiprocessing.set_start_method("spawn", force=True)
    yield
    multiprocessing.set_start_method(before, force=True)


@pytest.mark.slow  # each process imports torch
def test_a_training_and_an_evaluation(spawned, tiny_shapes, tmp_path):
    done = run(tmp_path, "train", f"dataset.root={tiny_shapes}", *TINY, "hydra.run.dir=run")
    assert "shapes val, 8 images" in done.stdout and (tmp_path / "run" / "checkpoints" / "last.ckpt").is_file()
    done = run(tmp_path, "evaluate", "model=run", f"dataset.root={tiny_shapes}", "data.num_workers=1")
    assert "shapes val, 8 images" in done.stdout
