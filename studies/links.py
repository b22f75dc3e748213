"""Machines that are network namespaces of this one, joined by links of a given rate and delay. Linux, and root.

    with links.Links(2, gigabits=1, milliseconds=0.2) as net:
        process = net.popen(0, command)        # on the machine 10.77.0.1
        net.cut(1)                             # ... net.mend(1)

Each machine has a TUN device. Its rate is kept by the kernel (tc, tbf); one process of this program carries the packets
from device to device and holds them back for the delay, since not every kernel has the queue that does (sch_netem).
What a link made so really does depends on how busy the machine is. This measures it, in a minute:

    python studies/links.py all
"""

import collections
import fcntl
import json
import os
import select
import socket
import statistics
import struct
import subprocess
import sys
import time

TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 0x0001, 0x1000
MTU = 65000  # so that few packets carry much: each costs this program some 20 microseconds


def sh(command):
    """Runs a shell command; ends with its error in one line."""
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit("error: %s: %s" % (command, (done.stderr or done.stdout).strip()))
    return done.stdout


def address(i):
    return "10.77.0.%d" % (i + 1)


class Links:
    """`count` machines in a star, each by a link of `gigabits` per second, with `milliseconds` for a round trip."""

    def __init__(self, count, gigabits, milliseconds):
        self.count, self.gigabits, self.milliseconds = count, gigabits, milliseconds
        self.names = ["n%d_%d" % (os.getpid(), i) for i in range(count)]  # also the devices': 15 letters at most

    def __enter__(self):
        self.remove()
        for name in self.names:
            sh("ip netns add %s && ip -n %s link set lo up" % (name, name))
        self.hub = subprocess.Popen([sys.executable, os.path.abspath(__file__), "hub", str(self.milliseconds / 2000),
                                     *self.names], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.hub.stdout.readline()
        for i, name in enumerate(self.names):
            sh("ip link set {0} netns {0} && ip -n {0} addr add {1}/24 dev {0} && ip -n {0} link set {0} mtu {2} up"
               .format(name, address(i), MTU))
            sh("ip netns exec {0} tc qdisc add dev {0} root tbf rate {1}mbit burst {2} latency 100ms"
               .format(name, int(1000 * self.gigabits), max(4 * MTU, int(1.25e5 * self.gigabits))))
        return self

    def __exit__(self, *error):
        self.hub.kill()
        self.hub.wait()
        self.remove()

    def remove(self):
        for name in self.names:
            subprocess.run("ip netns del %s" % name, shell=True, stderr=subprocess.DEVNULL, check=False)

    def popen(self, i, command, **options):
        return subprocess.Popen(["ip", "netns", "exec", self.names[i], *command], **options)

    def cut(self, i):
        sh("ip netns exec {0} tc qdisc replace dev {0} root tbf rate 8bit burst 1 latency 1ms".format(self.names[i]))

    def mend(self, i):
        sh("ip netns exec {0} tc qdisc replace dev {0} root tbf rate {1}mbit burst {2} latency 100ms"
           .format(self.names[i], int(1000 * self.gigabits), max(4 * MTU, int(1.25e5 * self.gigabits))))

    def sent(self):
        """The bytes that each machine has sent."""
        return [json.loads(sh("ip -n %s -s -j link show dev %s" % (name, name)))[0]["stats64"]["tx"]["bytes"]
                for name in self.names]


def hub(delay, *names):
    """Carries packets between TUN devices, each `delay` seconds after it came."""
    devices = []
    for name in names:
        device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
        fcntl.ioctl(device, TUNSETIFF, struct.pack("16sH", name.encode(), IFF_TUN | IFF_NO_PI))
        devices.append(device)
    print("ready", flush=True)
    to = {socket.inet_aton(address(i)): device for i, device in enumerate(devices)}
    held, delay = collections.deque(), float(delay)
    poll = select.epoll()
    for descriptor in [*devices, 0]:  # standard input ends with the process that wanted the links
        poll.register(descriptor, select.EPOLLIN)
    while True:
        wait = max(held[0][0] - time.perf_counter(), 0) if held else -1
        for device, _ in poll.poll(wait if wait < 0 or wait > 0.0005 else 0):
            if device == 0:
                return
            packet = os.read(device, 65536)
            if packet[16:20] in to:
                held.append((time.perf_counter() + delay, to[packet[16:20]], packet))
        while held and held[0][0] <= time.perf_counter():
            _, device, packet = held.popleft()
            os.write(device, packet)


# ---------------------------------------------------------------------------------------------
# What a link does


def serve():
    """Answers pings, then takes bytes."""
    with socket.create_server((address(0), 7000)) as server:
        connection, _ = server.accept()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in range(50):
            connection.sendall(connection.recv(1))
        while connection.recv(1 << 20):
            pass


def measure():
    """Returns (median seconds of a round trip, bytes per second) from this machine to the first."""
    deadline = time.time() + 10
    while True:
        try:
            connection = socket.create_connection((address(0), 7000), 2)
            break
        except OSError:
            if time.time() > deadline:
                raise
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    trips = []
    for _ in range(50):
        began = time.perf_counter()
        connection.sendall(b"?")
        connection.recv(1)
        trips.append(time.perf_counter() - began)
    block, sent, began = bytes(1 << 20), 0, time.perf_counter()
    while time.perf_counter() - began < 4:
        if time.perf_counter() - began < 1:  # the connection is still opening its window
            sent = 0
            from_then = time.perf_counter()
        connection.sendall(block)
        sent += len(block)
    return statistics.median(trips), sent / (time.perf_counter() - from_then)


def measured(gigabits, milliseconds):
    """Returns what `measure` finds on a link made with these."""
    with Links(2, gigabits, milliseconds) as net:
        here = os.path.abspath(__file__)
        server = net.popen(0, [sys.executable, here, "serve"])
        found, _ = net.popen(1, [sys.executable, here, "measure"], stdout=subprocess.PIPE, text=True).communicate()
        server.wait()
    return json.loads(found)


if __name__ == "__main__":
    if sys.argv[1:2] == ["hub"]:
        hub(*sys.argv[2:])
    elif sys.argv[1:2] == ["serve"]:
        serve()
    elif sys.argv[1:2] == ["measure"]:
        print(json.dumps(measure()))
    else:
        for rate, delay in ((1, 0.2), (1, 5), (10, 0.2), (10, 5)):
            trip, speed = measured(rate, delay)
            print("%g Gbit/s, %g ms: %.3g Gbit/s, %.3g ms" % (rate, delay, 8e-9 * speed, 1e3 * trip), flush=True)
