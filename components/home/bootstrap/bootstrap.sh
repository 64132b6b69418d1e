# Everything is in functions, called by the last line: a script that is cut off on its way runs nothing.
set -euo pipefail

KEY_FILE=/run/pilotlight-auth-key
RECORD=/var/lib/pilotlight/made
TOOLKIT_PACKAGES=(nvidia-container-toolkit nvidia-container-toolkit-base libnvidia-container-tools libnvidia-container1)
STEP=starting
NAME=$HOME_NAME # this machine's in the tailnet
NUMBER=         # of a further machine

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
  rm -f "$KEY_FILE" "$CA_FILE"
  if [ "$status" -ne 0 ]; then
    say "stopped while $STEP. What is done stays; run this script again and it goes on."
  fi
}

# Notes what is about to be made here, for `uninstall`: what is there already isn't ours.
made() { # KIND NAME: folder, file, tree (a folder with all that will be in it), package, unit, tailnet or node
  mkdir -p "${RECORD%/*}"
  grep -qxF -- "$1 $2" "$RECORD" 2>/dev/null || echo "$1 $2" >>"$RECORD"
}

made_if_missing() { # KIND PATH...
  local kind=$1 path
  shift
  for path; do
    [ -e "$path" ] || made "$kind" "$path"
  done
}

folder() { # PATH
  if [ ! -d "$1" ]; then
    folder "${1%/*}"
    made folder "$1"
    mkdir "$1"
  fi
}

# Writes stdin to a file, whole or not at all.
put() { # PATH MODE
  local path=$1 mode=$2
  folder "${path%/*}"
  made_if_missing file "$path"
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
  local package planned
  export DEBIAN_FRONTEND=noninteractive
  # A dpkg that was cut off refuses everything until it is told to go on.
  dpkg --configure -a
  apt-get -o DPkg::Lock::Timeout=300 -qq update
  planned=$(apt-get --simulate -qq install --no-install-recommends "$@")
  while read -r package; do
    made package "$package"
  done < <(awk '$1 == "Inst" && $3 !~ /^\[/ { print $2 }' <<<"$planned")
  # Whatever else here uses these, such as docker, goes on with the new version.
  awk '$1 == "Inst" && $3 ~ /^\[/ { print "pilotlight:   " $2 " " $3 " becomes " substr($4, 2) }' <<<"$planned" >&2
  apt-get -o DPkg::Lock::Timeout=300 -qq install --no-install-recommends --yes "$@"
}

installed() { # PACKAGE [VERSION]: there, in this version or a newer one
  local there
  there=$(dpkg-query --show --showformat='${db:Status-Status} ${Version}' "$1" 2>/dev/null) || return 1
  [ "${there%% *}" = installed ] && dpkg --compare-versions "${there#* }" ge "${2:-0}"
}

os_release() { sed -n "s/^$1=\"\{0,1\}\([^\"]*\).*/\1/p" /etc/os-release; }

# Whether apt reads a source already, from whatever file and with whatever key: a second key for one source ends all of apt.
source_there() { # URI, as far as /InRelease
  grep -qF "'$1/InRelease'" <<<"$(apt-get update --print-uris)"
}

