#!/usr/bin/env bash
# Tells K3s this machine's present address. K3s keeps the one it was first given: when DHCP hands out another, its node
# is gone, its certificate names the wrong machine, and it restarts for ever. Runs before K3s and every 30 s.
# NIC: the network interface to take; empty: the one of the default route, tunnels left out.
set -euo pipefail

NIC=${NIC:-}
WAIT_S=${WAIT_S:-60}
CONFIG=/etc/rancher/k3s/config.yaml.d/50-pilotlight-node-ip.yaml
CERTIFICATE=/var/lib/rancher/k3s/server/tls/dynamic-cert.json
STATE=/var/lib/pilotlight
TOLD=$STATE/node-address       # the address K3s was last told
UNCHECKED=$STATE/check-serving # there while K3s' stored certificate may still name the old address

say() { printf 'node-address: %s\n' "$*" >&2; }

# A VPN may hold the default route; what K3s listens on is the machine's own network.
is_tunnel() {
  local link
  link=$(ip -details -oneline link show dev "$1")
  [[ $link != *link/ether* || $link == *" tun type "* ]]
}

# Lines of "NIC SOURCE"; the kernel lists the route it takes first.
default_routes() {
  ip -4 -oneline route show default | awk '{
    nic = ""; source = "-"
    for (i = 1; i < NF; i++) {
      if ($i == "dev" && nic == "") nic = $(i + 1)
      if ($i == "src") source = $(i + 1)
    }
    if (nic != "") print nic, source
  }'
}

# The interface's IPv4 address: the route's own source where it names one, else the first. The cluster is IPv4.
address_of() {
  local nic=$1 source=$2 addresses
  addresses=$(ip -4 -oneline address show dev "$nic" scope global | awk '!/deprecated/ { sub("/.*", "", $4); print $4 }')
  if grep -qxF -- "$source" <<<"$addresses"; then
    echo "$source"
  else
    head -n 1 <<<"$addresses"
  fi
}

present_address() {
  local nic source address
  if [ -n "$NIC" ]; then
    address_of "$NIC" -
    return
  fi
  while read -r nic source; do
    is_tunnel "$nic" && continue
    address=$(address_of "$nic" "$source")
    [ -z "$address" ] || break
  done < <(default_routes)
  echo "${address:-}"
}

no_address() {
  local all
  all=$(ip -oneline link show | awk -F ': ' '{ sub("@.*", "", $2); printf "%s ", $2 }')
  if [ -z "$NIC" ]; then
    say "no IPv4 address on a NIC with a default route after $WAIT_S s, tunnels not counted."
  elif [[ " $all" == *" $NIC "* ]]; then
    say "$NIC has no IPv4 address after $WAIT_S s."
  else
    say "there is no NIC $NIC here."
  fi
  say "K3s keeps the address it was told before ($(cat "$TOLD" 2>/dev/null || echo none))."
  say "Check the cable and DHCP, or set \`home.nic\` to the right one of: $all"
}

restart_k3s() {
  # try-restart leaves a K3s alone that isn't running, as before the boot's first start; that start is not waited for,
  # since it waits for this script.
  if systemctl cat k3s.service >/dev/null 2>&1; then
    systemctl --no-block try-restart k3s.service
  fi
}

tell() {
  local address=$1 told=$2
  mkdir -p "$STATE" "${CONFIG%/*}"
  printf 'node-ip: "%s"\n' "$address" >"$CONFIG.new"
  mv "$CONFIG.new" "$CONFIG"
  if [ "$address" != "$told" ]; then
    # K3s would go on with the old address in it.
    rm -f "$CERTIFICATE"
    touch "$UNCHECKED"
  fi
  restart_k3s
  # Last: a run that was cut off before is done again as a whole.
  echo "$address" >"$TOLD.new"
  mv "$TOLD.new" "$TOLD"
}

# K3s keeps its certificate in a secret too, which only a running K3s can be asked for. Once per change of address.
check_stored_certificate() {
  local address=$1 names
  names=$(k3s kubectl --request-timeout=10s --namespace=kube-system get secret k3s-serving --ignore-not-found \
    --output='jsonpath={.metadata.annotations}' 2>/dev/null) || return 0 # not up yet: the next run asks again
  if [ -n "$names" ] && [[ $names != *"cn-$address\""* ]]; then
    say "K3s' stored certificate doesn't name $address: removed, K3s makes a new one"
    k3s kubectl --request-timeout=10s --namespace=kube-system delete secret k3s-serving --ignore-not-found
    rm -f "$CERTIFICATE"
    restart_k3s
  fi
  rm -f "$UNCHECKED"
}

main() {
  local address told deadline=$((SECONDS + WAIT_S))
  until address=$(present_address 2>/dev/null) && [ -n "$address" ]; do
    if [ "$SECONDS" -ge "$deadline" ]; then
      no_address
      exit 1
    fi
    sleep 1
  done
  told=$(cat "$TOLD" 2>/dev/null || true)
  if [ "$address" != "$told" ] || [ ! -e "$CONFIG" ]; then
    say "the address is $address${told:+, was $told}: K3s is told"
    tell "$address" "$told"
  elif [ -e "$UNCHECKED" ]; then
    check_stored_certificate "$address"
  fi
}

main "$@"
