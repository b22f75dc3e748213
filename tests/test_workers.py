"""One run of several processes: shares that make the batch, equal weights, lost workers, refusals."""

import collections
import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time

import imageio.v3 as imageio
import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from hypothesis import given, settings
from hypothesis import strategies as st

import links
import train
from conftest import LIMIT, ROOT, SMALL, fingerprint, free_addresses, options, rows, without_timing
from support import cluster, data_flags, precisions, workers
from support.errors import WorkerError
from test_reader import numbered, read_training  # noqa: F401

TF1 = os.environ.get("TF1_PYTHON", os.path.join(ROOT, ".venv-tf1", "bin", "python"))
has_tf1 = pytest.mark.skipif("TF1_PYTHON" not in os.environ and not os.path.exists(TF1),
                             reason="no TensorFlow 1.15 in .venv-tf1, and TF1_PYTHON names none")
BOTH = [pytest.param(sys.executable, id="here"),
        pytest.param(TF1, id="tf1", marks=[has_tf1, pytest.mark.tf1, pytest.mark.slow])]
Ended = collections.namedtuple("Ended", "status output seconds")


def config_of(addresses, index, chief=False):
    if not chief:
        return json.dumps({"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}})
    task = {"type": "worker", "index": index - 1} if index else {"type": "chief", "index": 0}
    return json.dumps({"cluster": {"chief": addresses[:1], "worker": addresses[1:]}, "task": task})


def on_loopback(i, command, **options):
    del i
    return subprocess.Popen(command, **options)


class Team:
    """Workers of one run on the loopback address.

    argv: the flags of all; own: {worker: its flags beside them}; env: {worker: its environment beside TF_CONFIG};
    net: a links.Links whose machines they run on instead.
    """

    def __init__(self, folder, *argv, count=2, python=sys.executable, own=(), env=(), net=None, chief=False):
        self.addresses = [links.address(i) + ":2222" for i in range(count)] if net else free_addresses(count)
        self.began = time.time()
        flags = "--output_dir=%s" % folder, *SMALL, "--ema=0.9"
        self.processes = [(net.popen if net else on_loopback)(
            i, [python, os.path.join(ROOT, "tests", "watched_worker.py"), *flags, *argv, *dict(own).get(i, ())],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            env=dict(os.environ, TF_CONFIG=config_of(self.addresses, i, chief), **dict(env).get(i, {})))
            for i in range(count)]

    def end(self):
        """Waits for all; returns an Ended of each."""
        ended = []
        try:
            for process in self.processes:
                output, _ = process.communicate(timeout=LIMIT)
                ended.append(Ended(process.returncode, output, time.time() - self.began))
        finally:
            for process in self.processes:
                if process.poll() is None:
                    process.kill()
        return ended

    def name(self, i):
        return "worker %d at %s" % (i, self.addresses[i])


def errors(ended):
    """The lines in which a process says what is wrong; there must be no trace beside them."""
    assert "Traceback" not in ended.output and "grpc" not in ended.output.lower(), ended.output
    return [line for line in ended.output.splitlines() if line.startswith("error: ")]


def finished(team):
    """Ends a team that must finish; returns its outputs."""
    ended = team.end()
    assert [each.status for each in ended] == [0] * len(ended), ended
    return [each.output for each in ended]


@pytest.fixture(scope="module", params=BOTH)
def python(request):
    return request.param


@pytest.fixture(scope="module")
def whole(python, data, tmp_path_factory):
    """A run of two workers that nothing stopped: (folder, fingerprint, [{step: hash of all variables} of each])."""
    folder = tmp_path_factory.mktemp("whole")
    env = {i: {"WATCH": str(folder / ("watch-%d" % i)), "GRADIENTS": str(folder / ("gradients-%d" % i))}
           for i in range(2)}
    team = Team(folder, "--data_dir=" + data, "--max_steps=12", python=python, env=env)
    outputs = finished(team)
    assert "%s: finished, 12 steps done; the run is with %s" % (team.name(1), team.name(0)) in outputs[1]
    return folder, fingerprint(outputs[0]), [dict(line.split() for line in open(folder / ("watch-%d" % i)))
                                             for i in range(2)]


# ---------------------------------------------------------------------------------------------
# Shares


@settings(max_examples=4)
@given(st.integers(1, 4), st.integers(1, 3), st.integers(1, 3), st.integers(0, 9))
def test_the_shares_put_together_are_the_whole_batch(numbered, count, size, threads, start):  # noqa: F811
    steps, options = 4, {"batch_size": count * size, "start": start, "seed": start}
    together = read_training(numbered, steps, **options)
    shares = [read_training(numbered, steps, share=(i, count), threads=threads, **options) for i in range(count)]
    for kind in (0, 1):
        parts = [share[kind].reshape(steps, size, -1) for share in shares]
        np.testing.assert_array_equal(np.concatenate(parts, axis=1), together[kind].reshape(steps, count * size, -1))


def graph_of(team, **flags):
    """A training step's graph as text, without the numbers in its functions' names, which count those of all graphs."""
    chosen = options(*SMALL, *("--%s=%s" % item for item in flags.items()))
    with tf.Graph().as_default() as graph:
        train.training_graph(chosen, data_flags.pairs_of(chosen, "train"), "float32", team)
        made = graph.as_graph_def()
    nodes, functions = ([re.sub(r"_(true|false|case|branch[0-9]+)_[0-9]+", r"_\1", str(each)) for each in part]
                        for part in (made.node, made.library.function))
    return "".join(nodes + sorted(functions))


@pytest.mark.parametrize("update", ["simultaneous", pytest.param("alternating", marks=pytest.mark.slow)])
def test_one_worker_builds_the_graph_of_no_worker_and_opens_no_port(data, update):
    address, = free_addresses(1)
    alone = workers.Workers(config_of([address], 0))
    alone.start(1)
    assert alone.target == "" and cluster.listens(address) is None and not alone.config.ListFields()
    text = graph_of(alone, data_dir=data, update=update)
    assert text == graph_of(workers.Workers(), data_dir=data, update=update)
    assert "Collective" not in text and "boolean_mask" not in text
    two = workers.Workers(config_of(free_addresses(2), 1))
    assert graph_of(two, data_dir=data, update=update).count('op: "CollectiveReduce"') == 3  # two networks, the scalars


def test_each_worker_has_dropout_masks_of_its_own(data):
    masks = {}
    for team in (workers.ALONE, *(workers.Workers(config_of(["a:1", "b:1"], i)) for i in range(2))):
        chosen = options(*SMALL, "--data_dir=" + data, "--batch_size=%d" % len(team))
        with tf.Graph().as_default() as graph, tf.Session() as session:
            train.training_graph(chosen, data_flags.pairs_of(chosen, "train"), "float32", team)
            drawn = [op.outputs[0] for op in graph.get_operations()
                     if op.name.startswith("generator/decoder_") and op.type == "GreaterEqual"]
            assert len(drawn) == 3
            for step in range(2):
                session.run(tf.train.get_global_step().assign(step))
                masks[len(team), team.rank, step] = b"".join(mask.tobytes() for mask in session.run(drawn))
    assert len({masks[2, i, step] for i in range(2) for step in range(2)}) == 4
    assert masks[2, 0, 0] == masks[1, 0, 0] and masks[2, 1, 0] == masks[1, 0, 1]  # step * workers + the worker's number


# ---------------------------------------------------------------------------------------------
# TF_CONFIG


@pytest.mark.parametrize("text", [
    None, "", " \n", "{}", '{"cluster": {}}', '{"cluster": null, "task": null}', '{"environment": "cloud"}',
    '{"rpc_layer": "grpc", "session_master": ""}', '{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", '
    '"index": 0}, "environment": "cloud", "job": {}}'])
def test_without_a_cluster_there_is_one_worker(text):
    team = workers.Workers(text)
    assert len(team) == 1 and team.rank == 0


@pytest.mark.parametrize("task, rank", [(("chief", 0), 0), (("worker", 1), 2)])
def test_the_chief_is_the_first_whichever_job_it_has(task, rank):
    team = workers.Workers(json.dumps({"cluster": {"worker": ["b:1", "c:1"], "chief": ["a:1"], "ps": []},
                                       "task": {"type": task[0], "index": task[1]}, "environment": "cloud"}))
    assert (len(team), team.rank, team.names[0], team.names[2]) == (3, rank, "chief 0 at a:1", "worker 1 at c:1")
    assert team.leader == "/job:chief/replica:0/task:0"


@pytest.mark.parametrize("cluster_and_task, says", [
    ("{", "not JSON"),
    ('{"cluster": {"worker": ["a:1"]}}', "'task' is missing"),
    ([{"worker": ["a:1"], "ps": ["b:1"]}, "worker", 0], "the job ps is not known here"),
    ([{"worker": ["a:1"]}, "evaluator", 0], "the job evaluator is not known here"),
    ([{"worker": ["a:1", "b:1"]}, "worker", 2], "the task is worker 2, which the cluster does not have"),
    ([{"worker": ["a:1", "b:1"]}, "worker", -1], "the task is worker -1, which the cluster does not have"),
    ([{"worker": ["a:1", "a:1"]}, "worker", 0], "the address a:1 is there twice"),
    ([{"worker": ["a:1"], "chief": ["a:1"]}, "worker", 0], "the address a:1 is there twice"),
    ([{"worker": ["a"]}, "worker", 0], 'the address "a" is not HOST:PORT'),
    ([{"worker": ["a:99999"]}, "worker", 0], 'the address "a:99999" is not HOST:PORT'),
    ([{"worker": [":1"]}, "worker", 0], 'the address ":1" is not HOST:PORT'),
    ([{"worker": ["a:1"], "chief": ["b:1", "c:1"]}, "worker", 0], "there can be one chief, not 2"),
    ('{"sparseCluster": {"worker": {"1": "b:1"}, "ps": ["c:1"]}, "task": {"type": "worker", "index": 1}}',
     "sparseCluster: not read here, so this process would train alone"),
    ('{"cluster": {"worker": ["a:1"]}, "sparseCluster": {}, "task": {"type": "worker", "index": 0}}',
     "sparseCluster: not read here"),
    ('{"Cluster": {"worker": ["a:1", "b:1"]}, "Task": {"type": "worker", "index": 1}}',
     "Cluster, Task: not read here"),
    ('{"worker": ["a:1", "b:1"]}', "worker: not read here"),
    ('{"task": {"type": "worker", "index": 1}}', "it names no address in cluster, so this process would train alone"),
    ('{"cluster": {}, "task": {"type": "worker", "index": 0}}', "it names no address in cluster"),
    ('{"cluster": {"worker": []}}', "it names no address in cluster"),
    ("null", "it is null, not an object"),
    ("[1]", "it is [1], not an object"),
    ('{"cluster": {"worker": 3}, "task": {"type": "worker", "index": 0}}', "docs/several_machines.md"),
])
def test_a_wrong_tf_config_is_one_line(cluster_and_task, says):
    if not isinstance(cluster_and_task, str):
        jobs, job, index = cluster_and_task
        cluster_and_task = json.dumps({"cluster": jobs, "task": {"type": job, "index": index}})
    with pytest.raises(WorkerError, match=r"^TF_CONFIG: ") as raised:
        workers.Workers(cluster_and_task)
    assert says in str(raised.value) and len(str(raised.value).splitlines()) == 1


def test_a_batch_that_the_workers_do_not_divide_is_refused(run, monkeypatch, tmp_path):
    monkeypatch.setenv("TF_CONFIG", config_of(free_addresses(2), 0))
    status, _ = run("--output_dir=%s" % tmp_path, *SMALL, "--batch_size=3")
    assert "--batch_size=3 is the batch of all 2 workers together; use a multiple of 2" in status


def test_a_worker_that_never_comes_up_and_a_port_in_use_are_named(run, monkeypatch, tmp_path):
    addresses = free_addresses(2)
    monkeypatch.setenv("TF_CONFIG", config_of(addresses, 0))
    with socket.create_server(("localhost", int(addresses[0].split(":")[1]))):
        status, _ = run("--output_dir=%s" % tmp_path, *SMALL)
        assert "error: worker 0 at %s: another process listens on its port" % addresses[0] in status
    with socket.create_server(("localhost", int(addresses[1].split(":")[1]))):  # takes connections and says nothing
        status, _ = run("--output_dir=%s" % tmp_path, *SMALL, "--patience=3")
    assert "no answer within --patience=3 seconds from worker 1 at %s" % addresses[1] in status


def test_the_watchdog_ends_the_process_where_nobody_can_be_told(tmp_path):
    script = ("import sys; from support import cluster; sys.stderr.close(); cluster.LINGER = 0; "
              "cluster.Watchdog(['a', 'b'], ['localhost:1', 'localhost:2'], 0).lose(1)")
    assert subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=False).returncode == 1


@pytest.mark.parametrize("message, says", [
    ('{"created":"@1","description":"Error received from peer","grpc_message":"Socket closed","grpc_status":14}',
     "Socket closed"),
    ('x\n:UNKNOWN:Error received from peer {grpc_status:14, grpc_message:"failed to connect"}', "failed to connect"),
    ("Collective ops is aborted by: Peer is gone\nThe error could be from a previous operation. Restart your program "
     "to reset.\n\t [[{{node CollectiveReduce}}]]", "Collective ops is aborted by: Peer is gone"), ("", "")])
def test_what_tensorflow_says_of_another_worker_is_one_plain_line(message, says):
    assert workers.reason_of(tf.errors.UnavailableError(None, None, message)) == says


# ---------------------------------------------------------------------------------------------
# Runs


def test_all_workers_have_equal_weights_after_every_step(whole):
    _, _, (chiefs, others) = whole
    assert chiefs == others and list(chiefs) == ["%d" % step for step in range(1, 13)]
    assert len(set(chiefs.values())) == 12


class Share(workers.Workers):
    """One of the workers, alone in a process, that keeps its gradients instead of their means."""

    def mean(self, tensors):
        self.gradients = [*getattr(self, "gradients", []), tensors]
        return [tf.placeholder_with_default(tensor, tensor.shape) for tensor in tensors]

    def averaged(self, model, scalars):
        del scalars
        return model


def gradients_of_share(i, data):
    chosen, share = options(*SMALL, "--data_dir=" + data), Share(config_of(["a:1", "b:1"], i))
    with tf.Graph().as_default():
        train.training_graph(chosen, data_flags.pairs_of(chosen, "train"), "float32", share)
        with tf.train.SingularMonitoredSession() as session:
            return [np.concatenate([each.ravel() for each in part]) for part in session.run(share.gradients)]


def test_the_workers_mean_gradients_are_the_means_of_the_shares_gradients(whole, python, data):
    folder = whole[0]
    kept = [[np.load(folder / ("gradients-%d" % i))["arr_%d" % part] for part in range(4)] for i in range(2)]
    shares = [gradients_of_share(i, data) for i in range(2)]
    for network in (0, 1):
        own = [kept[i][2 * network] for i in range(2)]
        for means in (kept[i][2 * network + 1] for i in range(2)):
            np.testing.assert_array_equal(means, (own[0] + own[1]) / 2)
            reference = np.mean([shares[i][network] for i in range(2)], axis=0)
            largest = np.abs(means - reference).max() / np.abs(reference).max()
            assert largest < (1e-6 if python == sys.executable else 1e-3), largest
        assert np.abs(own[0] - own[1]).max() > 0


@pytest.mark.slow
def test_a_killed_chief_or_a_signal_ends_all_and_a_restart_makes_the_run_that_nothing_stopped(
        whole, python, data, tmp_path):
    folder, of_whole, _ = whole
    argv = ["--data_dir=" + data, "--max_steps=12"]
    team = Team(tmp_path, *argv, python=python, env={0: {"FAIL": "save-8:KILL"}})
    ended = team.end()
    assert [each.status for each in ended] == [-9, 1], ended
    assert errors(ended[1]) == ["error: %s: lost %s; start all workers again, and the run continues from step 4 or a "
                                "later one" % (team.name(1), team.name(0))]
    ended = Team(tmp_path, *argv, python=python, env={1: {"FAIL": "9:TERM"}}).end()
    assert [each.status for each in ended] == [143, 143], ended
    assert re.search("from step [48],", ended[1].output)
    assert all("stopped and saved at step 10 of 12" in each.output for each in ended)
    outputs = finished(Team(tmp_path, *argv, python=python))
    assert "from step 10," in outputs[1] and fingerprint(outputs[0]) == of_whole
    assert without_timing(rows(tmp_path)) == without_timing(rows(folder))


def test_another_number_of_workers_than_the_runs_is_refused(whole, data, run):
    status, _ = run("--output_dir=%s" % whole[0], *SMALL, "--data_dir=" + data, "--max_steps=12")
    assert "TF_CONFIG makes 1 workers here and there were 2 in the run" in status


@pytest.mark.slow
def test_a_finished_run_says_so_on_all(whole, python, data):
    team = Team(whole[0], "--data_dir=" + data, "--max_steps=12", python=python)
    outputs = finished(team)
    assert fingerprint(outputs[0]) == whole[1] and "finished, 12 steps done" in outputs[0]
    assert "finished, 12 steps done; the run is with %s" % team.name(0) in outputs[1]


def test_workers_that_differ_are_refused_on_all_of_them_by_name(data, tmp_path):
    argv = ["--data_dir=" + data, "--max_steps=2", "--decay_epochs=1"]
    team = Team(tmp_path, *argv, own={1: ["--l1_weight=10", "--max_steps=3", "--epochs=30"]})
    says = ("%s differs from %s in --epochs, --epochs or --max_steps, --l1_weight; give all workers the same values, "
            "pairs and versions" % (team.name(1), team.name(0)))
    ended = team.end()
    assert [each.status for each in ended] == [1, 1]
    assert [errors(each) for each in ended] == [["error: %s: %s" % (team.name(i), says)] for i in range(2)]
    assert not os.path.exists(tmp_path / "metrics.csv")


def test_a_bad_image_on_one_worker_ends_all_and_is_named(python, data, tmp_path):
    folders = [tmp_path / "good", tmp_path / "bad"]
    path = folders[1] / "train" / "3.png"
    content = imageio.imwrite("<bytes>", np.random.RandomState(0).randint(0, 256, (40, 80, 3), np.uint8),
                              extension=".png")
    for folder in folders:
        shutil.copytree(data, folder)
        (folder / "train" / "3.png").write_bytes(content)
    path.write_bytes(content[:3000] + bytes(40) + content[3040:])  # its first and last KB are what is compared
    team = Team(tmp_path / "run", "--max_steps=40", python=python,
                own={i: ["--data_dir=%s" % folders[i]] for i in (0, 1)})
    ended = team.end()
    assert [each.status for each in ended] == [1, 1]
    line, = errors(ended[1])
    assert line.startswith("error: %s: %s: can't be decoded" % (team.name(1), path))
    assert errors(ended[0])[0].startswith("error: %s: lost %s; " % (team.name(0), team.name(1)))


# ---------------------------------------------------------------------------------------------
# Longer forms


def is_bfloat16_native():
    found = precisions.cpu_fact("flags").split()
    return "avx512_bf16" in found or "amx_bf16" in found


VARIANTS = [pytest.param(3, ("--batch_size=3", "--update=alternating"), id="alternating"),
            pytest.param(2, ("--precision=bfloat16", "--ngf=16", "--ndf=16"), id="bfloat16", marks=pytest.mark.skipif(
                not is_bfloat16_native(), reason="no native bfloat16"))]


@pytest.mark.slow
@pytest.mark.parametrize("count, argv", VARIANTS)
def test_more_workers_and_other_options_have_equal_weights_and_repeat(python, data, tmp_path, count, argv):
    if python != sys.executable and "--precision=bfloat16" in argv:
        pytest.skip("TensorFlow 1.15 has no bfloat16")
    def weights_of(name, *more):
        paths = [tmp_path / ("watch-%s-%d" % (name, i)) for i in range(count)]
        finished(Team(tmp_path / name, "--data_dir=" + data, "--max_steps=8", *argv, *more, count=count, python=python,
                      chief=count == 3,
                      env={i: {"WATCH": str(path)} for i, path in enumerate(paths)}))
        return {path.read_text() for path in paths}

    first = weights_of("first")
    assert len(first) == 1 and len(next(iter(first)).splitlines()) == 8
    assert weights_of("again") == first
    if "--precision=bfloat16" in argv:  # it is not float32 under another name, and spreads to no loss
        assert weights_of("float32", "--precision=float32") != first
        losses = np.float32([row[2:5] for row in rows(tmp_path / "first")[1:]])
        assert (losses.view(np.uint32) & 0xffff).all()


@pytest.mark.slow
def test_kills_of_chief_and_worker_in_turn_lose_nothing(python, data, tmp_path, capsys):
    argv = ["--data_dir=" + data, "--max_steps=24", "--ngf=16", "--ndf=16"]
    whole = finished(Team(tmp_path / "whole", *argv, python=python))
    moments = ["broadcast", "broadcast", "5", "save-8", "save-12", "18"]
    for number, when in enumerate(moments):
        who = 0 if when.startswith("save") else number % 2
        team = Team(tmp_path / "killed", *argv, python=python, env={who: {"FAIL": when + ":KILL"}})
        ended = team.end()
        with capsys.disabled():
            print("\n%s killed at %s; %s" % (team.name(who), when, errors(ended[1 - who])))
        assert ended[who].status == -9 and ended[1 - who].status == 1, ended
        assert "lost %s;" % team.name(who) in errors(ended[1 - who])[0]
    outputs = finished(Team(tmp_path / "killed", *argv, python=python))
    assert fingerprint(outputs[0]) == fingerprint(whole[0])
    assert without_timing(rows(tmp_path / "killed")) == without_timing(rows(tmp_path / "whole"))


has_namespaces = pytest.mark.skipif(
    not hasattr(os, "getuid") or os.getuid() != 0 or not os.path.exists("/dev/net/tun") or not shutil.which("tc"),
    reason="network namespaces need Linux, root, /dev/net/tun and tc")


def lose_on_the_way(team, watched, lose):
    """Waits for some steps, calls `lose`, and returns how the chief ended, with the seconds from the loss on."""
    deadline = time.time() + LIMIT
    while not os.path.exists(watched) or len(open(watched).readlines()) < 6:
        assert time.time() < deadline and team.processes[0].poll() is None, "no six steps"
        time.sleep(0.1)
    began = time.time()
    lose()
    output, _ = team.processes[0].communicate(timeout=LIMIT)
    return Ended(team.processes[0].returncode, output, time.time() - began)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["killed", "stopped", pytest.param("cut off", marks=has_namespaces)])
