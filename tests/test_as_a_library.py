"""docs/as_a_library.md, whose lines run as they stand, in order, in one process."""

import os
import re
import subprocess
import sys

import pytest

from conftest import ROOT

with open(os.path.join(ROOT, "docs", "as_a_library.md")) as _file:
    BLOCKS = re.findall(r"```python\n(.*?)```", _file.read(), re.DOTALL)
CHECKS = """
assert np.mean(losses[-3:]) < np.mean(losses[:3]) - 0.01, losses
assert outputs.shape == (1, 128, 128, 3) and 0 < abs(outputs).max() <= 1
found = tf.train.load_checkpoint("runs/quick/checkpoints/model.ckpt-1").get_tensor("generator/decoder_1/bias/average")
with translated.graph.as_default():
    restored, = (v for v in tf.global_variables() if v.op.name == "generator/decoder_1/bias")
assert (session.run(restored) == found).all() and abs(found).max() > 0
with graph.as_default(), tf.Session() as first:
    first.run(tf.global_variables_initializer())
    d, g = first.run([d_loss, g_loss], {tensor: np.zeros(tensor.shape, np.float32) for tensor in graph_inputs})
assert 0.5 < d < 3 and g > 0, (d, g)
print("the page holds")
"""


@pytest.fixture
def with_quick_run(run, data, tmp_path):
    """A folder with a run of flags/quick.flags in runs/quick, as the page has it, after one step."""
    flagfile = "--flagfile=" + os.path.join(ROOT, "flags", "quick.flags")
    argv = ["--data_dir=" + data, "--output_dir=%s" % (tmp_path / "runs" / "quick"), "--max_steps=1"]
    assert run(flagfile, *argv)[0] == 0
    return str(tmp_path)


def test_the_page_runs_as_it_stands_without_a_deprecation_warning(with_quick_run):
    networks = "\ngraph_inputs = inputs, targets\n"
    script = "".join([*BLOCKS[:2], networks, *BLOCKS[2:], CHECKS])
    result = subprocess.run([sys.executable, "-c", script], cwd=with_quick_run, capture_output=True, text=True,
                            check=False, env=dict(os.environ, PYTHONPATH=ROOT))
    assert len(BLOCKS) == 4 and "the page holds" in result.stdout, result.stderr
    assert "deprecat" not in result.stderr.lower() and "WARNING:tensorflow" not in result.stderr
