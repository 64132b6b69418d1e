# Keeps the official Tailscale entrypoint running. It exits on a wrong key, after 60 s without login, and when its
# daemon dies; a container's exit would end the whole instance, and with it the lanes that need no tailnet.
pause=1
stop() {
  # $! and no variable of ours: it names the child from the moment there is one.
  [ -n "$!" ] && kill -TERM "$!" 2>/dev/null && wait "$!"
  exit 0
}
trap stop TERM INT
while :; do
  started=$(date +%s)
  containerboot &
  wait "$!"
  status=$?
  # It ran for a while: this is a new trouble, not the old one again.
  [ $(($(date +%s) - started)) -ge 90 ] && pause=1
  echo "pilotlight: the tailnet is away (entrypoint ended with status $status), only the home lane needs it; next try in $pause s" >&2
  sleep "$pause" &
  wait "$!"
  [ "$pause" -lt 60 ] && pause=$((pause * 2))
done
