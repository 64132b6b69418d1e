#!/bin/bash
# Closes the way out of the model's container: it answers connections and opens none, neither to this machine (INPUT)
# nor beyond it. llama.cpp's server fetches a picture from any address that a caller names, the metadata server's
# included, and has no switch against that.
#
# Runs before every start of the container. Docker asks DOCKER-USER before its own rules, and leaves alone what stands
# in it. Connections are refused and not dropped: a dropped one holds a thread of the server for two minutes. TCP is
# refused by a reset, for the kernel limits how many ICMP messages it sends. No name is looked up: the container has
# itself as name server.
set -euo pipefail
PATH=$PATH:/usr/sbin:/sbin

# Docker's default network, which the rules name. Without it they would match nothing.
ip link show docker0 >/dev/null

close() { # the program, and its chain for what goes beyond this machine
  "$1-restore" --wait --noflush <<'RULES'
*filter
:ANSWERS-ONLY - [0:0]
-A ANSWERS-ONLY -m conntrack --ctstate ESTABLISHED -j RETURN
-A ANSWERS-ONLY -p tcp -j REJECT --reject-with tcp-reset
-A ANSWERS-ONLY -j REJECT
COMMIT
RULES
  for chain in "$2" INPUT; do
    "$1" --wait --check "$chain" -i docker0 -j ANSWERS-ONLY 2>/dev/null ||
      "$1" --wait --insert "$chain" -i docker0 -j ANSWERS-ONLY
  done
}

close iptables DOCKER-USER
# Docker gives the container no IPv6 unless it is told to, and may have no chains for it.
close ip6tables FORWARD
