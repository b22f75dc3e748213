"""Pictures and batches that are larger than the memory: they are refused by name, and what fits is not."""

import os
import shutil

import pytest

from conftest import SMALL, options, write_pairs
from support import memory
from support.errors import RunError

KB = 1000


@pytest.mark.parametrize("files,expected", [
    ({}, None),
    ({"proc/meminfo": "MemTotal: 9 kB\n"}, None),
    ({"proc/meminfo": "MemTotal:  900 kB\nMemAvailable:   70 kB\nSwapTotal: 9 kB\nSwapFree:   30 kB\n"}, 102400),
    ({"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/b/memory.max": "max\n",
      "sys/fs/cgroup/a/b/memory.current": "5\n"}, 102400),
    ({"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/memory.max": "9000\n",
      "sys/fs/cgroup/a/memory.current": "5000\n", "sys/fs/cgroup/a/memory.stat": "anon 7\ninactive_file 300\n"}, 4300),
    ({"proc/self/cgroup": "0::/elsewhere\n", "sys/fs/cgroup/memory.max": "9000\n",
      "sys/fs/cgroup/memory.current": "5000\n"}, 4000),
    ({"proc/self/cgroup": "8:pids:/\n4:memory:/a\n0::/\n", "sys/fs/cgroup/memory/a/memory.limit_in_bytes": "900\n",
      "sys/fs/cgroup/memory/a/memory.usage_in_bytes": "500\n", "sys/fs/cgroup/memory/a/memory.stat":
      "inactive_file 1\ntotal_inactive_file 30\n", "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712",
      "sys/fs/cgroup/memory/memory.usage_in_bytes": "7"}, 430)],
    ids=["nothing", "old_linux", "machine", "no_limit", "limit_around", "container", "version_1"])
def test_free_memory_is_the_machines_or_what_its_control_groups_leave(tmp_path, files, expected):
    machine = {} if expected is None else {"proc/meminfo": "MemAvailable: 70 kB\nSwapFree: 30 kB\n"}
    for path, text in {**machine, **files}.items():
        os.makedirs(tmp_path / os.path.dirname(path), exist_ok=True)
        (tmp_path / path).write_text(text)
    assert memory.free(str(tmp_path)) == expected


def test_this_machine_says_what_is_free():
    assert 10 ** 7 < memory.free() < 10 ** 15


def test_test_mode_names_a_picture_that_does_not_fit_before_it_begins(run, trained, tmp_path, monkeypatch):
    write_pairs(str(tmp_path / "val"), 2)
    write_pairs(str(tmp_path / "val" / "large"), 1, size=96)
    (tmp_path / "val" / "large" / "1.png").rename(tmp_path / "val" / "large.png")
    monkeypatch.setattr(memory, "free", lambda: 500 * KB)
    folder = shutil.copytree(trained, str(tmp_path / "run"), ignore=shutil.ignore_patterns("test"))  # of other tests
    tested = ("--mode=test", "--output_dir=" + folder, "--data_dir=%s" % tmp_path)
    status, _ = run(*tested, "--notest_resize")
    assert "large.png at 96x96 pixels: it takes at least 0.001 GB, and 0.0005 GB are free; --test_resize" in status
    assert "not enough memory for" in status and not os.path.exists(os.path.join(folder, "test"))
    assert run(*tested)[0] == 0  # resized to 32x32, it fits


def test_training_names_a_batch_that_does_not_fit_before_it_begins(run, tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "free", lambda: 500 * KB)
    status, _ = run("--output_dir=%s" % tmp_path, *SMALL, "--image_size=64")
    assert "not enough memory for a batch of 2 at 64x64 pixels: it takes at least 0.001 GB" in status
    assert not (tmp_path / "checkpoints").exists()


@pytest.mark.parametrize("mode,name", [("train", "input_channels"), ("test", "output_channels")])
def test_each_band_of_the_data_counts(monkeypatch, mode, name):
    monkeypatch.setattr(memory, "free", lambda: 10 ** 6)
    of_pictures = options("--mode=" + mode, "--ngf=2", "--ndf=2")
    memory.check(of_pictures, "a picture", 1, (64, 64))  # the flags leave the bands open
    memory.check(of_pictures._replace(input_channels=3, output_channels=3), "a picture", 1, (64, 64))
    with pytest.raises(RunError, match="not enough memory for a picture at 64x64 pixels"):
        memory.check(of_pictures._replace(**{name: 40}), "a picture", 1, (64, 64))


def test_without_a_figure_for_free_memory_nothing_is_refused(monkeypatch):
    monkeypatch.setattr(memory, "free", lambda: None)
    memory.check(options(), "a picture", 10 ** 6, (10 ** 5, 10 ** 4))