def test_a_worker_that_is_lost_in_any_way_is_named_in_time(python, data, tmp_path, capsys, how):
    watched, argv = str(tmp_path / "watch"), ["--data_dir=" + data, "--max_steps=100000", "--epochs=100000"]
    with links.Links(2) if how == "cut off" else contextlib.nullcontext() as net:
        team = Team(tmp_path / "run", *argv, python=python, env={0: {"WATCH": watched}}, net=net)
        victim = team.processes[1]
        lose = {"killed": victim.kill, "stopped": lambda: os.kill(victim.pid, signal.SIGSTOP),
                "cut off": lambda: net.cut(1)}[how]
        try:
            ended = lose_on_the_way(team, watched, lose)
            if how == "stopped":
                os.kill(victim.pid, signal.SIGCONT)
            output, _ = victim.communicate(timeout=LIMIT)
        finally:
            victim.kill()
    with capsys.disabled():
        print("\n%s: after %.1f s %s; the other: %s" % (how, ended.seconds, errors(ended), output.splitlines()[-1:]))
    assert ended.status == 1 and errors(ended)[0].startswith("error: %s: lost %s; " % (team.name(0), team.name(1)))
    assert ended.seconds < (30 if how == "killed" else 90)
    if how != "killed":
        assert "error: %s: lost %s; " % (team.name(1), team.name(0)) in output


