# Takes away what the record says that this script made, and nothing else: a package or file that was there before isn't in
# it. Can be run again after any failure; the record goes last.

# Stops K3s with everything that it started; its unit alone would leave pods running.
end_k3s() {
  local links=(cni0 flannel.1) link unit
  for unit in k3s.service k3s-agent.service; do
    if [ -e "/etc/systemd/system/$unit" ]; then
      mkdir -p "/run/systemd/system/$unit.d"
      printf '[Service]\nKillMode=control-group\n' >"/run/systemd/system/$unit.d/pilotlight-end.conf"
      systemctl daemon-reload
      systemctl disable --quiet --now "$unit"
      systemctl stop kubepods.slice || true
      rm -r "/run/systemd/system/$unit.d"
    fi
  done
  awk '$2 ~ "^/(run/k3s|run/netns/cni-|var/lib/kubelet|var/lib/rancher)" { print $2 }' /proc/self/mounts | sort -r | xargs -r umount
  for link in "${links[@]}"; do
    if ip link show dev "$link" >/dev/null 2>&1; then
      ip link delete dev "$link"
    fi
  done
}

# The record's names of one kind, a folder's after those in it.
recorded() { # KIND
  sed -n "s/^$1 //p" "$RECORD" | sort -r
}

uninstall() {
  local unit name packages
  step "taking pilotlight off this machine"
  [ "$(id -u)" -eq 0 ] || refuse "this must run as root" "pipe it into \`ssh $HOME_NAME sudo bash -s uninstall\`"
  [ -e "$RECORD" ] || refuse "there is no record of an installation here ($RECORD)" "nothing was removed; is this the right machine?"
  for unit in pilotlight-guard-watch.timer pilotlight-node-address.timer pilotlight-node-address.service; do
    if [ -e "/etc/systemd/system/$unit" ]; then
      systemctl disable --quiet --now "$unit"
    fi
  done
  end_k3s
  # Last of what guards, once nothing is left to guard.
  if [ -e /etc/systemd/system/pilotlight-guard.service ]; then
    systemctl disable --quiet --now pilotlight-guard.service
  fi
  for name in $(recorded node); do
    say "  $HOME_NAME still counts $name, as a machine that is off: \`k3s kubectl delete node $name\` there"
  done
  for name in $(recorded tailnet); do
    say "  leaving the tailnet; its machine '$name' goes from https://login.tailscale.com/admin/machines by your hand"
    tailscale logout || true
  done
  for unit in $(recorded unit); do
    systemctl disable --quiet --now "$unit" || true
  done
  for name in $(recorded file); do
    rm -f "$name" "$name.new"
  done
  systemctl daemon-reload
  if command -v nft >/dev/null; then
    # The first half lets the second succeed where there is none.
    nft 'table inet pilotlight_guard; delete table inet pilotlight_guard'
  fi
  for name in $(recorded tree); do
    rm -rf --one-file-system "$name"
  done
  for name in $(recorded folder); do
    rmdir "$name" 2>/dev/null || true
  done
  mapfile -t packages < <(recorded package)
  # dpkg, not apt: it keeps a package that another one needs, where apt would remove both.
  [ ${#packages[@]} -eq 0 ] || dpkg --purge "${packages[@]}" ||
    refuse "all else is gone, but dpkg keeps the packages named above" "remove what needs them and run this again, or keep them and remove ${RECORD%/*}"
  rm -rf "${RECORD%/*}"
  say "done. K3s' rules in iptables end with the next restart; packages that were updated stay as new as they are"
}
