# Starts Caddy with its packed configuration: sh -c <this> FILE. Nothing unpacked is written anywhere: Caddy reads it from
# its standard input, and it is Caddy that Cloud Run then tells to end. Alpine's busybox has bzcat.
config=$(bzcat "$0") || {
  echo "pilotlight: $0 is broken, so Caddy has no configuration and the gateway can't start; deploy it again" >&2
  exit 1
}
exec caddy run --config - <<END
$config
END
