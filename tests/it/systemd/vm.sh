# The service on a machine with cgroup v2 and a kernel of its own: limits, a person's own systemd, and a reboot in the
# middle of the work. Runs again from its beginning after the reboot.

agents=/sys/fs/cgroup/system.slice/$unit-tmux.service

state_of() { "$program" -C "$root" task show "$1" --json | python3 -c 'import json, sys; print(json.load(sys.stdin)["state"])'; }
is_state() { [ "$(state_of "$1")" = "$2" ]; }
pid_of() { "$program" -C "$root" status --json | python3 -c 'import json, sys
print(next(agent["pid"] for agent in json.load(sys.stdin)["agents"] if agent["id"] == sys.argv[1]))' "$1"; }
holds() { [ "$(cat "$1")" = "$2" ]; }
answers() { "$program" -C "$root" status; }
busy() { "$program" -C "$root" status | grep -q "^$1 .*busy"; }
other_supervisor() { local pid; pid=$(property MainPID) && [ "$pid" != 0 ] && [ "$pid" != "$1" ]; }
beats_of() { python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))["sequence"])' "$root/data/run/beats/$1.json"; }
merged() { as_taro git -C "$root" cat-file -e "main:$1"; }
beats_beyond() { [ "$(beats_of "$1")" -gt "$2" ]; }
idle() { "$program" -C "$root" status | grep -q "^$1 .*idle"; }

if [ -e /root/rebooted ]; then
  echo "== after the reboot the work goes on by itself"
  eventually 120 systemctl is-active --quiet "$unit"
  [ "$(cat /proc/sys/kernel/random/boot_id)" != "$(cat /root/rebooted)" ] || fail "the machine was not rebooted"
  touch "$root/gate"
  eventually 120 is_state day/long done
  [ "$(as_taro git -C "$root" log --format=%s -- long.txt | wc -l)" = 1 ] || fail "the work was done more than once"
  "$program" -C "$root" task show day/long --json | python3 -c 'import json, sys
task = json.load(sys.stdin)
assert task["attempts"][0]["outcome"] != "done" and len(task["attempts"]) >= 2, task["attempts"]' || fail "no attempt was interrupted"
  told=$("$program" -C "$root" journal check 2>&1 || true)
  grep -q 'already running' <<<"$told" || fail "the journal is looked at while it is written: $told"
  systemctl stop "$unit"
  as_taro "$program" journal check || fail "the journal is not sound"
  echo "== all is well"
  exit 0
fi

useradd --create-home taro
runuser --user=taro -- git init --quiet --initial-branch=main "$root"
as_taro git config user.name Taro
as_taro git config user.email taro@example.org
printf 'data/\nlogs/\nagents.toml\ndag/\ngate\n' | as_taro tee "$root/.gitignore" >/dev/null
as_taro git add .gitignore
as_taro git commit --quiet --message=first
as_taro mkdir "$root/dag"
as_taro tee "$root/agents.toml" >/dev/null <<'TOML'
[defaults]
heartbeat = "1s"
heartbeat_timeout = "8s"
[[agent]]
id = "kaede"
role = "codegen"
driver = "echo"
limits = { memory_max = "64MiB", tasks_max = 40, cpu_weight = 50 }
[[agent]]
id = "sakura"
role = "review"
driver = "echo"
[[repository]]
path = "."
TOML

echo "== each agent has a group of its own"
"$program" install --user taro --root "$root" >/dev/null
systemctl enable --quiet --now "$unit" || fail "it does not start"
eventually 60 idle kaede
eventually 60 idle sakura
[ "$(cat "$agents/agent-kaede/work/memory.max")" = 67108864 ] || fail "memory.max is $(cat "$agents/agent-kaede/work/memory.max")"
[ "$(cat "$agents/agent-kaede/work/pids.max")" = 40 ] || fail "pids.max is $(cat "$agents/agent-kaede/work/pids.max")"
[ "$(cat "$agents/agent-kaede/cpu.weight")" = 50 ] || fail "cpu.weight is $(cat "$agents/agent-kaede/cpu.weight")"
[ "$(cat "$agents/agent-sakura/work/memory.max")" = max ] || fail "sakura has a limit"
grep -q "agent-kaede/runner" "/proc/$(pid_of kaede)/cgroup" || fail "kaede's runner is in $(cat "/proc/$(pid_of kaede)/cgroup")"
server=$(property MainPID "$unit-tmux")
sakura=$(pid_of sakura)
kaede=$(pid_of kaede)

