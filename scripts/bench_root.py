"""A throw-away root folder with a supervisor in it, for the bench scripts, and a table for what they measure."""

import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
MIYABI = Path(os.environ.get("MIYABI", PROJECT / "target/release/miyabi"))
LOOK_SECONDS = 0.01
"""How often a state is asked for while something is waited for."""

READY = {"idle", "busy"}

TEAM = """\
[session]
name = "bench"
socket = "bench"

[defaults]
restart = { policy = "permanent", intensity = 1000000, period = "1h", backoff = "1ms", backoff_max = "2ms", reset_after = "1s" }
"""

FIVE = """
[[agent]]
id = "conductor"
driver = "dashboard"
""" + "".join(
    f'\n[[agent]]\nid = "{name}"\nrole = "{role}"\ndriver = "echo"\n'
    for name, role in [("kaede", "codegen"), ("sakura", "review"), ("tsubaki", "pull-request"), ("botan", "deploy")]
)


def workers(count):
    """Configures agents whose program does nothing and succeeds."""
    return "".join(
        f'\n[[agent]]\nid = "agent{number}"\nrole = "codegen"\ndriver = "command"\ncommand = ["true"]\n'
        for number in range(1, count + 1)
    )


def parent_folder():
    """Returns the folder in which everything throw-away lies: on the disk of the project, unless somebody wants it elsewhere."""
    parent = Path(os.environ.get("BENCH_DIR", PROJECT / "target/bench"))
    parent.mkdir(parents=True, exist_ok=True)
    return parent


