# Keeps a sidecar running: sh -c <this> WHAT_IS_LOST COMMAND... Its end would end the whole instance, and with it the
# lanes that need it not. Tailscale's entrypoint exits on a wrong key, after 60 s without login, and when its daemon dies.
pause=1
stop() {
  # $! and no variable of ours: it names the child from the moment there is one.
  [ -n "$!" ] && kill -TERM "$!" 2>/dev/null && wait "$!"
  exit 0
}
trap stop TERM INT
while :; do
  started=$(date +%s)
  "$@" &
  wait "$!"
  status=$?
  # It ran for a while: this is a new trouble, not the old one again.
  [ $(($(date +%s) - started)) -ge 90 ] && pause=1
  echo "pilotlight: $0 ($1 ended with status $status); next try in $pause s" >&2
  sleep "$pause" &
  wait "$!"
  [ "$pause" -lt 60 ] && pause=$((pause * 2))
done
