"""The runner tells a failure from a success, whatever else happens: on containers that live for a few milliseconds."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("kfp", reason="needs the extra `pipelines`")

from kfp import compiler, dsl, kubernetes

from pipelines.local import run_local

pytestmark = [pytest.mark.containers, pytest.mark.timeout(600)]


def package(path: Path, image: str, program: str, retries: int = 0) -> Path:
    """A pipeline of one step that runs `program`, and an exit handler that says goodbye."""

    @dsl.container_component
    def step(note: dsl.OutputPath(str)) -> dsl.ContainerSpec:  # type: ignore[no-untyped-def, valid-type]
        return dsl.ContainerSpec(image=image, command=["sh", "-c", program], args=[note, "--executor-input", "{{$}}"])

    @dsl.container_component
    def goodbye() -> dsl.ContainerSpec:  # type: ignore[no-untyped-def]
        return dsl.ContainerSpec(image=image, command=["echo", "the exit handler ran"])

    @dsl.pipeline(name="one-step")
    def pipeline() -> None:
        last = goodbye()
        kubernetes.set_security_context(last, run_as_user=10001)
        with dsl.ExitHandler(last):
            task = step().set_retry(retries)
            kubernetes.set_security_context(task, run_as_user=10001, run_as_non_root=True)
            kubernetes.empty_dir_mount(task, "workspace", "/work")

    compiler.Compiler().compile(pipeline, str(path))
    return path


@pytest.fixture
def image(images: dict[str, str]) -> str:
    return images["cpu"]


def test_a_failing_step_is_a_failure_ten_times_out_of_ten(
    image: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    failing = package(tmp_path / "p.yaml", image, "exit 3")
    for attempt in range(10):
        assert not run_local(failing, {}, tmp_path / "root"), f"attempt {attempt} passed for a success"
    assert capfd.readouterr().out.count("the exit handler ran") == 10


def test_a_step_that_writes_its_output_succeeds_and_one_that_does_not_fails(image: str, tmp_path: Path) -> None:
    written = 'mkdir -p "$(dirname "$0")" && printf hello >"$0"'
    assert run_local(package(tmp_path / "good.yaml", image, written), {}, tmp_path / "root")
    assert next((tmp_path / "root").glob("*/step/note")).read_text() == "hello"
    assert not run_local(package(tmp_path / "bad.yaml", image, "true"), {}, tmp_path / "root")


def test_a_retry_runs_the_step_again(image: str, tmp_path: Path) -> None:
    once = 'mkdir -p "$(dirname "$0")"; [ -e "$0" ] && exit 0; printf first >"$0"; exit 1'
    assert run_local(package(tmp_path / "p.yaml", image, once, retries=1), {}, tmp_path / "root")


def test_a_container_is_nobody_and_can_write_nowhere_but_in_its_volumes(
    image: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    program = (
        'id -u; touch /work/here && echo "work: written"; touch /app/there 2>&1; touch /usr/there 2>&1; '
        'grep CapEff /proc/self/status; mkdir -p "$(dirname "$0")"; printf x >"$0"'
    )
    assert run_local(package(tmp_path / "p.yaml", image, program), {}, tmp_path / "root")
    out = capfd.readouterr().out
    assert "10001" in out
    assert "work: written" in out
    assert out.count("Read-only file system") == 2
    assert "CapEff:\t0000000000000000" in out


def test_no_container_is_left_behind(image: str, tmp_path: Path) -> None:
    import docker

    engine = docker.from_env()
    before = {container.id for container in engine.containers.list(all=True)}
    run_local(package(tmp_path / "p.yaml", image, "exit 1"), {}, tmp_path / "root")
    assert {container.id for container in engine.containers.list(all=True)} <= before


LOCAL = """
import sys
from pathlib import Path
from hymunet.streams import by_line
from pipelines.local import run_local