@pytest.mark.slow
def test_a_worker_that_hangs_ends_all_after_the_patience(python, data, tmp_path, capsys):
    team = Team(tmp_path, "--data_dir=" + data, "--max_steps=20", "--patience=60", python=python,
                env={1: {"FAIL": "5:HANG"}})
    ended = team.end()
    with capsys.disabled():
        print("\nhangs: after %.1f s %s" % (ended[0].seconds, [errors(each) for each in ended]))
    assert [each.status for each in ended] == [1, 1]
    assert "no step ended within --patience=60 seconds: a worker hangs" in errors(ended[0])[0]
    assert "the run continues from step 4" in errors(ended[0])[0]


@pytest.mark.slow
@has_namespaces
def test_a_link_that_comes_back_costs_nothing_but_time(python, data, tmp_path):
    argv, watched = ["--data_dir=" + data, "--max_steps=60"], str(tmp_path / "watch")
    whole = finished(Team(tmp_path / "whole", *argv, python=python))
    with links.Links(2) as net:
        team = Team(tmp_path / "cut", *argv, python=python, env={0: {"WATCH": watched}}, net=net)

        def cut_for_a_while():
            net.cut(1)
            time.sleep(8)
            net.mend(1)

        ended = lose_on_the_way(team, watched, cut_for_a_while)
        assert (ended.status, team.processes[1].wait(LIMIT)) == (0, 0), ended
    assert ended.seconds > 8 and fingerprint(ended.output) == fingerprint(whole[0])