echo "== who eats all memory dies alone and is reported as such"
as_taro tee "$root/dag/night.yaml" >/dev/null <<'YAML'
tasks:
  eater: {run: 'python3 -c "x = bytearray(300 << 20)"', repo: none, retry: {limit: 0}}
  bomb:
    run: "bash -c 'f() { f | f & }; f; sleep 3; exit 1'"
    repo: none
    retry: {limit: 0}
YAML
eventually 60 is_state night/eater dead
"$program" -C "$root" report night/eater | grep -q 'out of memory' || fail "$("$program" -C "$root" report night/eater)"

echo "== who forks without end dies alone and is reported as such"
eventually 60 is_state night/bomb dead
"$program" -C "$root" report night/bomb | grep -q 'tasks limit' || fail "$("$program" -C "$root" report night/bomb)"
"$program" -C "$root" events | grep -q 'out of memory' || fail "no event tells of the memory"
"$program" -C "$root" events | grep -q 'tasks limit' || fail "no event tells of the forks"
# Of agents: a task that has used up its attempts raises one of its own.
alerts() { "$program" -C "$root" status --json | python3 -c 'import json, sys
print([(alert["kind"], alert["agent"]) for alert in json.load(sys.stdin)["alerts"] if "agent" in alert])'; }
[ "$(alerts)" = "[('tasks-limit', 'kaede')]" ] || fail "the alerts are $(alerts)"
"$program" -C "$root" events --json | python3 -c 'import json, sys
raised = [line["text"] for line in map(json.loads, sys.stdin) if line["kind"] == "alert-raised"]
assert any("out of memory" in text for text in raised), raised' || fail "no alert was raised for the memory"
eventually 20 holds "$agents/agent-kaede/work/pids.current" 0

echo "== nobody else has felt it, and the agent works on"
[ "$(property MainPID "$unit-tmux")" = "$server" ] || fail "the tmux server was restarted"
[ "$(pid_of sakura)" = "$sakura" ] || fail "sakura was restarted"
[ "$(pid_of kaede)" = "$kaede" ] || fail "kaede's runner died"
as_taro "$program" submit --run 'echo on > on.txt' --wait >/dev/null || fail "kaede does not work on"
[ "$(alerts)" = "[]" ] || fail "the alerts are $(alerts)"

echo "== a supervisor that the kernel kills for memory is replaced, and finds its agents at work"
pid=$(property MainPID)
systemctl set-property --runtime "$unit" MemoryMax=2M
eventually 60 other_supervisor "$pid"
systemctl set-property --runtime "$unit" MemoryMax=infinity
eventually 60 answers
journalctl --no-pager --unit="$unit" | grep -i 'oom.kill' >/dev/null || fail "it was not the memory that ended it"
[ "$(pid_of sakura)" = "$sakura" ] || fail "sakura was restarted"
[ "$(pid_of kaede)" = "$kaede" ] || fail "kaede was restarted"

echo "== a clock that is set forward and back costs nobody's life or work"
as_taro "$program" submit --run 'until [ -e clock ]; do sleep 0.2; done; echo clock > clock.txt' --agent kaede >/dev/null
eventually 60 busy kaede
for step in 7200 -10800 3600; do
  date --set="@$(($(date +%s) + step))" >/dev/null
  beats=$(beats_of kaede)
  # More beats than it takes to suspect and to judge somebody who has none.
  eventually 90 beats_beyond kaede $((beats + 8))
  [ "$step" -gt 0 ] || { systemctl restart "$unit" && eventually 60 answers; }
done
[ "$(pid_of sakura)" = "$sakura" ] || fail "sakura was restarted"
[ "$(pid_of kaede)" = "$kaede" ] || fail "kaede was restarted"
worktree=$(ls -d "$root"/data/worktrees/*)
as_taro touch "$worktree/clock"
eventually 60 merged clock.txt
[ "$(as_taro git -C "$root" log --format=%s -- clock.txt | wc -l)" = 1 ] || fail "the work was not done once"
"$program" -C "$root" events --json | python3 -c 'import json, sys
failed = [line for line in map(json.loads, sys.stdin) if line["kind"] == "attempt-failed"]
assert not failed, failed' || fail "an attempt failed"

echo "== kills under load leave no group, process or worktree behind"
printf 'tasks:\n' | as_taro tee "$root/dag/.load" >/dev/null
for task in $(seq 6); do
  printf '  t%s: {run: "sleep 1; echo %s > t%s.txt", retry: {limit: 20, interval: 10ms}}\n' "$task" "$task" "$task"
done | as_taro tee -a "$root/dag/.load" >/dev/null
as_taro mv "$root/dag/.load" "$root/dag/load.yaml"
for _ in 1 2; do
  eventually 60 busy kaede
  kill -KILL "$(pid_of kaede)"
  eventually 60 busy kaede
  pid=$(property MainPID)
  kill -KILL "$pid"
  eventually 60 other_supervisor "$pid"
  eventually 60 answers
done
kill -KILL "$(property MainPID "$unit-tmux")"
for task in $(seq 6); do eventually 120 is_state "load/t$task" done; done
eventually 60 idle kaede
eventually 60 idle sakura
[ "$(as_taro git -C "$root" log --format=%s -- 't*.txt' | wc -l)" = 6 ] || fail "a task was not done once"
for group in "$agents"/agent-*; do
  case ${group##*/} in agent-kaede | agent-sakura) ;; *) fail "the group $group is left" ;; esac
  eventually 20 holds "$group/work/pids.current" 0
  [ "$(wc -l <"$group/runner/cgroup.procs")" = 1 ] || fail "more than the runner is in $group/runner"
