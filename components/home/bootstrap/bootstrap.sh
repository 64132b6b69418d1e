# Everything is in functions, called by the last line: a script that is cut off on its way runs nothing.
set -euo pipefail

KEY_FILE=/run/pilotlight-auth-key
STEP=starting

say() { printf 'pilotlight: %s\n' "$*" >&2; }

refuse() { # WHAT, FIX
  say "$1"
  say "  $2"
  exit 1
}

step() {
  STEP=$*
  say "$STEP"
}

# The end, whatever the way: no key stays behind, and a failure says where it was.
on_exit() {
  local status=$?
  rm -f "$KEY_FILE"
  if [ "$status" -ne 0 ]; then
    say "stopped while $STEP. What is done stays; run this script again and it goes on."
  fi
}

# Writes stdin to a file, whole or not at all.
put() { # PATH MODE
  local path=$1 mode=$2
  mkdir -p "${path%/*}"
  cat >"$path.new"
  chmod "$mode" "$path.new"
  if cmp -s "$path.new" "$path"; then
    rm "$path.new"
  else
    mv "$path.new" "$path"
    say "  wrote $path"
  fi
}

download() { # URL PATH
  curl --proto '=https' --tlsv1.2 --fail --silent --show-error --location --retry 3 --output "$2" "$1"
}

install_packages() {
  export DEBIAN_FRONTEND=noninteractive
  # A dpkg that was cut off refuses everything until it is told to go on.
  dpkg --configure -a
  apt-get -o DPkg::Lock::Timeout=300 -qq update
  apt-get -o DPkg::Lock::Timeout=300 -qq install --no-install-recommends --yes "$@"
}

installed() { # PACKAGE [VERSION]: there, in this version or a newer one
  local there
  there=$(dpkg-query --show --showformat='${db:Status-Status} ${Version}' "$1" 2>/dev/null) || return 1
  [ "${there%% *}" = installed ] && dpkg --compare-versions "${there#* }" ge "${2:-0}"
}

os_release() { sed -n "s/^$1=\"\{0,1\}\([^\"]*\).*/\1/p" /etc/os-release; }

# A signed package source; its key is checked against the fingerprint known here.
source_of() { # NAME KEY_URL KEY_FILE FINGERPRINT LINE
  local key=/usr/share/keyrings/$3 found
  if [ ! -e "$key" ]; then
    mkdir -p "${key%/*}"
    download "$2" "$key.new"
    found=$(gpg --show-keys --with-colons "$key.new" | awk -F: '$1 == "pub" { main = 1 } main && $1 == "fpr" { print $10; main = 0 }')
    [ "$found" = "$4" ] || refuse "the key at $2 is $found, not $4" "don't go on; look for news of $1's key"
    chmod 644 "$key.new"
    mv "$key.new" "$key"
  fi
  put "/etc/apt/sources.list.d/pilotlight-$1.list" 644 <<<"deb [signed-by=$key] $5"
}

check_machine() {
  local system gpu driver free
  step "checking the machine"
  [ "$(id -u)" -eq 0 ] || refuse "this must run as root" "pipe it into \`ssh $HOME_NAME sudo bash\`"
  exec 9>/run/pilotlight-bootstrap.lock
  flock --nonblock 9 || refuse "this script is running already" "wait for it, then run it again"
  system="$(os_release ID) $(os_release VERSION_CODENAME)"
  case $system in
    "debian "?* | "ubuntu "?*) ;;
    *) refuse "this is '$system', not Debian or Ubuntu" "NVIDIA's and Tailscale's packages are installed by apt for those two" ;;
  esac
  [ "$(dpkg --print-architecture)" = amd64 ] || refuse "this machine isn't amd64" "the pinned images are"
  [ -d /run/systemd/system ] || refuse "systemd isn't running" "K3s is started by it"
  command -v nvidia-smi >/dev/null ||
    refuse "no nvidia-smi: NVIDIA's driver isn't installed" "install driver $DRIVER_OWN or newer, restart, and run this again"
  gpu=$(nvidia-smi --query-gpu=name,driver_version --format=csv,noheader 2>&1) && [[ $gpu == *", "* ]] ||
    refuse "nvidia-smi sees no GPU: ${gpu:-nothing}" "\`nvidia-smi\` must list it; after a driver update the machine must restart"
  gpu=${gpu%%$'\n'*}
  driver=${gpu##*, }
  dpkg --compare-versions "$driver" ge "$DRIVER_LEAST" ||
    refuse "driver $driver is too old: $VLLM_IMAGE needs $DRIVER_LEAST, best $DRIVER_OWN or newer" \
      "install a newer driver, restart, and run this again"
  say "  GPU: ${gpu%%, *}, driver $driver"
  dpkg --compare-versions "$driver" ge "$DRIVER_OWN" ||
    say "  note: that is older than the image's CUDA ($DRIVER_OWN); NVIDIA promises a limited feature set. If vLLM stops with an error about PTX or CUDA's version, update the driver"
  # Before the first installation only: later the images are there, and what is free is what they left.
  if [ ! -e /usr/local/bin/k3s ]; then
    free=$(df --output=avail --block-size=1G /var/lib | tail -n 1)
    [ "$free" -ge "$DISK_GIB" ] ||
      refuse "$((free)) GiB are free under /var/lib, images and weights need $DISK_GIB" "free some, or lower a service's \`cache_gib\`"
  fi
  if [ -e /etc/systemd/system/k3s.service ] && ! grep -q pilotlight /etc/systemd/system/k3s.service; then
    refuse "another K3s is installed here; flags in its unit, such as --node-ip, would beat every file" \
      "keep what you need of it, then remove it with /usr/local/bin/k3s-uninstall.sh"
  fi
}