# A signed package source; its key is checked against the fingerprint known here.
source_of() { # NAME KEY_URL KEY_FILE FINGERPRINT LINE
  local key=/usr/share/keyrings/$3 found
  if [ ! -e "$key" ]; then
    folder "${key%/*}"
    made file "$key"
    download "$2" "$key.new"
    found=$(gpg --show-keys --with-colons "$key.new" | awk -F: '$1 == "pub" { main = 1 } main && $1 == "fpr" { print $10; main = 0 }')
    [ "$found" = "$4" ] || refuse "the key at $2 is $found, not $4" "don't go on; look for news of $1's key"
    chmod 644 "$key.new"
    mv "$key.new" "$key"
  fi
  put "/etc/apt/sources.list.d/pilotlight-$1.list" 644 <<<"deb [signed-by=$key] $5"
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

join_tailnet() {
  local packages codename status
  step "joining the tailnet as $NAME"
  if ! installed tailscale "$TAILSCALE_VERSION"; then
    packages=https://pkgs.tailscale.com/stable/$(os_release ID)
    codename=$(os_release VERSION_CODENAME)
    source_there "$packages/dists/$codename" ||
      source_of tailscale "$packages/$codename.noarmor.gpg" pilotlight-tailscale.gpg "$TAILSCALE_FINGERPRINT" "$packages $codename main"
    install_packages "tailscale=$TAILSCALE_VERSION"
  fi
  systemctl is-enabled --quiet tailscaled.service || made unit tailscaled.service
  systemctl enable --quiet --now tailscaled.service
  status=$(tailnet_status)
  if [[ $status != *'"BackendState": "Running"'* ]]; then
    made tailnet "$NAME"
    # In a file, which the process list doesn't show. The LAN's resolver stays: nobody here looks up tailnet names.
    (umask 077 && rm -f "$KEY_FILE" && printf '%s' "$AUTH_KEY" >"$KEY_FILE")
    tailscale up --auth-key="file:$KEY_FILE" --hostname="$NAME" --advertise-tags=tag:home \
      --accept-routes=false --accept-dns=false --timeout=90s ||
      refuse "the tailnet refused" "if the key was used or is expired: \`pulumi up --replace '**tailnet-home${NUMBER:+-$NUMBER}-key'\`, then run the new script"
    rm -f "$KEY_FILE"
    status=$(tailnet_status)
  fi
  check_membership "$status"
}

install_toolkit() {
  local package versions=() packages=https://nvidia.github.io/libnvidia-container/stable/deb/amd64
  step "installing NVIDIA's container toolkit $TOOLKIT_VERSION"
  for package in "${TOOLKIT_PACKAGES[@]}"; do
    installed "$package" "$TOOLKIT_VERSION" || versions+=("$package=$TOOLKIT_VERSION")
  done
  if [ ${#versions[@]} -gt 0 ]; then
    source_there "$packages" ||
      source_of nvidia https://nvidia.github.io/libnvidia-container/gpgkey pilotlight-nvidia.asc "$TOOLKIT_FINGERPRINT" "$packages /"
    install_packages "${versions[@]}"
  fi
}

follow_address() {
  local nic=$NIC
  # Its agents are in the tailnet, whose address stays; and a neighbour must not reach what pods say to each other.
  [ "$NODES" -eq 1 ] || nic=tailscale0
  step "telling K3s this machine's address, now and whenever it changes"
  node_address_sh | put /usr/local/lib/pilotlight/node-address 755
  put /etc/pilotlight/node-address.env 644 <<<"NIC=$nic"
  pilotlight_node_address_service | put /etc/systemd/system/pilotlight-node-address.service 644
  pilotlight_node_address_timer | put /etc/systemd/system/pilotlight-node-address.timer 644
  systemctl daemon-reload
  systemctl start pilotlight-node-address.service ||
    refuse "this machine's address isn't known" "\`journalctl -u pilotlight-node-address -n 5\` says why"
  systemctl enable --quiet pilotlight-node-address.service
  systemctl enable --quiet --now pilotlight-node-address.timer
}

# What Kubernetes will call the node's capacity: online processors, and MemTotal. K3s reserves none of it, so that all of
# it is allocatable, too.
tell_size() {
  local cpus memory had
  cpus=$(grep -c '^processor' /proc/cpuinfo)
  memory=$(awk '$1 == "MemTotal:" { print int($2 / 1024 / 1024) }' /proc/meminfo)
  had="$cpus processors and $memory GiB of memory"
  # The settings count with the smallest machine.
  [ -z "$NUMBER" ] || [ "$cpus" -le "${CPUS:-$cpus}" ] || cpus=$CPUS
  [ -z "$NUMBER" ] || [ "$memory" -le "${MEMORY_GIB:-$memory}" ] || memory=$MEMORY_GIB
  if [ "$cpus $memory" != "$CPUS $MEMORY_GIB" ]; then
    say "this machine has $had; for a preview that refuses services it can't hold:"
    say "  pulumi config set --path home.cpus $cpus && pulumi config set --path home.memory_gib $memory"
  fi
}

# All of what must be so before the first change.
check_all() { # UNIT that K3s is here
  check_machine
  check_gpu
  check_disk
  check_apt
  check_others "$1"
  check_firewall
  check_tailnet
}

prepare() {
  # What K3s, its pods and node-address make by themselves.
  made_if_missing tree /etc/rancher /etc/kubernetes /var/lib/rancher /var/lib/kubelet /var/lib/cni /var/log/pods \
    /var/log/containers /run/k3s /run/flannel
  install_tools
  guard_ports
}

install() {
  check_all k3s
  prepare
  join_tailnet
  install_toolkit
  follow_address
  install_k3s
  await_k3s
  step "writing the kubeconfig for https://$HOME_NAME:6443"
  sed "s|https://127.0.0.1:6443|https://$HOME_NAME:6443|" /etc/rancher/k3s/k3s.yaml >&3
  tell_size
  say "done"
}

main() {
  # stdout is for the kubeconfig alone, and nothing may read the rest of this script.
  exec 3>&1 1>&2 </dev/null
  export LC_ALL=C
  trap on_exit EXIT
  trap 'exit 1' HUP INT TERM
  case ${1-install} in
    install) install ;;
    join) join "${2-}" ;;
    uninstall) uninstall ;;
    *) refuse "there is no '$1' here" "say nothing, to install; \`join 2\` on a second machine; or \`uninstall\`" ;;
  esac
}

# Cut off anywhere, this line is none: `main` alone would install where it was told to uninstall.
{ main "$@"; }
