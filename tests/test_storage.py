"""Results that replace older ones whole."""

import concurrent.futures
import os
import shutil
import sys
import threading

import pytest

import train
from support import storage
from support.errors import RunError


@pytest.mark.parametrize("mode", ["test", "export"])
def test_the_last_result_stays_until_a_new_one_is_whole(run, trained, tmp_path, monkeypatch, mode):
    folder = shutil.copytree(trained, str(tmp_path / "run"))
    argv = ["--mode=" + mode, "--output_dir=" + folder]
    result = os.path.join(folder, "test/val-6" if mode == "test" else "export/6")
    assert run(*argv)[0] == 0
    with open(os.path.join(result, "of_the_first"), "w"):
        before = sorted(os.listdir(result))
    write, seen = train.pix2pix.generator, []

    def failing(*images, **options):
        seen.append(sorted(os.listdir(result)))
        raise RunError("stopped")

    monkeypatch.setattr(train.pix2pix, "generator", failing)
    assert run(*argv)[0] == "error: stopped"
    assert sorted(os.listdir(result)) == before == seen[0]
    monkeypatch.setattr(train.pix2pix, "generator", write)
    assert run(*argv)[0] == 0
    assert "of_the_first" not in os.listdir(result)
    parent, name = os.path.split(result)
    assert [beside for beside in os.listdir(parent) if beside.startswith(name)] == [name]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux swaps two folders in one step")
def test_a_folder_is_replaced_without_a_moment_in_which_there_is_none(tmp_path):
    folder, missing, done = str(tmp_path / "result"), [], threading.Event()

    def watch():
        while not done.is_set():
            missing.append(not os.path.exists(os.path.join(folder, "file")))

    def replace():
        with storage.replacing(folder) as new, open(os.path.join(new, "file"), "w"):
            pass

    replace()
    watcher = threading.Thread(target=watch)
    watcher.start()
    count = 0
    while count < 200 or len(missing) <= 200:  # the watcher may come to nothing on a busy machine
        replace()
        count += 1
    done.set()
    watcher.join()
    assert not any(missing)
    assert os.listdir(tmp_path) == ["result"]


def test_a_folder_that_cannot_be_swapped_in_leaves_the_old_one(tmp_path, monkeypatch):
    for name in ("old", "new"):
        os.makedirs(tmp_path / name / name)
    rename = os.rename

    def failing(source, target):
        if os.path.basename(source) == "new":
            raise OSError("no")
        rename(source, target)

    monkeypatch.setattr(os, "rename", failing)
    monkeypatch.setattr(sys, "platform", "other")  # without Linux' swap
    with pytest.raises(OSError, match="no"):
        storage.exchange(str(tmp_path / "new"), str(tmp_path / "old"))
    assert os.listdir(tmp_path / "old") == ["old"]


def test_many_at_once_can_look_whether_a_folder_can_be_written(tmp_path):
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(storage.make_folders, 400 * [str(tmp_path / "folder")]))
    assert os.listdir(tmp_path / "folder") == []
