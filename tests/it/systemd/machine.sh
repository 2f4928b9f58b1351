# What the stories on a throw-away machine begin with.
set -euo pipefail

program=/opt/under-test/miyabi
root=/home/taro/project
unit=miyabi-orchestra

fail() {
  echo "FAILED: $*" >&2
  systemctl status --no-pager --lines=0 "$unit" "$unit-tmux" >&2 || true
  journalctl --no-pager --lines=60 --unit="$unit" --unit="$unit-tmux" >&2 || true
  "$program" -C "$root" task list >&2 || true
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
as_taro() { runuser --user=taro -- env -C "$root" HOME=/home/taro "$@"; }
property() { systemctl show --property="$1" --value "${2:-$unit}"; }