class Root:
    """A root folder on the disk of the project, with a tmux server of its own. Ends all that it started."""

    def __init__(self, agents, repository=False):
        if not MIYABI.exists():
            sys.exit(f"{MIYABI} is missing; build it with: make build")
        self.path = Path(tempfile.mkdtemp(dir=parent_folder()))
        self.environment = {**os.environ, "TMUX_TMPDIR": str(self.path)}
        self.environment.pop("TMUX", None)
        self.environment.pop("MIYABI_ROOT", None)
        self.process = None
        text = TEAM + agents
        if repository:
            text += '\n[[repository]]\nname = "bench"\npath = "repository"\n'
            self._make_repository()
        (self.path / "agents.toml").write_text(text, encoding="utf-8")
        for folder in ("dag", "data", "logs"):
            (self.path / folder).mkdir()

    def _make_repository(self):
        folder = self.path / "repository"
        git = ["git", "-C", str(folder)]
        subprocess.run(["git", "init", "-q", "-b", "main", str(folder)], check=True)
        for key, value in [("user.name", "bench"), ("user.email", "bench@miyabi.invalid"), ("commit.gpgsign", "false")]:
            subprocess.run([*git, "config", key, value], check=True)
        (folder / "README").write_text("bench\n", encoding="utf-8")
        subprocess.run([*git, "add", "README"], check=True)
        subprocess.run([*git, "-c", "core.hooksPath=/dev/null", "commit", "-q", "-m", "first"], check=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()
        shutil.rmtree(self.path, ignore_errors=True)

    def run(self, *arguments):
        """Runs a verb; returns its exit code and what it printed."""
        done = subprocess.run(
            [str(MIYABI), "-C", str(self.path), *arguments],
            env=self.environment, capture_output=True, text=True, check=False,
        )
        return done.returncode, done.stdout

    def json(self, *arguments):
        """Runs a verb that reads; None while there is no supervisor."""
        code, text = self.run("--json", *arguments)
        return json.loads(text) if code == 0 else None

    def start(self):
        """Starts the supervisor; returns when it was started, in seconds."""
        log = open(self.path / "up.out", "ab")
        began = time.monotonic()
        self.process = subprocess.Popen(
            [str(MIYABI), "-C", str(self.path), "up"],
            env=self.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
        )
        log.close()
        return began

    def stop(self):
        """Stops the supervisor and the tmux server, gently if they let it."""
        if self.process is not None:
            self.run("down", "--timeout", "20s")
            if self.process.poll() is None:
                self.process.send_signal(signal.SIGKILL)
            self.process.wait()
            self.process = None
        for socket in self.path.glob("tmux-*/*"):
            subprocess.run(["tmux", "-S", str(socket), "kill-server"], capture_output=True, check=False)

    def wait(self, what, look, seconds_max, look_seconds=LOOK_SECONDS):
        """Waits until `look` returns something true, and returns it."""
        deadline = time.monotonic() + seconds_max
        trouble = f"gave up after {seconds_max} s"
        while time.monotonic() < deadline:
            if self.process is not None and self.process.poll() is not None:
                trouble = f"the supervisor ended with exit code {self.process.returncode}"
                break
            found = look()
            if found:
                return found
            time.sleep(look_seconds)
        for name in sorted(self.path.glob("up.out")) + sorted(self.path.glob("logs/*")):
            if name.is_file():
                print(f"== {name.name}\n" + "\n".join(name.read_text(errors="replace").splitlines()[-20:]), file=sys.stderr)
        sys.exit(f"{trouble}, waiting until {what}")

    def agents(self):
        """Returns the agents by id; empty while there is no supervisor."""
        status = self.json("status")
        return {agent["id"]: agent for agent in status["agents"]} if status else {}

    def wait_ready(self, count, seconds_max=60):
        """Waits until that many agents are ready."""
        def look():
            agents = self.agents()
            return len(agents) == count and all(agent["state"] in READY for agent in agents.values())
        self.wait(f"{count} agents are ready", look, seconds_max)

    def drop(self, name, text):
        """Brings a file into dag/ by one rename; returns the moment before it."""
        new = self.path / f"{name}.new"
        new.write_text(text, encoding="utf-8")
        began = time.monotonic()
        new.rename(self.path / "dag" / f"{name}.yaml")
        return began

    def wait_done(self, count, seconds_max=300):
        """Waits until that many tasks are done; a task that failed ends the bench."""
        def look():
            counts = (self.json("status") or {"tasks": {}})["tasks"]
            bad = {state: counts.get(state, 0) for state in ("dead", "cancelled", "parked") if counts.get(state)}
            if bad:
                sys.exit(f"not all tasks are done: {bad}")
            return counts.get("done", 0) >= count
        self.wait(f"{count} tasks are done", look, seconds_max)
        return time.monotonic()

    def recorded_span(self):
        """Returns the seconds from the first order to the last end, as the supervisor recorded them."""
        tasks = self.json("task", "list")
        return max(moment(task["ended_at"]) for task in tasks) - min(moment(task["queued_at"]) for task in tasks)


def moment(text):
    """Turns an RFC 3339 time into seconds."""
    from datetime import datetime
    return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


def chain(name, count, work):
    """Writes a dependency file in which each task needs the one before it; `work` gives a task's own lines."""
    lines = ["tasks:"]
    for number in range(1, count + 1):
        lines.append(f"  {name}{number}:")
        if number > 1:
            lines.append(f"    needs: {name}{number - 1}")
        lines += [f"    {line}" for line in work(number)]
    return "\n".join(lines) + "\n"


def dagu(text):
    """Has dagu ($DAGU, or the one on PATH) do a file of its own; returns the seconds, or None where it is not installed.

    It counts from the start of the process to its end, so that the file is read in that time, as it is with ours.
    """
    program = os.environ.get("DAGU") or shutil.which("dagu")
    if not program:
        return None
    with tempfile.TemporaryDirectory(dir=parent_folder()) as folder:
        file = Path(folder) / "bench.yaml"
        file.write_text(text, encoding="utf-8")
        # Whatever it keeps lies on the same disk as ours.
        environment = {**os.environ, "DAGU_HOME": folder, "HOME": folder}
        began = time.monotonic()
        done = subprocess.run([program, "start", str(file)], env=environment, capture_output=True, text=True, check=False)
        took = time.monotonic() - began
    if done.returncode != 0:
        sys.exit(f"{program} ended with exit code {done.returncode}:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return took


def dagu_steps(count, needs, at_once):
    """Writes a file for dagu whose steps do nothing; `needs` gives the numbers of those that a step waits for."""
    lines = [f"maxActiveSteps: {at_once}", "steps:"]
    for number in range(1, count + 1):
        lines += [f"  - name: t{number}", '    command: "true"', f"    depends: [{', '.join(f't{n}' for n in needs(number))}]"]
    return "\n".join(lines) + "\n"


def dagu_row(what, took):
    """Says how long dagu took, as a row of the table."""
    return (f"  dagu, {what}", "dagu: not installed" if took is None else f"{took:.2f} s", "beside it")


def number_from_arguments(default):
    """Returns the script's only argument, a number."""
    try:
        return int(sys.argv[1]) if len(sys.argv) > 1 else default
    except ValueError:
        sys.exit(f"{sys.argv[0]}: `{sys.argv[1]}` is no number")


def spread(values, unit):
    """Says median, least and most."""
    return f"{statistics.median(values):.0f} {unit} ({min(values):.0f} to {max(values):.0f})"


def table(rows):
    """Prints figures as a table: name, measured, aim."""
    rows = [("Figure", "Measured", "Aim"), *rows]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    for index, row in enumerate(rows):
        print("| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths)) + " |")
        if index == 0:
            print("| " + " | ".join("-" * width for width in widths) + " |")
    sys.stdout.flush()