by_line()
run_local(Path(sys.argv[1]), {}, Path(sys.argv[2]))
"""


def sleeper(image: str, items: list[int], folder: Path) -> subprocess.Popen[str]:
    """A run of its own program whose containers, two at a time, have all begun and would sleep on."""

    @dsl.container_component
    def step(item: int) -> dsl.ContainerSpec:  # type: ignore[no-untyped-def]
        saves = "trap 'echo saved; exit 75' TERM; echo began; sleep 900 & wait"
        return dsl.ContainerSpec(image=image, command=["sh", "-c", saves], args=[item])

    @dsl.pipeline(name="sleeper")
    def pipeline() -> None:
        with dsl.ParallelFor(items, parallelism=2) as item:
            kubernetes.set_security_context(step(item=item).set_retry(3), run_as_user=10001)

    compiler.Compiler().compile(pipeline, str(folder / "p.yaml"))
    process = subprocess.Popen(
        [sys.executable, "-c", LOCAL, str(folder / "p.yaml"), str(folder / "root")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    for _ in items[:2]:
        if process.stdout.readline() != "began\n":
            process.kill()
            raise AssertionError(process.communicate())
    return process


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name)
@pytest.mark.parametrize("items", [[1], [1, 2, 3]], ids=["one", "a loop"])
def test_a_run_that_is_stopped_takes_its_containers_with_it(
    items: list[int], number: signal.Signals, image: str, tmp_path: Path
) -> None:
    import docker

    engine = docker.from_env()
    before = {container.id for container in engine.containers.list(all=True)}
    process = sleeper(image, items, tmp_path)
    try:
        process.send_signal(number)
        log, said = process.communicate(timeout=60)
    finally:
        process.kill()
    assert log.count("saved") == len(items[:2]), "each had its time to save"
    assert f"Stopped: {number.name}" in said
    assert {container.id for container in engine.containers.list(all=True)} <= before
    assert (tmp_path / "root").stat().st_mode & 0o002 == 0, "open to everyone only while steps run"


def test_what_a_run_that_was_killed_left_is_ended_by_the_next_and_what_goes_on_is_not(
    image: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    import docker

    engine = docker.from_env()

    def ours() -> dict[str, list[str]]:
        """The steps' containers of each run in the folder."""
        found: dict[str, list[str]] = {}
        filters = {"label": f"hymunet.root={tmp_path / 'root'}"}
        for container in engine.containers.list(all=True, filters=filters):
            found.setdefault(container.labels["hymunet.run"], []).append(container.labels["hymunet.step"])
        return found

    killed = sleeper(image, [1, 2], tmp_path)
    [left] = ours()
    killed.kill()
    killed.communicate()
    assert ours() == {left: ["step", "step"]}, "they compute on"
    other = sleeper(image, [1], tmp_path)
    try:
        [going] = ours()
        assert going != left
        written = 'mkdir -p "$(dirname "$0")" && printf hello >"$0"'
        assert run_local(package(tmp_path / "good.yaml", image, written), {}, tmp_path / "root", "third")
        assert ours() == {going: ["step"]}
        with pytest.raises(ValueError, match=f"run {going} goes on in "):
            run_local(package(tmp_path / "good.yaml", image, written), {}, tmp_path / "root", going)
    finally:
        other.terminate()
        _, said = other.communicate(timeout=60)
    assert f"run {left} was killed, and step (container " in said
    assert "was killed" not in capfd.readouterr().err
    assert ours() == {}
    assert sorted(path.name for path in (tmp_path / "root").iterdir()) == [".mode", "third"]


def test_an_image_that_is_not_here_is_missed_before_the_first_step(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    missing = package(tmp_path / "p.yaml", "hymunet:never-built", "true")
    with pytest.raises(ValueError, match="the engine has no image hymunet:never-built; build it"):
        run_local(missing, {}, tmp_path / "root")
    assert capfd.readouterr().out == ""
    assert not (tmp_path / "root").exists()


@pytest.mark.parametrize("run", ["../elsewhere", "a b", "a/b", "-a", ".", "a" * 129])
def test_a_run_has_a_name_that_its_records_can_have(run: str, image: str, tmp_path: Path) -> None:
    good = package(tmp_path / "p.yaml", image, "true")
    with pytest.raises(ValueError, match="a run's name has letters, digits"):
        run_local(good, {}, tmp_path / "root", run)
    assert not (tmp_path / "elsewhere").exists()


def test_images_hold_what_they_should_and_no_more(images: dict[str, str]) -> None:
    """Non-root, labelled with the commit, without secrets in their history, and without the project's data."""
    import docker

    from tests.containers.stack import commit
    from tests.support.secrets import find

    engine = docker.from_env()
    for which, image in images.items():
        attributes = engine.images.get(image).attrs
        assert attributes["Config"]["User"] == "10001"
        assert attributes["Config"]["Labels"]["org.opencontainers.image.revision"] == commit()
        history = "\n".join(entry["CreatedBy"] for entry in engine.images.get(image).history())
        assert find(history + "\n".join(attributes["Config"]["Env"])) == []
        listed = engine.containers.run(
            image, ["find", "/app", "-maxdepth", "1"], remove=True, network_mode="none"
        ).decode()
        assert {Path(line).name for line in listed.split()} == {
            "app", "dvc.yaml", "params.yaml", ".dvcignore", "constraints.txt", "LICENSE",
            "profiles", "components", "pipelines", "hymunet",
        }  # fmt: skip
        print(f"{which}: {attributes['Size'] / 1e9:.2f} GB")