done
[ -z "$(ls "$root/data/worktrees")" ] || fail "worktrees are left: $(ls "$root/data/worktrees")"
[ "$(as_taro git -C "$root" worktree list | wc -l)" = 1 ] || fail "worktrees are known: $(as_taro git -C "$root" worktree list)"

echo "== agents can have sandboxes of their own"
as_taro "$program" submit --repo none --run 'unshare --user --map-root-user --pid --fork --mount-proc true' --wait >/dev/null || fail "no sandbox"
if command -v node >/dev/null; then
  as_taro "$program" submit --repo none --agent sakura --run 'node -e "let s = 0; for (let i = 0; i < 1e6; i++) s += i; require(\"os\").networkInterfaces()"' --wait >/dev/null ||
    fail "node does not run"
fi

echo "== whoever leaves the team leaves no group behind"
printf '[[agent]]\nid = "kaede"\nrole = "codegen"\ndriver = "echo"\n[[repository]]\npath = "."\n' | as_taro tee "$root/agents.toml" >/dev/null
systemctl reload "$unit" || fail "it does not reload"
eventually 60 test ! -e "$agents/agent-sakura"
eventually 60 holds "$agents/agent-kaede/work/memory.max" max

echo "== a person's own systemd"
useradd --create-home hana
loginctl enable-linger hana
as_hana() { runuser --user=hana -- env -C /home/hana HOME=/home/hana XDG_RUNTIME_DIR="/run/user/$(id -u hana)" "$@"; }
eventually 60 as_hana systemctl --user is-active default.target
as_hana mkdir /home/hana/team
printf '[session]\nsocket = "hana"\n[[agent]]\nid = "momo"\nrole = "codegen"\ndriver = "echo"\nlimits = { tasks_max = 50 }\n' | as_hana tee /home/hana/team/agents.toml >/dev/null
as_hana "$program" install --user --root /home/hana/team >/dev/null || fail "it cannot be installed"
as_hana systemctl --user enable --quiet --now "$unit" || { as_hana journalctl --user --no-pager -n 30 >&2; fail "it does not start for hana"; }
hanas=/sys/fs/cgroup/user.slice/user-$(id -u hana).slice/user@$(id -u hana).service/app.slice/$unit-tmux.service
eventually 60 holds "$hanas/agent-momo/work/pids.max" 50
before=$("$program" -C /home/hana/team agent list --json)
as_hana systemctl --user restart "$unit" || fail "it does not restart for hana"
[ "$("$program" -C /home/hana/team agent list --json | grep -o '"pid":[0-9]*')" = "$(grep -o '"pid":[0-9]*' <<<"$before")" ] || fail "hana's agents were restarted"
as_hana "$program" install --user --uninstall >/dev/null || fail "it cannot be removed"
[ ! -e "$hanas" ] || fail "hana's agents are left"

echo "== a reboot in the middle of the work"
printf 'tasks:\n  long: {run: "until [ -e %s/gate ]; do sleep 0.2; done; echo long > long.txt", retry: {limit: 3}}\n' "$root" |
  as_taro tee "$root/dag/day.yaml" >/dev/null
eventually 60 is_state day/long leased
cat /proc/sys/kernel/random/boot_id >/root/rebooted
sync
systemctl reboot
sleep 300
