# One life of the service, inside a throw-away machine: installed, started, killed, hung, stopped, removed.

# A dead process whose parent has not asked for its end yet is no longer alive: some builds of tmux are late with that.
is_alive() { [ -e "/proc/$1" ] && ! grep -q '^State:[[:space:]]Z' "/proc/$1/status" 2>/dev/null; }
agent_pids() { "$program" -C "$root" status --json | python3 -c 'import json, sys
print([agent["pid"] for agent in json.load(sys.stdin)["agents"]])'; }
# An agent that has found its first task already is up as well.
all_up() { "$program" -C "$root" status --json | python3 -c 'import json, sys
sys.exit(any(agent["state"] not in ("idle", "busy") for agent in json.load(sys.stdin)["agents"]))'; }
busy() { "$program" -C "$root" status --json | python3 -c 'import json, sys
sys.exit(all(agent["state"] != "busy" for agent in json.load(sys.stdin)["agents"]))'; }
knows() { "$program" -C "$root" status | grep -q "^$1 .*idle"; }
gone() { ! "$program" -C "$root" status | grep -q "^$1 "; }
differs() { [ "$(agent_pids)" != "$1" ]; }
other_server() { [ "$(property MainPID "$unit-tmux")" != "$1" ] && [ "$(property ActiveState "$unit-tmux")" = active ]; }
not_activating() { [ "$(property ActiveState)" != activating ]; }
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
echo 'token-xyzzy' >/etc/miyabi-orchestra/github_token
chmod 600 /etc/miyabi-orchestra/*
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
if grep -q token-xyzzy "/proc/$(property MainPID)/environ"; then fail "the token is in the environment"; fi
[ "$(runuser --user=taro -- cat "/run/credentials/$unit.service/github_token")" = token-xyzzy ] || fail "the token is not handed over"

echo "== a supervisor that is killed or aborts comes back and finds its agents"
before=$(agent_pids)
for signal in KILL ABRT; do
  pid=$(property MainPID)
  kill -"$signal" "$pid"
  eventually 20 replaced "$pid"
  [ "$(agent_pids)" = "$before" ] || fail "the agents were restarted after $signal: $before, then $(agent_pids)"
done

"$program" -C "$root" status | grep -q 'everything agrees' || fail "it does not tell what it found"

echo "== a bare SIGTERM detaches"
pid=$(property MainPID)
kill -TERM "$pid"
eventually 20 not_activating
systemctl start "$unit"
eventually 20 replaced "$pid"
[ "$(agent_pids)" = "$before" ] || fail "the agents were restarted: $before, then $(agent_pids)"

echo "== a restart is no stop"
as_taro "$program" submit --run 'until [ -e /tmp/gate ]; do sleep 0.1; done; echo restarted > restarted.txt' >/dev/null
eventually 20 busy
began=$SECONDS
pid=$(property MainPID)
systemctl restart "$unit" || fail "it does not restart"
[ $((SECONDS - began)) -lt 20 ] || fail "the restart waited for the work"
eventually 20 replaced "$pid"
[ "$(agent_pids)" = "$before" ] || fail "the agents were restarted: $before, then $(agent_pids)"

echo "== a new version of the program takes over"
cp "$program" /tmp/newer
printf '\0' >>/tmp/newer
/tmp/newer install --user taro --root "$root" | grep -q /usr/local/bin/miyabi || fail "the new program is not installed"
pid=$(property MainPID)
systemctl restart "$unit"
eventually 20 replaced "$pid"
cmp -s "/proc/$(property MainPID)/exe" /tmp/newer || fail "the old program runs on"
[ "$(agent_pids)" = "$before" ] || fail "the agents were restarted: $before, then $(agent_pids)"

echo "== when systemd cannot be asked, the agents go on"
pid=$(property MainPID)
systemctl stop dbus.socket dbus.service
systemctl restart "$unit"
systemctl start dbus.socket
eventually 20 replaced "$pid"
systemctl stop dbus.socket dbus.service
systemctl stop "$unit"
systemctl start dbus.socket
for agent in $(tr -d '[],' <<<"$before"); do is_alive "$agent" || fail "agent process $agent was stopped in doubt"; done
journalctl --no-pager --unit="$unit" | grep 'does not say whether this is a stop' >/dev/null || fail "it does not tell why"
systemctl start "$unit"
[ "$(agent_pids)" = "$before" ] || fail "the agents were restarted: $before, then $(agent_pids)"
inside_tmp() { nsenter --target "$(property MainPID "$unit-tmux")" --mount -- "$@"; }
inside_tmp touch /tmp/gate
eventually 20 as_taro git -C "$root" cat-file -e main:restarted.txt
[ "$(as_taro git -C "$root" log --format=%s -- restarted.txt | wc -l)" = 1 ] || fail "the work was done more than once"

echo "== attach"
socket=$("$program" -C "$root" status --json | python3 -c 'import json, sys; print(json.load(sys.stdin)["supervisor"]["tmux_socket"])')
as_taro tmux -u -S "$socket" list-windows -a -F '#{window_name}' | grep -q カエデ || fail "kaede has no window"
as_taro tmux -u -S "$socket" capture-pane -p -t "=miyabi:カエデ" | grep -q . || fail "kaede's pane is empty"

echo "== reload"
as_taro cp "$root/agents.toml" "$root/agents.before"
printf '\n[[agent]]\nid = "momo"\nrole = "codegen"\ndriver = "echo"\n' >>"$root/agents.toml"
systemctl reload "$unit" || fail "it does not reload"
eventually 20 knows momo
printf 'nonsense = 1\n' >>"$root/agents.toml"
if systemctl reload "$unit"; then fail "a faulty file was accepted"; fi
[ "$(property ActiveState)" = active ] || fail "a faulty file ended the service"
property StatusText | grep -q 'not reloaded: agents.toml:' || fail "the status says: $(property StatusText)"
as_taro cp "$root/agents.before" "$root/agents.toml"
systemctl reload "$unit" || fail "it does not reload"
property StatusText | grep -q 'not reloaded' && fail "the status says: $(property StatusText)"
eventually 20 gone momo
[ "$(agent_pids)" = "$before" ] || fail "the agents were restarted: $before, then $(agent_pids)"

echo "== the journal has fields"
journalctl --unit="$unit" -o json | python3 -c 'import json, sys
lines = [json.loads(line) for line in sys.stdin]
started = [line for line in lines if line.get("MIYABI_KIND") == "attempt-started"]
assert started, "no attempt has begun"
assert all(line["MIYABI_AGENT"] and line["MIYABI_TASK"] and line["MIYABI_ORDER"] and line["MIYABI_INCARNATION"]
           and line["SYSLOG_IDENTIFIER"] == "miyabi" for line in started), started' || fail "fields are missing"

echo "== a killed agent comes back"
victim=$(agent_pids | tr -d '[],' | cut -d' ' -f1)
kill -KILL "$victim"
eventually 20 differs "$before"
eventually 20 all_up

echo "== a killed tmux server comes back with all agents"
server=$(property MainPID "$unit-tmux")
before=$(agent_pids)
kill -KILL "$server"
eventually 30 other_server "$server"
eventually 60 differs "$before"
eventually 60 all_up
before=$(agent_pids)

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
