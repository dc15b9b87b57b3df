"""Start and end of a stack, killed in every way; without MLflow and Airflow, which take long."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import socket
import stat
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from tasks.base.errors import MlopsError
from tasks.base.settings import REPOSITORY, settings
from tasks.stack import health
from tasks.stack.embedded import leftovers, lifecycle, ports, postgres, startup
from tasks.stack.embedded.home import Home
from tasks.stack.embedded.services import Stack
from tasks.stack.embedded.supervisor import Supervisor, add_program, remove_program
from tasks.stack.service import running
from tasks.stack.status import status
from tests.conftest import state_folder, unused_ports
from tests.waiting import of_living, pid_once, until

LIGHT = ("postgres", "store", "gateway")
START = (
    # a shell that runs the tests in its background ignores the signal, and so would this
    "import signal; signal.signal(signal.SIGINT, signal.default_int_handler);"
    "from tasks.stack.embedded import lifecycle;"
    f"print(lifecycle.start(only={LIGHT!r}, report=len))"
)


def start() -> bool:
    return lifecycle.start(only=LIGHT)


def pids(home: Home) -> dict[str, int | None]:
    return {name: program.pid for name, program in Supervisor(home).programs().items()}


def everything(home: Home) -> list[psutil.Process]:
    """supervisord and all that it ever started."""
    return leftovers.find(home)


def healthy(home: Home) -> bool:
    where = ports.load(home)
    database = postgres.dsn(home, where.postgres, "mlops")
    return health.postgres(database) and health.store(where.store) and health.web(where.gateway)


def start_by_process(home: Home, program: str = START, **options: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=REPOSITORY,
        env={"PATH": os.defpath, "MLOPS_HOME": str(home.root), "PYTHONPATH": str(REPOSITORY)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        **options,  # type: ignore[call-overload]
    )


@pytest.fixture(scope="module")
def used(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    """A state folder shared by tests; each starts or stops what it needs."""
    with state_folder(tmp_path_factory.mktemp("used")) as home:
        yield home


@pytest.fixture
def stopped(used: Home) -> Home:
    """The shared state folder with nothing running."""
    lifecycle.down()
    return used


@pytest.fixture
def started(used: Home) -> Home:
    """The shared state folder with its light services, all healthy."""
    start()
    return used


def test_a_second_start_changes_nothing(stopped: Home) -> None:
    assert start()
    before = pids(stopped), stopped.env_file.stat().st_mtime_ns
    assert not start()
    assert (pids(stopped), stopped.env_file.stat().st_mtime_ns) == before


def test_the_env_file_is_private_and_is_what_the_settings_read(started: Home) -> None:
    assert stat.S_IMODE(started.env_file.stat().st_mode) == 0o600
    current = settings()
    assert health.postgres(current.database)
    assert current.s3_endpoint == f"http://127.0.0.1:{ports.load(started).store}"
    assert current.aws_secret_access_key
    assert current.aws_secret_access_key.get_secret_value() == started.secrets.s3_secret
    assert current.airflow_password.get_secret_value() == started.secrets.airflow_admin
    assert current.gateway_folder == started.gateway


def test_it_outlives_the_terminal_that_started_it(stopped: Home) -> None:
    process = start_by_process(stopped, start_new_session=True)
    output, _ = process.communicate(timeout=60)
    assert output.strip() == "True"
    os.killpg(pid_once(Supervisor(stopped).pid, "supervisord"), 0)
    assert healthy(stopped)
    assert process.pid not in of_living(
        lambda process_: os.getsid(process_.pid), everything(stopped)
    )


def test_two_starts_at_once_make_one_stack(home: Home) -> None:
    processes = [start_by_process(home) for _ in range(3)]
    outputs = [process.communicate(timeout=90)[0].strip() for process in processes]
    assert sorted(outputs) == ["False", "False", "True"]
    assert healthy(home)
    words = of_living(psutil.Process.cmdline, everything(home))
    assert sum("supervisor.supervisord" in each for each in words) == 1


def test_after_everything_was_killed_it_starts_again_with_its_data(started: Home) -> None:
    before = ports.load(started), started.secrets
    (started.store / "data" / "kept").write_text("x")
    of_living(psutil.Process.kill, everything(started))
    until(lambda: Supervisor(started).pid() is None, 10, "supervisord is gone")
    assert start()
    assert healthy(started)
    assert (ports.load(started), Home(started.root).secrets) == before
    assert (started.store / "data" / "kept").exists()


def test_after_supervisord_was_killed_it_starts_again(started: Home) -> None:
    os.kill(pid_once(Supervisor(started).pid, "supervisord"), signal.SIGKILL)
    until(lambda: Supervisor(started).pid() is None, 10, "supervisord is gone")
    assert start()
    assert healthy(started)
    names = of_living(psutil.Process.name, everything(started))
    assert names.count("rclone") == names.count("caddy") == 1


@pytest.mark.parametrize("service", LIGHT)
def test_a_killed_server_comes_back(started: Home, service: str) -> None:
    pid = pid_once(lambda: pids(started)[service], service)
    os.kill(pid, signal.SIGKILL)
    until(lambda: pids(started)[service] not in (pid, None), 20, "it runs again")
    until(lambda: healthy(started), 20, "it is healthy again")


def test_down_leaves_no_process_and_wipe_no_file(home: Home) -> None:
    start()
    add_program("model", (sys.executable, "-c", "import time; time.sleep(600)"))
    ours = everything(home)
    assert len(ours) >= 5
    outside = (home.postgres / "data").resolve().parent
    assert lifecycle.down()
    assert not any(
        of_living(lambda process: process.is_running() and process.status() != "zombie", ours)
    )
    assert home.secrets_folder.exists()
    assert not lifecycle.down()
    lifecycle.down(wipe=True)
    assert not home.root.exists()
    assert not outside.exists()


LOSES_ITS_MARK = """
import os, signal, sys
child = os.fork()
if child == 0:
    os.setsid()
    command = [sys.executable, "-c", "import signal; signal.pause()"]
    signal.signal(signal.SIGUSR1, lambda *_: os.execve(sys.executable, command, {}))
    while True:
        signal.pause()
