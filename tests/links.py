"""Machines that are network namespaces of this one, joined by links that can be cut. Linux, and root.

    with links.Links(2) as net:
        process = net.popen(0, command)        # on the machine 10.77.0.1
        net.cut(1)                             # ... net.mend(1)

Each machine has a TUN device, whose rate the kernel keeps (tc, tbf); a process of this program carries the packets from
device to device.
"""

import fcntl
import os
import select
import socket
import struct
import subprocess
import sys

TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 0x0001, 0x1000
MTU = 65000  # so that few packets carry much: each costs this program some 20 microseconds
WHOLE, CUT = "rate 1gbit burst %d latency 100ms" % (4 * MTU), "rate 8bit burst 1 latency 1ms"


def sh(command):
    """Runs a shell command, which must succeed."""
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)
    assert not done.returncode, "%s: %s" % (command, done.stderr or done.stdout)


def address(i):
    return "10.77.0.%d" % (i + 1)


class Links:
    """`count` machines in a star, each joined by a link of 1 Gbit/s."""

    def __init__(self, count):
        self.names = ["n%d_%d" % (os.getpid(), i) for i in range(count)]  # also the devices': 15 letters at most

    def __enter__(self):
        for name in self.names:
            sh("ip netns add %s && ip -n %s link set lo up" % (name, name))
        self.hub = subprocess.Popen([sys.executable, os.path.abspath(__file__), *self.names],
                                    stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.hub.stdout.readline()
        for i, name in enumerate(self.names):
            sh("ip link set {0} netns {0} && ip -n {0} addr add {1}/24 dev {0} && ip -n {0} link set {0} mtu {2} up"
               .format(name, address(i), MTU))
            self.mend(i)
        return self

    def __exit__(self, *error):
        self.hub.kill()
        self.hub.wait()
        for name in self.names:
            sh("ip netns del " + name)

    def popen(self, i, command, **options):
        return subprocess.Popen(["ip", "netns", "exec", self.names[i], *command], **options)

    def set_rate(self, i, rate):
        sh("ip netns exec {0} tc qdisc replace dev {0} root tbf {1}".format(self.names[i], rate))

    def cut(self, i):
        self.set_rate(i, CUT)

    def mend(self, i):
        self.set_rate(i, WHOLE)


def carry(*names):
    """Carries packets between TUN devices, until standard input ends with the process that wanted the links."""
    devices = []
    for name in names:
        device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
        fcntl.ioctl(device, TUNSETIFF, struct.pack("16sH", name.encode(), IFF_TUN | IFF_NO_PI))
        devices.append(device)
    print("ready", flush=True)
    to = {socket.inet_aton(address(i)): device for i, device in enumerate(devices)}
    poll = select.epoll()
    for descriptor in [*devices, 0]:
        poll.register(descriptor, select.EPOLLIN)
    while True:
        for device, _ in poll.poll():
            if device == 0:
                return
            packet = os.read(device, 65536)
            if packet[16:20] in to:
                os.write(to[packet[16:20]], packet)


if __name__ == "__main__":
    carry(*sys.argv[1:])
