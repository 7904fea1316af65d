"""What a step asks of its machine. Without kfp: pods read it, too."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Needs:
    """A step's claim on a cluster. `disk`: the emptyDir that holds the step's workspace."""

    cpu: str
    memory: str
    disk: str
    hours: float  # after which the pod is ended and counts as failed
    retries: int
    image: str = "cpu"  # or data: the key in the settings' images
    shared_memory: str = "64Mi"  # /dev/shm; PyTorch's workers hand batches over in it
    accelerator: bool = False

    @property
    def threads(self) -> int:
        """What the step's program may compute with: whole processors, at least one."""
        cpu = float(self.cpu.removesuffix("m")) / 1000 if self.cpu.endswith("m") else float(self.cpu)
        return max(1, int(cpu))
