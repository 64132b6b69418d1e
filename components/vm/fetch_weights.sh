#!/bin/bash
# Fetches weights files once and checks them: fetch_weights.sh DIRECTORY [URL SHA256]...
# A file is served only after its SHA-256 matched; the sum that matched is kept beside it, so that another boot
# does not read gigabytes again and another `sha256` in the settings fetches anew.
set -euo pipefail

directory=$1
shift

# What other settings left behind would fill the disk.
keep=()
for argument in "$@"; do keep+=(! -name "${argument##*/}*"); done
find "$directory" -maxdepth 1 -type f "${keep[@]}" -delete

fetch() {
  # A connection that stands still is given up: the next try goes on where this one ended.
  curl --fail --silent --show-error --location --retry 5 --retry-connrefused --connect-timeout 20 \
    --speed-limit 1000 --speed-time 60 --continue-at - --output "$1.part" "$2"
}

while [ $# -gt 0 ]; do
  url=$1 sum=$2
  shift 2
  file=$directory/${url##*/}
  if [ -f "$file" ] && [ "$(cat "$file.sha256" 2>/dev/null)" = "$sum" ]; then
    echo "weights: $file is here and was checked"
    continue
  fi
  rm -f "$file" "$file.sha256"
  # Gigabytes that came wrong an hour ago would come wrong again, and Cloud NAT charges for each of them.
  if [ "$(cat "$file.refused" 2>/dev/null)" = "$url $sum" ] && [ -n "$(find "$file.refused" -mmin -360)" ]; then
    echo "weights: $url had another SHA-256 than the settings say; fetched again six hours after that" >&2
    exit 1
  fi
  rm -f "$file.refused"
  echo "weights: fetching $url"
  status=0
  fetch "$file" "$url" || status=$?
  if [ "$status" -eq 33 ]; then
    echo "weights: the server can't go on where it ended; from the start again"
    rm -f "$file.part"
    status=0
    fetch "$file" "$url" || status=$?
  fi
  [ "$status" -eq 0 ] || exit "$status"
  actual=$(sha256sum < "$file.part" | cut -d' ' -f1)
  if [ "$actual" != "$sum" ]; then
    echo "weights: $url has SHA-256 $actual, the settings say $sum; not served" >&2
    rm -f "$file.part"
    echo "$url $sum" > "$file.refused"
    exit 1
  fi
  # On the disk before the sum says so: a machine that loses power in between fetches again.
  sync "$file.part"
  mv "$file.part" "$file"
  echo "$sum" > "$file.sha256"
done
