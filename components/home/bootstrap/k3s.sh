# K3s itself: its binary, its unit, and that its node is ready.

k3s_is() { # SHA256
  [ -e /usr/local/bin/k3s ] && [[ $(sha256sum /usr/local/bin/k3s) == "$1 "* ]]
}

# K3s makes itself new certificates only when it starts, and one of them is in the kubeconfig that is printed here.
certificate_ends_soon() { # PATH
  [ -e "$1" ] && ! openssl x509 -noout -checkend "$((RENEW_BEFORE_DAYS * 86400))" -in "$1" >/dev/null
}

get_k3s() {
  if ! k3s_is "$K3S_SHA256"; then
    made_if_missing file /usr/local/bin/k3s
    # The release's own binary, no installer: known by its checksum, it is the one program here that no key signs.
    download "https://github.com/k3s-io/k3s/releases/download/${K3S_VERSION/+/%2B}/k3s" /usr/local/bin/k3s.new
    echo "$K3S_SHA256  /usr/local/bin/k3s.new" | sha256sum --check --quiet ||
      refuse "what came as K3s $K3S_VERSION isn't it" "run this again; if it stays so, don't go on"
    chmod 755 /usr/local/bin/k3s.new
    mv /usr/local/bin/k3s.new /usr/local/bin/k3s
  fi
}

# Starts a unit of K3s, if it is another one than the running.
run_k3s() { # UNIT CERTIFICATE MORE-FILES-IT-READS...
  local unit=$1 certificate=$2 wanted applied=/var/lib/pilotlight/k3s-applied
  shift 2
  systemctl daemon-reload
  systemctl enable --quiet "$unit.service"
  # K3s looks for NVIDIA's runtime and reads its files at start only; restarted when one of them is another than then.
  wanted=$(cat /usr/local/bin/k3s /etc/rancher/k3s/config.yaml.d/10-pilotlight.yaml "/etc/systemd/system/$unit.service" "$@" \
    <(echo "$TOOLKIT_VERSION") | sha256sum)
  if [ "$(cat "$applied" 2>/dev/null)" != "$wanted" ] || ! systemctl is-active --quiet "$unit.service" || certificate_ends_soon "$certificate"; then
    step "starting K3s (the first time takes a minute)"
    timeout 600 systemctl restart "$unit.service" || refuse "K3s doesn't start" "\`journalctl -u $unit -n 50\` says why"
    echo "$wanted" >"$applied.new"
    mv "$applied.new" "$applied"
  fi
}

install_k3s() {
  local config=$'write-kubeconfig-mode: "0600"\ntls-san+:\n  - '"$HOME_NAME"
  step "installing K3s $K3S_VERSION"
  get_k3s
  [ "$NODES" -eq 1 ] || config+=$'\nflannel-iface: "tailscale0"'
  put /etc/rancher/k3s/config.yaml.d/10-pilotlight.yaml 644 <<<"$config"
  k3s_service | put /etc/systemd/system/k3s.service 644
  run_k3s k3s /var/lib/rancher/k3s/server/tls/client-admin.crt
}

check_runtime() { # UNIT
  grep -q nvidia /var/lib/rancher/k3s/agent/etc/containerd/config.toml ||
    refuse "K3s found no NVIDIA runtime" "\`nvidia-container-runtime --version\` must work; then \`systemctl restart $1\` and run this again"
}

await_k3s() {
  local tries
  step "waiting for the node"
  for ((tries = 60; ; tries--)); do
    # This machine's own; an agent may be off.
    k3s kubectl wait --for=condition=Ready node --selector=node-role.kubernetes.io/control-plane --timeout=10s >/dev/null 2>&1 && break
    [ "$tries" -gt 0 ] || refuse "the node isn't ready after ten minutes" "\`k3s kubectl describe node\` says why"
    sleep 1
  done
  check_runtime k3s
}
