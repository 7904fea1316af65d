"""A command on a machine without internet, and what it asked of it.

    python -m tests.support.alone RECORD COMMAND …

runs COMMAND where loopback works and every packet to elsewhere, name lookups among them, reaches a wire on which nobody
answers. RECORD is a file; it gets a line for each thing that was asked, in order, each once: `name www.example.org` or
`tcp 192.0.2.7 port 443`. Linux, with `ip` and `unshare`: as root, or where users may make namespaces of their own.
"""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

HERE, NEXT = "192.0.2.2", "192.0.2.1"  # of a range that documents may use (RFC 5737)
PROTOCOLS = {1: "icmp", 6: "tcp", 17: "udp"}
NAMESPACES = ["unshare", *([] if os.geteuid() == 0 else ["--map-root-user"]), "--net", "--mount", "--"]
WIRE = f"""
ip link set lo up
ip link add inside type veth peer name wire
for end in inside wire; do echo 1 > /proc/sys/net/ipv6/conf/$end/disable_ipv6; done
ip addr add {HERE}/24 dev inside
ip link set inside up
ip link set wire up
ip neigh add {NEXT} lladdr 02:00:00:00:00:01 dev inside
ip route add default via {NEXT}
"""


def possible() -> bool:
    """Whether this machine and user can do it."""
    if not (shutil.which("unshare") and shutil.which("ip")):
        return False
    return subprocess.run([*NAMESPACES, "sh", "-ec", WIRE], capture_output=True).returncode == 0


def command(record: Path, *words: str) -> list[str]:
    """The whole command that runs `words` so, and writes to `record` what they asked."""
    return [*NAMESPACES, sys.executable, str(Path(__file__).resolve()), str(record), *words]


def environment(home: Path, path: str = "") -> dict[str, str]:
    """Of a user who has set nothing, least of all that programs report no usage: those of this project see to it."""
    words = f"{path}:{os.environ['PATH']}" if path else os.environ["PATH"]
    return {"HOME": str(home), "PATH": words, "LANG": "C.UTF-8", "OMP_NUM_THREADS": "1"}


def asked(frame: bytes) -> str | None:
    """What an Ethernet frame asks of elsewhere, None if it is not IPv4."""
    if frame[12:14] != b"\x08\x00":
        return None
    packet = frame[14:]
    after = packet[(packet[0] & 15) * 4 :]
    protocol, target = PROTOCOLS.get(packet[9], str(packet[9])), socket.inet_ntoa(packet[16:20])
    if protocol not in ("tcp", "udp"):
        return f"{protocol} {target}"
    port = int.from_bytes(after[2:4], "big")
    return f"name {_name(after[8:])}" if port == 53 and protocol == "udp" else f"{protocol} {target} port {port}"


def _name(query: bytes) -> str:
    """The name that a DNS query asks for (RFC 1035, 4.1.2)."""
    labels, at = [], 12
    while query[at]:
        labels.append(query[at + 1 : at + 1 + query[at]].decode(errors="replace"))
        at += 1 + query[at]
    return ".".join(labels)


def _listen(wire: socket.socket, record: Path) -> None:
    seen = set()
    with record.open("w") as file:
        while frame := wire.recv(65536):
            line = asked(frame)
            if line and line not in seen:
                seen.add(line)
                print(line, file=file, flush=True)


def _main(record: Path, words: list[str]) -> int:
    subprocess.run(["sh", "-ec", WIRE], check=True)
    with tempfile.NamedTemporaryFile("w", suffix=".conf") as resolver:
        # A dead server would cost every lookup seconds; a lookup is recorded at its first packet.
        resolver.write(f"nameserver {NEXT}\noptions timeout:1 attempts:1\n")
        resolver.flush()
        subprocess.run(["mount", "--bind", resolver.name, os.path.realpath("/etc/resolv.conf")], check=True)
    wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
    wire.bind(("wire", 0))
    threading.Thread(target=_listen, args=(wire, record), daemon=True).start()
    return subprocess.run(words).returncode


if __name__ == "__main__":
    sys.exit(_main(Path(sys.argv[1]), sys.argv[2:]))
