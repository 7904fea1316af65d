"""The containers of a compiled pipeline as processes on this machine."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


class Processes:
    """The commands of the YAML's containers, run here. kill: a cell whose training dies by SIGKILL once it goes; where
    it is `lost`, no other node is found for it.
    """

    def __init__(self, folder: Path, kill: str = "", lost: bool = False) -> None:
        self.folder, self.kill, self.count, self.lock = folder, kill, 0, threading.Lock()
        self.cell = kill if lost else ""
        self.logs: list[str] = []

    def __call__(self, label: str, image: str, line: list[str], environment: dict[str, str]) -> int:
        if self.cell and self.cell in line and not self.kill:
            return 137
        with self.lock:
            self.count += 1
            number = self.count
        folder = self.folder / f"pod-{number}"
        folder.mkdir(parents=True)
        own = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "HYMUNET_"))}
        places = {"HYMUNET_WORKSPACE": str(folder / "work"), "OMP_NUM_THREADS": "1", "HYMUNET_TRACKING": "off"}
        places |= {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
        process = subprocess.Popen(
            [sys.executable, *line[1:]],
            cwd=ROOT,
            env={**own, **environment, **places},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        assert process.stdout is not None
        said = []
        for text in process.stdout:
            said.append(text)
            if self.kill and self.kill in line and "epoch 1/" in text:
                self.kill = ""
                time.sleep(0.5)  # its checkpoint is written
                os.killpg(process.pid, signal.SIGKILL)
        self.logs.append("".join(said))
        return process.wait()
