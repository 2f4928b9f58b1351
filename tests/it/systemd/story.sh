# One life of the service, inside a throw-away machine: installed, started, killed, hung, stopped, removed.
set -euo pipefail

program=/opt/under-test/miyabi
root=/home/taro/project
unit=miyabi-orchestra

fail() {
  echo "FAILED: $*" >&2
  systemctl status --no-pager --lines=0 "$unit" "$unit-tmux" >&2 || true
  journalctl --no-pager --lines=60 --unit="$unit" --unit="$unit-tmux" >&2 || true
  tail -n 20 "$root"/logs/miyabi.log* >&2 || true
  exit 1
}
# Waits until a command succeeds; the machine is young, so there is no event to wait for.
eventually() {
  local seconds=$1 deadline=$((SECONDS + $1))
  shift
  until "$@" >/dev/null 2>&1; do
    [ "$SECONDS" -lt "$deadline" ] || fail "not within $seconds s: $*"
    sleep 0.1
  done
}
# A dead process whose parent has not asked for its end yet is no longer alive: some builds of tmux are late with that.
is_alive() { [ -e "/proc/$1" ] && ! grep -q '^State:[[:space:]]Z' "/proc/$1/status" 2>/dev/null; }
as_taro() { runuser --user=taro -- env -C "$root" HOME=/home/taro "$@"; }
property() { systemctl show --property="$1" --value "${2:-$unit}"; }
agent_pids() { "$program" -C "$root" status --json | python3 -c 'import json, sys
print([agent["pid"] for agent in json.load(sys.stdin)["agents"]])'; }
# An agent that has found its first task already is up as well.
all_up() { "$program" -C "$root" status --json | python3 -c 'import json, sys
sys.exit(any(agent["state"] not in ("idle", "busy") for agent in json.load(sys.stdin)["agents"]))'; }
replaced() { [ "$(property MainPID)" != "$1" ] && [ "$(property ActiveState)" = active ] && all_up; }

useradd --create-home taro
runuser --user=taro -- git init --quiet --initial-branch=main "$root"
as_taro git -c user.name=Taro -c user.email=taro@example.org commit --quiet --allow-empty --message=first
as_taro git config user.name Taro
as_taro git config user.email taro@example.org
as_taro "$program" init >/dev/null

echo "== install"
mkdir -p /etc/miyabi-orchestra
echo 'SECRET_OF_THE_SERVICE=xyzzy' >/etc/miyabi-orchestra/environment
"$program" install --user taro --root "$root"
"$program" install --user taro --root "$root" | grep -q 'nothing had to change' || fail "a second install changed something"
systemd-analyze verify --man=no "/etc/systemd/system/$unit.service" "/etc/systemd/system/$unit-tmux.service"

echo "== start"
systemctl start "$unit" || fail "it does not start"
[ "$(property ActiveState)" = active ] || fail "started and not active"
all_up || fail "active before every agent was up"
[ -n "$(property StatusText)" ] || fail "it says nothing of itself"
[ "$(stat --format=%U:%a "$root/data/run/control.sock")" = taro:600 ] || fail "the socket is not taro's own"

echo "== work"
as_taro "$program" submit --run 'date > now.txt' --wait || fail "work is not done"
as_taro git -C "$root" show --stat HEAD | grep -q now.txt || fail "the work is not merged"
[ "$(stat --format=%a "$root/now.txt")" = 644 ] || fail "merged files have a strange mode"

echo "== no secrets in the panes"
server=$(property MainPID "$unit-tmux")
for pid in "$server" $(agent_pids | tr -d '[],'); do
  if grep -q xyzzy "/proc/$pid/environ"; then fail "process $pid sees the service's secret"; fi
done

echo "== a killed supervisor comes back and finds its agents"
before=$(agent_pids)
pid=$(property MainPID)
kill -KILL "$pid"
eventually 20 replaced "$pid"
[ "$(agent_pids)" = "$before" ] || fail "the agents were restarted: $before, then $(agent_pids)"

echo "== a restarted supervisor finds its agents"
pid=$(property MainPID)
kill -TERM "$pid"
eventually 20 test "$(property ActiveState)" != activating
systemctl start "$unit"
eventually 20 replaced "$pid"
[ "$(agent_pids)" = "$before" ] || fail "the agents were restarted: $before, then $(agent_pids)"

echo "== a hung supervisor is replaced"
mkdir -p "/run/systemd/system/$unit.service.d"
printf '[Service]\nWatchdogSec=2\nTimeoutAbortSec=1\n' >"/run/systemd/system/$unit.service.d/impatient.conf"
systemctl daemon-reload
pid=$(property MainPID)
kill -KILL "$pid" # The new time holds from the next start on.
eventually 20 replaced "$pid"
pid=$(property MainPID)
kill -STOP "$pid"
eventually 20 replaced "$pid"
[ "$(agent_pids)" = "$before" ] || fail "the agents were restarted: $before, then $(agent_pids)"

echo "== down stays down"
"$program" -C "$root" down >/dev/null || fail "it does not come down"
eventually 5 test "$(property ActiveState)" = inactive
systemctl start "$unit"

echo "== stop drains"
agents=$(agent_pids | tr -d '[],')
systemctl stop "$unit"
[ "$(property Result)" = success ] || fail "stopped with $(property Result)"
[ "$(property ActiveState "$unit-tmux")" = active ] || fail "the tmux server went with the supervisor"
for pid in $agents; do
  ! is_alive "$pid" || fail "agent process $pid is left: $(tr '\0' ' ' <"/proc/$pid/cmdline")"
done

echo "== remove"
"$program" install --uninstall
[ ! -e "/etc/systemd/system/$unit.service" ] || fail "the unit is still there"
[ "$(property LoadState)" = not-found ] || fail "systemd still knows the unit"
[ -e "$root/agents.toml" ] || fail "the root is gone"
echo "== all is well"