def stop(*_):
    os.kill(child, signal.SIGUSR1)
    while open(f"/proc/{child}/environ", "rb").read():
        pass
    os._exit(0)
signal.signal(signal.SIGTERM, stop)
open(sys.argv[1], "w").write(str(child))
signal.pause()
"""
"""A program with a child that nothing shows to be the stack's once the program has ended."""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_down_ends_what_has_lost_its_mark_meanwhile(started: Home, tmp_path: Path) -> None:
    file = tmp_path / "pid"
    add_program("model", (sys.executable, "-c", LOSES_ITS_MARK, str(file)))
    until(lambda: file.exists() and file.read_text(), 30, "the child has begun")
    child = psutil.Process(int(file.read_text()))
    assert lifecycle.down()
    assert not any(of_living(lambda process: process.status() != "zombie", [child]))
    start()
    remove_program("model")


def test_a_models_server_of_before_is_started_again(started: Home) -> None:
    add_program("model", (sys.executable, "-c", "import time; time.sleep(600)"))
    lifecycle.down()
    start()
    assert pids(started)["model"]
    remove_program("model")


def test_a_taken_port_moves_at_the_start(stopped: Home, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", ports.load(stopped).gateway)) as other:
        taken = other.getsockname()[1]
        start()
    assert f"port {taken} is taken: gateway moves to" in capsys.readouterr().out
    assert ports.load(stopped).gateway != taken
    assert settings().gateway_url.endswith(str(ports.load(stopped).gateway))


def test_a_server_that_cannot_start_is_an_error_and_leaves_nothing(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(startup, "_CRASHING_S", 3.0)
    start()
    lifecycle.down()
    (home.gateway / "caddy.json").unlink()
    (home.gateway / "caddy.json").mkdir()
    with pytest.raises(MlopsError, match="gateway is not healthy") as caught:
        start()
    assert "caddy.json" in caught.value.why
    assert str(home.logs / "gateway.log") in caught.value.fix
    assert not everything(home)


def test_an_interrupted_start_stops_what_it_started(home: Home) -> None:
    said = "lambda text: (print(text, flush=True), 'is healthy' in text and input())"
    held = START.replace("report=len", f"report={said}")
    process = start_by_process(home, held, stdin=subprocess.PIPE)
    assert process.stdout
    assert process.stdout.readline().strip() == "postgres is healthy"
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=30)
    assert "KeyboardInterrupt" in output
    assert not everything(home)
    assert start()


def test_a_state_folder_with_a_space_and_a_long_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "it's 50% of a long path, with spaces" / ("x" * 60)
    monkeypatch.setenv("MLOPS_HOME", str(root))
    settings.cache_clear()
    home = Home(root)
    home.create()
    ports.save(home, ports.Ports(*unused_ports()))
    sockets = home.sockets
    try:
        assert start()
        assert healthy(home)
        assert health.postgres(settings().database)
    finally:
        lifecycle.down(wipe=True)
        settings.cache_clear()
    assert not sockets.exists()
    assert not root.exists()


def test_status_tells_what_runs(stopped: Home) -> None:
    assert {service.state for service in status().values()} == {"stopped"}
    start()
    services = status()
    assert {name: service.state for name, service in services.items()} == {
        "postgres": "running",
        "store": "running",
        "gateway": "running",
        "mlflow": "stopped",
        "airflow": "stopped",
    }
    assert not running(services)
    assert services["store"].pid == pids(stopped)["store"]
    text = str(services)
    assert not [secret for secret in vars(stopped.secrets).values() if secret in text]
    pid = pid_once(lambda: pids(stopped)["store"], "the store")
    os.kill(pid, signal.SIGSTOP)
    try:
        until(lambda: status()["store"].state == "starting", 10, "it answers nobody")
    finally:
        os.kill(pid, signal.SIGCONT)


@pytest.fixture
def as_nobody() -> Iterator[Callable[[str], subprocess.CompletedProcess[str]]]:
    """Runs code as `nobody`, in an environment that it may read, with a state folder of its own."""
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        pytest.skip("only root can become another user, by setpriv")
    root = Path(tempfile.mkdtemp(prefix="mlops-nobody-"))
    shutil.chown(root, "nobody")
    become = ("setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups")
    minor = f"python3.{sys.version_info.minor}"
    venv = root / "venv"
    for base in (Path(sys.executable).resolve(), Path("/usr/bin") / minor):
        # Through `env`, so that the look-up of the program is nobody's too.
        made = [*become, "env", str(base), "-m", "venv", "--without-pip", str(venv)]
        if not subprocess.run(made, capture_output=True, check=False).returncode:
            break
    else:
        pytest.skip(f"nobody may run no {minor}")
    packages = venv / "lib" / minor / "site-packages"
    (packages / "ours.pth").write_text(sysconfig.get_path("purelib"))
    for program in ("rclone", "caddy"):
        (venv / "bin" / program).symlink_to(Path(sysconfig.get_path("scripts")) / program)

    def run(code: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*become, "env", "-C", "/", str(venv / "bin" / "python"), "-c", code],
            env={
                "PATH": os.defpath,
                "MLOPS_HOME": str(root / "home"),
                "PYTHONPATH": str(REPOSITORY),
            },
            capture_output=True,
            text=True,
            check=False,
        )

    yield run
    run("from tasks.stack.embedded import lifecycle; lifecycle.down(wipe=True)")
    shutil.rmtree(root)


def test_an_ordinary_user_can_start_it(
    as_nobody: Callable[[str], subprocess.CompletedProcess[str]],
) -> None:
    spread = (
        "from tasks.stack.embedded import ports; from tasks.stack.embedded.home import Home;"
        "h = Home.of_settings();"
        "h.create(); ports.save(h, ports.Ports(*(ports.unused() for _ in range(5)))); print(h.root)"
    )
    made = as_nobody(spread)
    assert made.returncode == 0, made.stderr
    started = as_nobody(START)
    assert started.returncode == 0, started.stdout + started.stderr
    home = Home(Path(made.stdout.strip()))
    assert healthy(home)
    assert not home.postgres.is_symlink()
    assert set(of_living(psutil.Process.username, everything(home))) == {"nobody"}


def test_variables_reach_a_shell_unharmed(home: Home) -> None:
    text = "\n".join(
        f"export {name}={shlex.quote(value)}"
        for name, value in Stack(home, ports.load(home)).variables().items()
    )
    script = text + '\nprintf %s "$MLOPS_DATABASE"'
    shown = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True)
    assert shown.stdout == postgres.dsn(home, ports.load(home).postgres, "mlops")