install_tools() {
  local tool missing=()
  step "installing curl, gnupg and nftables where they are missing"
  for tool in ca-certificates curl gnupg iproute2 nftables; do
    installed "$tool" || missing+=("$tool")
  done
  if [ ${#missing[@]} -gt 0 ]; then
    install_packages "${missing[@]}"
  fi
}

# Before anything listens.
guard_ports() {
  step "closing K3s' ports to the home network and the internet"
  guard_nft | put /etc/pilotlight/guard.nft 644
  guard_sh | put /usr/local/lib/pilotlight/guard 755
  pilotlight_guard_service | put /etc/systemd/system/pilotlight-guard.service 644
  pilotlight_guard_watch_service | put /etc/systemd/system/pilotlight-guard-watch.service 644
  pilotlight_guard_watch_timer | put /etc/systemd/system/pilotlight-guard-watch.timer 644
  nftables_guard_conf | put /etc/systemd/system/nftables.service.d/pilotlight.conf 644
  /usr/local/lib/pilotlight/guard
  systemctl daemon-reload
  systemctl enable --quiet --now pilotlight-guard.service
  systemctl enable --quiet --now pilotlight-guard-watch.timer
}

tailnet_status() { tailscale status --json --peers=false 2>/dev/null || true; }

join_tailnet() {
  local packages codename status name
  step "joining the tailnet as $HOME_NAME"
  if ! installed tailscale "$TAILSCALE_VERSION"; then
    packages=https://pkgs.tailscale.com/stable/$(os_release ID)
    codename=$(os_release VERSION_CODENAME)
    source_of tailscale "$packages/$codename.noarmor.gpg" pilotlight-tailscale.gpg "$TAILSCALE_FINGERPRINT" "$packages $codename main"
    install_packages "tailscale=$TAILSCALE_VERSION"
  fi
  systemctl enable --quiet --now tailscaled.service
  status=$(tailnet_status)
  if [[ $status != *'"BackendState": "Running"'* ]]; then
    # In a file, which the process list doesn't show. The LAN's resolver stays: nobody here looks up tailnet names.
    (umask 077 && rm -f "$KEY_FILE" && printf '%s' "$AUTH_KEY" >"$KEY_FILE")
    tailscale up --auth-key="file:$KEY_FILE" --hostname="$HOME_NAME" --advertise-tags=tag:home \
      --accept-routes=false --accept-dns=false --timeout=90s ||
      refuse "the tailnet refused" "if the key was used or is expired: \`pulumi up --replace '**tailnet-home-key'\`, then run the new script"
    rm -f "$KEY_FILE"
    status=$(tailnet_status)
  fi
  [[ $status == *'"tag:home"'* ]] ||
    refuse "this machine is in a tailnet, but not as tag:home, so the gateway may not reach it" "\`tailscale logout\`, then run this again"
  name=$(sed -n 's/^ *"DNSName": "\([^".]*\).*/\1/p' <<<"$status" | head -n 1)
  [ "$name" = "$HOME_NAME" ] ||
    refuse "the tailnet calls this machine '$name', the gateway looks for '$HOME_NAME'" \
      "remove the old '$HOME_NAME' at https://login.tailscale.com/admin/machines and rename this one, or set \`home.hostname\`"
}

install_toolkit() {
  local package versions=()
  step "installing NVIDIA's container toolkit $TOOLKIT_VERSION"
  for package in nvidia-container-toolkit nvidia-container-toolkit-base libnvidia-container-tools libnvidia-container1; do
    installed "$package" "$TOOLKIT_VERSION" || versions+=("$package=$TOOLKIT_VERSION")
  done
  if [ ${#versions[@]} -gt 0 ]; then
    source_of nvidia https://nvidia.github.io/libnvidia-container/gpgkey pilotlight-nvidia.asc "$TOOLKIT_FINGERPRINT" \
      'https://nvidia.github.io/libnvidia-container/stable/deb/amd64 /'
    install_packages "${versions[@]}"
  fi
}

follow_address() {
  step "telling K3s this machine's address, now and whenever it changes"
  node_address_sh | put /usr/local/lib/pilotlight/node-address 755
  put /etc/pilotlight/node-address.env 644 <<<"NIC=$NIC"
  pilotlight_node_address_service | put /etc/systemd/system/pilotlight-node-address.service 644
  pilotlight_node_address_timer | put /etc/systemd/system/pilotlight-node-address.timer 644
  systemctl daemon-reload
  systemctl start pilotlight-node-address.service ||
    refuse "this machine's address isn't known" "\`journalctl -u pilotlight-node-address -n 5\` says why"
  systemctl enable --quiet pilotlight-node-address.service
  systemctl enable --quiet --now pilotlight-node-address.timer
}

k3s_is() { # SHA256
  [ -e /usr/local/bin/k3s ] && [[ $(sha256sum /usr/local/bin/k3s) == "$1 "* ]]
}

install_k3s() {
  local wanted applied=/var/lib/pilotlight/k3s-applied
  step "installing K3s $K3S_VERSION"
  if ! k3s_is "$K3S_SHA256"; then
    # The release's own binary, no installer: known by its checksum, it is the one program here that no key signs.
    download "https://github.com/k3s-io/k3s/releases/download/${K3S_VERSION/+/%2B}/k3s" /usr/local/bin/k3s.new
    echo "$K3S_SHA256  /usr/local/bin/k3s.new" | sha256sum --check --quiet ||
      refuse "what came as K3s $K3S_VERSION isn't it" "run this again; if it stays so, don't go on"
    chmod 755 /usr/local/bin/k3s.new
    mv /usr/local/bin/k3s.new /usr/local/bin/k3s
  fi
  put /etc/rancher/k3s/config.yaml.d/10-pilotlight.yaml 644 <<<$'write-kubeconfig-mode: "0600"\ntls-san+:\n  - '"$HOME_NAME"
  k3s_service | put /etc/systemd/system/k3s.service 644
  systemctl daemon-reload
  systemctl enable --quiet k3s.service
  # K3s looks for NVIDIA's runtime and reads its files at start only; restarted when one of them is another than then.
  wanted=$(cat /usr/local/bin/k3s /etc/rancher/k3s/config.yaml.d/10-pilotlight.yaml /etc/systemd/system/k3s.service \
    <(echo "$TOOLKIT_VERSION") | sha256sum)
  if [ "$(cat "$applied" 2>/dev/null)" != "$wanted" ] || ! systemctl is-active --quiet k3s.service; then
    step "starting K3s (the first time takes a minute)"
    timeout 600 systemctl restart k3s.service || refuse "K3s doesn't start" "\`journalctl -u k3s -n 50\` says why"
    echo "$wanted" >"$applied.new"
    mv "$applied.new" "$applied"
  fi
}

await_k3s() {
  local tries
  step "waiting for the node"
  for ((tries = 60; ; tries--)); do
    k3s kubectl wait --for=condition=Ready node --all --timeout=10s >/dev/null 2>&1 && break
    [ "$tries" -gt 0 ] || refuse "the node isn't ready after ten minutes" "\`k3s kubectl describe node\` says why"
    sleep 1
  done
  grep -q nvidia /var/lib/rancher/k3s/agent/etc/containerd/config.toml ||
    refuse "K3s found no NVIDIA runtime" "\`nvidia-container-runtime --version\` must work; then \`systemctl restart k3s\` and run this again"
}

main() {
  # stdout is for the kubeconfig alone, and nothing may read the rest of this script.
  exec 3>&1 1>&2 </dev/null
  trap on_exit EXIT
  trap 'exit 1' HUP INT TERM
  check_machine
  install_tools
  guard_ports
  join_tailnet
  install_toolkit
  follow_address
  install_k3s
  await_k3s
  step "writing the kubeconfig for https://$HOME_NAME:6443"
  sed "s|https://127.0.0.1:6443|https://$HOME_NAME:6443|" /etc/rancher/k3s/k3s.yaml >&3
  say "done"
}

main
