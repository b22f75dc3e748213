"""The training step compiled by XLA."""

import json

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import train
from conftest import SMALL, fingerprint, options, rows
from support import data_flags, devices, workers
from support.errors import FlagError

TWO = {"cluster": {"worker": ["localhost:1", "localhost:2"]}, "task": {"type": "worker", "index": 0}}


def built(*argv, team=workers.ALONE):
    """Builds the training graph in the default graph."""
    chosen = options(*SMALL, *argv)
    train.training_graph(chosen, data_flags.pairs_of(chosen, "train"), "float32", team)


def of_types(graph, *types):
    """The ops of a step that have one of these types."""
    return [op for op in graph.get_operations() if op.type in types and not op.name.startswith("reader/")]


def test_xla_compiles_the_step_but_neither_random_numbers_nor_what_workers_exchange(data):
    with tf.Graph().as_default() as graph:
        built("--data_dir=" + data, "--jit_compile=true", team=workers.Workers(json.dumps(TWO)))
    marked = {op: "_XlaCompile" in op.node_def.attr and op.get_attr("_XlaCompile") for op in graph.get_operations()}
    outside = of_types(graph, "StatelessRandomUniform", "StatelessRandomNormal", "StatelessRandomUniformV2",
                       "StatelessRandomNormalV2", "CollectiveReduce")
    assert len({op.type for op in outside}) == 3 and not any(marked[op] for op in outside)
    inside = of_types(graph, "MatMul", "Conv2D", "ResourceApplyAdam", "Rsqrt")
    assert len({op.type for op in inside}) == 4 and all(marked[op] for op in inside)
    assert not any(marked[op] for op in graph.get_operations() if op.name.startswith("reader/"))


def test_initial_values_and_masks_are_those_of_a_step_that_is_not_compiled(data):
    found = []
    for jit_compile in ("true", "false"):
        with tf.Graph().as_default() as graph, tf.Session() as session:
            built("--data_dir=" + data, "--jit_compile=" + jit_compile)
            session.run([variable.initializer for variable in tf.global_variables()])
            masks = [op.outputs[0] for op in of_types(graph, "StatelessRandomUniform", "StatelessRandomUniformV2")
                     if "initial" not in op.name.lower()]
            found.append(session.run([tf.trainable_variables(), masks[:3]]))
    assert len(found[0][1]) == 3
    for here, there in zip(*map(tf.nest.flatten, found)):
        np.testing.assert_array_equal(here, there)


def test_what_auto_decides_is_kept_by_the_run_whatever_the_device(run, data, tmp_path, monkeypatch):
    argv = ["--data_dir=" + data, "--output_dir=%s" % tmp_path, *SMALL]
    flags = tmp_path / "flags.txt"
    assert run(*argv, "--max_steps=1")[0] == 0 and "--jit_compile=false\n" in flags.read_text()
    monkeypatch.setattr(devices, "gpu", lambda: {"device_name": "GPU of a test", "compute_capability": (7, 0)})
    assert devices.decide_compilation("auto") == "true"
    assert devices.decide_compilation("auto", workers=2) == "false"
    with pytest.raises(FlagError, match="--jit_compile=true is for one worker"):
        devices.decide_compilation("true", workers=2)
    flags.write_text(flags.read_text().replace("--jit_compile=false\n", ""))  # as a run of an earlier version has it
    status, output = run(*argv, "--max_steps=2")
    assert status == 0 and "XLA" not in output and "--jit_compile=false\n" in flags.read_text()
    assert "--jit_compile is true here and false in the run" in run(*argv, "--max_steps=3", "--jit_compile=true")[0]


def test_all_steps_of_a_run_fetch_the_same_so_that_xla_compiles_the_step_once(run, data, tmp_path, monkeypatch):
    fetched, plain = [], tf.Session.run

    def names_of(fetches):
        if isinstance(fetches, dict):  # what the hooks fetch
            return set().union(*map(names_of, fetches.values()))
        return {getattr(fetch, "name", fetch) for fetch in tf.nest.flatten(fetches)}

    def spy(session, fetches, *args, **options):
        fetched.append(names_of(fetches))
        return plain(session, fetches, *args, **options)

    monkeypatch.setattr(tf.Session, "run", spy)
    assert run("--data_dir=" + data, "--output_dir=%s" % tmp_path, *SMALL, "--log_every=2", "--sample_every=3",
               "--max_steps=4", "--jit_compile=false")[0] == 0
    steps = [names for names in fetched if "global_step/Identity:0" in names]
    assert len(steps) == 4 and all(names == steps[0] for names in steps)
    assert [row[0] for row in rows(tmp_path)] == ["step", "2", "4"]
    assert sorted(path.name for path in (tmp_path / "samples").glob("*.png"))[1:] == [
        "step-00000003.png", "step-00000004.png"]


@pytest.mark.slow  # XLA compiles each of the five runs
@pytest.mark.parametrize("argv", [
    (), ("--gan_loss=logits",), ("--update=alternating", "--gan_loss=lsgan", "--norm=instance", "--ema=0.9"),
    ("--gan_loss=log_literal", "--norm=none", "--skip=pre", "--upsample=resize",
     "--decay_epochs=1")], ids="-".join)
def test_a_compiled_run_has_the_same_losses_repeats_and_goes_on_to_the_bit(run, data, tmp_path, argv):
    def trained(name, *more):
        status, output = run("--data_dir=" + data, "--output_dir=%s" % (tmp_path / name), *SMALL, *argv, *more)
        assert status == 0
        return output

    trained("plain", "--max_steps=3", "--jit_compile=false")
    compiled = trained("compiled", "--max_steps=3", "--jit_compile=true")
    assert "XLA compiles the training step" in compiled
    header, first = rows(tmp_path / "plain")[:2]
    losses = slice(header.index("d_loss"), header.index("g_loss_l1") + 1)
    first_compiled = rows(tmp_path / "compiled")[1]
    assert list(map(float, first_compiled[losses])) == pytest.approx(list(map(float, first[losses])), abs=1e-5)
    assert fingerprint(trained("again", "--max_steps=3", "--jit_compile=true")) == fingerprint(compiled)
    trained("stopped", "--max_steps=2", "--jit_compile=true")
    assert fingerprint(trained("stopped", "--max_steps=3")) == fingerprint(compiled)
