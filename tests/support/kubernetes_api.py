"""A Kubernetes API server of its own, with etcd and, where they are there, its controllers; no node: no pod runs.

The programs are those of setup-envtest (KUBEBUILDER_ASSETS) or in PATH. What the server decides is real: the fields
that it takes, admission (Pod Security, quotas, limits, accounts) and who may do what.
"""

import os
import shutil
import ssl
import subprocess
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex

import pytest

from tests.support.servers import HOST, Server, answers, free_port


def program(name: str) -> str | None:
    assets = os.environ.get("KUBEBUILDER_ASSETS")
    return shutil.which(name, path=assets) if assets else shutil.which(name)


@dataclass
class Cluster:
    """kubeconfig: of an administrator. controlled: its controllers make pods of deployments."""

    kubeconfig: Path
    controlled: bool

    def kubectl(self, *arguments: str, given: str | None = None) -> subprocess.CompletedProcess[str]:
        command = ["kubectl", "--kubeconfig", str(self.kubeconfig), *arguments]
        return subprocess.run(command, input=given, capture_output=True, text=True, timeout=120)

    def made(self, *arguments: str, given: str | None = None) -> str:
        """What kubectl prints; it must succeed."""
        done = self.kubectl(*arguments, given=given)
        assert done.returncode == 0, f"kubectl {' '.join(arguments)}: {done.stderr}"
        return done.stdout


@contextmanager
def running() -> Iterator[Cluster]:
    """Skips the test by name where a program is missing."""
    found = {name: program(name) for name in ("etcd", "kube-apiserver", "kube-controller-manager")}
    needed = {"kubectl": shutil.which("kubectl"), **found}
    needed.pop("kube-controller-manager")
    if missing := [name for name, path in needed.items() if path is None]:
        pytest.skip(f"no {' and no '.join(missing)} on this machine: setup-envtest use -p env (KUBEBUILDER_ASSETS)")
    folder = Path(tempfile.mkdtemp(prefix="hymunet-kubernetes-"))
    started: list[Server] = []
    try:
        etcd, peer, port = (free_port() for _ in range(3))
        started.append(_etcd(str(found["etcd"]), folder, etcd, peer))
        started[-1].start()
        word = token_hex(16)
        started.append(_api_server(str(found["kube-apiserver"]), folder, etcd, port, word))
        started[-1].start()
        kubeconfig = _kubeconfig(folder, port, word)
        if manager := found["kube-controller-manager"]:
            started.append(_controllers(manager, folder, kubeconfig))
            started[-1].start()
        yield Cluster(kubeconfig, bool(found["kube-controller-manager"]))
    finally:
        for server in reversed(started):
            server.stop()
        shutil.rmtree(folder, ignore_errors=True)


def _etcd(path: str, folder: Path, port: int, peer: int) -> Server:
    address = f"http://{HOST}:{port}"
    command = [path, "--data-dir", str(folder / "etcd"), "--listen-client-urls", address]
    command += ["--advertise-client-urls", address, "--listen-peer-urls", f"http://{HOST}:{peer}"]
    return Server(command, lambda: answers(f"{address}/health"), folder / "etcd.log")


def _api_server(path: str, folder: Path, etcd: int, port: int, word: str) -> Server:
    key, tokens = folder / "accounts.pem", folder / "tokens.csv"
    subprocess.run(["openssl", "genrsa", "-out", str(key), "2048"], check=True, capture_output=True)
    tokens.write_text(f"{word},admin,1,system:masters\n")
    issuer = "https://kubernetes.default.svc.cluster.local"
    command = [path, "--etcd-servers", f"http://{HOST}:{etcd}", "--bind-address", HOST, "--secure-port", str(port)]
    command += ["--cert-dir", str(folder / "certificates"), "--token-auth-file", str(tokens)]
    command += [
        "--authorization-mode",
        "Node,RBAC",
        "--allow-privileged=true",
        "--service-cluster-ip-range",
        "10.0.0.0/24",
    ]
    command += ["--service-account-key-file", str(key), "--service-account-signing-key-file", str(key)]
    command += ["--service-account-issuer", issuer]
    return Server(command, lambda: _ready(f"https://{HOST}:{port}/readyz"), folder / "api.log")


def _ready(address: str) -> bool:
    own = ssl._create_unverified_context()  # a certificate that the server signed itself a moment ago
    try:
        return urllib.request.urlopen(address, timeout=2, context=own).status == 200
    except OSError:
        return False


def _kubeconfig(folder: Path, port: int, word: str) -> Path:
    path = folder / "kubeconfig"
    path.write_text(
        f"apiVersion: v1\nkind: Config\ncurrent-context: test\n"
        f"clusters: [{{name: test, cluster: {{server: 'https://{HOST}:{port}', insecure-skip-tls-verify: true}}}}]\n"
        f"users: [{{name: admin, user: {{token: {word}}}}}]\n"
        "contexts: [{name: test, context: {cluster: test, user: admin}}]\n"
    )
    return path


def _controllers(path: str, folder: Path, kubeconfig: Path) -> Server:
    port = free_port()
    command = [path, "--kubeconfig", str(kubeconfig), "--bind-address", HOST, "--secure-port", str(port)]
    command += ["--leader-elect=false", "--service-account-private-key-file", str(folder / "accounts.pem")]
    command += ["--cert-dir", str(folder / "of-controllers")]
    return Server(command, lambda: _ready(f"https://{HOST}:{port}/healthz"), folder / "controllers.log")
